//! The policy of a stage: how many, in which order, how long, how often again.

use core::fmt;
use core::time::Duration;

use crate::operator::Operator;
use crate::retry::{NoRetry, RetryStrategy};
use crate::storage::{Fixed, Storage};

/// How a stage waits: the capacity, the order, the timeouts and the retry strategy.
///
/// Building a policy never fails; whoever turns it into a stage or an operator checks it and answers
/// [`ConfigError`].
///
/// | setting | default |
/// | --- | --- |
/// | [`timeout`](Self::timeout) | none: a call may take forever |
/// | [`attempt_timeout`](Self::attempt_timeout) | none |
/// | [`retry`](Self::retry) | [`NoRetry`] |
///
/// ```
/// use core::time::Duration;
/// use inflight_core::{AsyncWait, ExponentialBackoff};
///
/// let policy = AsyncWait::unordered(64)
///     .timeout(Duration::from_secs(2))
///     .retry(ExponentialBackoff::new(Duration::from_millis(50)).max_retries(3));
/// # let _ = policy;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a policy does nothing by itself"]
pub struct AsyncWait<R = NoRetry> {
    pub(crate) settings: Settings,
    pub(crate) retry: R,
}

/// The settings that have no type parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) order: Order,
    pub(crate) capacity: usize,
    pub(crate) timeout: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
}

/// The order in which outcomes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Ordered,
    Unordered,
}

impl AsyncWait<NoRetry> {
    /// Outcomes leave in the order in which their inputs came. At most `capacity` records are in
    /// flight, those included that are done and wait for their turn.
    pub const fn ordered(capacity: usize) -> Self {
        Self::with_order(Order::Ordered, capacity)
    }

    /// Outcomes leave as they come, but never cross a control element. At most `capacity` records
    /// are in flight.
    pub const fn unordered(capacity: usize) -> Self {
        Self::with_order(Order::Unordered, capacity)
    }

    const fn with_order(order: Order, capacity: usize) -> Self {
        let settings = Settings { order, capacity, timeout: None, attempt_timeout: None };
        Self { settings, retry: NoRetry }
    }

    /// Sets when a call is tried again. Once only: the strategy is part of the type.
    pub const fn retry<R>(self, strategy: R) -> AsyncWait<R> {
        AsyncWait { settings: self.settings, retry: strategy }
    }
}

impl<R> AsyncWait<R> {
    /// Bounds a whole call: all its attempts and the backoffs between them, from the first
    /// invocation. Waiting for a place does not count. Zero is refused when the stage is built.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Bounds one attempt. An attempt that takes longer is cancelled and ends with
    /// [`Failure::AttemptTimedOut`](crate::Failure::AttemptTimedOut), which the retry strategy may
    /// retry. Zero is refused when the stage is built.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.settings.attempt_timeout = Some(timeout);
        self
    }

    /// The operator alone, for people with an engine of their own. Its tables are on the heap.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a setting makes no sense.
    #[cfg(feature = "alloc")]
    pub fn build_core<In, Out, E>(
        self,
    ) -> Result<Operator<In, Out, E, R, crate::storage::Heap>, ConfigError>
    where
        R: RetryStrategy<In, Out, E>,
    {
        Operator::new(self)
    }

    /// The operator alone, with its tables in place and no allocator.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a setting makes no sense, also when the capacity is larger than `N`.
    pub fn build_fixed<In, Out, E, const N: usize>(
        self,
    ) -> Result<Operator<In, Out, E, R, Fixed<N>>, ConfigError>
    where
        R: RetryStrategy<In, Out, E>,
    {
        Operator::new(self)
    }

    /// Whether an operator over the storage `S` can be built.
    pub(crate) fn check<In, Out, E, S: Storage>(&self) -> Result<(), ConfigError>
    where
        R: RetryStrategy<In, Out, E>,
    {
        let settings = &self.settings;
        if settings.capacity == 0 {
            return Err(ConfigError::ZeroCapacity);
        }
        if settings.capacity > S::MAX_CAPACITY {
            let (capacity, maximum) = (settings.capacity, S::MAX_CAPACITY);
            return Err(ConfigError::CapacityTooLarge { capacity, maximum });
        }
        if settings.timeout == Some(Duration::ZERO) {
            return Err(ConfigError::ZeroTimeout);
        }
        if settings.attempt_timeout == Some(Duration::ZERO) {
            return Err(ConfigError::ZeroAttemptTimeout);
        }
        self.retry.check()
    }
}

/// A setting that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// With a capacity of zero no record could ever be in flight.
    ZeroCapacity,
    /// The storage has no room for that many.
    CapacityTooLarge {
        /// What was asked for.
        capacity: usize,
        /// What the storage can hold.
        maximum: usize,
    },
    /// A timeout of zero would fail every call. For no timeout, set none.
    ZeroTimeout,
    /// An attempt timeout of zero would fail every attempt. For none, set none.
    ZeroAttemptTimeout,
    /// A backoff that shrinks, or grows beyond 2^31 times: the factor is below 1 or no number.
    BackoffFactor,
    /// The maximum backoff is below the initial one.
    BackoffMaximum {
        /// The initial backoff.
        initial: Duration,
        /// The maximum.
        maximum: Duration,
    },
    /// The share of a backoff that jitter may take off is not between 0 and 1.
    Jitter,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroCapacity => f.write_str("the capacity is zero; it must be at least 1"),
            Self::CapacityTooLarge { capacity, maximum } => {
                write!(f, "a capacity of {capacity} is more than the storage can hold ({maximum})")
            }
            Self::ZeroTimeout => f.write_str("the timeout is zero; for no timeout, set none"),
            Self::ZeroAttemptTimeout => {
                f.write_str("the attempt timeout is zero; for no timeout, set none")
            }
            Self::BackoffFactor => {
                f.write_str("the backoff's factor is not a number between 1 and 2^31")
            }
            Self::BackoffMaximum { initial, maximum } => {
                write!(
                    f,
                    "the maximum backoff ({maximum:?}) is below the initial one ({initial:?})"
                )
            }
            Self::Jitter => f.write_str("the jitter is not a number between 0 and 1"),
        }
    }
}

impl core::error::Error for ConfigError {}
