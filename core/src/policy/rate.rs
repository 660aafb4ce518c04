//! The rate at which attempts start: a token bucket.

use core::fmt;
use core::time::Duration;

use super::extras::{Extras, sealed};
use crate::config_error::ConfigError;
use crate::storage::{NoBatches, Nothing, Storage};
use crate::time::{Instant, Span};

/// The rate at which attempts may start: `tokens` in each `period`, and up to `burst` of them at once.
///
/// An attempt takes one token, or as many as its record [weighs](crate::AsyncWait::rate_by). The bucket is full at the start, so the
/// first `burst` tokens can be had at once; from then on in any time `t` at most `burst + tokens * t / period` are taken. So nearly twice the
/// `tokens` may start in the first period, unless [`burst`](Self::burst) is lower: set it where the service counts strictly. A
/// record that weighs more than the burst starts when the bucket is full, and is paid for afterwards; a batch holds no more records than
/// the burst can pay.
///
/// ```
/// use inflight_core::{AsyncWait, Rate};
///
/// // 50 requests a second, and no more than 5 of them at once.
/// let policy = AsyncWait::unordered(64).rate(Rate::per_second(50).burst(5));
/// # let _ = policy;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a rate does nothing by itself"]
pub struct Rate {
    period: Duration,
    tokens: u64,
    burst: u64,
}

impl Rate {
    /// `tokens` in each `period`, and as many at once. Zero is refused when the stage is built, of either.
    pub const fn per(period: Duration, tokens: u64) -> Self {
        Self { period, tokens, burst: tokens }
    }

    /// So many tokens a second, and as many at once, as [`per`](Self::per) makes it of a second.
    pub const fn per_second(tokens: u64) -> Self {
        Self::per(Duration::from_secs(1), tokens)
    }

    /// Sets how many tokens can be had at once after a quiet time. Zero is refused when the stage is built.
    pub const fn burst(mut self, tokens: u64) -> Self {
        self.burst = tokens;
        self
    }

    const fn check(self) -> Result<(), ConfigError> {
        if self.period.is_zero() || self.tokens == 0 || self.burst == 0 {
            return Err(ConfigError::ZeroRate);
        }
        Ok(())
    }

    /// The time in which so many tokens come, rounded up (T8).
    fn time_of(self, tokens: u64) -> Span {
        self.time(tokens, u128::div_ceil)
    }

    /// The same, rounded down.
    fn time_of_fewer(self, tokens: u64) -> Span {
        self.time(tokens, |nanos, rate| nanos / rate)
    }

    fn time(self, tokens: u64, divide: impl FnOnce(u128, u128) -> u128) -> Span {
        let nanos = self.period.as_nanos().saturating_mul(u128::from(tokens));
        let nanos = divide(nanos, u128::from(self.tokens.max(1)));
        Span::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Starts attempts at a rate: see [`AsyncWait::rate`](crate::AsyncWait::rate).
#[derive(Clone, Copy)]
pub struct RateLimit<W = Count> {
    rate: Rate,
    weight: W,
    /// When the bucket is full again (the generic cell rate algorithm of ITU-T I.371: one instant is all its state).
    full_at: Instant,
}

/// Records do not weigh: each request takes one token of a rate, a batch too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count;

/// Each record weighs as much as the function says.
#[derive(Clone, Copy)]
pub struct WeighBy<F>(pub(super) F);

impl RateLimit {
    pub(super) const fn count(rate: Rate) -> Self {
        Self { rate, weight: Count, full_at: Instant::ZERO }
    }
}

impl<F> RateLimit<WeighBy<F>> {
    pub(super) const fn weigh(rate: Rate, weight: F) -> Self {
        Self { rate, weight: WeighBy(weight), full_at: Instant::ZERO }
    }
}

impl<W> RateLimit<W> {
    /// The instant from which so many tokens can be had.
    fn available_at(&self, tokens: u64) -> Instant {
        // The bucket has enough when no more than `burst - tokens` are missing.
        let may_miss = self.rate.burst.saturating_sub(tokens);
        self.full_at.back(self.rate.time_of_fewer(may_miss))
    }

    fn take(&mut self, now: Instant, tokens: u64) {
        self.full_at = self.full_at.max(now).plus(self.rate.time_of(tokens));
    }
}

/// The weight of a request.
trait Weight<In> {
    /// Whether a request for several records weighs what they weigh together.
    const ADDS_UP: bool;

    fn weight_of<'a>(&self, records: impl Iterator<Item = &'a In>) -> u64
    where
        In: 'a;
}

impl<In> Weight<In> for Count {
    const ADDS_UP: bool = false;

    fn weight_of<'a>(&self, _records: impl Iterator<Item = &'a In>) -> u64
    where
        In: 'a,
    {
        1
    }
}

impl<In, F: Fn(&In) -> u64> Weight<In> for WeighBy<F> {
    const ADDS_UP: bool = true;

    fn weight_of<'a>(&self, records: impl Iterator<Item = &'a In>) -> u64
    where
        In: 'a,
    {
        records.fold(0, |sum, record| sum.saturating_add((self.0)(record)))
    }
}

impl<W> sealed::Sealed for RateLimit<W> {}

#[allow(private_bounds)] // sealed
impl<In, Out, E, W: Weight<In>> Extras<In, Out, E> for RateLimit<W> {
    const THROTTLES: bool = true;
    type NextOfKey<S: Storage> = Nothing;
    type StartTimes<S: Storage> = Nothing;
    type Batches<S: Storage> = NoBatches;

    fn check(&self) -> Result<(), ConfigError> {
        self.rate.check()
    }

    fn most_at_once<'a>(&self, records: impl Iterator<Item = &'a In> + Clone) -> usize
    where
        In: 'a,
    {
        let mut weight = 0_u64;
        let fits = |record: &&'a In| {
            weight = weight.saturating_add(self.weight.weight_of(core::iter::once(*record)));
            !W::ADDS_UP || weight <= self.rate.burst
        };
        records.take_while(fits).count().max(1)
    }

    fn ready_at<'a>(&self, records: impl Iterator<Item = &'a In> + Clone) -> Option<Instant>
    where
        In: 'a,
    {
        Some(self.available_at(self.weight.weight_of(records)))
    }

    fn started<'a>(&mut self, now: Instant, records: impl Iterator<Item = &'a In> + Clone)
    where
        In: 'a,
    {
        self.take(now, self.weight.weight_of(records));
    }
}

impl<W> fmt::Debug for RateLimit<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimit").field(&self.rate).finish()
    }
}

impl<F> fmt::Debug for WeighBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeighBy(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Takes tokens as soon as they can be had, and returns when each request started, in milliseconds.
    fn starts(rate: Rate, weights: &[u64]) -> [u64; 6] {
        let mut bucket = RateLimit::count(rate);
        let mut now = Instant::ZERO;
        let mut starts = [0; 6];
        for (start, weight) in starts.iter_mut().zip(weights) {
            now = now.max(bucket.available_at(*weight));
            bucket.take(now, *weight);
            *start = now.since(Instant::ZERO).as_nanos().div_ceil(1_000_000);
        }
        starts
    }

    // A2: a burst at once, then one a period's part; a weight beyond the burst waits for a full bucket and is paid for afterwards.
    #[test]
    fn tokens_come_at_the_rate() {
        assert_eq!(starts(Rate::per(100 * MS, 10).burst(3), &[1; 6]), [0, 0, 0, 10, 20, 30]);
        assert_eq!(starts(Rate::per(100 * MS, 10).burst(1), &[1; 6]), [0, 10, 20, 30, 40, 50]);
        assert_eq!(
            starts(Rate::per(100 * MS, 10).burst(5), &[2, 3, 2, 20, 1, 5]),
            [0, 0, 20, 70, 230, 280]
        );
    }

    // A2: never more than the burst and what has come since, in any window, whatever the rounding.
    #[test]
    fn no_window_has_more_than_the_burst_and_the_rate() {
        let rate = Rate::per(Duration::from_nanos(1_000), 7).burst(4);
        let mut bucket = RateLimit::count(rate);
        let mut now = Instant::ZERO;
        let mut taken = 0_u64;
        for _ in 0..10_000 {
            now = now.max(bucket.available_at(1));
            bucket.take(now, 1);
            taken += 1;
            assert!(taken <= 4 + now.since(Instant::ZERO).as_nanos() * 7 / 1_000 + 1);
        }
        assert!(
            taken * 1_000 / 7 >= now.since(Instant::ZERO).as_nanos() * 9 / 10,
            "nor much fewer"
        );
    }
}
