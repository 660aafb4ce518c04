//! The errors of settings that make no sense.

use core::fmt;
use core::time::Duration;

/// A setting that makes no sense (C1: checked when a stage is started or an operator built).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// With a capacity of zero no record could ever be in flight.
    ZeroCapacity,
    /// The storage has no room for that many records.
    CapacityTooLarge {
        /// The capacity that was asked for.
        capacity: usize,
        /// The largest capacity that the storage can hold.
        maximum: usize,
    },
    /// A timeout of zero would fail every call. For no timeout, set none.
    ZeroTimeout,
    /// An attempt timeout of zero would fail every attempt. For no timeout, set none.
    ZeroAttemptTimeout,
    /// With a limit of zero no attempt could ever run.
    ZeroMaxRunning,
    /// A rate without tokens, without a burst or in a period of zero would start nothing.
    ZeroRate,
    /// From a pool without permits no attempt could ever get one.
    ZeroPermits,
    /// Without an instance no attempt could ever run ([`Instances::on`](crate::Instances::on)).
    #[cfg(feature = "alloc")]
    ZeroInstances,
    /// A batch of no records, or of no weight.
    ZeroBatch,
    /// The share of a token that a success puts back into the retry budget is not between 0 and 1.
    RetryBudget,
    /// The factor of the backoff is not a number between 1 and 2^31: below 1 the backoff would shrink.
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
    /// The bounds of an adaptive limit: the lowest is zero, so that no attempt could ever run, or above the highest.
    LimitBounds {
        /// The lowest limit.
        min: usize,
        /// The highest limit.
        max: usize,
    },
    /// An adaptive limit starts outside of its bounds.
    LimitStart {
        /// The limit at the start.
        start: usize,
        /// The lowest limit.
        min: usize,
        /// The highest limit.
        max: usize,
    },
    /// The factor of a decrease of an adaptive limit is not above 0 and below 1.
    LimitBackoff,
    /// An adaptive limit for which every answer is too slow could never grow.
    ZeroSlowAbove,
    /// The tolerance of an adaptive limit is not a number between 1 and 2^31.
    LimitTolerance,
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
            Self::ZeroMaxRunning => {
                f.write_str("the limit of attempts running at once is zero; it must be at least 1")
            }
            Self::ZeroRate => {
                f.write_str("the rate's period, tokens or burst are zero; nothing would ever start")
            }
            Self::ZeroPermits => f.write_str("the pool has no permits; it must have at least 1"),
            #[cfg(feature = "alloc")]
            Self::ZeroInstances => {
                f.write_str("the number of instances is zero; it must be at least 1")
            }
            Self::ZeroBatch => {
                f.write_str("a batch of no records, or of no weight; it must be at least 1")
            }
            Self::RetryBudget => {
                f.write_str("the retry budget's tokens per success are not between 0 and 1")
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
            Self::LimitBounds { min, max } => {
                write!(f, "the adaptive limit is between {min} and {max}, and must be at least 1")
            }
            Self::LimitStart { start, min, max } => {
                write!(f, "the adaptive limit starts at {start}, not between {min} and {max}")
            }
            Self::LimitBackoff => {
                f.write_str("the adaptive limit's backoff is not a number above 0 and below 1")
            }
            Self::ZeroSlowAbove => {
                f.write_str("the latency above which an answer is slow is zero; for none, set none")
            }
            Self::LimitTolerance => {
                f.write_str("the adaptive limit's tolerance is not a number between 1 and 2^31")
            }
        }
    }
}

impl core::error::Error for ConfigError {}
