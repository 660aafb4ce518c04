//! Counters in one place, for the progress bar, the summary and the checkpoints.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use inflight::prelude::*;
use serde::{Deserialize, Serialize};

use crate::source::Position;

/// Counts over the whole job, including the runs before a crash.
#[derive(Debug, Default)]
pub struct Counters {
    pub lines: Count,
    pub bytes: Count,
    pub written: Count,
    pub rejected: Count,
    pub retries: Count,
    pub timeouts: Count,
    /// Counts of this run alone, from here on.
    pub checkpoints: Count,
    call_micros: Count,
    event_time: AtomicI64,
    /// The attempts under way are given up, and have not timed out.
    gives_up: AtomicBool,
}

/// A number that only grows. No decision compares two of them, so no memory order is needed.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// The counts in a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    pub written: u64,
    pub rejected: u64,
    pub retries: u64,
    pub timeouts: u64,
}

impl Counters {
    /// Restores the counts of a checkpoint.
    pub fn from_checkpoint(position: &Position, totals: Totals) -> Self {
        Self {
            lines: position.lines.lines.into(),
            bytes: position.lines.offset.into(),
            written: totals.written.into(),
            rejected: totals.rejected.into(),
            retries: totals.retries.into(),
            timeouts: totals.timeouts.into(),
            ..Self::default()
        }
    }

    pub fn totals(&self) -> Totals {
        Totals {
            written: self.written.get(),
            rejected: self.rejected.get(),
            retries: self.retries.get(),
            timeouts: self.timeouts.get(),
        }
    }

    /// Lines that are in one of the two files.
    pub fn done(&self) -> u64 {
        self.written.get() + self.rejected.get()
    }

    pub fn in_flight(&self) -> u64 {
        self.lines.get().saturating_sub(self.done())
    }

    /// Counts an outcome that has come out.
    pub fn outcome(&self, attempts: u32, elapsed: Duration) {
        self.retries.add(u64::from(attempts.saturating_sub(1)));
        self.call_micros.add(elapsed.as_micros().try_into().unwrap_or(u64::MAX));
    }

    /// The total time of all calls of this run.
    pub fn call_time(&self) -> Duration {
        Duration::from_micros(self.call_micros.get())
    }

    /// Records that all flights up to `time` have come out.
    pub fn watermark(&self, time: Timestamp) {
        self.event_time.store(time.as_millis(), Ordering::Relaxed);
    }

    /// The last watermark, if there was one.
    pub fn event_time(&self) -> Option<Timestamp> {
        let millis = self.event_time.load(Ordering::Relaxed);
        (millis > 0).then(|| Timestamp::from_millis(millis))
    }

    /// Counts the start of an attempt. An attempt that is dropped before it finishes has timed out, until
    /// [`give_up`](Self::give_up).
    pub fn attempt(&self) -> AttemptUnderWay<'_> {
        AttemptUnderWay { counters: self, finished: false }
    }

    /// The attempts under way are dropped from here on.
    pub fn give_up(&self) {
        self.gives_up.store(true, Ordering::Relaxed);
    }
}

impl Totals {
    /// Lines that are in one of the two files.
    pub fn done(&self) -> u64 {
        self.written + self.rejected
    }
}

impl Count {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl From<u64> for Count {
    fn from(number: u64) -> Self {
        Self(number.into())
    }
}

/// Returned by [`Counters::attempt`].
pub struct AttemptUnderWay<'a> {
    counters: &'a Counters,
    finished: bool,
}

impl AttemptUnderWay<'_> {
    pub fn finished(mut self) {
        self.finished = true;
    }
}

impl Drop for AttemptUnderWay<'_> {
    fn drop(&mut self) {
        let timed_out = !self.finished && !self.counters.gives_up.load(Ordering::Relaxed);
        self.counters.timeouts.add(u64::from(timed_out));
    }
}
