//! The source of a stage. This is the only place that polls it.

use core::pin::Pin;
use core::task::Poll;

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::barriers::Seat;
use crate::element::{IntoElement, StreamElement};
use crate::requests::{Requests, StageWaker};

pin_project! {
    pub(super) struct Source<St> {
        // `None` once it has ended, or the stage takes no more input.
        #[pin]
        stream: Option<St>,
        // Whether it may have an element: it has just begun, had one the last time, or has been woken since.
        is_woken: bool,
        // The way of barriers that must not wait for room.
        seat: Seat,
    }
}

/// The answer of a source.
pub(super) enum Pulled<V> {
    Element(StreamElement<V>),
    /// It has none now, and wakes the stage when it has.
    Nothing,
    /// There is no more input.
    End,
}

impl<St: Stream> Source<St> {
    pub(super) fn new(stream: St, seat: Seat) -> Self {
        Self { stream: Some(stream), is_woken: true, seat }
    }

    /// Whether a barrier was announced and has not arrived: then the source is asked for it also when there is no room for records (K11).
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    #[inline(always)]
    pub(super) fn is_barrier_due(&self) -> bool {
        self.seat.is_due()
    }

    /// Whether the function must not be opened yet: the pipeline's first checkpoint is not committed (K17).
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub(super) fn is_held(&self) -> bool {
        self.seat.is_held()
    }

    /// Reports the progress of the stage, and whether it holds more than its capacity.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    #[inline(always)]
    pub(super) fn report(self: Pin<&mut Self>, progress: u64, is_overfull: bool) {
        self.project().seat.report(progress, is_overfull);
    }

    /// Whether there is no more input.
    #[inline(always)]
    pub(super) fn is_closed(&self) -> bool {
        self.stream.is_none()
    }

    /// Whether a pull may give something: the source has not said since it was woken last that it has nothing.
    #[inline(always)]
    pub(super) fn is_woken(&self) -> bool {
        self.is_woken
    }

    /// The source has been woken.
    #[inline(always)]
    pub(super) fn wake(self: Pin<&mut Self>) {
        *self.project().is_woken = true;
    }

    /// Drops the stream: the stage takes no more input.
    pub(super) fn close(self: Pin<&mut Self>) {
        self.project().stream.set(None);
    }

    /// Polls the stream for an element, with the source's own waker. A stream that has ended is dropped.
    #[inline(always)]
    pub(super) fn pull<V, M, F, R>(self: Pin<&mut Self>, requests: &R) -> Pulled<V>
    where
        St::Item: IntoElement<V, M>,
        F: Future,
        R: Requests<F>,
    {
        let mut this = self.project();
        let Some(stream) = this.stream.as_mut().as_pin_mut() else { return Pulled::Nothing };
        match requests.with_own(StageWaker::Source, |cx| stream.poll_next(cx)) {
            Poll::Ready(Some(item)) => {
                let element = item.into_element();
                if element.has_checkpoint() {
                    this.seat.arrived();
                }
                Pulled::Element(element)
            }
            Poll::Ready(None) => {
                this.stream.set(None);
                Pulled::End
            }
            Poll::Pending => {
                *this.is_woken = false;
                Pulled::Nothing
            }
        }
    }
}
