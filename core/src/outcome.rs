//! What a call ends with.

use core::fmt;
use core::time::Duration;

/// The end of one record's call: the input comes back, with what came of it.
///
/// ```
/// use inflight_core::{Failure, Outcome};
///
/// fn tell(done: Outcome<&str, u32, std::num::ParseIntError>) -> String {
///     match done.result {
///         Ok(output) => format!("{} is {output}", done.input),
///         Err(Failure::Error(error)) => format!("{}: {error}", done.input),
///         Err(failure) => format!("{} after {} attempts: {failure}", done.input, done.attempts),
///     }
/// }
/// # let (result, elapsed) = (Err(Failure::TimedOut), core::time::Duration::ZERO);
/// # let done = Outcome { input: "7", result, attempts: 2, elapsed };
/// # assert_eq!(tell(done), "7 after 2 attempts: the call timed out");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<In, Out, E> {
    /// The input, as it went in.
    pub input: In,
    /// What the function returned, or why it did not.
    pub result: Result<Out, Failure<E>>,
    /// How many attempts were made, the first included.
    pub attempts: u32,
    /// The time from the first invocation to the outcome, backoffs included. Time spent before a
    /// restore counts, the time between the two lives does not. Zero for a request that was ready at once.
    pub elapsed: Duration,
}

/// Why a call failed.
///
/// It is an error whatever the function's own is, if that can be shown: also a `Box<dyn Error + Send + Sync>`, or
/// an `anyhow::Error`. So `?` takes it:
///
/// ```
/// use std::error::Error;
///
/// use inflight_core::Outcome;
///
/// type Unanswered = Box<dyn Error + Send + Sync>;
///
/// fn answer(done: Outcome<u32, String, Unanswered>) -> Result<String, Unanswered> {
///     Ok(done.result?)
/// }
/// # let result = Err(inflight_core::Failure::Error("no such number".into()));
/// # let done = Outcome { input: 7, result, attempts: 1, elapsed: core::time::Duration::ZERO };
/// # assert_eq!(answer(done).unwrap_err().to_string(), "no such number");
/// ```
///
/// It says what the error says, and has no [`source`](core::error::Error::source): the causes of the function's error
/// are behind [`error`](Self::error).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "checkpoint", derive(serde::Serialize, serde::Deserialize))]
pub enum Failure<E> {
    /// The function returned this error.
    Error(E),
    /// The whole call, with all its attempts, took longer than its timeout.
    TimedOut,
    /// The last attempt took longer than the timeout for one attempt.
    AttemptTimedOut,
    /// The task that the request was spawned on panicked.
    Panicked,
    /// The task that the request was spawned on was cancelled, or could not be spawned.
    Cancelled,
    /// The stage was shut down before the call had an outcome.
    ShutDown,
}

impl<E> Failure<E> {
    /// The function's own error, if that is what it was.
    pub fn error(&self) -> Option<&E> {
        match self {
            Self::Error(error) => Some(error),
            _ => None,
        }
    }

    /// Whether time ran out, for the call or for its last attempt.
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut | Self::AttemptTimedOut)
    }
}

impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Self::Error(error)
    }
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::TimedOut => f.write_str("the call timed out"),
            Self::AttemptTimedOut => f.write_str("the last attempt timed out"),
            Self::Panicked => f.write_str("the request's task panicked"),
            Self::Cancelled => f.write_str("the request's task was cancelled"),
            Self::ShutDown => f.write_str("the stage was shut down"),
        }
    }
}

// Not for errors alone: neither `Box<dyn Error + Send + Sync>` nor `anyhow::Error` is one. So there is no bound
// that a source could be had by.
impl<E: fmt::Debug + fmt::Display> core::error::Error for Failure<E> {}
