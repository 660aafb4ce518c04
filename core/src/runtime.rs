//! The interface to a runtime: a clock with a timer ([`Timer`]), and tasks that run futures ([`Spawner`]).

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use crate::outcome::Failure;
use crate::time::Instant;

/// A runtime, as a value: `Tokio`, `Smol(&executor)`.
pub trait Runtime {
    /// The runtime's clock and timer.
    type Timer: Timer;

    /// True if the runtime's timers, and everything else of it that requests wait for, may be polled with any waker. Nearly
    /// every runtime allows that. Where it is `false` they must be polled with the wakers of the runtime's own tasks. Then a
    /// stage over [`Fixed`](crate::Fixed) compiles, because it polls everything with the waker of its task; a stage on the
    /// heap or over a [`WakeTable`](crate::WakeTable) does not compile, because it has a waker for each request.
    const ANY_WAKER: bool = true;

    /// Makes a timer for one stage.
    ///
    /// # Errors
    ///
    /// [`NoRuntime`] when the caller is outside of the runtime, so that there is no timer to use.
    fn timer(&self) -> Result<Self::Timer, NoRuntime>;
}

impl<Rt: Runtime> Runtime for &Rt {
    type Timer = Rt::Timer;

    const ANY_WAKER: bool = Rt::ANY_WAKER;

    fn timer(&self) -> Result<Self::Timer, NoRuntime> {
        (**self).timer()
    }
}

/// A clock, and a timer that can be armed for one instant at a time.
///
/// An implementation MUST
///
/// 1. return from `now` instants that never go back, of a clock that starts with the timer or before;
/// 2. not fire before the instant it is armed for: a coarser clock rounds up;
/// 3. answer `Ready` from `poll` once the instant has come, and `Pending` when it is not armed;
/// 4. wake the task of the latest `poll` that was `Pending` when the instant comes, also when it has
///    come between `arm` and `poll`;
/// 5. forget the instant that it was armed for before when it is armed anew, and fire once;
/// 6. not answer `Ready` ahead of other events: when a task that was answered `Ready` yields once and is polled again, the
///    runtime has delivered all other events that had come by that instant and that this thread delivers (other timers,
///    sockets); delivered means that their wakers have been called. A timer that the runtime keeps among its other timers,
///    and that is ready when the runtime has processed it, satisfies this by itself; so does a timer on a runtime that
///    checks timers and sockets before each task.
///
/// Rule 6 makes timeouts fair. After a thread was busy, answers have come and deadlines have passed, and the runtime still
/// has to deliver both. A stage trusts its timer that the answers have been delivered, and times out the requests that are
/// due (T6). A timer that only compares the clock fires too early: requests whose answers the thread was too busy to deliver
/// time out, although the answers had come in time. The damage is smaller where another thread delivers events: then only
/// the answers that this thread had no time for are lost.
pub trait Timer {
    /// The current instant.
    fn now(&self) -> Instant;

    /// Sets the instant at which the timer fires; `None` disarms it.
    fn arm(self: Pin<&mut Self>, at: Option<Instant>);

    /// Ready once the armed instant has come.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;

    /// Runs one turn of a stage. A runtime with a budget of polls for each task must suspend it here, because the
    /// stage has a budget of its own (L5). A request or a timer that answers `Pending` only because the task's budget
    /// is spent would make the stage time out requests that are ready.
    fn turn<T>(cx: &mut Context<'_>, turn: impl FnOnce(&mut Context<'_>) -> T) -> T {
        turn(cx)
    }

    /// Returns true if a future that is polled outside of a [`turn`](Self::turn) may now answer `Pending` although it is
    /// ready, because the task's budget is spent. A stage in place may poll its source, and the
    /// request for the record that it has pulled, between two turns; if the budget is spent, the stage polls the request once more
    /// in a turn. A runtime that suspends a budget in `turn` must implement this.
    fn is_budget_spent() -> bool {
        false
    }
}

/// Runs a future on a task of its own.
///
/// The bounds on `F` (`Send`, `'static`) are on the implementations, so that a runtime for futures that are
/// not `Send` can implement it as well.
///
/// An implementation MUST
///
/// 1. run the future without the handle being polled;
/// 2. cancel the task when the handle is dropped;
/// 3. report a panic and a cancellation through the handle, and never unwind into the code that polls it;
/// 4. where it has `std`, catch a panic in the closure that makes the future ([`catch`](Self::catch)), so that the panic is
///    one record's failure and not the end of the stage (F3).
pub trait Spawner<F: Future> {
    /// A future that awaits the task's end.
    type Handle: Future<Output = Result<F::Output, JoinError>> + Unpin;

    /// Starts the task.
    fn spawn(&self, future: F) -> Self::Handle;

    /// Runs `make`, which makes the future to spawn, and reports a panic in it, with `std::panic::catch_unwind`. This default
    /// is for runtimes without `std`: it catches nothing, so a panic ends the stage.
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`].
    fn catch(&self, make: impl FnOnce() -> F) -> Result<F, JoinError> {
        Ok(make())
    }
}

/// The reason why a task ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinError {
    /// The task panicked.
    Panicked,
    /// The task was cancelled: its runtime was shut down, or there was none.
    Cancelled,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panicked => "the task panicked",
            Self::Cancelled => "the task was cancelled",
        })
    }
}

impl core::error::Error for JoinError {}

/// The stage was started outside of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NoRuntime;

impl fmt::Display for NoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no runtime here; start the stage from inside one")
    }
}

impl core::error::Error for NoRuntime {}

/// The way in which attempts run: in place ([`InPlace`]), each on a task of its own ([`SpawnEach`]), or on the tasks of a stage's
/// instances (`OnInstances`, feature `alloc`). Sealed: to run them elsewhere, implement [`Spawner`].
pub trait RunRequest<F, Out, E>: sealed::Sealed {
    /// The request as the stage polls it, with its failure as the record's outcome names it (F2).
    type Request: Future<Output = Result<Out, Failure<E>>>;

    /// Starts the request that `make` makes.
    fn launch(&self, make: impl FnOnce() -> F) -> Self::Request;

    /// Asked when the stage's timer has fired: ready when each request that was woken by then has been polled, so that its answer
    /// counts (T6). A stage polls its own requests before it judges deadlines, so the default has nothing to wait for.
    #[doc(hidden)]
    #[inline(always)]
    fn poll_settled(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

pub(crate) mod sealed {
    #[allow(unreachable_pub)]
    pub trait Sealed {}

    impl Sealed for super::InPlace {}
    impl<Q> Sealed for super::SpawnEach<Q> {}
}

/// The stage polls the requests itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct InPlace;

impl<F, Out, E> RunRequest<F, Out, E> for InPlace
where
    F: Future<Output = Result<Out, E>>,
{
    type Request = RequestInPlace<F>;

    #[inline(always)]
    fn launch(&self, make: impl FnOnce() -> F) -> RequestInPlace<F> {
        RequestInPlace { request: make() }
    }
}

pin_project_lite::pin_project! {
    /// A request that the stage polls itself.
    #[derive(Debug)]
    pub struct RequestInPlace<F> {
        #[pin]
        request: F,
    }
}

impl<F, Out, E> Future for RequestInPlace<F>
where
    F: Future<Output = Result<Out, E>>,
{
    type Output = Result<Out, Failure<E>>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().request.poll(cx).map_err(Failure::Error)
    }
}

/// Each attempt runs on a task of its own, spawned by `Q`.
#[derive(Clone, Copy, Debug)]
pub struct SpawnEach<Q>(pub Q);

impl<F, Out, E, Q> RunRequest<F, Out, E> for SpawnEach<Q>
where
    F: Future<Output = Result<Out, E>>,
    Q: Spawner<F>,
{
    type Request = RequestOnTask<Q::Handle>;

    fn launch(&self, make: impl FnOnce() -> F) -> Self::Request {
        // F3: a panic in `make` is this record's failure, which the request reports when it is polled.
        RequestOnTask { handle: self.0.catch(make).map(|request| self.0.spawn(request)) }
    }
}

/// A request that runs on a task of its own.
#[derive(Debug)]
pub struct RequestOnTask<H> {
    /// `Err` if the closure that makes the future panicked, so that there was nothing to spawn.
    handle: Result<H, JoinError>,
}

impl<H, Out, E> Future for RequestOnTask<H>
where
    H: Future<Output = Result<Result<Out, E>, JoinError>> + Unpin,
{
    type Output = Result<Out, Failure<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let joined = match &mut self.handle {
            Ok(handle) => Pin::new(handle).poll(cx),
            Err(gone) => Poll::Ready(Err(*gone)),
        };
        // F2: a panic and a cancellation are failures of their own.
        joined.map(|joined| match joined {
            Ok(result) => result.map_err(Failure::Error),
            Err(JoinError::Panicked) => Err(Failure::Panicked),
            Err(JoinError::Cancelled) => Err(Failure::Cancelled),
        })
    }
}
