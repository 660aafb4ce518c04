//! The user's function: what is asked of the outside for each record.

use core::fmt;
use core::future::Future;
use core::time::Duration;

/// What an attempt is told about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first attempt of a call, 2 for its first retry. Attempts made before a restore
    /// count, the one that the crash interrupted included.
    pub number: u32,
    /// The same for all attempts of one record, also after a restore, and different for each record
    /// of the stage: what a service can tell repeats by.
    pub request_id: u64,
    /// What is left of the call's timeout when the attempt starts; `None` without a timeout.
    pub time_left: Option<Duration>,
}

/// What a stage does with each record.
///
/// Every `FnMut(&In) -> impl Future<Output = Result<Output, Error>>` is one. Implement it for a type
/// of its own when its future needs a name. A closure that wants to know its attempt
/// goes through [`with_attempt`].
///
/// The future owns what it needs: it cannot borrow the input, which stays with the operator so that
/// it can be tried again and handed back.
pub trait AsyncFunction<In> {
    /// What it returns.
    type Output;
    /// How it fails.
    type Error;
    /// A request under way.
    type Future: Future<Output = Result<Self::Output, Self::Error>>;

    /// Starts an attempt. Dropping the future cancels it.
    fn invoke(&mut self, input: &In, attempt: Attempt) -> Self::Future;
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
    fn invoke(&mut self, input: &In, _attempt: Attempt) -> Fut {
        self(input)
    }
}

/// A function that is told its [`Attempt`].
///
/// ```
/// use inflight_core::{Attempt, with_attempt};
///
/// let function = with_attempt(|key: &u32, attempt: Attempt| {
///     let (key, number) = (*key, attempt.number);
///     async move { Ok::<_, ()>(format!("asked for {key} the {number}. time")) }
/// });
/// # let _ = function;
/// ```
pub fn with_attempt<In, F, Fut, Output, Error>(function: F) -> WithAttempt<F>
where
    F: FnMut(&In, Attempt) -> Fut,
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
    F: FnMut(&In, Attempt) -> Fut,
    Fut: Future<Output = Result<Output, Error>>,
{
    type Output = Output;
    type Error = Error;
    type Future = Fut;

    fn invoke(&mut self, input: &In, attempt: Attempt) -> Fut {
        (self.0)(input, attempt)
    }
}
