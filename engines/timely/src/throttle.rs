//! A bound on what a source has fed and the dataflow has not finished.

use std::collections::VecDeque;
use std::fmt;

use timely::dataflow::operators::probe;
use timely::progress::Timestamp;
use timely::worker::Worker;

/// Tells a source how many records it may feed, by a probe behind the operators that are to be waited for.
///
/// timely has no backpressure: whatever is fed waits in some operator's memory, in front of a full stage for example. So the source has to
/// stop. A throttle counts the records that its worker has fed at times that the probe has not passed, wherever these records
/// are now, also on other workers.
///
/// Room comes back as the probe moves, and that is time after time: an operator sees a frontier only when it is scheduled, and so it may
/// pass several times at once, when the slowest of their records is done. So the limit should be a few times the capacity.
///
/// A probe passes a time only when no record can come at it any more. So a source must move its input on to later times, within the
/// limit at the latest: with all of the limit at one time that is still open, there is never room again.
///
/// ```
/// use inflight_timely::Throttle;
/// use timely::dataflow::operators::{Input, Inspect, Probe};
///
/// timely::execute_directly(|worker| {
///     let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
///         let (input, records) = scope.new_input::<Vec<u64>>();
///         let (probe, _) = records.inspect(|_| ()).probe(); // or `.async_wait(..)`
///         (input, probe)
///     });
///     let mut throttle = Throttle::new(&probe, 100);
///     for record in 0..10_000 {
///         throttle.wait(worker);
///         input.send(record);
///         throttle.fed(input.time(), 1);
///         if record % 10 == 9 {
///             input.advance_to(input.time() + 1);
///         }
///     }
/// });
/// ```
pub struct Throttle<T: Timestamp> {
    probe: probe::Handle<T>,
    limit: usize,
    /// Times that the probe has not passed, and the records that were fed at them.
    open: VecDeque<(T, usize)>,
    records: usize,
}

impl<T: Timestamp> Throttle<T> {
    /// Lets at most about `limit` records be in the dataflow that this worker has fed. A limit of 0 counts as 1.
    pub fn new(probe: &probe::Handle<T>, limit: usize) -> Self {
        Self { probe: probe.clone(), limit: limit.max(1), open: VecDeque::new(), records: 0 }
    }

    /// Counts records that were fed at a time.
    pub fn fed(&mut self, time: &T, records: usize) {
        self.records += records;
        match self.open.back_mut() {
            Some((last, count)) if last == time => *count += records,
            _ => self.open.push_back((time.clone(), records)),
        }
    }

    /// How many records may be fed now.
    pub fn room(&mut self) -> usize {
        while let Some((time, records)) = self.open.front()
            && !self.probe.less_equal(time)
        {
            self.records -= records;
            self.open.pop_front();
        }
        self.limit.saturating_sub(self.records)
    }

    /// Steps the worker until there is room; at least once, so that the dataflow goes on while a source feeds. The thread sleeps while
    /// there is nothing to do.
    pub fn wait(&mut self, worker: &mut Worker) {
        worker.step();
        while self.room() == 0 {
            worker.step_or_park(None);
        }
    }
}

impl<T: Timestamp> fmt::Debug for Throttle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("limit", &self.limit)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}
