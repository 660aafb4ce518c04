//! The runtimes behind one trait with everything that contenders and workloads need.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_executor::Executor;
use inflight::{JoinError, NoRuntime, Runtime, Spawner};
use pin_project_lite::pin_project;

/// A runtime that a sample runs on.
pub(crate) trait Rt: Copy + Send + Sync + Unpin + 'static {
    /// A sleep.
    type Sleep: Future + Send + 'static;
    /// A future with a timeout, in the usual way on this runtime.
    type Timeout<F: Future<Output: Send> + Send + 'static>: Future<Output = Result<F::Output, Self::Elapsed>>
        + Send
        + 'static;
    /// The timeout has passed.
    type Elapsed: Send + 'static;
    /// A spawned task.
    type Task<T: Send + 'static>: Future<Output = T> + Send + Unpin;
    /// The timer of a stage on it.
    type Timer: inflight::Timer + Send + Unpin + 'static;
    /// A task of a stage.
    type Handle<T: Send + 'static>: Future<Output = Result<T, JoinError>> + Send + Unpin;

    /// Runs a future to its end, on a task of a new runtime.
    fn run<F>(self, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send;

    /// See the type.
    fn sleep(time: Duration) -> Self::Sleep;
    /// See the type.
    fn timeout<F: Future<Output: Send> + Send + 'static>(
        time: Duration,
        future: F,
    ) -> Self::Timeout<F>;
    /// See the type.
    fn spawn<F>(future: F) -> Self::Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send;
    /// See the type.
    fn timer() -> Result<Self::Timer, NoRuntime>;
    /// See the type.
    fn spawn_for_stage<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send;
}

/// A runtime as the type that stages take.
#[derive(Clone, Copy)]
pub(crate) struct ForStages<R>(pub(crate) R);

impl<R: Rt> Runtime for ForStages<R> {
    type Timer = R::Timer;

    fn timer(&self) -> Result<R::Timer, NoRuntime> {
        R::timer()
    }
}

impl<R: Rt, F> Spawner<F> for ForStages<R>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Handle = R::Handle<F::Output>;

    fn spawn(&self, future: F) -> Self::Handle {
        R::spawn_for_stage(future)
    }
}

/// tokio, on the calling thread alone or with workers.
#[derive(Clone, Copy)]
pub(crate) struct Tokio {
    /// 0 for the calling thread alone.
    pub(crate) workers: usize,
}

impl Rt for Tokio {
    type Sleep = tokio::time::Sleep;
    type Timeout<F: Future<Output: Send> + Send + 'static> = tokio::time::Timeout<F>;
    type Elapsed = tokio::time::error::Elapsed;
    type Task<T: Send + 'static> = TokioTask<T>;
    type Timer = inflight::TokioTimer;
    type Handle<T: Send + 'static> = inflight::TokioHandle<T>;

    fn run<F>(self, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let mut builder = match self.workers {
            0 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = builder.worker_threads(self.workers.max(1)).enable_time().build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(TokioTask(runtime.spawn(future)))
    }

    fn sleep(time: Duration) -> Self::Sleep {
        tokio::time::sleep(time)
    }

    fn timeout<F: Future<Output: Send> + Send + 'static>(
        time: Duration,
        future: F,
    ) -> Self::Timeout<F> {
        tokio::time::timeout(time, future)
    }

    fn spawn<F>(future: F) -> TokioTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        TokioTask(tokio::spawn(future))
    }

    fn timer() -> Result<Self::Timer, NoRuntime> {
        inflight::Tokio.timer()
    }

    fn spawn_for_stage<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        inflight::Tokio.spawn(future)
    }
}

/// A `JoinHandle` that resumes panics.
pub(crate) struct TokioTask<T>(tokio::task::JoinHandle<T>);

impl<T> Future for TokioTask<T> {
    type Output = T;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|joined| joined.expect("the task ends by itself"))
    }
}

/// smol: an executor on the calling thread, timers of `async-io`.
#[derive(Clone, Copy)]
pub(crate) struct Smol;

static EXECUTOR: Executor<'static> = Executor::new();

impl Rt for Smol {
    type Sleep = async_io::Timer;
    type Timeout<F: Future<Output: Send> + Send + 'static> = Within<F>;
    type Elapsed = Elapsed;
    type Task<T: Send + 'static> = async_executor::Task<T>;
    type Timer = inflight::SmolTimer;
    type Handle<T: Send + 'static> = inflight::SmolHandle<T>;

    fn run<F>(self, future: F) -> F::Output
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let task = EXECUTOR.spawn(future);
        async_io::block_on(EXECUTOR.run(task))
    }

    fn sleep(time: Duration) -> Self::Sleep {
        async_io::Timer::after(time)
    }

    fn timeout<F: Future<Output: Send> + Send + 'static>(time: Duration, future: F) -> Within<F> {
        Within { future, timer: async_io::Timer::after(time) }
    }

    fn spawn<F>(future: F) -> Self::Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        EXECUTOR.spawn(future)
    }

    fn timer() -> Result<Self::Timer, NoRuntime> {
        inflight::Smol(&EXECUTOR).timer()
    }

    fn spawn_for_stage<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        inflight::Smol(&EXECUTOR).spawn(future)
    }
}

/// The timeout has passed.
pub(crate) struct Elapsed;

pin_project! {
    /// A future raced with a timer, like `or` in programs on `smol`.
    pub(crate) struct Within<F> {
        #[pin]
        future: F,
        #[pin]
        timer: async_io::Timer,
    }
}

impl<F: Future> Future for Within<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.timer.poll(cx).map(|_| Err(Elapsed))
    }
}
