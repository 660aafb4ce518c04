//! The user's function: it makes the request for each record.

use core::fmt;
use core::future::Future;
use core::task::{Context, Poll};
use core::time::Duration;

use crate::outcome::Failure;

/// The facts about one attempt, as the user's function and the retry strategy receive them (R6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptInfo {
    /// The attempt's number: 1 for the first attempt of a call, 2 for its first retry. Attempts made before
    /// a restore count, including the one that the crash interrupted (K5).
    pub number: u32,
    /// The number of attempts of this call that have failed before: 0 for the first attempt, k for the k-th
    /// retry. An attempt that a crash interrupted has not failed, so a process that is killed often does not
    /// use up the retries of its calls.
    pub retry: u32,
    /// The request's id: the same for all attempts of one record, also after a restore, and different for
    /// each record of the stage. A service can recognise repeated requests by it.
    pub request_id: u64,
    /// The rest of the call's timeout when the attempt starts; `None` without a timeout.
    pub time_left: Option<Duration>,
}

/// A call that has timed out, as the timeout handler is told of it (F5).
#[derive(Debug)]
pub struct TimedOutCall<'a, In, Out, E> {
    /// The record.
    pub input: &'a In,
    /// The number of attempts made, including one that the timeout has cancelled.
    pub attempts: u32,
    /// The result of the last attempt that has ended, which the retry strategy has not accepted; `None` if none has ended since the
    /// process started.
    pub last: Option<&'a Result<Out, Failure<E>>>,
}

impl<In, Out, E> TimedOutCall<'_, In, Out, E> {
    /// The function's own error in the last attempt that has ended, if it was one.
    pub fn last_error(&self) -> Option<&E> {
        self.last?.as_ref().err()?.error()
    }
}

/// The outcome of a record whose call has timed out (T3, F5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeoutAction<Out, E> {
    /// The outcome is [`Failure::TimedOut`](crate::Failure::TimedOut).
    #[default]
    Fail,
    /// The outcome is this error of the function's own. It counts as timed out all the same.
    FailWith(E),
    /// The outcome is this output.
    Output(Out),
    /// The record leaves without an outcome, and is counted.
    Drop,
}

/// The function that a stage calls for each record.
///
/// Every `FnMut(&In) -> impl Future<Output = Result<Output, Error>>` implements it. Implement it for a type
/// of your own when there is something to open or close. A closure that needs its [`AttemptInfo`] goes
/// through [`with_attempt`], one that takes its record by value through [`with_owned`], a closure with a fallback for a timeout
/// through [`with_timeout_action`].
///
/// The future must own everything it needs. It cannot borrow the input, because the operator keeps the
/// input for the next attempt and for the outcome.
///
/// ```
/// use core::future::{Ready, ready};
/// use core::task::{Context, Poll};
///
/// use inflight_core::{AsyncFunction, AttemptInfo, TimedOutCall, TimeoutAction};
///
/// struct Names(Vec<&'static str>);
///
/// impl AsyncFunction<usize> for Names {
///     type Output = &'static str;
///     type Error = String;
///     type Future = Ready<Result<&'static str, String>>;
///
///     fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<(), String>> {
///         self.0 = vec!["zero", "one"]; // or polls the future of a connection
///         Poll::Ready(Ok(()))
///     }
///
///     fn invoke(&mut self, number: &usize, _: AttemptInfo) -> Self::Future {
///         ready(self.0.get(*number).copied().ok_or_else(|| format!("{number} has no name")))
///     }
///
///     fn on_timeout(
///         &mut self,
///         call: TimedOutCall<'_, usize, &'static str, String>,
///     ) -> TimeoutAction<&'static str, String> {
///         match call.last_error() {
///             Some(error) => TimeoutAction::FailWith(error.clone()),
///             None => TimeoutAction::Output("some number"),
///         }
///     }
/// }
/// ```
pub trait AsyncFunction<In> {
    /// The answer of a successful request.
    type Output;
    /// The error of a failed request.
    type Error;
    /// A request under way.
    type Future: Future<Output = Result<Self::Output, Self::Error>>;

    /// Opens the function: connects, loads, warms up. The stage polls this until it is ready, once, before
    /// the first `invoke` (L4). An error ends the stage before it has taken any input;
    /// [`poll_close`](Self::poll_close) follows.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Starts an attempt. Dropping the future cancels it.
    fn invoke(&mut self, input: &In, attempt: AttemptInfo) -> Self::Future;

    /// Chooses the end of a call that has timed out (T3, F5). By default the call fails.
    fn on_timeout(
        &mut self,
        call: TimedOutCall<'_, In, Self::Output, Self::Error>,
    ) -> TimeoutAction<Self::Output, Self::Error> {
        let _ = call;
        TimeoutAction::Fail
    }

    /// Closes the function: flushes, disconnects. The stage polls this until it is ready, once, after all
    /// records have left or opening has failed (L4). A stage that is dropped or panics does not call it; use
    /// `Drop` for that.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}

impl<In, F, Fut, Output, Error> AsyncFunction<In> for F
where
    F: FnMut(&In) -> Fut,
    Fut: Future<Output = Result<Output, Error>>,
{
    type Output = Output;
    type Error = Error;
    type Future = Fut;

    #[inline]
    fn invoke(&mut self, input: &In, _attempt: AttemptInfo) -> Fut {
        self(input)
    }
}

/// A function that receives its [`AttemptInfo`].
///
/// ```
/// use inflight_core::{AttemptInfo, with_attempt};
///
/// let function = with_attempt(|key: &u32, attempt: AttemptInfo| {
///     let (key, number) = (*key, attempt.number);
///     async move { Ok::<_, ()>(format!("asked for {key}, attempt {number}")) }
/// });
/// # let _ = function;
/// ```
pub fn with_attempt<In, F, Fut, Output, Error>(function: F) -> WithAttempt<F>
where
    F: FnMut(&In, AttemptInfo) -> Fut,
    Fut: Future<Output = Result<Output, Error>>,
{
    WithAttempt(function)
}

/// Returned by [`with_attempt`].
#[derive(Clone)]
pub struct WithAttempt<F>(F);

impl<F> fmt::Debug for WithAttempt<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WithAttempt(..)")
    }
}

impl<In, F, Fut, Output, Error> AsyncFunction<In> for WithAttempt<F>
where
    F: FnMut(&In, AttemptInfo) -> Fut,
    Fut: Future<Output = Result<Output, Error>>,
{
    type Output = Output;
    type Error = Error;
    type Future = Fut;

    fn invoke(&mut self, input: &In, attempt: AttemptInfo) -> Fut {
        (self.0)(input, attempt)
    }
}

/// A function that takes its record by value: each attempt gets a clone. [`async_wait_owned`](crate::AsyncWaitExt::async_wait_owned)
/// says the same in one word.
///
/// ```
/// use inflight_core::{TimedOutCall, TimeoutAction, with_owned, with_timeout_action};
///
/// async fn temperature_at(place: String) -> Result<f64, &'static str> {
///     if place == "Lima" { Ok(20.5) } else { Err("no such place") }
/// }
///
/// let function = with_timeout_action(
///     with_owned(temperature_at),
///     |call: TimedOutCall<'_, String, f64, &str>| TimeoutAction::Output(15.0),
/// );
/// # let _ = function;
/// ```
pub fn with_owned<In, F, Fut, Output, Error>(function: F) -> WithOwned<F>
where
    In: Clone,
    F: FnMut(In) -> Fut,
    Fut: Future<Output = Result<Output, Error>>,
{
    WithOwned(function)
}

/// Returned by [`with_owned`].
#[derive(Clone)]
pub struct WithOwned<F>(F);

impl<F> fmt::Debug for WithOwned<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WithOwned(..)")
    }
}

impl<In, F, Fut, Output, Error> AsyncFunction<In> for WithOwned<F>
where
    In: Clone,
    F: FnMut(In) -> Fut,
    Fut: Future<Output = Result<Output, Error>>,
{
    type Output = Output;
    type Error = Error;
    type Future = Fut;

    #[inline]
    fn invoke(&mut self, input: &In, _attempt: AttemptInfo) -> Fut {
        (self.0)(input.clone())
    }
}

/// A function with a handler for calls that have timed out.
///
/// ```
/// use inflight_core::{TimedOutCall, TimeoutAction, with_timeout_action};
///
/// let function = with_timeout_action(
///     |key: &u32| {
///         let key = *key;
///         async move { Ok::<_, ()>(key * 2) }
///     },
///     |call: TimedOutCall<'_, u32, u32, ()>| match *call.input {
///         0 => TimeoutAction::Drop,
///         _ => TimeoutAction::Output(0),
///     },
/// );
/// # let _ = function;
/// ```
pub fn with_timeout_action<In, F, T>(function: F, action: T) -> WithTimeoutAction<F, T>
where
    F: AsyncFunction<In>,
    T: FnMut(TimedOutCall<'_, In, F::Output, F::Error>) -> TimeoutAction<F::Output, F::Error>,
{
    WithTimeoutAction { function, action }
}

/// Returned by [`with_timeout_action`].
#[derive(Clone)]
pub struct WithTimeoutAction<F, T> {
    function: F,
    action: T,
}

impl<F, T> fmt::Debug for WithTimeoutAction<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WithTimeoutAction(..)")
    }
}

impl<In, F, T> AsyncFunction<In> for WithTimeoutAction<F, T>
where
    F: AsyncFunction<In>,
    T: FnMut(TimedOutCall<'_, In, F::Output, F::Error>) -> TimeoutAction<F::Output, F::Error>,
{
    type Output = F::Output;
    type Error = F::Error;
    type Future = F::Future;

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), F::Error>> {
        self.function.poll_open(cx)
    }

    fn invoke(&mut self, input: &In, attempt: AttemptInfo) -> F::Future {
        self.function.invoke(input, attempt)
    }

    fn on_timeout(
        &mut self,
        call: TimedOutCall<'_, In, F::Output, F::Error>,
    ) -> TimeoutAction<F::Output, F::Error> {
        (self.action)(call)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.function.poll_close(cx)
    }
}
