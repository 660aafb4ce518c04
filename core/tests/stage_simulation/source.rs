//! The source of the simulated stage: it yields what the script has offered.

use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_core::Stream;
use inflight_core::{Elements, StreamElement, Values};

use crate::run::Planned;
use crate::values::Record;
use crate::watch::Watch;

/// What the source yields, before it is known when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Offer {
    /// The event time is in seconds from the highest watermark so far.
    Record {
        key: u32,
        timestamp: Option<i64>,
    },
    Watermark(i64),
    Status(inflight_core::Status),
    SnapshotBarrier,
    /// The limit is in milliseconds.
    DrainBarrier {
        limit: Option<i64>,
    },
    /// A panic.
    Panic,
    /// A barrier in an earlier life: those do not come again.
    Nothing,
}

/// The shape of its elements is `M`.
pub(crate) struct Source<M> {
    watch: Rc<Watch>,
    shape: PhantomData<fn() -> M>,
}

impl<M> Source<M> {
    pub(crate) fn new(watch: Rc<Watch>) -> Self {
        Self { watch, shape: PhantomData }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<StreamElement<Record>>> {
        match self.watch.source_polled(cx) {
            Poll::Ready(Some(Err(Planned))) => resume_unwind(Box::new(Planned)),
            Poll::Ready(Some(Ok(element))) => Poll::Ready(Some(element)),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Stream for Source<Elements> {
    type Item = StreamElement<Record>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

impl Stream for Source<Values> {
    type Item = Record;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Record>> {
        self.poll(cx).map(|item| match item {
            Some(StreamElement::Record { value, timestamp: None }) => Some(value),
            Some(element) => unreachable!("{element:?} is offered to no plain source"),
            None => None,
        })
    }
}

impl<M> Drop for Source<M> {
    fn drop(&mut self) {
        self.watch.source_dropped();
    }
}
