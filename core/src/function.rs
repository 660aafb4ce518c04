//! The user's function: what is asked of the outside for each record.

use core::fmt;
use core::future::Future;
use core::task::{Context, Poll};
use core::time::Duration;

/// What an attempt is told about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptInfo {
    /// 1 for the first attempt of a call, 2 for its first retry. Attempts made before a restore
    /// count, the one that the crash interrupted included.
    pub number: u32,
    /// How many attempts of the call have failed before this one: 0 for the first attempt, k for the
    /// k-th retry. An attempt that a crash interrupted has not failed, so a process that is killed often
    /// does not use up its calls' retries.
    pub retry: u32,
    /// The same for all attempts of one record, also after a restore, and different for each record
    /// of the stage: what a service can tell repeats by.
    pub request_id: u64,
    /// What is left of the call's timeout when the attempt starts; `None` without a timeout.
    pub time_left: Option<Duration>,
}

/// What becomes of a record whose call has timed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeoutAction<Out> {
    /// Its outcome is [`Failure::TimedOut`](crate::Failure::TimedOut).
    #[default]
    Fail,
    /// Its outcome is this output.
    Output(Out),
    /// It leaves without an outcome, and is counted.
    Drop,
}

/// What a stage does with each record.
///
/// Every `FnMut(&In) -> impl Future<Output = Result<Output, Error>>` is one. Implement it for a type of
/// its own when there is something to open or close. A closure that wants to know its attempt goes
/// through [`with_attempt`], one with a fallback for a timeout through [`with_timeout_action`].
///
/// The future owns what it needs: it cannot borrow the input, which stays with the operator so that
/// it can be tried again and handed back.
///
/// ```
/// use core::future::{Ready, ready};
/// use core::task::{Context, Poll};
///
/// use inflight_core::{AsyncFunction, AttemptInfo, TimeoutAction};
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
///     fn on_timeout(&mut self, _: &usize) -> TimeoutAction<&'static str> {
///         TimeoutAction::Output("some number")
///     }
/// }
/// ```
pub trait AsyncFunction<In> {
    /// What it returns.
    type Output;
    /// How it fails.
    type Error;
    /// A request under way.
    type Future: Future<Output = Result<Self::Output, Self::Error>>;

    /// Polled until it is ready, once, before the first `invoke`: connects, loads, warms up. An error
    /// ends the stage before it has taken any input; [`poll_close`](Self::poll_close) follows.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Starts an attempt. Dropping the future cancels it.
    fn invoke(&mut self, input: &In, attempt: AttemptInfo) -> Self::Future;

    /// Decides what becomes of a record whose call has timed out. By default it fails.
    fn on_timeout(&mut self, input: &In) -> TimeoutAction<Self::Output> {
        let _ = input;
        TimeoutAction::Fail
    }

    /// Polled until it is ready, once, when everything is through or opening has failed: flushes,
    /// disconnects. Not when the stage is dropped or panics: that is what `Drop` is for.
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

/// A function that is told its [`AttemptInfo`].
///
/// ```
/// use inflight_core::{AttemptInfo, with_attempt};
///
/// let function = with_attempt(|key: &u32, attempt: AttemptInfo| {
///     let (key, number) = (*key, attempt.number);
///     async move { Ok::<_, ()>(format!("asked for {key} the {number}. time")) }
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

/// A function with a handler for calls that have timed out.
///
/// ```
/// use inflight_core::{TimeoutAction, with_timeout_action};
///
/// let function = with_timeout_action(
///     |key: &u32| {
///         let key = *key;
///         async move { Ok::<_, ()>(key * 2) }
///     },
///     |key: &u32| if *key == 0 { TimeoutAction::Drop } else { TimeoutAction::Output(0) },
/// );
/// # let _ = function;
/// ```
pub fn with_timeout_action<In, F, T>(function: F, action: T) -> WithTimeoutAction<F, T>
where
    F: AsyncFunction<In>,
    T: FnMut(&In) -> TimeoutAction<F::Output>,
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
    T: FnMut(&In) -> TimeoutAction<F::Output>,
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

    fn on_timeout(&mut self, input: &In) -> TimeoutAction<F::Output> {
        (self.action)(input)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.function.poll_close(cx)
    }
}
