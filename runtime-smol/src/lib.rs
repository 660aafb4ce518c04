//! smol for inflight: [`Smol`], and [`SmolLocal`] for futures that are not `Send`.
//!
//! Stages run on the application's own executor, and timers on `async-io`'s reactor. A stage may borrow
//! values that outlive the executor. A stage that spawns its requests keeps the executor itself, inside one
//! of the executor's tasks: it needs a shared or static executor, see [`Smol`].
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
use inflight_core::{
    Instant, JoinError, NoRuntime, Outcome, Runtime, SpawnedStage, Spawner, StageError, Timer,
    Values,
};

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
/// A stage that is started with `.spawn_requests(..).spawn(..)` spawns tasks from within its own task, so its
/// task contains the executor. A borrowed local executor would not live long enough (`E0597`), because its
/// own tasks would borrow it. Share the executor:
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
/// or put it in a `static`, which needs no clones:
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
/// The executor behind `smol::spawn` cannot be passed to a stage. A shared executor is dropped with the last
/// of its tasks: run it until the stage's stream has ended or, if that was dropped, once more.
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
        // A panic must neither unwind into the executor nor into the task that polls the handle.
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

/// A stage that `.spawn(Smol(..))` or `.spawn(SmolLocal(..))` has started, to be named in a struct or a signature: by its record, and by
/// the output and the error of its function. A stage over `StreamElement`s has [`Elements`](inflight_core::Elements) as the fourth.
///
/// ```
/// use async_executor::Executor;
/// use futures_lite::stream;
/// use inflight_core::{AsyncWait, AsyncWaitExt, StartError};
/// use inflight_smol::{Smol, SmolStage};
///
/// static EXECUTOR: Executor<'static> = Executor::new();
///
/// struct Doubler {
///     stage: SmolStage<u32, u32, ()>,
/// }
///
/// impl Doubler {
///     fn of(numbers: Vec<u32>) -> Result<Self, StartError> {
///         let double = async |n: u32| Ok(2 * n);
///         let policy = AsyncWait::ordered(10);
///         let stage = stream::iter(numbers).async_wait_owned(policy, double).spawn(Smol(&EXECUTOR))?;
///         Ok(Self { stage })
///     }
/// }
/// # let mut doubler = Doubler::of(vec![1, 2])?;
/// # let done = futures_lite::future::block_on(EXECUTOR.run(doubler.stage.next()));
/// # assert_eq!(done.and_then(|done| done.result.ok()), Some(2));
/// # Ok::<(), StartError>(())
/// ```
pub type SmolStage<In, Out, E, M = Values> =
    SpawnedStage<Outcome<In, Out, E>, E, M, SmolHandle<Result<(), StageError<E>>>>;

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

/// The system's monotonic clock, and a timer on `async-io`'s reactor.
///
/// A timer of `async-io` is ready by the clock alone, but the reactor, which delivers all other events, may
/// not have run for a while. This timer is ready only when the reactor has processed it, and so has delivered
/// the other events too (rule 6 of [`Timer`]).
#[derive(Debug)]
pub struct SmolTimer {
    start: std::time::Instant,
    at: Option<std::time::Instant>,
    timer: async_io::Timer,
    bell: Arc<Bell>,
}

/// A waker that the reactor wakes.
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
        // The reactor may still wake the waker of the previous instant, which no longer has an effect.
        match Arc::get_mut(&mut self.bell) {
            Some(bell) => *bell.is_rung.get_mut() = false,
            None => self.bell = Arc::default(),
        }
        // An instant beyond the system's clock never comes.
        self.at = at.and_then(|at| self.start.checked_add(at - Instant::ZERO));
        if let Some(at) = self.at {
            // An interval, because the reactor never wakes for an instant that has passed already: then it wakes for the
            // interval's next instant.
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
