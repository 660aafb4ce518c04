//! A stage that is driven by whoever polls it, as its user sees it.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use futures_core::Stream;

use super::{OutcomeOf, Phase, Stage, Stop, Turn};
use crate::element::{IntoElement, StreamElement, StreamKind};
use crate::function::AsyncFunction;
use crate::operator::Metrics;
use crate::outcome::Failure;
use crate::policy::{ConfigError, KeySelector};
use crate::requests::StageStorage;
use crate::retry::RetryStrategy;
use crate::runtime::{RunRequest, Timer};
use crate::stage::Next;

/// Why a stage ended before everything was through. An error for the same `E` as
/// [`Failure`], and as that without a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StageError<E> {
    /// The function could not be opened. Nothing was taken from the source; what was restored is still in
    /// its checkpoint.
    Open(E),
    /// A call has ended with a failure that ends the job, as [`fail_fast`](crate::StageBuilder::fail_fast) says. The last
    /// outcome tells which.
    Failed,
    /// The stage's task panicked.
    Panicked,
    /// The runtime cancelled the stage's task.
    Cancelled,
}

impl<E: fmt::Display> fmt::Display for StageError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => write!(f, "the stage's function could not be opened: {error}"),
            Self::Failed => f.write_str("a call has failed, and that ends the job"),
            Self::Panicked => f.write_str("the stage's task has panicked"),
            Self::Cancelled => f.write_str("the stage's task was cancelled"),
        }
    }
}

// As for `Failure`: also where the function's error is a box, which is no error itself.
impl<E: fmt::Debug + fmt::Display> core::error::Error for StageError<E> {}

impl<St, V, M, F, R, K, Q, T, S> Stream for Stage<St, V, M, F, R, K, Q, T, S>
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
{
    type Item = M::Item<OutcomeOf<V, F>>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.may_pass()
                && let Some((value, timestamp)) = self.as_mut().pass(cx)
            {
                return Poll::Ready(M::from_element(StreamElement::Record { value, timestamp }));
            }
            let this = self.as_mut().project();
            // A second copy of what follows, inlined: where there is no heap, size counts for more than speed.
            if cfg!(feature = "alloc")
                && *this.before_refill > 0
                && let Some((value, timestamp)) = this.operator.poll_record()
            {
                *this.before_refill -= 1;
                return Poll::Ready(M::from_element(StreamElement::Record { value, timestamp }));
            }
            if let Some(element) = self.as_mut().poll_element(cx) {
                return element;
            }
        }
    }
}

impl<St, V, M, F, R, K, Q, T, S> Stage<St, V, M, F, R, K, Q, T, S>
where
    Self: Stream,
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
{
    /// The next element of any kind, or a turn; `None` when there may be something to hand out after it.
    #[inline(never)]
    fn poll_element(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Option<Poll<Option<M::Item<OutcomeOf<V, F>>>>> {
        let this = self.as_mut().project();
        if *this.before_refill > 0
            && let Some(element) = self.as_mut().poll_output()
        {
            *self.project().before_refill -= 1;
            return M::from_element(element).map(|item| Poll::Ready(Some(item)));
        }
        match self.poll_turn(cx) {
            Poll::Ready(false) => None,
            Poll::Ready(true) => Some(Poll::Ready(None)),
            Poll::Pending => Some(Poll::Pending),
        }
    }

    /// A turn, when there is nothing to hand out or enough was. Ready when there may be something to
    /// hand out, with `true` at the end of the stream.
    fn poll_turn(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = self.as_mut().project();
        if *this.before_yield == 0 {
            self.rest(Turn::Busy, cx);
            return Poll::Pending;
        }
        *this.before_yield -= 1;
        *this.before_refill = (this.operator.capacity() / 4).clamp(1, 32);
        let turn = self.as_mut().turn(cx, true, |_| {});
        if self.operator.has_output() || self.may_pass() {
            return Poll::Ready(false);
        }
        if turn == Turn::End {
            return Poll::Ready(true);
        }
        self.as_mut().rest(turn, cx);
        Poll::Pending
    }

    /// The next outcome; `None` at the end of the stream.
    ///
    /// Cancellation: nothing is lost when the future is dropped.
    #[allow(clippy::should_implement_trait)] // what every stream calls it
    #[inline]
    pub fn next(&mut self) -> Next<'_, Self>
    where
        Self: Unpin,
    {
        Next::new(self)
    }

    /// The same for a stage that must stay pinned: one in storage in place, or over a source that must.
    ///
    /// Cancellation: nothing is lost when the future is dropped.
    pub async fn next_pinned(mut self: Pin<&mut Self>) -> Option<<Self as Stream>::Item> {
        core::future::poll_fn(|cx| self.as_mut().poll_next(cx)).await
    }

    /// How the stream ended, once it has: `Err` if the function could not be opened, or a failure has ended the job.
    pub fn end(&self) -> Option<Result<(), &StageError<F::Error>>> {
        (self.phase == Phase::Ended).then(|| self.failure.as_ref().map_or(Ok(()), Err))
    }

    /// The stage's numbers. O(n) in the records in flight, for the age of the oldest.
    pub fn metrics(&self) -> Metrics {
        self.operator.metrics(self.timer.now())
    }

    /// Changes how many records may be in flight. A lower capacity takes effect as records leave.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when it is zero, or more than the policy's
    /// [`max_capacity`](crate::AsyncWait::max_capacity).
    pub fn set_capacity(self: Pin<&mut Self>, capacity: usize) -> Result<(), ConfigError> {
        self.project().operator.set_capacity(capacity)
    }

    /// Changes how many attempts may run at once. A lower limit takes effect as attempts end.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when it is zero.
    pub fn set_max_running(self: Pin<&mut Self>, attempts: usize) -> Result<(), ConfigError> {
        self.project().operator.set_max_running(attempts)
    }

    /// Takes no more input from the next poll on. What is in flight finishes, its outcomes come out, and
    /// the stream ends.
    pub fn stop(self: Pin<&mut Self>) {
        self.ask_to_stop(None);
    }

    /// The same within `limit`: calls that have no outcome by then fail with [`Failure::ShutDown`].
    pub fn stop_within(self: Pin<&mut Self>, limit: Duration) {
        self.ask_to_stop(Some(limit));
    }

    fn ask_to_stop(self: Pin<&mut Self>, limit: Option<Duration>) {
        let this = self.project();
        *this.stop = Some(Stop::Asked(limit));
        *this.passing = 0;
    }
}

impl<St, V, M, F, R, K, Q, T, S> fmt::Debug for Stage<St, V, M, F, R, K, Q, T, S>
where
    M: StreamKind,
    K: KeySelector<V>,
    F: AsyncFunction<V>,
    Q: RunRequest<F::Future>,
    S: StageStorage,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("operator", &self.operator).finish_non_exhaustive()
    }
}
