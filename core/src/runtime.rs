//! What a stage needs from a runtime: a clock with a timer, and somebody who runs a future.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use crate::outcome::Failure;
use crate::time::Instant;

/// A runtime, as a value: `Tokio`, `Smol(&executor)`.
pub trait Runtime {
    /// Its clock and timer.
    type Timer: Timer;

    /// Whether its timers, and whatever else of it requests wait for, may be polled with any waker. Nearly every runtime
    /// allows that. Where it is `false` they must be polled with the wakers of the runtime's own tasks: then a stage over
    /// [`Fixed`](crate::Fixed) compiles, which polls everything with the waker of its task, and one on the heap or over a
    /// [`WakeTable`](crate::WakeTable) does not, since those have a waker for each request.
    const ANY_WAKER: bool = true;

    /// A timer for one stage.
    ///
    /// # Errors
    ///
    /// [`NoRuntime`] when there is no runtime here whose timer could be used.
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
/// 1. give from `now` instants that never go back, of a clock that starts with the timer or before;
/// 2. not fire before the instant it is armed for: a coarser clock rounds up;
/// 3. answer `Ready` from `poll` once the instant has come, and `Pending` when it is not armed;
/// 4. wake the task of the latest `poll` that was `Pending` when the instant comes, also when it has
///    come between `arm` and `poll`;
/// 5. forget the instant that it was armed for before when it is armed anew, and fire once;
/// 6. not answer `Ready` too early for the rest: when a task that was answered `Ready` gives way once and is polled again,
///    whatever else had come by that instant and is delivered by this thread (other timers, sockets) has been delivered, that
///    is, its wakers have been called. A timer that the runtime keeps among its others, and that is ready when the runtime
///    has come to it, does so by itself; so does one on a runtime that looks at timers and sockets before each task.
///
/// The sixth is what makes timeouts fair. After a thread was busy, answers have come and deadlines have passed, and both
/// still wait to be delivered. A stage takes its timer's word that the answers are there, and times out what is due (T6). A
/// timer that only looks at the clock says so too early, and whatever the thread was too busy to deliver times out, although
/// it had come in time. It is less bad where another thread delivers: then only what that thread had no time for.
pub trait Timer {
    /// The present.
    fn now(&self) -> Instant;

    /// Sets the instant at which to fire; `None` for never.
    fn arm(self: Pin<&mut Self>, at: Option<Instant>);

    /// Whether the instant has come.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;

    /// Runs one turn of a stage. A runtime that rations what a task may poll suspends that here: the
    /// stage keeps to a ration of its own, and a timer that says `Pending` although its instant has
    /// come would time out requests that are ready.
    fn turn<T>(cx: &mut Context<'_>, turn: impl FnOnce(&mut Context<'_>) -> T) -> T {
        turn(cx)
    }
}

/// Runs a future on a task of its own.
///
/// The bounds on `F` (`Send`, `'static`) stand on the implementations, so that a runtime for futures
/// that are not `Send` can be one as well.
///
/// An implementation MUST
///
/// 1. run the future without the handle being polled;
/// 2. cancel the task when the handle is dropped;
/// 3. tell a panic and a cancellation through the handle, and never unwind into whoever polls it;
/// 4. where it has `std`, catch a panic in what makes a future ([`catch`](Self::catch)), so that it is one record's failure
///    and not the end of the stage.
pub trait Spawner<F: Future> {
    /// Awaits the task's end.
    type Handle: Future<Output = Result<F::Output, JoinError>> + Unpin;

    /// Starts the task.
    fn spawn(&self, future: F) -> Self::Handle;

    /// Runs `make`, which makes a future to be spawned, and tells a panic in it: `std::panic::catch_unwind`. As it stands
    /// here, without `std`, a panic goes through and ends the stage.
    ///
    /// # Errors
    ///
    /// [`JoinError::Panicked`].
    fn catch(&self, make: impl FnOnce() -> F) -> Result<F, JoinError> {
        Ok(make())
    }
}

/// A task ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JoinError {
    /// It panicked.
    Panicked,
    /// It was cancelled: its runtime was shut down, or there was none.
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

/// There is no runtime here: the stage was started outside of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NoRuntime;

impl fmt::Display for NoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no runtime here; start the stage from inside one")
    }
}

impl core::error::Error for NoRuntime {}

/// How an attempt is run: in place ([`InPlace`]) or on a task of its own ([`SpawnEach`]). Sealed: what can be
/// had otherwise is a [`Spawner`] of yours.
pub trait RunRequest<F>: sealed::Sealed {
    /// The request as the stage polls it.
    type Request: Future;

    /// Starts the request that `make` makes.
    fn launch(&self, make: impl FnOnce() -> F) -> Self::Request;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::InPlace {}
    impl<Q> Sealed for super::SpawnEach<Q> {}
}

/// Requests are polled by the stage.
#[derive(Clone, Copy, Debug, Default)]
pub struct InPlace;

impl<F, Out, E> RunRequest<F> for InPlace
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

impl<F, Out, E, Q> RunRequest<F> for SpawnEach<Q>
where
    F: Future<Output = Result<Out, E>>,
    Q: Spawner<F>,
{
    type Request = RequestOnTask<Q::Handle>;

    fn launch(&self, make: impl FnOnce() -> F) -> Self::Request {
        RequestOnTask { handle: self.0.catch(make).map(|request| self.0.spawn(request)) }
    }
}

/// A request that runs on a task of its own.
#[derive(Debug)]
pub struct RequestOnTask<H> {
    /// `Err` if there was no future to be spawned.
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
        joined.map(|joined| match joined {
            Ok(result) => result.map_err(Failure::Error),
            Err(JoinError::Panicked) => Err(Failure::Panicked),
            Err(JoinError::Cancelled) => Err(Failure::Cancelled),
        })
    }
}
