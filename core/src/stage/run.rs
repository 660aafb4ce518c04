//! A stage that hands its outcomes to an asynchronous function, in one task.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{OutcomeOf, Stage, StageError, TURNS_BEFORE_YIELD, Turn};
use crate::element::{IntoElement, StreamKind};
use crate::function::AsyncFunction;
use crate::outcome::Failure;
use crate::policy::KeySelector;
use crate::requests::StageStorage;
use crate::retry::RetryStrategy;
use crate::runtime::{RunRequest, Timer};

impl<St, V, M, F, R, K, Q, T, S> Stage<St, V, M, F, R, K, Q, T, S>
where
    M: StreamKind,
    K: KeySelector<V>,
    F: AsyncFunction<V>,
    Q: RunRequest<F::Future>,
    S: StageStorage,
{
    /// Hands every element that comes out to `consumer`, one at a time: a future to be awaited in a task
    /// of one's own. It ends with the stage.
    ///
    /// Requests make progress also while the consumer is busy with an earlier element, as in a stage on a
    /// task of its own, and no buffer lies between the two: what the consumer has not come to waits in the
    /// stage and counts against its capacity. To hand elements to another task, let the consumer send them
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
        C: FnMut(M::Item<OutcomeOf<V, F>>) -> Fut,
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
        // With an element.
        #[pin]
        busy: Option<Fut>,
        // Still when a poll begins: the one before has panicked.
        in_poll: bool,
    }
}

impl<G, C, Fut> Run<G, C, Fut> {
    /// The stage, to change its limits or to stop it. Poll this future afterwards.
    pub fn stage(self: Pin<&mut Self>) -> Pin<&mut G> {
        self.project().stage
    }
}

impl<St, V, M, F, R, K, Q, T, S, C, Fut> Future for Run<Stage<St, V, M, F, R, K, Q, T, S>, C, Fut>
where
    St: Stream,
    St::Item: IntoElement<V, M>,
    M: StreamKind,
    F: AsyncFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
    K: KeySelector<V>,
    Q: RunRequest<F::Future>,
    Q::Request: Future<Output = Result<F::Output, Failure<F::Error>>>,
    T: Timer,
    S: StageStorage,
    C: FnMut(M::Item<OutcomeOf<V, F>>) -> Fut,
    Fut: Future<Output = ()>,
{
    type Output = Result<(), StageError<F::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let in_poll = self.as_mut().project().in_poll;
        assert!(!core::mem::replace(in_poll, true), "a stage was polled again after a panic");
        let polled = self.as_mut().poll_turns(cx);
        *self.project().in_poll = false;
        polled
    }
}

impl<St, V, M, F, R, K, Q, T, S, C, Fut> Run<Stage<St, V, M, F, R, K, Q, T, S>, C, Fut>
where
    St: Stream,
    St::Item: IntoElement<V, M>,
    M: StreamKind,
    F: AsyncFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
    K: KeySelector<V>,
    Q: RunRequest<F::Future>,
    Q::Request: Future<Output = Result<F::Output, Failure<F::Error>>>,
    T: Timer,
    S: StageStorage,
    C: FnMut(M::Item<OutcomeOf<V, F>>) -> Fut,
    Fut: Future<Output = ()>,
{
    fn poll_turns(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StageError<F::Error>>> {
        let mut this = self.project();
        // Once a poll is enough: whatever the consumer waits for wakes this task.
        let mut is_free = poll_busy(this.busy.as_mut(), cx);
        for _ in 0..TURNS_BEFORE_YIELD {
            let turn = this.stage.as_mut().turn(cx, false, |_| {});
            let mut leaves = false;
            // Also when what leaves is a dropped record, or the place of a failed barrier: nothing is handed over then.
            while is_free && this.stage.as_mut().has_output() {
                leaves = true;
                let element = this.stage.as_mut().poll_output();
                if let Some(item) = element.and_then(M::from_element) {
                    this.busy.set(Some((this.consumer)(item)));
                    is_free = poll_busy(this.busy.as_mut(), cx);
                }
            }
            match turn {
                Turn::End if is_free => {
                    let failure = this.stage.as_mut().take_failure();
                    return Poll::Ready(failure.map_or(Ok(()), Err));
                }
                Turn::End => return Poll::Pending,
                // What has left may have made room, or been the last.
                Turn::Idle if !leaves => {
                    this.stage.as_mut().rest(Turn::Idle, cx);
                    return Poll::Pending;
                }
                Turn::Idle | Turn::Busy => {}
            }
        }
        this.stage.as_mut().rest(Turn::Busy, cx);
        Poll::Pending
    }
}

/// Whether the consumer is free for another element.
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
