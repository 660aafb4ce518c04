//! The outcome of a call.

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
use core::fmt;
use core::time::Duration;

use crate::time::Timestamp;

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

impl<In, Out, E> Outcome<In, Out, E> {
    /// The output, if there is one.
    pub fn ok(self) -> Option<Out> {
        self.result.ok()
    }

    /// The input with its output; or the failure, with everything that is known of it, for a list of records to look after.
    ///
    /// # Errors
    ///
    /// [`DeadLetter`], without a timestamp, which belongs to the stream's element and not to the outcome.
    ///
    /// ```
    /// use inflight_core::{Failure, Outcome};
    /// # let elapsed = core::time::Duration::from_millis(1_200);
    /// # let done = |input, result| Outcome { input, result, attempts: 3, elapsed };
    /// # let outcomes = [done("Lima", Ok(20)), done("Atlantis", Err(Failure::Error("no such place")))];
    ///
    /// let (mut found, mut letters) = (Vec::new(), Vec::new());
    /// for outcome in outcomes {
    ///     match outcome.into_result() {
    ///         Ok((city, degrees)) => found.push(format!("{city}: {degrees}")),
    ///         Err(letter) => letters.push(format!("{}: {letter}", letter.input)),
    ///     }
    /// }
    /// assert_eq!(found, ["Lima: 20"]);
    /// assert_eq!(letters, ["Atlantis: no such place (after 3 attempts in 1.200s)"]);
    /// ```
    pub fn into_result(self) -> Result<(In, Out), DeadLetter<In, E>> {
        let Self { input, result, attempts, elapsed } = self;
        match result {
            Ok(output) => Ok((input, output)),
            Err(failure) => Err(DeadLetter { input, timestamp: None, failure, attempts, elapsed }),
        }
    }
}

impl<In, Out, E> Outcome<In, Option<Out>, E> {
    /// `None` for a call that has succeeded without an output: a look-up that has found nothing. Everything else stays an outcome, so
    /// `stage.filter_map(|done| ready(done.transpose()))` leaves those records out and no failure.
    ///
    /// ```
    /// use inflight_core::{Failure, Outcome};
    /// # let done = |input, result| Outcome { input, result, attempts: 1, elapsed: core::time::Duration::ZERO };
    /// # let outcomes = [done("Lima", Ok(Some(20))), done("Atlantis", Ok(None)), done("Oslo", Err(Failure::Error("down")))];
    ///
    /// let found: Vec<Outcome<&str, i32, &str>> =
    ///     outcomes.into_iter().filter_map(Outcome::transpose).collect();
    /// assert_eq!(found.len(), 2);
    /// assert_eq!((found[0].input, found[0].result), ("Lima", Ok(20)));
    /// assert_eq!((found[1].input, found[1].result), ("Oslo", Err(Failure::Error("down"))));
    /// ```
    pub fn transpose(self) -> Option<Outcome<In, Out, E>> {
        let Self { input, result, attempts, elapsed } = self;
        let result = result.transpose()?;
        Some(Outcome { input, result, attempts, elapsed })
    }
}

/// A record whose call has failed: from [`Outcome::into_result`], or from [`split_outcomes`](crate::OutcomesExt::split_outcomes).
///
/// It displays the reason, the number of attempts and the time.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "checkpoint", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct DeadLetter<In, E> {
    /// The input, as it went in.
    pub input: In,
    /// Its event time; `None` in a stream without event time.
    pub timestamp: Option<Timestamp>,
    /// The reason of the failure.
    pub failure: Failure<E>,
    /// The number of attempts, including the first.
    pub attempts: u32,
    /// The time from the first invocation to the outcome.
    pub elapsed: Duration,
}

impl<In, E> DeadLetter<In, E> {
    /// Replaces the function's error, if there is one: by its text, to write a letter whose error does not implement serde's `Serialize`.
    ///
    /// ```
    /// use inflight_core::{DeadLetter, Outcome};
    /// # let error = "x".parse::<u32>().unwrap_err();
    /// # let done: Outcome<_, u32, _> =
    /// #     Outcome { input: 7, result: Err(error.into()), attempts: 3, elapsed: core::time::Duration::ZERO };
    ///
    /// if let Err(letter) = done.into_result() {
    ///     let letter: DeadLetter<u64, String> = letter.map_error(|error| error.to_string());
    ///     // .. and `serde_json::to_writer(&mut file, &letter)?`
    /// #   assert_eq!(letter.failure, inflight_core::Failure::Error("invalid digit found in string".into()));
    /// #   assert_eq!((letter.input, letter.attempts), (7, 3));
    /// }
    /// ```
    pub fn map_error<F>(self, replace: impl FnOnce(E) -> F) -> DeadLetter<In, F> {
        let Self { input, timestamp, failure, attempts, elapsed } = self;
        let failure = failure.map_error(replace);
        DeadLetter { input, timestamp, failure, attempts, elapsed }
    }

    pub(crate) fn at(self, timestamp: Option<Timestamp>) -> Self {
        Self { timestamp, ..self }
    }
}

impl<In, E: fmt::Display> fmt::Display for DeadLetter<In, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { failure, attempts, elapsed, .. } = self;
        let s = if *attempts == 1 { "" } else { "s" };
        write!(f, "{failure} (after {attempts} attempt{s} in {elapsed:.3?})")
    }
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

    /// Replaces the function's error, if there is one: by its text, for example, where the error itself cannot be serialized or cloned.
    pub fn map_error<F>(self, replace: impl FnOnce(E) -> F) -> Failure<F> {
        match self {
            Self::Error(error) => Failure::Error(replace(error)),
            Self::TimedOut => Failure::TimedOut,
            Self::AttemptTimedOut => Failure::AttemptTimedOut,
            Self::Panicked => Failure::Panicked,
            Self::Cancelled => Failure::Cancelled,
            Self::ShutDown => Failure::ShutDown,
            Self::WrongAnswers => Failure::WrongAnswers,
        }
    }

    /// The failure as an error of any program: the function's own error, with its causes, or one of the operator's.
    ///
    /// ```
    /// # use std::error::Error;
    /// use inflight_core::Outcome;
    ///
    /// fn answer(
    ///     done: Outcome<&str, u32, std::num::ParseIntError>,
    /// ) -> Result<u32, Box<dyn Error + Send + Sync>> {
    ///     done.result.map_err(|failure| failure.into_boxed())
    /// }
    /// # let result = Err("x".parse::<u32>().unwrap_err().into());
    /// # let done = Outcome { input: "x", result, attempts: 1, elapsed: core::time::Duration::ZERO };
    /// # assert!(answer(done).unwrap_err().is::<std::num::ParseIntError>());
    /// # let done = Outcome { input: "x", result: Err(inflight_core::Failure::TimedOut), attempts: 1, elapsed: core::time::Duration::ZERO };
    /// # assert_eq!(answer(done).unwrap_err().to_string(), "the call timed out");
    /// ```
    #[cfg(feature = "alloc")]
    pub fn into_boxed(self) -> Box<dyn core::error::Error + Send + Sync>
    where
        E: Into<Box<dyn core::error::Error + Send + Sync>>,
    {
        match self.map_error(E::into) {
            Failure::Error(error) => error,
            of_operator => of_operator.into(), // it displays no error of the function
        }
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
