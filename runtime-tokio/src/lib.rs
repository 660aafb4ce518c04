//! tokio for inflight: [`Tokio`], and [`TokioLocal`] for futures that are not `Send`.
//!
//! A runtime consists of a clock, a timer and a spawner.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use inflight_core::{
    Instant, JoinError, NoRuntime, Outcome, Runtime, SpawnedStage, Spawner, StageError, Timer,
    Values,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::task::coop::{has_budget_remaining, unconstrained};
use tokio::time::Sleep;

/// The tokio runtime that the stage is started in. Its time driver must be enabled.
///
/// ```
/// use inflight_core::{AsyncWait, AsyncWaitExt};
/// use inflight_tokio::Tokio;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let source = tokio_stream();
/// let mut doubled = source
///     .async_wait(AsyncWait::ordered(10), |n| {
///         let n = *n;
///         async move { Ok::<u32, ()>(n * 2) }
///     })
///     .spawn(Tokio)?;
/// while let Some(outcome) = doubled.next().await {
///     assert_eq!(outcome.result, Ok(outcome.input * 2));
/// }
/// # Ok::<(), inflight_core::StartError>(())
/// # }).unwrap();
/// # fn tokio_stream() -> impl futures_core::Stream<Item = u32> + Send + 'static {
/// #     struct Numbers(u32);
/// #     impl futures_core::Stream for Numbers {
/// #         type Item = u32;
/// #         fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<u32>> {
/// #             self.0 += 1;
/// #             std::task::Poll::Ready((self.0 < 10).then_some(self.0))
/// #         }
/// #     }
/// #     Numbers(0)
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokio;

/// The same for futures that are not `Send`: spawns on the current `LocalSet`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioLocal;

impl Runtime for Tokio {
    type Timer = TokioTimer;

    fn timer(&self) -> Result<TokioTimer, NoRuntime> {
        let runtime = Handle::try_current().map_err(|_| NoRuntime)?;
        Ok(TokioTimer { runtime, start: tokio::time::Instant::now(), sleep: None, armed: false })
    }
}

impl Runtime for TokioLocal {
    type Timer = TokioTimer;

    fn timer(&self) -> Result<TokioTimer, NoRuntime> {
        Tokio.timer()
    }
}

impl<F> Spawner<F> for Tokio
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Handle = TokioHandle<F::Output>;

    fn spawn(&self, future: F) -> TokioHandle<F::Output> {
        // The future has a budget of its own (see `TokioTimer::turn`).
        let runtime = Handle::try_current().ok();
        TokioHandle { task: runtime.map(|runtime| runtime.spawn(unconstrained(future))) }
    }

    fn catch(&self, make: impl FnOnce() -> F) -> Result<F, JoinError> {
        catch_unwind(AssertUnwindSafe(make)).map_err(|_panic| JoinError::Panicked)
    }
}

impl<F> Spawner<F> for TokioLocal
where
    F: Future + 'static,
    F::Output: 'static,
{
    type Handle = TokioHandle<F::Output>;

    /// # Panics
    ///
    /// Outside of a `LocalSet` (tokio offers no way to check).
    fn spawn(&self, future: F) -> TokioHandle<F::Output> {
        TokioHandle { task: Some(tokio::task::spawn_local(unconstrained(future))) }
    }

    fn catch(&self, make: impl FnOnce() -> F) -> Result<F, JoinError> {
        catch_unwind(AssertUnwindSafe(make)).map_err(|_panic| JoinError::Panicked)
    }
}

/// A stage that `.spawn(Tokio)` or `.spawn(TokioLocal)` has started, to be named in a struct or a signature: by its record, and by the
/// output and the error of its function. A stage over `StreamElement`s has [`Elements`](inflight_core::Elements) as the fourth.
///
/// ```
/// use std::time::Duration;
///
/// use futures_core::Stream;
/// use inflight_core::{AsyncWait, AsyncWaitExt, StageHandle, StartError};
/// use inflight_tokio::{Tokio, TokioStage};
///
/// #[derive(Debug)]
/// struct Busy;
///
/// async fn name_of(customer: u64) -> Result<String, Busy> {
///     Ok(format!("customer {customer}"))
/// }
///
/// /// Looks up the name of each customer.
/// struct Names {
///     stage: TokioStage<u64, String, Busy>,
///     watch: StageHandle,
/// }
///
/// impl Names {
///     fn of(customers: impl Stream<Item = u64> + Send + 'static) -> Result<Self, StartError> {
///         let policy = AsyncWait::ordered(100).timeout(Duration::from_secs(5));
///         let stage = customers.async_wait_owned(policy, name_of).spawn(Tokio)?;
///         Ok(Self { watch: stage.handle(), stage })
///     }
///
///     async fn next(&mut self) -> Option<String> {
///         let done = self.stage.next().await?;
///         Some(done.result.unwrap_or_else(|failure| format!("unknown ({failure:?})")))
///     }
/// }
///
/// # struct One(bool);
/// # impl Stream for One {
/// #     type Item = u64;
/// #     fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<u64>> {
/// #         std::task::Poll::Ready((!std::mem::replace(&mut self.0, true)).then_some(7))
/// #     }
/// # }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # let customers = One(false);
/// let mut names = Names::of(customers)?;
/// while let Some(name) = names.next().await {
///     println!("{name}, {} in flight", names.watch.metrics().in_flight);
/// #     assert_eq!(name, "customer 7");
/// }
/// # Ok::<(), StartError>(())
/// # }).unwrap();
/// ```
pub type TokioStage<In, Out, E, M = Values> =
    SpawnedStage<Outcome<In, Out, E>, E, M, TokioHandle<Result<(), StageError<E>>>>;

/// A task that is cancelled when this is dropped.
#[derive(Debug)]
pub struct TokioHandle<T> {
    /// `None` if there was no runtime to spawn on.
    task: Option<JoinHandle<T>>,
}

impl<T> Future for TokioHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        let Some(task) = &mut self.task else { return Poll::Ready(Err(JoinError::Cancelled)) };
        Pin::new(task).poll(cx).map_err(|error| match error.is_panic() {
            true => JoinError::Panicked,
            false => JoinError::Cancelled,
        })
    }
}

impl<T> Drop for TokioHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// tokio's clock (also when it is paused) and one of its timers.
pub struct TokioTimer {
    runtime: Handle,
    start: tokio::time::Instant,
    /// Created when it is first armed: one box per stage.
    sleep: Option<Pin<Box<Sleep>>>,
    armed: bool,
}

impl Timer for TokioTimer {
    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        self.armed = at.is_some();
        let Some(at) = at else { return };
        // An instant beyond tokio's clock is armed 30 years ahead, and armed again then.
        const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
        let deadline = self.start + (at - Instant::ZERO).min(FAR);
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => {
                let sleep = {
                    let _inside = self.runtime.enter(); // the task that polls the stage need not be
                    tokio::time::sleep_until(deadline)
                };
                self.sleep = Some(Box::pin(sleep));
            }
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let armed = self.armed;
        let Some(sleep) = self.sleep.as_mut().filter(|_| armed) else { return Poll::Pending };
        ready!(pin!(unconstrained(sleep)).poll(cx));
        self.armed = false;
        Poll::Ready(())
    }

    /// tokio lets a task poll 128 resources and then returns `Pending` for ready ones. A stage polls that
    /// many requests in a turn, and then yields by itself.
    fn turn<T>(cx: &mut Context<'_>, turn: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let mut turn = Some(turn);
        let mut done = None;
        let once = poll_fn(|cx| {
            done = turn.take().map(|turn| turn(cx));
            Poll::Ready(())
        });
        let _ = pin!(unconstrained(once)).poll(cx);
        match done {
            Some(done) => done,
            None => unreachable!("an unconstrained future is polled at once"),
        }
    }

    #[inline]
    fn is_budget_spent() -> bool {
        !has_budget_remaining()
    }
}

impl fmt::Debug for TokioTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioTimer").field("now", &self.now()).finish_non_exhaustive()
    }
}
