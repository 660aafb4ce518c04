//! A stage and its consumer as one future.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::drive::{ConsumerState, Delivered, Sink, drive};
use super::stream::ItemOf;
use super::{Job, Stage, StageError};
use crate::element::StreamKind;
use crate::requests::StageStorage;
use crate::runtime::Timer;

impl<J: Job, T, S: StageStorage> Stage<J, T, S> {
    /// Hands every element that comes out to `consumer`, one at a time: a future to be awaited in a task
    /// of one's own. It ends with the stage.
    ///
    /// Requests make progress also while the consumer is busy with an earlier element, as in a stage on a
    /// task of its own, and no buffer lies between the two: further outcomes wait in the
    /// stage and count against its capacity. To hand elements to another task, let the consumer send them
    /// into a channel.
    ///
    /// Cancellation: dropping it cancels everything in flight, and the consumer with the element that it
    /// is busy with.
    ///
    /// # Errors
    ///
    /// [`StageError::Open`] when the function could not be opened, [`StageError::Failed`] when a failure has ended the job.
    ///
    /// # Panics
    ///
    /// A panic in a request or in the consumer comes out of it, and polling it again then panics.
    pub fn run<C, Fut>(self, consumer: C) -> Run<Self, C, Fut>
    where
        C: FnMut(ItemOf<J>) -> Fut,
        Fut: Future<Output = ()>,
    {
        Run { stage: self, consumer, busy: None, in_poll: false }
    }
}

pin_project! {
    /// Drives a stage and its consumer: returned by [`Stage::run`].
    #[must_use = "a stage does nothing unless it is polled"]
    pub struct Run<G, C, Fut> {
        #[pin]
        stage: G,
        consumer: C,
        // The consumer's future for an element that it works on.
        #[pin]
        busy: Option<Fut>,
        // True during a poll. True when a poll begins: the poll before has panicked.
        in_poll: bool,
    }
}

impl<G, C, Fut> Run<G, C, Fut> {
    /// The stage, to change its limits or to stop it. Poll this future afterwards.
    pub fn stage(self: Pin<&mut Self>) -> Pin<&mut G> {
        self.project().stage
    }
}

impl<J, T, S, C, Fut> Future for Run<Stage<J, T, S>, C, Fut>
where
    J: Job,
    T: Timer,
    S: StageStorage,
    C: FnMut(ItemOf<J>) -> Fut,
    Fut: Future<Output = ()>,
{
    type Output = Result<(), StageError<J::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        assert!(!core::mem::replace(this.in_poll, true), "a stage was polled again after a panic");
        let (consumer, mut busy) = (this.consumer, this.busy);
        // Polled once is enough: it wakes this task when it can go on.
        let is_free = poll_busy(busy.as_mut(), cx);
        let ended = drive(this.stage.as_mut(), cx, &mut FunctionSink { consumer, busy, is_free });
        *this.in_poll = false;
        ended.map(|_| this.stage.take_failure())
    }
}

/// Calls the consumer's function with each element, one at a time.
struct FunctionSink<'a, C, Fut> {
    consumer: &'a mut C,
    busy: Pin<&'a mut Option<Fut>>,
    is_free: bool,
}

impl<J, T, S, C, Fut> Sink<J, T, S> for FunctionSink<'_, C, Fut>
where
    J: Job,
    T: Timer,
    S: StageStorage,
    C: FnMut(ItemOf<J>) -> Fut,
    Fut: Future<Output = ()>,
{
    fn deliver(&mut self, mut stage: Pin<&mut Stage<J, T, S>>, cx: &mut Context<'_>) -> Delivered {
        let mut delivered = Delivered::Nothing;
        // A dropped record, or the position of a failed barrier, leaves without an element, and makes room all the same.
        while self.is_free && stage.as_mut().has_output() {
            delivered = Delivered::Something;
            let element = stage.as_mut().poll_output();
            if let Some(item) = element.and_then(J::Kind::from_element) {
                self.busy.set(Some((self.consumer)(item)));
                self.is_free = poll_busy(self.busy.as_mut(), cx);
            }
        }
        delivered
    }

    fn consumer(&self) -> ConsumerState {
        if self.is_free { ConsumerState::Free } else { ConsumerState::Busy }
    }
}

/// Polls the consumer's future. Returns whether the consumer is free for another element.
fn poll_busy<Fut>(mut busy: Pin<&mut Option<Fut>>, cx: &mut Context<'_>) -> bool
where
    Fut: Future<Output = ()>,
{
    match busy.as_mut().as_pin_mut().map(|busy| busy.poll(cx)) {
        Some(Poll::Pending) => false,
        Some(Poll::Ready(())) => {
            busy.set(None);
            true
        }
        None => true,
    }
}

impl<G: fmt::Debug, C, Fut> fmt::Debug for Run<G, C, Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_busy = self.busy.is_some();
        let mut run = f.debug_struct("Run");
        run.field("stage", &self.stage).field("busy", &is_busy).finish_non_exhaustive()
    }
}
