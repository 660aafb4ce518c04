//! Retry strategies: they decide if a call is tried again, and after which delay.

mod budget;
mod schedule;

use core::time::Duration;

pub use self::budget::RetryBudget;
pub(crate) use self::schedule::Q32;
pub use self::schedule::{Exponential, FixedSchedule, Schedule};
use crate::config_error::ConfigError;
use crate::function::AttemptInfo;
use crate::outcome::Failure;

/// Decides after each attempt if another one follows.
///
/// A strategy is a pure function and keeps no state, so calls that overlap cannot disturb each other's
/// backoff (R1).
///
/// [`NoRetry`], [`FixedDelay`] and [`ExponentialBackoff`] are strategies. This is one of your own:
///
/// ```
/// use core::time::Duration;
///
/// use inflight_core::{AttemptInfo, Failure, RetryStrategy};
///
/// /// Retries at once, as long as there is time for another attempt.
/// struct WhileThereIsTime;
///
/// impl<In, Out, E> RetryStrategy<In, Out, E> for WhileThereIsTime {
///     fn next_delay(
///         &self,
///         attempt: AttemptInfo,
///         _: &In,
///         result: &Result<Out, Failure<E>>,
///     ) -> Option<Duration> {
///         let has_time = attempt.time_left.is_none_or(|left| left > Duration::from_millis(20));
///         (result.is_err() && has_time && attempt.number < 10).then_some(Duration::ZERO)
///     }
/// }
/// ```
pub trait RetryStrategy<In, Out, E> {
    /// The delay before the next attempt, or `None` to make `result` the call's outcome (R4).
    ///
    /// `attempt` is the attempt that has just ended, with the time that is left now. The operator calls this after every
    /// attempt, also after a success, so it must be cheap.
    fn next_delay(
        &self,
        attempt: AttemptInfo,
        input: &In,
        result: &Result<Out, Failure<E>>,
    ) -> Option<Duration>;

    /// Checks the strategy's settings. Called once, when the operator is built (C1).
    ///
    /// # Errors
    ///
    /// The setting that makes no sense.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// No retries: the first attempt's result is the outcome.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRetry;

impl<In, Out, E> RetryStrategy<In, Out, E> for NoRetry {
    #[inline(always)]
    fn next_delay(&self, _: AttemptInfo, _: &In, _: &Result<Out, Failure<E>>) -> Option<Duration> {
        None
    }
}

/// The same delay before every retry.
///
/// ```
/// use core::time::Duration;
/// use inflight_core::FixedDelay;
///
/// let strategy = FixedDelay::new(Duration::from_millis(100)).max_retries(5);
/// # let _ = strategy;
/// ```
pub type FixedDelay<A = Always, B = Never, C = Never> = Retry<FixedSchedule, A, B, C>;

/// A delay that grows with each attempt up to a maximum, with jitter if wanted (R2).
///
/// The delay before retry *k* (counted from 1) is `initial × factor^(k−1)`, at most the maximum.
///
/// | setting | default |
/// | --- | --- |
/// | [`factor`](Retry::factor) | 2 |
/// | [`max_delay`](Retry::max_delay) | 1 minute (or the initial delay, if that is longer) |
/// | [`jitter`](Retry::jitter) | none |
/// | [`max_retries`](Retry::max_retries) | 3 |
/// | [`when_error`](Retry::when_error) | every error |
/// | [`when_output`](Retry::when_output) | no output |
/// | [`retry_after`](Retry::retry_after) | no error: the delay is the schedule's |
///
/// ```
/// use core::time::Duration;
/// use inflight_core::ExponentialBackoff;
///
/// # struct LookupError { transient: bool }
/// let strategy = ExponentialBackoff::new(Duration::from_millis(50))
///     .max_retries(4)
///     .jitter(0.5, 42)
///     .when_error(|error: &LookupError| error.transient);
/// # let _ = strategy;
/// ```
pub type ExponentialBackoff<A = Always, B = Never, C = Never> = Retry<Exponential, A, B, C>;

/// Retries after the delays of a [`Schedule`], up to a maximum number of times, the results that two
/// predicates select. Use it by its names [`FixedDelay`] and [`ExponentialBackoff`].
///
/// An attempt that timed out is retried like a selected error. A request whose task panicked or was cancelled
/// is not retried.
#[derive(Clone, Copy, Debug)]
pub struct Retry<D, A = Always, B = Never, C = Never> {
    schedule: D,
    max_retries: u32,
    error: A,
    output: B,
    dictated: C,
}

impl Retry<FixedSchedule> {
    /// Retries up to 3 times, `delay` after each failed attempt.
    pub const fn new(delay: Duration) -> Self {
        Self::over(FixedSchedule::new(delay))
    }
}

impl Retry<Exponential> {
    /// Retries up to 3 times, first after `initial`, then after twice as long each time.
    pub const fn new(initial: Duration) -> Self {
        Self::over(Exponential::new(initial))
    }
}

impl<D> Retry<D> {
    const fn over(schedule: D) -> Self {
        Self { schedule, max_retries: 3, error: Always, output: Never, dictated: Never }
    }
}

impl<A, B, C> Retry<Exponential, A, B, C> {
    /// Sets the factor by which each delay is longer than the previous one: at least 1.
    pub const fn factor(mut self, factor: f64) -> Self {
        self.schedule.set_factor(factor);
        self
    }

    /// Bounds each delay.
    pub const fn max_delay(mut self, maximum: Duration) -> Self {
        self.schedule.set_maximum(maximum);
        self
    }

    /// Shortens each delay by a random share of at most `share` (0 to 1), so that calls that failed
    /// together are not retried together.
    ///
    /// The random number is a function of `seed`, the call and the attempt, so it is the same in every run.
    pub const fn jitter(mut self, share: f64, seed: u64) -> Self {
        self.schedule.set_jitter(share, seed);
        self
    }
}

impl<D, A, B, C> Retry<D, A, B, C> {
    /// Sets the most retries of one call. There is one attempt more than retries; zero means no retry.
    pub const fn max_retries(mut self, retries: u32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Retries only the errors for which `predicate` is true. Annotate its parameter:
    /// `|error: &MyError| ..`.
    pub fn when_error<E, P: Fn(&E) -> bool>(self, predicate: P) -> Retry<D, P, B, C> {
        let Self { schedule, max_retries, output, dictated, .. } = self;
        Retry { schedule, max_retries, error: predicate, output, dictated }
    }

    /// Also retries the outputs for which `predicate` is true ("not ready yet", for instance). If the last
    /// attempt's output is such a one, it is the outcome (R4). Annotate its parameter: `|output: &Answer| ..`.
    ///
    /// This does not change the errors that are retried: all of them, unless [`when_error`](Self::when_error) selects some.
    /// To retry outputs only, select no error:
    ///
    /// ```
    /// use core::time::Duration;
    /// use inflight_core::FixedDelay;
    ///
    /// # struct LookupError;
    /// let until_there = FixedDelay::new(Duration::from_millis(100))
    ///     .when_output(|row: &Option<u32>| row.is_none())
    ///     .when_error(|_: &LookupError| false);
    /// # let _ = until_there;
    /// ```
    pub fn when_output<Out, P: Fn(&Out) -> bool>(self, predicate: P) -> Retry<D, A, P, C> {
        let Self { schedule, max_retries, error, dictated, .. } = self;
        Retry { schedule, max_retries, error, output: predicate, dictated }
    }

    /// Lets an error dictate the delay (an HTTP service's `Retry-After`, for instance): `Some` is used as it is,
    /// `None` leaves the delay to the schedule. Annotate the parameter: `|error: &MyError| ..`.
    pub fn retry_after<E, P>(self, delay: P) -> Retry<D, A, B, P>
    where
        P: Fn(&E) -> Option<Duration>,
    {
        let Self { schedule, max_retries, error, output, .. } = self;
        Retry { schedule, max_retries, error, output, dictated: delay }
    }
}

impl<In, Out, E, D, A, B, C> RetryStrategy<In, Out, E> for Retry<D, A, B, C>
where
    D: Schedule,
    A: Predicate<E>,
    B: Predicate<Out>,
    C: RetryAfter<E>,
{
    #[inline]
    fn next_delay(
        &self,
        attempt: AttemptInfo,
        _input: &In,
        result: &Result<Out, Failure<E>>,
    ) -> Option<Duration> {
        let wanted = match result {
            Ok(output) => self.output.test(output),
            Err(Failure::Error(error)) => self.error.test(error),
            Err(Failure::AttemptTimedOut) => true,
            // A request's panic or cancellation is not retried; a call's timeout and a shutdown end the whole call.
            Err(_) => false,
        };
        // K5: `retry` counts failed attempts. One that a crash interrupted has not failed, and uses up no retry.
        if !wanted || attempt.retry >= self.max_retries {
            return None;
        }
        let dictated = match result {
            Err(Failure::Error(error)) => self.dictated.delay(error),
            _ => None,
        };
        // R2: a dictated delay is used as it is, without the schedule's maximum and jitter.
        Some(dictated.unwrap_or_else(|| self.schedule.delay(attempt)))
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.schedule.check()
    }
}

/// A predicate over values. Every `Fn(&T) -> bool` implements it.
pub trait Predicate<T> {
    /// Returns true if the value is selected.
    fn test(&self, value: &T) -> bool;
}

impl<T, F: Fn(&T) -> bool> Predicate<T> for F {
    fn test(&self, value: &T) -> bool {
        self(value)
    }
}

/// A delay that an error dictates. Every `Fn(&E) -> Option<Duration>` implements it.
pub trait RetryAfter<E> {
    /// The delay, if the error dictates one.
    fn delay(&self, error: &E) -> Option<Duration>;
}

impl<E, F: Fn(&E) -> Option<Duration>> RetryAfter<E> for F {
    fn delay(&self, error: &E) -> Option<Duration> {
        self(error)
    }
}

impl<E> RetryAfter<E> for Never {
    fn delay(&self, _: &E) -> Option<Duration> {
        None
    }
}

/// The predicate that is always true.
#[derive(Clone, Copy, Debug, Default)]
pub struct Always;

impl<T> Predicate<T> for Always {
    fn test(&self, _: &T) -> bool {
        true
    }
}

/// The predicate that is never true, and a delay that no error dictates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Never;

impl<T> Predicate<T> for Never {
    fn test(&self, _: &T) -> bool {
        false
    }
}
