//! A stage in place: a stream that its consumer drives.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use futures_core::Stream;

use super::drive::{Delivered, Driven, Sink, drive};
use super::{Job, Stage};
use crate::element::{StreamElement, StreamKind};
use crate::operator::OutcomeOf;
use crate::requests::StageStorage;
use crate::runtime::Timer;

/// The elements that come out of a stage.
pub(crate) type ItemOf<J> = <<J as Job>::Kind as StreamKind>::Item<OutcomeOf<J>>;

impl<J: Job, T: Timer, S: StageStorage> Stream for Stage<J, T, S> {
    type Item = ItemOf<J>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            while self.may_bypass() {
                if let Some((value, timestamp)) = self.as_mut().bypass(cx, true) {
                    let element = StreamElement::Record { value, timestamp };
                    return Poll::Ready(J::Kind::from_element(element));
                }
            }
            let this = self.as_mut().project();
            // The most frequent way. It only saves time, so it is left out without a heap, where size counts for more.
            if cfg!(feature = "alloc")
                && this.pace.may_hand_out()
                && let Some((value, timestamp)) = this.operator.poll_record()
            {
                this.pace.handed_out();
                let element = StreamElement::Record { value, timestamp };
                return Poll::Ready(J::Kind::from_element(element));
            }
            if let Some(polled) = self.as_mut().poll_slowly(cx) {
                return polled;
            }
        }
    }
}

impl<J: Job, T: Timer, S: StageStorage> Stage<J, T, S> {
    /// Hands out the next element, or takes turns. `None` if the caller has to look again: there may be an element now.
    #[inline(never)]
    fn poll_slowly(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Option<ItemOf<J>>>> {
        if self.pace.may_hand_out()
            && let Some(element) = self.as_mut().poll_output()
        {
            self.project().pace.handed_out();
            return J::Kind::from_element(element).map(|item| Poll::Ready(Some(item)));
        }
        match drive(self, cx, &mut Caller) {
            Poll::Ready(Driven::Delivered) => None,
            Poll::Ready(Driven::End) => Some(Poll::Ready(None)),
            Poll::Pending => Some(Poll::Pending),
        }
    }

    /// The next outcome; `None` at the end of the stream.
    ///
    /// Cancellation: nothing is lost when the future is dropped.
    #[allow(clippy::should_implement_trait)] // the usual name of it on streams
    #[inline]
    pub fn next(&mut self) -> Next<'_, Self>
    where
        Self: MayMove,
    {
        Next::new(self)
    }

    /// The same for a stage that must stay pinned: one in storage in place, or over a source that must.
    ///
    /// Cancellation: nothing is lost when the future is dropped.
    pub async fn next_pinned(mut self: Pin<&mut Self>) -> Option<<Self as Stream>::Item> {
        core::future::poll_fn(|cx| self.as_mut().poll_next(cx)).await
    }
}

/// A stage that needs no pinning. It makes the compiler say in these words that one does.
#[allow(unreachable_pub)] // in a bound of a public method
#[diagnostic::on_unimplemented(
    message = "this stage must stay pinned, as its source or its storage must: box the source, `Box::pin(source).async_wait(..)`",
    label = "`next` needs a stage that may be moved",
    note = "or pin the stage, `let mut stage = pin!(stage)`, and say `stage.as_mut().next_pinned()`"
)]
pub trait MayMove: Unpin {}

// Without the attribute the compiler would explain, type by type, why the stage is not `Unpin`.
#[diagnostic::do_not_recommend]
impl<J: Job, T, S: StageStorage> MayMove for Stage<J, T, S> where Self: Unpin {}

/// The caller of `poll_next` takes one output at a time, when the turn is over.
struct Caller;

impl<J: Job, T: Timer, S: StageStorage> Sink<J, T, S> for Caller {
    const IN_PLACE: bool = true;

    #[inline]
    fn deliver(&mut self, stage: Pin<&mut Stage<J, T, S>>, _: &mut Context<'_>) -> Delivered {
        let has_output = stage.may_bypass() || stage.has_output();
        if has_output { Delivered::All } else { Delivered::Nothing }
    }
}

/// The next element of a stage: returned by its `next`.
#[must_use = "futures do nothing unless they are awaited"]
#[derive(Debug)]
pub struct Next<'a, S>(Pin<&'a mut S>);

impl<'a, S: Unpin> Next<'a, S> {
    pub(super) fn new(stage: &'a mut S) -> Self {
        Self(Pin::new(stage))
    }
}

// `new` has asked for `S: Unpin`. If this did too, the compiler would explain a second time, at the `.await`, why a stage must
// stay pinned.
impl<S: Stream> Future for Next<'_, S> {
    type Output = Option<S::Item>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll_next(cx)
    }
}
