//! The meter of every contender's results: it counts, sums, checks and times them.

use anyhow::{Result, ensure};
use rustix::time::{ClockId, clock_gettime};

use crate::memory;

/// The result of a request: the value it was asked for.
pub(crate) trait Answer: Send + 'static {
    /// The value, if the request succeeded.
    fn value(self) -> Option<u64>;
}

impl<E: Send + 'static> Answer for Result<u64, E> {
    #[inline(always)]
    fn value(self) -> Option<u64> {
        self.ok()
    }
}

impl<E: Send + 'static, T: Send + 'static> Answer for Result<Result<u64, E>, T> {
    #[inline(always)]
    fn value(self) -> Option<u64> {
        self.ok()?.ok()
    }
}

/// The parts of a sample: records that fill the window, records that are timed, and records after those, so
/// that the window stays full until the clock stops.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// Records before the clock starts; as many follow after it has stopped.
    pub(crate) around: u64,
    /// Records that are timed.
    pub(crate) timed: u64,
}

impl Amount {
    /// The number of all records.
    pub(crate) fn total(self) -> u64 {
        2 * self.around + self.timed
    }
}

/// The clock of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// Wall-clock time, for threads that share the work, or sleep.
    Wall,
    /// The processor time of this thread, if it does all the work. It is the same on an idle machine, and
    /// other load on a busy one does not disturb it.
    Thread,
}

impl Clock {
    /// Seconds since a fixed moment.
    pub(crate) fn now(self) -> f64 {
        let time = clock_gettime(match self {
            Self::Wall => ClockId::Monotonic,
            Self::Thread => ClockId::ThreadCPUTime,
        });
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    }
}

/// Checks and times one sample.
pub(crate) struct Meter {
    amount: Amount,
    ordered: bool,
    count: u64,
    sum: u64,
    in_order: bool,
    failed: u64,
    next_mark: u64,
    clock: Clock,
    started: f64,
    took: f64,
    allocations: u64,
}

/// The figures of one sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Nanoseconds per record, while the window was full.
    pub(crate) ns: f64,
    /// Allocations per record, in the same time. Zero unless the allocator counts.
    pub(crate) allocations: f64,
}

impl Meter {
    /// A meter for results that must come in order, or need not.
    pub(crate) fn new(amount: Amount, ordered: bool, clock: Clock) -> Self {
        Self {
            amount,
            ordered,
            count: 0,
            sum: 0,
            in_order: true,
            failed: 0,
            next_mark: amount.around,
            clock,
            started: 0.0,
            took: 0.0,
            allocations: 0,
        }
    }

    /// The input records: 0, 1, 2, ..
    pub(crate) fn records(&self) -> std::ops::Range<u64> {
        0..self.amount.total()
    }

    /// Takes a result.
    #[inline(always)]
    pub(crate) fn take(&mut self, answer: impl Answer) {
        if self.count == self.next_mark {
            self.mark();
        }
        match answer.value() {
            Some(value) => {
                self.in_order &= value == self.count;
                self.sum = self.sum.wrapping_add(value);
            }
            None => self.failed += 1,
        }
        self.count += 1;
    }

    #[cold]
    #[inline(never)]
    fn mark(&mut self) {
        if self.count == self.amount.around {
            self.next_mark += self.amount.timed;
            self.allocations = memory::allocations();
            self.started = self.clock.now();
        } else {
            self.took = self.clock.now() - self.started;
            self.allocations = memory::allocations() - self.allocations;
            self.next_mark = u64::MAX;
        }
    }

    /// The sample's figures, if its results are right.
    pub(crate) fn finish(self) -> Result<Measured> {
        let total = self.amount.total();
        ensure!(self.count == total, "{} results instead of {total}", self.count);
        ensure!(self.failed == 0, "{} requests failed", self.failed);
        ensure!(self.sum == total * (total - 1) / 2, "the results' sum is wrong");
        ensure!(self.in_order || !self.ordered, "the results are not in order");
        let timed = self.amount.timed as f64;
        let allocations = self.allocations as f64 / timed;
        Ok(Measured { ns: self.took * 1e9 / timed, allocations })
    }
}
