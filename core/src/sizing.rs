//! An estimate of the capacity that a stage needs.

use core::time::Duration;

/// An estimate of the records in flight, for choosing a stage's capacity.
///
/// By [Little's law](https://en.wikipedia.org/wiki/Little%27s_law) the average number of records in flight is
/// the number of records a second times the seconds that one of them stays. A record that is retried stays
/// longer: all retries together add `rate × retried × retry_time`, which is the rule that Apache Flink's
/// documentation gives for the capacity of its operator with retries.
///
/// That is an average. In an ordered stage a record also stays until those before it have left, so the stage
/// needs room for the records that arrive during its *slowest* calls: use a high percentile of the latency
/// there, not the mean.
///
/// ```
/// use core::time::Duration;
/// use inflight_core::{AsyncWait, CapacityEstimate};
///
/// // 2,000 readings a second, 40 ms a lookup: 80 in flight.
/// let load = CapacityEstimate::new(2_000.0, Duration::from_millis(40));
/// assert_eq!(load.capacity(), 80);
///
/// // One in a hundred fails, and takes 1.5 s more until it is through: 30 more.
/// let load = load.with_retries(0.01, Duration::from_millis(1_500));
/// assert_eq!(load.capacity(), 110);
///
/// let policy = AsyncWait::unordered(load.capacity());
/// # let _ = policy;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CapacityEstimate {
    rate: f64,
    latency: Duration,
    retried: f64,
    retry_time: Duration,
}

impl CapacityEstimate {
    /// An estimate for `rate` records a second whose calls take `latency` each. A rate that is negative or
    /// not a number counts as 0.
    pub const fn new(rate: f64, latency: Duration) -> Self {
        Self { rate, latency, retried: 0.0, retry_time: Duration::ZERO }
    }

    /// Adds retries: a share of `retried` of the records (0 to 1) takes `retry_time` longer, which is all backoffs and
    /// all attempts but the first. A share below 0 counts as 0, one above 1 as 1, and one that is not a number as 0.
    #[must_use]
    pub const fn with_retries(self, retried: f64, retry_time: Duration) -> Self {
        Self { retried, retry_time, ..self }
    }

    /// The average number of records in flight.
    pub fn in_flight(self) -> f64 {
        // `max` returns 0 for a NaN.
        let retried = self.retried.max(0.0).clamp(0.0, 1.0);
        let retries = retried * self.retry_time.as_secs_f64();
        self.rate.max(0.0) * (self.latency.as_secs_f64() + retries)
    }

    /// The capacity for that many records: [`in_flight`](Self::in_flight) rounded up, at least 1.
    pub fn capacity(self) -> usize {
        // Subtracts a billionth first: floating point may put a whole number slightly above itself, and it must not be
        // rounded up because of that.
        let wanted = self.in_flight() * (1.0 - 1e-9);
        let whole = wanted as usize;
        whole.saturating_add(usize::from(wanted > whole as f64)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_rates_and_shares_are_clamped() {
        let second = Duration::from_secs(1);
        assert_eq!(CapacityEstimate::new(-3.0, second).capacity(), 1);
        assert_eq!(CapacityEstimate::new(f64::NAN, second).capacity(), 1);
        assert_eq!(CapacityEstimate::new(f64::INFINITY, second).capacity(), usize::MAX);
        assert_eq!(
            CapacityEstimate::new(10.0, second).with_retries(f64::NAN, second).capacity(),
            10
        );
        assert_eq!(CapacityEstimate::new(10.0, second).with_retries(7.0, second).capacity(), 20);
    }

    #[test]
    fn the_capacity_is_rounded_up() {
        assert_eq!(CapacityEstimate::new(10.0, Duration::from_millis(101)).capacity(), 2);
        assert_eq!(CapacityEstimate::new(10.0, Duration::from_millis(100)).capacity(), 1);
        assert_eq!(CapacityEstimate::new(0.1, Duration::ZERO).capacity(), 1);
    }
}
