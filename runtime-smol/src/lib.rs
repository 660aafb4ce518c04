//! smol for inflight: [`Smol`], and [`SmolLocal`] for futures that are not `Send`.
//!
//! Stages run on an executor of the application's own, timers on `async-io`'s reactor. A stage may
//! borrow whatever outlives the executor. A stage that spawns its requests holds the executor itself, from
//! within one of its tasks: it needs one that is shared or static, see [`Smol`].
#![forbid(unsafe_code)]

use std::any::Any;
use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use async_executor::{Executor, LocalExecutor};
use async_task::FallibleTask;
use futures_lite::FutureExt;
use inflight_core::{Instant, JoinError, NoRuntime, Runtime, Spawner, Timer};

/// A smol executor: a reference to one, or an [`Arc`] of one.
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
///
/// # Requests on tasks of their own
///
/// A stage that is started with `.spawn_requests(..).spawn(..)` starts tasks from within its own, so that its own
/// has the executor in it. One that is borrowed from a local variable would not live long enough (`E0597`): it would be
/// borrowed by its own tasks. Share it instead:
///
/// ```
/// use std::sync::Arc;
///
/// use async_executor::Executor;
/// use inflight_core::{AsyncWait, AsyncWaitExt};
/// use inflight_smol::Smol;
///
/// let executor = Arc::new(Executor::new());
/// let squares = futures_lite::future::block_on(executor.run(async {
///     let mut stage = futures_lite::stream::iter([1, 2, 3])
///         .async_wait(AsyncWait::ordered(10), |n: &u32| {
///             let n = *n;
///             async move { Ok::<u32, ()>(n * n) }
///         })
///         .spawn_requests(Smol(Arc::clone(&executor)))
///         .spawn(Smol(Arc::clone(&executor)))?;
///     let mut squares = Vec::new();
///     while let Some(outcome) = stage.next().await {
///         squares.extend(outcome.result.ok());
///     }
///     Ok::<_, inflight_core::StartError>(squares)
/// }));
/// assert_eq!(squares, Ok(vec![1, 4, 9]));
/// ```
///
/// or put it in a `static`, which is as good as an executor that the whole program has, and needs no clones:
///
/// ```
/// use async_executor::Executor;
/// use inflight_smol::Smol;
///
/// static EXECUTOR: Executor<'static> = Executor::new();
/// const SMOL: Smol<&Executor<'static>> = Smol(&EXECUTOR);
/// # let _ = SMOL;
/// ```
///
/// The executor behind `smol::spawn` can be given to nobody. A shared one is dropped when the last of its tasks is: run it
/// until the stage's stream has ended or, if that was dropped, once more.
#[derive(Clone, Copy, Debug)]
pub struct Smol<X>(pub X);

/// A smol executor for futures that are not `Send`: a reference to one, or, for a stage that spawns its requests, an
/// [`Rc`](std::rc::Rc) of one. See [`Smol`].
#[derive(Clone, Copy, Debug)]
pub struct SmolLocal<X>(pub X);

impl<'f, X: Deref<Target = Executor<'f>>> Runtime for Smol<X> {
    type Timer = SmolTimer;

    fn timer(&self) -> Result<SmolTimer, NoRuntime> {
        Ok(SmolTimer::new())
    }
}

impl<'f, X: Deref<Target = LocalExecutor<'f>>> Runtime for SmolLocal<X> {
    type Timer = SmolTimer;

    fn timer(&self) -> Result<SmolTimer, NoRuntime> {
        Ok(SmolTimer::new())
    }
}

impl<'f, F, X> Spawner<F> for Smol<X>
where
    X: Deref<Target = Executor<'f>>,
    F: Future + Send + 'f,
    F::Output: Send + 'f,
{
    type Handle = SmolHandle<F::Output>;

    fn spawn(&self, future: F) -> SmolHandle<F::Output> {
        // A panic must neither unwind the executor nor come out where the handle is polled.
        let caught = AssertUnwindSafe(future).catch_unwind();
        SmolHandle { task: self.0.spawn(caught).fallible() }
    }

    fn catch(&self, make: impl FnOnce() -> F) -> Result<F, JoinError> {
        catch_unwind(AssertUnwindSafe(make)).map_err(|_panic| JoinError::Panicked)
    }
}

impl<'f, F, X> Spawner<F> for SmolLocal<X>
where
    X: Deref<Target = LocalExecutor<'f>>,
    F: Future + 'f,
    F::Output: 'f,
{
    type Handle = SmolHandle<F::Output>;

    fn spawn(&self, future: F) -> SmolHandle<F::Output> {
        let caught = AssertUnwindSafe(future).catch_unwind();
        SmolHandle { task: self.0.spawn(caught).fallible() }
    }

    fn catch(&self, make: impl FnOnce() -> F) -> Result<F, JoinError> {
        catch_unwind(AssertUnwindSafe(make)).map_err(|_panic| JoinError::Panicked)
    }
}

/// A task that is cancelled when this is dropped. The executor drops the task's future the next time
/// it runs.
#[derive(Debug)]
pub struct SmolHandle<T> {
    task: FallibleTask<Result<T, Box<dyn Any + Send>>>,
}

impl<T> Future for SmolHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>> {
        Poll::Ready(match ready!(Pin::new(&mut self.task).poll(cx)) {
            Some(Ok(output)) => Ok(output),
            Some(Err(_panic)) => Err(JoinError::Panicked),
            None => Err(JoinError::Cancelled),
        })
    }
}

/// The system's monotonic clock and a timer on `async-io`'s reactor.
///
/// A timer of `async-io` is ready by the clock, and whatever else has come is delivered by its reactor, which may not have run for a
/// while. This one is ready when the reactor has come to it, and so to the rest (rule 6 of [`Timer`]).
#[derive(Debug)]
pub struct SmolTimer {
    start: std::time::Instant,
    at: Option<std::time::Instant>,
    timer: async_io::Timer,
    bell: Arc<Bell>,
}

/// Rung by the reactor.
#[derive(Debug, Default)]
struct Bell {
    is_rung: AtomicBool,
    listener: Mutex<Option<Waker>>,
}

impl Bell {
    fn listener(&self) -> MutexGuard<'_, Option<Waker>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.is_rung.store(true, Ordering::SeqCst);
        let listener = self.listener().take();
        listener.into_iter().for_each(Waker::wake);
    }
}

impl SmolTimer {
    fn new() -> Self {
        let (timer, bell) = (async_io::Timer::never(), Arc::default());
        Self { start: std::time::Instant::now(), at: None, timer, bell }
    }
}

impl Timer for SmolTimer {
    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        self.timer.clear();
        // The reactor may still ring for the instant before: then that is a bell that nobody hears.
        match Arc::get_mut(&mut self.bell) {
            Some(bell) => *bell.is_rung.get_mut() = false,
            None => self.bell = Arc::default(),
        }
        // What is beyond the system's clock never comes.
        self.at = at.and_then(|at| self.start.checked_add(at - Instant::ZERO));
        if let Some(at) = self.at {
            // With an instant that has passed the reactor has nothing to do; with the one after it, it rings.
            self.timer.set_interval_at(at, Duration::from_nanos(1));
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at.is_none() {
            return Poll::Pending;
        }
        *self.bell.listener() = Some(cx.waker().clone());
        if self.bell.is_rung.load(Ordering::SeqCst) {
            self.arm(None);
            return Poll::Ready(());
        }
        let ring = Waker::from(Arc::clone(&self.bell));
        let _by_the_clock = Pin::new(&mut self.timer).poll(&mut Context::from_waker(&ring));
        Poll::Pending
    }
}
