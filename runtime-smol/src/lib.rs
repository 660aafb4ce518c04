//! smol for inflight: [`Smol`], and [`SmolLocal`] for futures that are not `Send`.
//!
//! Stages run on an executor of the application's own, timers on `async-io`'s reactor. A stage may
//! borrow whatever outlives the executor.
#![forbid(unsafe_code)]

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_executor::{Executor, LocalExecutor};
use async_task::FallibleTask;
use futures_lite::FutureExt;
use inflight_core::{Gone, Instant, NoRuntime, Runtime, Spawner, Timer};

/// A smol executor.
///
/// ```
/// use inflight_core::{AsyncWait, AsyncWaitExt};
/// use inflight_smol::Smol;
///
/// let executor = async_executor::Executor::new();
/// let doubled = futures_lite::future::block_on(executor.run(async {
///     let mut stage = futures_lite::stream::iter([1, 2, 3])
///         .async_wait(AsyncWait::ordered(10), |n| {
///             let n = *n;
///             async move { Ok::<u32, ()>(n * 2) }
///         })
///         .spawn(Smol(&executor))?;
///     let mut doubled = Vec::new();
///     while let Some(outcome) = stage.next().await {
///         doubled.extend(outcome.result.ok());
///     }
///     Ok::<_, inflight_core::StartError>(doubled)
/// }));
/// assert_eq!(doubled, Ok(vec![2, 4, 6]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Smol<'e, 'f>(pub &'e Executor<'f>);

/// A smol executor for futures that are not `Send`.
#[derive(Clone, Copy, Debug)]
pub struct SmolLocal<'e, 'f>(pub &'e LocalExecutor<'f>);

impl Runtime for Smol<'_, '_> {
    type Timer = SmolTimer;

    fn timer(&self) -> Result<SmolTimer, NoRuntime> {
        Ok(SmolTimer::new())
    }
}

impl Runtime for SmolLocal<'_, '_> {
    type Timer = SmolTimer;

    fn timer(&self) -> Result<SmolTimer, NoRuntime> {
        Ok(SmolTimer::new())
    }
}

impl<'f, F> Spawner<F> for Smol<'_, 'f>
where
    F: Future + Send + 'f,
    F::Output: Send + 'f,
{
    type Handle = SmolHandle<F::Output>;

    fn spawn(&self, future: F) -> SmolHandle<F::Output> {
        // A panic must neither unwind the executor nor come out where the handle is polled.
        let caught = AssertUnwindSafe(future).catch_unwind();
        SmolHandle { task: self.0.spawn(caught).fallible() }
    }
}

impl<'f, F> Spawner<F> for SmolLocal<'_, 'f>
where
    F: Future + 'f,
    F::Output: 'f,
{
    type Handle = SmolHandle<F::Output>;

    fn spawn(&self, future: F) -> SmolHandle<F::Output> {
        let caught = AssertUnwindSafe(future).catch_unwind();
        SmolHandle { task: self.0.spawn(caught).fallible() }
    }
}

/// A task that is cancelled when this is dropped. The executor drops the task's future the next time
/// it runs.
#[derive(Debug)]
pub struct SmolHandle<T> {
    task: FallibleTask<Result<T, Box<dyn Any + Send>>>,
}

impl<T> Future for SmolHandle<T> {
    type Output = Result<T, Gone>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Gone>> {
        Poll::Ready(match ready!(Pin::new(&mut self.task).poll(cx)) {
            Some(Ok(output)) => Ok(output),
            Some(Err(_panic)) => Err(Gone::Panicked),
            None => Err(Gone::Cancelled),
        })
    }
}

/// The system's monotonic clock and a timer on `async-io`'s reactor.
#[derive(Debug)]
pub struct SmolTimer {
    start: std::time::Instant,
    timer: async_io::Timer,
}

impl SmolTimer {
    fn new() -> Self {
        Self { start: std::time::Instant::now(), timer: async_io::Timer::never() }
    }
}

impl Timer for SmolTimer {
    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        // What is beyond the system's clock never comes.
        match at.and_then(|at| self.start.checked_add(at - Instant::ZERO)) {
            Some(at) => self.timer.set_at(at),
            None => self.timer.clear(),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.timer).poll(cx).map(|_| ())
    }
}
