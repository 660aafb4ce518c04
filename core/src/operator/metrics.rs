//! The numbers of a stage or an operator (M1).

use core::fmt;
use core::time::Duration;

use crate::outcome::Failure;
use crate::time::{Instant, Span};

/// The numbers of a stage or an operator, as of one moment (M1).
///
/// Counters count from the start of this life; restored records count as taken in. [`since`](Self::since) returns the
/// numbers of a span of time.
/// `records_in = in_flight + emitted + dropped`, where outcomes that a stage on its own task has handed over and
/// its consumer has not taken count as emitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Records in flight: pushed and not handed on.
    pub in_flight: u64,
    /// Attempts running.
    pub running: u64,
    /// Records between two attempts, until their backoff is over.
    pub in_backoff: u64,
    /// Records that are done and have not left: they wait for records before them, or to be taken out.
    pub done: u64,
    /// The most records in flight.
    pub capacity: u64,
    /// The most attempts, or [batches](crate::AsyncWait::batch), that may run at once: [`max_running`](crate::AsyncWait::max_running),
    /// or the [adaptive limit](crate::AsyncWait::limit) if that is lower now. `None` if there is neither. A pause does not change it,
    /// and permits do not count.
    pub limit: Option<u64>,
    /// Whether no attempt starts, because of a [pause](crate::Operator::pause), or of a failure that has
    /// [asked for one](crate::AsyncWait::pause_on).
    pub paused: bool,
    /// The time until the next attempt may start that a [rate](crate::AsyncWait::rate), the pause of a failure, or a
    /// [batch](crate::AsyncWait::batch) that fills holds up. `None` if they hold none up, and if somebody has to resume the operator
    /// first, or a running attempt has to end. A stage on a task of its own publishes it at the end of a turn, and it stays the same
    /// while the stage sleeps.
    pub next_start: Option<Duration>,
    /// The age of the oldest record in flight, since its first invocation (or, before that, since it was taken
    /// in).
    pub oldest: Option<Duration>,
    /// The total time during which no further record had room.
    pub blocked: Duration,
    /// Records taken in.
    pub records_in: u64,
    /// Outcomes handed on.
    pub emitted: u64,
    /// Calls that have ended with a failure, including those that timed out. A call counts when it ends, also while its
    /// outcome waits for records before it. A call whose timeout handler returns an output, or drops the record, has not failed.
    pub failed: u64,
    /// Calls that have ended with a failure because of a timeout, counted as in `failed`.
    pub timed_out: u64,
    /// Records that left without an outcome, because a timeout handler dropped them, or a failure has
    /// [ended the job](crate::StageBuilder::fail_fast).
    pub dropped: u64,
    /// Attempts started.
    pub attempts: u64,
    /// Requests started: [batches](crate::AsyncWait::batch), or else attempts. [`batch_size`](Self::batch_size) compares the two.
    pub requests: u64,
    /// Attempts that were followed by another one.
    pub retried: u64,
    /// Completions that came too late to have an effect (T5).
    pub late_completions: u64,
    /// Turns of a stage on a task of its own, or run with its consumer, that kept their thread for longer than 50 ms. Most likely a
    /// request blocks, or computes between two `.await`s, which holds up everything else on its thread: run it on
    /// [a task of its own](crate::StageBuilder::spawn_requests), or what blocks on a thread of its own. Requests on tasks of their own
    /// do not count here. 0 for a stage in place that its consumer polls, for an operator, and without the feature `alloc`.
    pub slow_turns: u64,
    /// The time of calls, from the first invocation to the outcome.
    pub call_time: Histogram,
    /// The time from the end of a call to its record's leaving: outcomes wait for records before them, and to be taken out.
    pub ordering_delay: Histogram,
}

impl Metrics {
    /// Records in flight that wait for an attempt to start: until the previous record of their key is done, until fewer
    /// attempts run (C7), until a pause is over or the rate allows it (A2), until there is a permit (C9), or until their batch is
    /// full (B1). All records in flight are either waiting, running, in backoff or done.
    pub const fn waiting(&self) -> u64 {
        // Saturates, because a handle on another thread may read some numbers a little later than others.
        self.in_flight.saturating_sub(self.running + self.in_backoff + self.done)
    }

    /// The mean number of records in a request: 1 without [batches](crate::AsyncWait::batch), and 0 if no request has started. Of the
    /// last minute, say: `now.since(&a_minute_ago).batch_size()`.
    pub fn batch_size(&self) -> f64 {
        match self.requests {
            0 => 0.0,
            requests => self.attempts as f64 / requests as f64,
        }
    }

    /// The numbers of the time since `earlier`, which must be earlier numbers of the same stage. Numbers that count from the
    /// start (counters, `blocked`, the two distributions) are differences; numbers of one moment (`in_flight` to `oldest`)
    /// are the current ones.
    ///
    /// So a percentile or a rate follows the stage, and a bad minute does not stay in it for ever:
    ///
    /// ```
    /// use core::time::Duration;
    /// use inflight_core::Metrics;
    ///
    /// /// The rate of the last second, and the 99th percentile of its calls' times.
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
    /// With another stage's numbers, or later ones, the result makes no sense, but nothing panics.
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
            requests: self.requests.saturating_sub(earlier.requests),
            retried: self.retried.saturating_sub(earlier.retried),
            late_completions: self.late_completions.saturating_sub(earlier.late_completions),
            slow_turns: self.slow_turns.saturating_sub(earlier.slow_turns),
            call_time: self.call_time.since(&earlier.call_time),
            ordering_delay: self.ordering_delay.since(&earlier.ordering_delay),
            ..*self // numbers of one moment
        }
    }
}

/// A histogram of durations with a bucket for each power of two. Counts are machine words.
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
    /// Bucket `i` counts durations below 2^(i+10) ns; the last one also counts all longer ones (from 18 minutes).
    pub(crate) const BUCKETS: usize = 32;

    const EMPTY: Self = Self { counts: [0; Self::BUCKETS] };

    /// Counts a duration.
    pub fn record(&mut self, duration: Duration) {
        self.record_span(Span::of(duration));
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    #[cfg_attr(not(feature = "alloc"), inline(never))]
    pub(crate) fn record_span(&mut self, span: Span) {
        // `| 1` puts the shortest durations into bucket 0, and makes `ilog2` one instruction without a check for zero.
        let bits = ((span.as_nanos() >> 9) | 1).ilog2() as usize;
        let count = &mut self.counts[bits.min(Self::BUCKETS - 1)];
        *count = count.wrapping_add(1); // `since` allows for a count that has wrapped around
    }

    /// The durations counted since `earlier`, which must be an earlier state of this histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let new = |bucket: usize| {
            // Counts wrap around on a 32-bit machine. A difference above half of the range is negative, so `earlier` was no
            // earlier state.
            let new = self.counts[bucket].wrapping_sub(earlier.counts[bucket]);
            if new <= usize::MAX / 2 { new } else { 0 }
        };
        Self { counts: core::array::from_fn(new) }
    }

    /// The number of durations counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| *count as u64).sum()
    }

    /// The upper bound of each bucket, and the number of durations in it.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let bound = |bucket: usize| Duration::from_nanos(1_u64 << (bucket + 10));
        self.counts.iter().enumerate().map(move |(i, count)| (bound(i), *count as u64))
    }

    /// The quantile of the durations (`quantile` is from 0 to 1), rounded up to the upper bound of its bucket; zero if
    /// nothing was counted.
    pub fn quantile(&self, quantile: f64) -> Duration {
        // At least one, so that quantile 0 is the first bucket that is not empty.
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
    /// The number of all integers: those of [`scalars`](Self::scalars), and behind them those of [`counts`](Self::counts).
    pub(crate) const NUMBERS: usize = Self::SCALARS + 2 * Histogram::BUCKETS;
    pub(crate) const SCALARS: usize = 20;
    /// The index of the age of the oldest record.
    pub(crate) const OLDEST: usize = 8;

    /// The numbers outside of the histograms as integers, so that a stage can publish them in atomics one by one; with
    /// [`counts`](Self::counts) the inverse of [`from_numbers`](Self::from_numbers). An optional number is encoded as 0 for none, or
    /// as the number plus one.
    #[inline]
    pub(crate) fn scalars(&self) -> [u64; Self::SCALARS] {
        let nanos = |time: Option<Duration>| time.map_or(0, |time| Span::of(time).as_nanos() + 1);
        [
            self.in_flight,
            self.running,
            self.in_backoff,
            self.done,
            self.capacity,
            self.limit.map_or(0, |limit| limit.saturating_add(1)),
            u64::from(self.paused),
            nanos(self.next_start),
            nanos(self.oldest),
            Span::of(self.blocked).as_nanos(),
            self.records_in,
            self.emitted,
            self.failed,
            self.timed_out,
            self.dropped,
            self.attempts,
            self.requests,
            self.retried,
            self.late_completions,
            self.slow_turns,
        ]
    }

    /// The counts of the histograms.
    pub(crate) fn counts(&self) -> impl Iterator<Item = u64> {
        let histograms = [&self.call_time.counts, &self.ordering_delay.counts];
        histograms.into_iter().flatten().map(|count| *count as u64)
    }

    pub(crate) fn from_numbers(numbers: &[u64; Self::NUMBERS]) -> Self {
        let (scalars, buckets) = numbers.split_at(Self::SCALARS);
        let histogram = |start: usize| Histogram {
            counts: core::array::from_fn(|bucket| buckets[start + bucket] as usize),
        };
        let some = |number: u64| number.checked_sub(1); // 0 encodes `None`
        Self {
            in_flight: scalars[0],
            running: scalars[1],
            in_backoff: scalars[2],
            done: scalars[3],
            capacity: scalars[4],
            limit: some(scalars[5]),
            paused: scalars[6] > 0,
            next_start: some(scalars[7]).map(Duration::from_nanos),
            oldest: some(scalars[8]).map(Duration::from_nanos),
            blocked: Duration::from_nanos(scalars[9]),
            records_in: scalars[10],
            emitted: scalars[11],
            failed: scalars[12],
            timed_out: scalars[13],
            dropped: scalars[14],
            attempts: scalars[15],
            requests: scalars[16],
            retried: scalars[17],
            late_completions: scalars[18],
            slow_turns: scalars[19],
            call_time: histogram(0),
            ordering_delay: histogram(Histogram::BUCKETS),
        }
    }
}

/// The counters of the operator. Each transition of a record updates them.
pub(crate) struct Counters {
    pub(crate) emitted: u64,
    pub(crate) failed: u64,
    pub(crate) timed_out: u64,
    pub(crate) dropped: u64,
    pub(crate) attempts: u64,
    pub(crate) retried: u64,
    pub(crate) late: u64,
    /// Records that wait for an attempt to start.
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

    /// Of the records in flight, those whose call is done.
    #[cfg_attr(feature = "alloc", inline)]
    pub(super) fn done(&self, in_flight: usize) -> usize {
        in_flight - self.running - self.queued - self.in_backoff
    }

    /// The numbers as of `now` that counters keep: all but the age of the oldest record and what holds attempts up.
    pub(super) fn metrics(&self, now: Instant, in_flight: usize, capacity: usize) -> Metrics {
        Metrics {
            in_flight: in_flight as u64,
            running: self.running as u64,
            in_backoff: self.in_backoff as u64,
            done: self.done(in_flight) as u64,
            capacity: capacity as u64,
            limit: None,
            paused: false,
            next_start: None,
            oldest: None,
            blocked: self.blocked(now),
            records_in: in_flight as u64 + self.emitted + self.dropped,
            emitted: self.emitted,
            failed: self.failed,
            timed_out: self.timed_out,
            dropped: self.dropped,
            attempts: self.attempts,
            requests: self.attempts,
            retried: self.retried,
            late_completions: self.late,
            slow_turns: 0,
            call_time: self.call_time,
            ordering_delay: self.ordering_delay,
        }
    }

    /// Counts the result that a call has ended with.
    #[inline(always)]
    pub(crate) fn end<Out, E>(&mut self, result: &Result<Out, Failure<E>>) {
        if let Err(failure) = result {
            self.failed += 1;
            self.timed_out += u64::from(failure.is_timeout()); // a timeout is a failure as well
        }
    }

    /// Takes a timeout out of the counts, because its handler has given the call another end (T3).
    pub(crate) fn take_back_timeout(&mut self) {
        self.failed -= 1;
        self.timed_out -= 1;
    }

    /// Starts the clock of `blocked`, unless it runs already: there is no more room.
    #[cold]
    pub(crate) fn full(&mut self, now: Instant) {
        self.full_since.get_or_insert(now); // the first instant without room counts
    }

    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.full_since.is_some()
    }

    /// Stops the clock of `blocked`: there is room again.
    #[cold]
    pub(crate) fn not_full(&mut self, now: Instant) {
        if let Some(since) = self.full_since.take() {
            self.blocked = self.blocked.plus(now.since(since));
        }
    }

    pub(crate) fn blocked(&self, now: Instant) -> Duration {
        // Includes the time without room that has not ended yet.
        let current = self.full_since.map_or(Span::ZERO, |since| now.since(since));
        self.blocked.plus(current).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many different numbers, for all but the one that is a flag.
    #[cfg(feature = "alloc")]
    fn different(number: impl Fn(u64) -> u64) -> [u64; Metrics::NUMBERS] {
        const PAUSED: usize = 6;
        core::array::from_fn(|at| if at == PAUSED { 1 } else { number(at as u64) })
    }

    #[cfg(feature = "alloc")]
    fn numbers(metrics: &Metrics) -> impl Iterator<Item = u64> {
        metrics.scalars().into_iter().chain(metrics.counts())
    }

    // M1: a reader gets the numbers that were published.
    #[cfg(feature = "alloc")]
    #[test]
    fn numbers_round_trip() {
        let published = different(|at| 100 + at);
        let metrics = Metrics::from_numbers(&published);
        assert!(numbers(&metrics).eq(published));
        assert_eq!(metrics.oldest, Some(Duration::from_nanos(99 + Metrics::OLDEST as u64)));
        let nothing = [0; Metrics::NUMBERS];
        assert_eq!(Metrics::from_numbers(&nothing), Metrics::default());
        assert!(numbers(&Metrics::default()).eq(nothing));
    }

    // M1: `since` subtracts counters and keeps gauges.
    #[cfg(feature = "alloc")]
    #[test]
    fn since_subtracts_counters_and_keeps_gauges() {
        let mut earlier = Metrics::from_numbers(&different(|at| 100 + at));
        let now = Metrics::from_numbers(&different(|at| 103 + 2 * at));
        earlier.paused = false;
        let gauges = 9; // the first numbers; counters follow
        let since = now.since(&earlier);
        let expected = numbers(&now).enumerate().map(|(at, number)| match at < gauges {
            true => number,
            false => 3 + at as u64,
        });
        assert!(numbers(&since).eq(expected), "{since:?}");
        let backwards = earlier.since(&now);
        assert!(numbers(&backwards).skip(gauges).all(|number| number == 0), "{backwards:?}");
    }

    // M1: the difference of a count is right after the count has wrapped around.
    #[test]
    fn counts_may_wrap_around() {
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
