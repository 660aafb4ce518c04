//! Additive increase, multiplicative decrease.

use core::fmt;
use core::time::Duration;

use super::bounds::Bounds;
use super::{LimitStrategy, Sample, Verdict};
use crate::config_error::ConfigError;
use crate::retry::Q32;

/// Additive increase, multiplicative decrease: the limit grows by one in each round trip, and is multiplied by 0.7 when the
/// service is overloaded (A1).
///
/// The rule is that of congestion control in TCP: V. Jacobson, *Congestion Avoidance and Control*, SIGCOMM 1988. D.-M. Chiu
/// and R. Jain, *Analysis of the Increase and Decrease Algorithms for Congestion Avoidance in Computer Networks*, 1989, show
/// that clients that follow it share a service fairly. From the same source are these details:
///
/// * **Slow start.** Up to the first overload every answer adds one, so the limit doubles in each round trip. So it does from
///   the lowest limit: a service that refused everything has told nothing about its capacity.
/// * **One decrease in a round trip.** After a decrease, the requests that were running then tell nothing new.
/// * **No increase of a limit that is not used** (RFC 7661): the limit grows only while at least half of it is running. For
///   the same reason a decrease begins at the requests that run (RFC 5681), yet at no less than half of the limit.
///
/// | setting | default |
/// | --- | --- |
/// | [`start`](Self::start) | the lowest limit |
/// | [`slow_above`](Self::slow_above) | none: an answer is never too slow |
/// | [`backoff`](Self::backoff) | 0.7, as in CUBIC (RFC 9438) |
///
/// The limit grows until the service refuses a request, or answers too slowly. So without [`slow_above`](Self::slow_above) a
/// service is asked, now and then, for a little more than it can take. Failures that have other causes than the load must be
/// [`Verdict::Ignored`]: with one in a hundred counted as overload, the limit would stay near 18.
///
/// ```
/// use std::time::Duration;
///
/// use inflight_core::{Aimd, LimitStrategy, Sample, Verdict};
///
/// let mut limit = Aimd::between(4, 100).start(20).slow_above(Duration::from_millis(250));
/// assert_eq!(limit.check(), Ok(()));
/// assert_eq!(limit.limit(), 20);
///
/// limit.observe(Sample::new(Duration::from_millis(40), Verdict::Answered, 20));
/// assert_eq!(limit.limit(), 21);
/// limit.observe(Sample::new(Duration::from_millis(2), Verdict::Overloaded, 20));
/// assert_eq!(limit.limit(), 14);
/// limit.observe(Sample::new(Duration::from_millis(400), Verdict::Answered, 19)); // too slow, but of the same round trip
/// assert_eq!(limit.limit(), 14);
/// assert_eq!(limit.to_string(), "14 (4 to 100)");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Aimd {
    bounds: Bounds,
    slow_above: Option<Duration>,
    backoff: Q32,
    limit: usize,
    /// Answers since the limit last changed; as many as the limit add one to it.
    answers: usize,
    /// Requests that were running at the last decrease and have not ended.
    of_last_round: usize,
    is_starting: bool,
}

impl Aimd {
    /// A limit between `min` and `max`, both included, that starts at `min`.
    pub const fn between(min: usize, max: usize) -> Self {
        Self {
            bounds: Bounds { min, max },
            slow_above: None,
            backoff: Q32::from_f64(0.7),
            limit: min,
            answers: 0,
            of_last_round: 0,
            is_starting: true,
        }
    }

    /// Sets the limit at the start, within the bounds.
    pub const fn start(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Counts an answer that took longer than `latency` as overload. Twice the usual latency is a good choice: the limit
    /// then stops growing when as many requests wait in the service as it works on, and before it refuses any. Zero is
    /// refused.
    pub const fn slow_above(mut self, latency: Duration) -> Self {
        self.slow_above = Some(latency);
        self
    }

    /// Sets the factor of a decrease: above 0 and below 1. A low one frees an overloaded service sooner, a high one gives up
    /// less throughput.
    pub const fn backoff(mut self, factor: f64) -> Self {
        self.backoff = Q32::from_f64(factor);
        self
    }

    fn increase(&mut self) {
        self.answers += 1;
        if self.is_starting || self.answers >= self.limit {
            self.answers = 0;
            self.limit = self.bounds.nearest(self.limit.saturating_add(1));
        }
    }

    fn decrease(&mut self, sample: Sample) {
        let used = sample.running.clamp(self.limit / 2, self.limit);
        // Rounded up, because 0.7 in fixed point is slightly less; a limit of 1 or 2 shrinks all the same.
        let kept = self.backoff.times_rounded_up(used as u64) as usize;
        self.limit = self.bounds.nearest(kept.min(self.limit.saturating_sub(1)));
        self.answers = 0;
        self.of_last_round = sample.others();
        self.is_starting = self.limit == self.bounds.min;
    }
}

impl LimitStrategy for Aimd {
    fn limit(&self) -> usize {
        self.limit
    }

    fn observe(&mut self, sample: Sample) {
        if self.of_last_round > 0 {
            self.of_last_round -= 1;
            return;
        }
        let is_slow = self.slow_above.is_some_and(|latency| sample.latency > latency);
        match sample.verdict {
            Verdict::Ignored => {}
            Verdict::Answered if !is_slow => {
                if sample.running >= self.limit.div_ceil(2) {
                    self.increase();
                }
            }
            Verdict::Answered | Verdict::Overloaded => self.decrease(sample),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !self.backoff.is_between_zero_and_one() {
            return Err(ConfigError::LimitBackoff);
        }
        if self.slow_above.is_some_and(|latency| latency.is_zero()) {
            return Err(ConfigError::ZeroSlowAbove);
        }
        self.bounds.check(self.limit)
    }
}

/// The limit and its bounds.
impl fmt::Display for Aimd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} to {})", self.limit, self.bounds.min, self.bounds.max)
    }
}
