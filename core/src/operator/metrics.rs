//! What a stage can tell about itself at any time.

use core::fmt;
use core::time::Duration;

use crate::outcome::Failure;
use crate::time::{Instant, Span};

/// The numbers of a stage or an operator, as of one moment.
///
/// Counters count from the start of this life; records that a restore brought count as having come in. Those of a
/// span of time are what [`since`](Self::since) tells.
/// `records_in = in_flight + emitted + dropped`, where what a stage on its own task has handed over and
/// its consumer has not taken counts as emitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Records in flight: pushed and not handed on.
    pub in_flight: u64,
    /// Attempts running.
    pub running: u64,
    /// Records between two attempts, those included whose backoff is over and that have to wait to run.
    pub in_backoff: u64,
    /// Records that are done and wait for their turn.
    pub done: u64,
    /// The most records in flight.
    pub capacity: u64,
    /// How long the oldest record in flight has been there, since it was first invoked (or, if it was
    /// not yet, since it came).
    pub oldest: Option<Duration>,
    /// How long no further record had room, all such times together.
    pub blocked: Duration,
    /// Records taken in.
    pub records_in: u64,
    /// Outcomes handed on.
    pub emitted: u64,
    /// Calls that have ended with a failure, those that timed out included: from when they end, also while the outcome waits
    /// for its turn. One whose timeout's handler gives an output, or drops the record, has not failed.
    pub failed: u64,
    /// Calls that have ended with a failure because time ran out, as `failed` counts them.
    pub timed_out: u64,
    /// Records that left without an outcome, because a timeout's handler said so, or a failure has
    /// [ended the job](crate::StageBuilder::fail_fast).
    pub dropped: u64,
    /// Attempts started.
    pub attempts: u64,
    /// Attempts that were followed by another one.
    pub retried: u64,
    /// Completions that came too late to have an effect.
    pub late_completions: u64,
    /// How long calls took, from the first invocation to the outcome.
    pub call_time: Histogram,
    /// How long outcomes waited for their turn.
    pub ordering_delay: Histogram,
}

impl Metrics {
    /// Records in flight that wait for their first attempt in this life: for their key's turn, or because as many attempts run as
    /// may. With what runs, is in backoff and is done that makes all that are in flight.
    pub const fn waiting(&self) -> u64 {
        // Another thread may have read some numbers a little later than others.
        self.in_flight.saturating_sub(self.running + self.in_backoff + self.done)
    }

    /// The numbers of the time since `earlier`, which are the same stage's: what counts from the start (counters, `blocked`, the
    /// two distributions) is what has come since; what is as of one moment (`in_flight` to `oldest`) is as it is now.
    ///
    /// So a percentile or a rate follows the stage, and a bad minute is forgotten:
    ///
    /// ```
    /// use core::time::Duration;
    /// use inflight_core::Metrics;
    ///
    /// /// The rate of the last second, and how long all but one in a hundred of its calls took.
    /// fn each_second(now: &Metrics, last: &mut Metrics) -> (u64, Duration) {
    ///     let second = now.since(last);
    ///     *last = *now;
    ///     (second.emitted, second.call_time.quantile(0.99))
    /// }
    /// # let (mut now, mut last) = (Metrics::default(), Metrics::default());
    /// # now.call_time.record(Duration::from_secs(60));
    /// # assert!(each_second(&now, &mut last).1 >= Duration::from_secs(60));
    /// # now.call_time.record(Duration::from_millis(1));
    /// # assert!(each_second(&now, &mut last).1 < Duration::from_millis(3));
    /// ```
    ///
    /// Of another stage's numbers, or of later ones, nothing sensible comes out, and no panic.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            blocked: self.blocked.saturating_sub(earlier.blocked),
            records_in: self.records_in.saturating_sub(earlier.records_in),
            emitted: self.emitted.saturating_sub(earlier.emitted),
            failed: self.failed.saturating_sub(earlier.failed),
            timed_out: self.timed_out.saturating_sub(earlier.timed_out),
            dropped: self.dropped.saturating_sub(earlier.dropped),
            attempts: self.attempts.saturating_sub(earlier.attempts),
            retried: self.retried.saturating_sub(earlier.retried),
            late_completions: self.late_completions.saturating_sub(earlier.late_completions),
            call_time: self.call_time.since(&earlier.call_time),
            ordering_delay: self.ordering_delay.since(&earlier.ordering_delay),
            ..*self
        }
    }
}

/// How often a duration fell between two powers of two. Counts are machine words.
///
/// ```
/// use core::time::Duration;
/// use inflight_core::Histogram;
///
/// let mut times = Histogram::default();
/// times.record(Duration::from_millis(3));
/// assert_eq!(times.count(), 1);
/// assert!(times.quantile(0.5) >= Duration::from_millis(3));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Histogram {
    counts: [usize; Self::BUCKETS],
}

impl Histogram {
    /// Bucket `i` holds durations below 2^(i+10) ns; the last one all longer ones (from 18 minutes) too.
    pub(crate) const BUCKETS: usize = 32;

    const EMPTY: Self = Self { counts: [0; Self::BUCKETS] };

    /// Counts a duration.
    pub fn record(&mut self, duration: Duration) {
        self.record_span(Span::of(duration));
    }

    #[inline(always)]
    pub(crate) fn record_span(&mut self, span: Span) {
        // The bit that is always set makes the shortest ones bucket 0, and the count of zeros one instruction.
        let bits = ((span.as_nanos() >> 9) | 1).ilog2() as usize;
        let count = &mut self.counts[bits.min(Self::BUCKETS - 1)];
        *count = count.wrapping_add(1);
    }

    /// The durations that were counted since `earlier`, which is the same histogram then.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let new = |bucket: usize| {
            // Counts go round on a machine of 32 bits. What seems to be more than half of all numbers was never counted.
            let new = self.counts[bucket].wrapping_sub(earlier.counts[bucket]);
            if new <= usize::MAX / 2 { new } else { 0 }
        };
        Self { counts: core::array::from_fn(new) }
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| *count as u64).sum()
    }

    /// The upper bound of each bucket, and how many durations fell into it.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let bound = |bucket: usize| Duration::from_nanos(1_u64 << (bucket + 10));
        self.counts.iter().enumerate().map(move |(i, count)| (bound(i), *count as u64))
    }

    /// The upper bound of the bucket below which a share of `quantile` (0 to 1) of all durations lies;
    /// zero if there are none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let wanted = (quantile.clamp(0.0, 1.0) * self.count() as f64).max(1.0);
        let mut seen = 0;
        let found = self.buckets().find(|(_, count)| {
            seen += count;
            seen as f64 >= wanted
        });
        found.map_or(Duration::ZERO, |(bound, _)| bound)
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets().filter(|(_, count)| *count > 0)).finish()
    }
}

#[cfg(feature = "alloc")]
impl Metrics {
    /// How many numbers they are.
    pub(crate) const NUMBERS: usize = Self::SCALARS + 2 * Histogram::BUCKETS;
    /// How many of them are not in a histogram.
    pub(crate) const SCALARS: usize = 15;
    /// Where the age of the oldest record is among them.
    pub(crate) const OLDEST: usize = 5;

    /// All numbers in a row, and back by [`from_numbers`](Self::from_numbers): a stage publishes them one
    /// by one. The age of the oldest record is 0 for none, or one more than its nanoseconds.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        let oldest = self.oldest.map_or(0, |age| Span::of(age).as_nanos() + 1);
        let scalars: [u64; Self::SCALARS] = [
            self.in_flight,
            self.running,
            self.in_backoff,
            self.done,
            self.capacity,
            oldest,
            Span::of(self.blocked).as_nanos(),
            self.records_in,
            self.emitted,
            self.failed,
            self.timed_out,
            self.dropped,
            self.attempts,
            self.retried,
            self.late_completions,
        ];
        let histograms = [&self.call_time.counts, &self.ordering_delay.counts];
        scalars.into_iter().chain(histograms.into_iter().flatten().map(|count| *count as u64))
    }

    pub(crate) fn from_numbers(numbers: &[u64; Self::NUMBERS]) -> Self {
        let (scalars, buckets) = numbers.split_at(Self::SCALARS);
        let histogram = |start: usize| Histogram {
            counts: core::array::from_fn(|bucket| buckets[start + bucket] as usize),
        };
        Self {
            in_flight: scalars[0],
            running: scalars[1],
            in_backoff: scalars[2],
            done: scalars[3],
            capacity: scalars[4],
            oldest: scalars[5].checked_sub(1).map(Duration::from_nanos),
            blocked: Duration::from_nanos(scalars[6]),
            records_in: scalars[7],
            emitted: scalars[8],
            failed: scalars[9],
            timed_out: scalars[10],
            dropped: scalars[11],
            attempts: scalars[12],
            retried: scalars[13],
            late_completions: scalars[14],
            call_time: histogram(0),
            ordering_delay: histogram(Histogram::BUCKETS),
        }
    }
}

/// What the operator counts as it goes.
pub(crate) struct Counters {
    pub(crate) emitted: u64,
    pub(crate) failed: u64,
    pub(crate) timed_out: u64,
    pub(crate) dropped: u64,
    pub(crate) attempts: u64,
    pub(crate) retried: u64,
    pub(crate) late: u64,
    /// Records whose first attempt in this life has not started.
    pub(crate) queued: usize,
    /// Attempts running.
    pub(crate) running: usize,
    pub(crate) in_backoff: usize,
    pub(crate) call_time: Histogram,
    pub(crate) ordering_delay: Histogram,
    full_since: Option<Instant>,
    blocked: Span,
}

impl Counters {
    pub(crate) const NONE: Self = Self {
        emitted: 0,
        failed: 0,
        timed_out: 0,
        dropped: 0,
        attempts: 0,
        retried: 0,
        late: 0,
        queued: 0,
        running: 0,
        in_backoff: 0,
        call_time: Histogram::EMPTY,
        ordering_delay: Histogram::EMPTY,
        full_since: None,
        blocked: Span::ZERO,
    };

    /// All numbers as of `now`, but the age of the oldest record.
    pub(super) fn metrics(&self, now: Instant, in_flight: usize, capacity: usize) -> Metrics {
        Metrics {
            in_flight: in_flight as u64,
            running: self.running as u64,
            in_backoff: self.in_backoff as u64,
            done: (in_flight - self.running - self.queued - self.in_backoff) as u64,
            capacity: capacity as u64,
            oldest: None,
            blocked: self.blocked(now),
            records_in: in_flight as u64 + self.emitted + self.dropped,
            emitted: self.emitted,
            failed: self.failed,
            timed_out: self.timed_out,
            dropped: self.dropped,
            attempts: self.attempts,
            retried: self.retried,
            late_completions: self.late,
            call_time: self.call_time,
            ordering_delay: self.ordering_delay,
        }
    }

    /// Counts the result that a call has ended with.
    #[inline(always)]
    pub(crate) fn end<Out, E>(&mut self, result: &Result<Out, Failure<E>>) {
        if let Err(failure) = result {
            self.failed += 1;
            self.timed_out += u64::from(failure.is_timeout());
        }
    }

    /// A call that has timed out ends with something else.
    pub(crate) fn take_back_timeout(&mut self) {
        self.failed -= 1;
        self.timed_out -= 1;
    }

    /// Notes that there is no room from here on.
    #[cold]
    pub(crate) fn full(&mut self, now: Instant) {
        self.full_since.get_or_insert(now);
    }

    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.full_since.is_some()
    }

    /// Notes that there is room again.
    #[cold]
    pub(crate) fn not_full(&mut self, now: Instant) {
        if let Some(since) = self.full_since.take() {
            self.blocked = self.blocked.plus(now.since(since));
        }
    }

    pub(crate) fn blocked(&self, now: Instant) -> Duration {
        let current = self.full_since.map_or(Span::ZERO, |since| now.since(since));
        self.blocked.plus(current).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // M1: what is published is what is read.
    #[cfg(feature = "alloc")]
    #[test]
    fn numbers_round_trip() {
        let numbers = core::array::from_fn(|at| 100 + at as u64);
        let metrics = Metrics::from_numbers(&numbers);
        assert!(metrics.numbers().eq(numbers));
    }

    // M1: counts of a span of time; gauges as they are.
    #[cfg(feature = "alloc")]
    #[test]
    fn what_came_since() {
        let earlier = Metrics::from_numbers(&core::array::from_fn(|at| 100 + at as u64));
        let now = Metrics::from_numbers(&core::array::from_fn(|at| 103 + 2 * at as u64));
        let gauges = 6; // in front of what counts
        let since = now.since(&earlier);
        let expected = now.numbers().enumerate().map(|(at, number)| match at < gauges {
            true => number,
            false => 3 + at as u64,
        });
        assert!(since.numbers().eq(expected), "{since:?}");
        let backwards = earlier.since(&now);
        assert!(backwards.numbers().skip(gauges).all(|number| number == 0), "{backwards:?}");
    }

    // M1: a count that has gone round says how much is new all the same.
    #[test]
    fn counts_may_go_round() {
        let (mut earlier, mut now) = (Histogram::default(), Histogram::default());
        earlier.counts[3] = usize::MAX - 1;
        now.counts[3] = 4;
        assert_eq!(now.since(&earlier).count(), 6);
    }

    // M1
    #[test]
    fn durations_fall_into_powers_of_two() {
        let mut histogram = Histogram::default();
        for nanos in [0, 1023, 1024, 2047, 2048, u64::MAX] {
            histogram.record(Duration::from_nanos(nanos));
        }
        let counts: [u64; 4] = [0, 1, 2, 31].map(|at| histogram.buckets().nth(at).unwrap().1);
        assert_eq!(counts, [2, 2, 1, 1]);
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.quantile(0.5), Duration::from_nanos(2048));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
