//! The outcome of a call.

use core::fmt;
use core::time::Duration;

/// The outcome of one record's call: the input, and the output or the failure.
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
    /// The function's output, or the reason why there is none.
    pub result: Result<Out, Failure<E>>,
    /// The number of attempts, including the first.
    pub attempts: u32,
    /// The time from the first invocation to the outcome: of all attempts and backoffs, without the waits for permission to start
    /// another attempt (C5). Time spent before a restore
    /// counts; the time between the two lives of the process does not (K5). Zero for a request that was
    /// ready at once.
    pub elapsed: Duration,
}

/// The reason why a call failed (F2).
///
/// It implements [`Error`](core::error::Error) for every error type of the function that implements `Debug` and `Display`,
/// also for `Box<dyn Error + Send + Sync>` and `anyhow::Error`. So `?` works:
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
/// It displays the function's error as that error displays itself, and has no [`source`](core::error::Error::source): find
/// the causes of the function's error through [`error`](Self::error).
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
    /// The answer to a batch did not have as many results as the batch had records, so nobody knows which is whose (B3).
    WrongAnswers,
}

impl<E> Failure<E> {
    /// The function's own error, if the function returned one.
    pub fn error(&self) -> Option<&E> {
        match self {
            Self::Error(error) => Some(error),
            _ => None,
        }
    }

    /// Returns true if the call or its last attempt timed out.
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
            Self::WrongAnswers => {
                f.write_str("the batch had another number of records than its answer has results")
            }
        }
    }
}

// `E: Error` would exclude `Box<dyn Error + Send + Sync>` and `anyhow::Error`, which do not implement `Error`. Without that
// bound there is no way to return a source.
impl<E: fmt::Debug + fmt::Display> core::error::Error for Failure<E> {}
