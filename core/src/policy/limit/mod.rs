//! Adaptive limits: strategies that follow the number of requests that a service can take at once (A1).
#![forbid(unsafe_code)]

mod aimd;
mod bounds;
mod gradient;
mod part;

use core::time::Duration;

pub use self::aimd::Aimd;
pub use self::gradient::Gradient;
pub use self::part::{AdaptiveLimit, AnyFailure, JudgeBy};
use crate::config_error::ConfigError;

/// Follows the number of requests that a service can take at once (A1).
///
/// A strategy is a pure function of the samples that it is given: it has no clock of its own, so the same samples lead to
/// the same limits. A round trip is counted in samples: it has passed when as many requests have ended as were running at
/// its beginning.
///
/// [`Aimd`] and [`Gradient`] are strategies. This is one of your own:
///
/// ```
/// use std::time::Duration;
///
/// use inflight_core::{LimitStrategy, Sample, Verdict};
///
/// /// Half of the requests while the service fails.
/// struct Half {
///     full: usize,
///     fails: bool,
/// }
///
/// impl LimitStrategy for Half {
///     fn limit(&self) -> usize {
///         if self.fails { self.full / 2 } else { self.full }
///     }
///
///     fn observe(&mut self, sample: Sample) {
///         self.fails = sample.verdict == Verdict::Overloaded;
///     }
/// }
///
/// let mut half = Half { full: 20, fails: false };
/// half.observe(Sample::new(Duration::from_millis(3), Verdict::Overloaded, 20));
/// assert_eq!(half.limit(), 10);
/// ```
pub trait LimitStrategy {
    /// The most requests that may run now. A limit of zero counts as 1, because otherwise no sample would ever raise it.
    fn limit(&self) -> usize;

    /// A request has ended. Called once for each of them, so it must be cheap.
    fn observe(&mut self, sample: Sample);

    /// Checks the strategy's settings. Called once, when the operator is built (C1).
    ///
    /// # Errors
    ///
    /// The setting that makes no sense.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// A request that has ended, as a [`LimitStrategy`] sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// The time from the request's start to its end.
    pub latency: Duration,
    /// What the request says about the service's load.
    pub verdict: Verdict,
    /// The requests that were running when it ended, itself included.
    pub running: usize,
}

impl Sample {
    /// A request that ended after `latency`, when `running` requests were running, itself included.
    pub const fn new(latency: Duration, verdict: Verdict, running: usize) -> Self {
        Self { latency, verdict, running }
    }

    /// The requests that are still running, now that this one has ended.
    const fn others(self) -> usize {
        self.running.saturating_sub(1)
    }
}

/// What the end of a request says about the service's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The service answered.
    Answered,
    /// The service refused the request, failed, or did not answer in time.
    Overloaded,
    /// The end says nothing about the load: a 404, for instance, or a request that was cancelled.
    Ignored,
}
