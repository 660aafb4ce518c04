//! A stage on a task of its own: the future that drives it there.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{OutcomeOf, Stage, StageError, Stop, TURNS_BEFORE_YIELD, Turn};
use crate::element::{IntoElement, StreamKind};
use crate::function::AsyncFunction;
use crate::operator::Metrics;
use crate::outcome::Failure;
use crate::policy::KeySelector;
use crate::requests::StageWaker;
use crate::retry::RetryStrategy;
use crate::runtime::{RunRequest, Timer};
use crate::stage::handle::Command;
use crate::stage::ring::Outlet;
use crate::storage::Heap;
use crate::time::Instant;

/// How often the histograms and the age of the oldest record are published.
const FULL_NUMBERS_EVERY: Duration = Duration::from_millis(50);

impl<St, V, M, F, R, K, Q, T> Stage<St, V, M, F, R, K, Q, T, Heap>
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
{
    /// A waker that gives the stage another turn.
    pub(crate) fn consumer_waker(&self) -> Waker {
        self.requests.own_waker(StageWaker::Consumer)
    }

    /// When the last turn was.
    fn last_turn(&self) -> Instant {
        self.operator.now()
    }

    fn in_flight(&self) -> usize {
        self.operator.in_flight()
    }

    /// The numbers of now; without the age of the oldest record unless `all`.
    fn numbers(&self, all: bool) -> Metrics {
        let now = self.last_turn();
        if all { self.operator.metrics(now) } else { self.operator.cheap_metrics(now) }
    }

    fn apply(self: Pin<&mut Self>, order: Command) {
        let this = self.project();
        // What was asked for has been checked.
        match order {
            Command::Capacity(capacity) => _ = this.operator.set_capacity(capacity),
            Command::MaxRunning(attempts) => _ = this.operator.set_max_running(attempts),
            Command::Stop(limit) => *this.stop = Some(Stop::Asked(limit)),
        }
    }
}

pin_project! {
    /// Drives a stage and hands over what comes out of it: the future that is spawned.
    pub struct Driver<St, V, M, F, R, K, Q, T>
    where
        M: StreamKind,
        K: KeySelector<V>,
        F: AsyncFunction<V>,
        Q: RunRequest<F::Future>,
    {
        #[pin]
        stage: Stage<St, V, M, F, R, K, Q, T, Heap>,
        outlet: Outlet<M, OutcomeOf<V, F>>,
        // When all numbers were published.
        published: Instant,
    }
}

impl<St, V, M, F, R, K, Q, T> Future for Driver<St, V, M, F, R, K, Q, T>
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
{
    type Output = Result<(), StageError<F::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = self.as_mut().poll_turns(cx);
        self.publish(ended.is_ready());
        ended
    }
}

impl<St, V, M, F, R, K, Q, T> Driver<St, V, M, F, R, K, Q, T>
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
{
    pub(crate) fn new(
        stage: Stage<St, V, M, F, R, K, Q, T, Heap>,
        outlet: Outlet<M, OutcomeOf<V, F>>,
    ) -> Self {
        Self { stage, outlet, published: Instant::ZERO }
    }

    fn poll_turns(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StageError<F::Error>>> {
        let mut this = self.project();
        if this.outlet.is_abandoned() {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..TURNS_BEFORE_YIELD {
            let mut resized = false;
            let turn = this.stage.as_mut().turn(cx, false, |mut stage| {
                while let Some(order) = this.outlet.control().next_command() {
                    if let Command::Capacity(capacity) = order {
                        this.outlet.resize(capacity);
                        resized = true;
                    }
                    stage.as_mut().apply(order);
                }
                // What the consumer has not taken counts against the capacity.
                stage.operator().set_held(this.outlet.held());
            });
            let operator = this.stage.as_mut().operator();
            let leaves = this.outlet.give(|held| {
                operator.set_held(held);
                operator.admit(); // what leaves makes room for what a restore has brought
                operator.has_output().then(|| operator.poll_output())
            });
            match turn {
                Turn::End => {
                    let failure = this.stage.as_mut().take_failure();
                    return Poll::Ready(failure.map_or(Ok(()), Err));
                }
                // The turn may have collected the wake-up that announces this.
                Turn::Idle if this.outlet.is_abandoned() => return Poll::Ready(Ok(())),
                // What has left may have made room, or been the last.
                // A consumer that was taking something meanwhile has seen the old size, and what it has taken is seen in the next
                // turn: without a barrier for each record neither sees at once what the other has just written.
                Turn::Idle if !leaves && !resized => {
                    this.stage.as_mut().rest(Turn::Idle, cx);
                    return Poll::Pending;
                }
                Turn::Idle | Turn::Busy => {}
            }
        }
        this.stage.as_mut().rest(Turn::Busy, cx);
        Poll::Pending
    }

    /// Lets others read the stage's numbers: the cheap ones after every poll, the others now and then,
    /// and the seldomer the more places have to be looked at for them.
    fn publish(self: Pin<&mut Self>, last: bool) {
        let mut this = self.project();
        let now = this.stage.last_turn();
        let every = FULL_NUMBERS_EVERY * (1 + this.stage.in_flight() as u32 / 10_000);
        let all = last || now - *this.published >= every;
        if all {
            *this.published = now;
            this.stage.as_mut().operator().forget_vacant();
        }
        this.outlet.control().publish(&this.stage.numbers(all), all);
    }
}

impl<St, V, M, F, R, K, Q, T> fmt::Debug for Driver<St, V, M, F, R, K, Q, T>
where
    M: StreamKind,
    K: KeySelector<V>,
    F: AsyncFunction<V>,
    Q: RunRequest<F::Future>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("stage", &self.stage).finish_non_exhaustive()
    }
}
