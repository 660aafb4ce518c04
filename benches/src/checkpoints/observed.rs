//! The observations of a job on virtual time: when each record came and went, and when each checkpoint was committed.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::job::Keeps;

/// The notes of one job's source, sink and listener.
#[derive(Default)]
pub(super) struct Observed {
    /// When the source handed out each record.
    pub(super) taken: Vec<Duration>,
    /// The records that came out, in this order, and when the sink wrote them.
    pub(super) written: Vec<(u64, Duration)>,
    /// The source's position in the latest checkpoint that was committed.
    pub(super) acknowledged: u64,
    /// The number of records that the source had handed out when the sink pre-committed that checkpoint.
    pub(super) handed_out: u64,
    /// The number of records that the sink has committed.
    pub(super) committed: u64,
    pub(super) checkpoints: Vec<Committed>,
}

/// A checkpoint that was saved and committed.
#[derive(Clone, Copy)]
pub(super) struct Committed {
    at: Duration,
    /// Records that the source had handed out.
    taken: u64,
    /// Records that the sink had written.
    written: u64,
    pub(super) bytes: usize,
}

impl Committed {
    /// Records in flight in the checkpoint.
    pub(super) fn in_flight(&self) -> u64 {
        self.taken - self.written
    }
}

impl Observed {
    /// Has room for all records, so that noting them does not allocate.
    pub(super) fn new(records: u64) -> Rc<RefCell<Self>> {
        let records = records as usize;
        Rc::new(RefCell::new(Self {
            taken: Vec::with_capacity(records),
            written: Vec::with_capacity(records),
            acknowledged: 0,
            handed_out: 0,
            committed: 0,
            checkpoints: Vec::with_capacity(records),
        }))
    }

    /// Notes the checkpoint whose position was just acknowledged and whose output was just committed.
    pub(super) fn note_saved(&mut self, at: Duration, keeps: Keeps, bytes: usize) {
        let taken = match keeps {
            Keeps::Records => self.acknowledged,
            // The position is the one of the oldest record in flight.
            Keeps::Positions => self.handed_out,
        };
        let written = self.committed;
        self.checkpoints.push(Committed { at, taken, written, bytes });
    }

    /// Checks that each record came out once.
    pub(super) fn check_once(&self) -> Result<()> {
        let mut numbers: Vec<_> = self.written.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        let twice = numbers.windows(2).filter(|pair| pair[0] == pair[1]).count();
        ensure!(twice == 0, "{twice} records came out twice");
        let known = numbers.last().is_none_or(|last| *last < self.taken.len() as u64);
        ensure!(known, "a record came out that never went in");
        Ok(())
    }

    /// Checks that all records came out, once, and were committed.
    pub(super) fn check_all(&self, records: u64) -> Result<()> {
        self.check_once()?;
        let written = self.written.len() as u64;
        ensure!(written == records, "{written} of {records} records came out");
        ensure!(self.committed == records, "{} of {records} were committed", self.committed);
        Ok(())
    }

    /// The longest time from the instant at which a checkpoint was due until it was committed.
    ///
    /// A checkpoint is due an interval after the one before it was committed, and not before something has changed that the one
    /// before does not cover: a record has come from the source, or an outcome has come to the sink.
    pub(super) fn longest_wait(&self, interval: Duration) -> Option<Duration> {
        let waits = self.checkpoints.windows(2).filter_map(|pair| {
            let (before, this) = (pair[0], pair[1]);
            let taken = self.taken.get(before.taken as usize).copied();
            let written = self.written.get(before.written as usize).map(|(_, at)| *at);
            let changed = taken.into_iter().chain(written).min()?;
            Some(this.at.saturating_sub(changed.max(before.at + interval)))
        });
        waits.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Two records that came at 0 and left at 2 s, and checkpoints at these instants, each with the records taken and written.
    fn longest_wait(checkpoints: &[(u64, u64, u64)]) -> Option<Duration> {
        let checkpoints = checkpoints.iter().map(|(at, taken, written)| Committed {
            at: ms(*at),
            taken: *taken,
            written: *written,
            bytes: 0,
        });
        let observed = Observed {
            taken: vec![ms(0); 2],
            written: vec![(0, ms(2_000)), (1, ms(2_000))],
            checkpoints: checkpoints.collect(),
            ..Default::default()
        };
        observed.longest_wait(ms(100))
    }

    #[test]
    fn a_checkpoint_waits_from_the_interval_on() {
        assert_eq!(longest_wait(&[(0, 0, 0), (2_000, 2, 2)]), Some(ms(1_900)));
    }

    #[test]
    fn no_checkpoint_is_due_before_something_has_changed() {
        assert_eq!(longest_wait(&[(0, 0, 0), (100, 2, 0), (2_005, 2, 2)]), Some(ms(5)));
    }

    #[test]
    fn a_change_that_the_checkpoint_before_does_not_cover_counts_from_then_on() {
        assert_eq!(longest_wait(&[(0, 0, 0), (100, 1, 0), (2_000, 2, 2)]), Some(ms(1_800)));
    }

    #[test]
    fn a_record_that_comes_out_twice_or_never_is_noticed() {
        let of = |written: &[u64]| Observed {
            taken: vec![ms(0); 2],
            written: written.iter().map(|number| (*number, ms(0))).collect(),
            committed: 2,
            ..Default::default()
        };
        assert!(of(&[1, 0]).check_all(2).is_ok());
        for wrong in [&[0, 0][..], &[0], &[0, 1, 1], &[0, 7]] {
            assert!(of(wrong).check_all(2).is_err(), "{wrong:?}");
        }
    }
}
