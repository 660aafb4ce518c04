//! Snapshots: their content, and lives that begin with one.

use inflight_core::{Checkpoint, CheckpointId, Failure, Heap, Instant, RestoreError, Status};

use super::{FAR, Input, Item, Life, Phase, Record, Restart, State};
use crate::format::{self, Call, Entry, NAME, Piece, Progress, Snapshot};
use crate::policy::Built;

/// A snapshot, and the content of the operator at that time.
#[derive(Clone)]
pub(super) struct Saved {
    section: Vec<u8>,
    items: Vec<Item>,
    watermark_in: Option<i64>,
    watermark_out: Option<i64>,
}

impl<S: Built> Life<'_, '_, S> {
    pub(super) fn snapshot(&mut self) {
        let now = self.now();
        let section = self.section(now);
        assert_eq!(section, self.section(now));
        self.keep(section);
    }

    fn section(&mut self, now: Instant) -> Vec<u8> {
        let mut checkpoint = Checkpoint::new(CheckpointId(0));
        self.op.snapshot(now, &mut checkpoint).expect("it is possible at any moment");
        checkpoint.section(NAME).expect("the section that was put").to_vec()
    }

    /// Checks a snapshot against the content of the operator, and keeps it for another life.
    pub(super) fn keep(&mut self, section: Vec<u8>) {
        let snapshot = Snapshot::read(&section).expect("a snapshot can be read");
        let mut items = Vec::new();
        let mut inside = self.items.iter().peekable();
        for piece in &snapshot.pieces {
            while inside.next_if(|item| self.may_be_missing_before(item, piece)).is_some() {}
            let item = inside.next().unwrap_or_else(|| panic!("{piece:?} is not inside"));
            items.push(match (item, piece.entry) {
                (Item::Record(record), Entry::Record(call)) => {
                    assert_eq!(format::from_bytes(&piece.input), Some(Input(record.id)));
                    Item::Record(self.saved_record(record, call, &piece.result))
                }
                (Item::Watermark { timestamp, .. }, Entry::Watermark(found)) => {
                    let mut highest = *timestamp;
                    while highest < found {
                        match inside.next() {
                            Some(Item::Watermark { timestamp, may_have_merged: true }) => {
                                highest = highest.max(*timestamp);
                            }
                            other => panic!("{found} is saved, {item:?}, {other:?} are inside"),
                        }
                    }
                    assert_eq!(highest, found);
                    Item::Watermark { timestamp: found, may_have_merged: false }
                }
                (Item::Status(Status::Idle), Entry::Idle) => item.clone(),
                (Item::Status(Status::Active), Entry::Active) => item.clone(),
                other => panic!("another one is inside: {other:?}"),
            });
        }
        for item in inside {
            let merged = matches!(item, Item::Watermark { may_have_merged: true, .. });
            let unsaved = item.is_silent() || merged || matches!(item, Item::Barrier { .. });
            assert!(unsaved, "{item:?} is missing in {snapshot:?}");
        }
        let (watermark_in, watermark_out) = (self.watermark_in, self.watermark_out);
        self.origin.saved = Some(Saved { section, items, watermark_in, watermark_out });
    }

    /// True if a snapshot may continue with `piece` although `item` is in the operator.
    fn may_be_missing_before(&self, item: &Item, piece: &Piece) -> bool {
        match item {
            Item::Gone | Item::Barrier { .. } => true,
            Item::Status(_) => false,
            Item::Record(record) => {
                let saved = piece.call().and_then(|_| format::from_bytes(&piece.input));
                record.state == State::Dropped && saved != Some(Input(record.id))
            }
            Item::Watermark { timestamp, may_have_merged } => {
                *may_have_merged
                    && match piece.entry {
                        Entry::Watermark(found) => found != *timestamp && self.may_have_left(item),
                        _ => true,
                    }
            }
        }
    }

    /// Checks the saved state of a record, and returns the record as a restore should bring it.
    fn saved_record(&self, record: &Record, call: Call, result: &[u8]) -> Record {
        let mut saved = record.clone();
        assert_eq!((call.key, call.timestamp), (record.key, record.timestamp));
        assert_eq!(*saved.request_id.get_or_insert(call.request_id), call.request_id);
        saved.vague = false;
        saved.started = None;
        if let Some(started) = record.started {
            saved.spent = self.clock.saturating_sub(started);
        }
        let kept = self.policy.keeping_results;
        match (&record.state, call.progress) {
            (State::Waiting, Progress::Waiting) => {}
            (State::Running { .. }, Progress::Waiting) => {
                saved.state = State::Waiting;
                saved.interrupted += 1;
            }
            (State::Backoff, Progress::Backoff(_)) => {}
            // Its backoff is over.
            (State::Backoff, Progress::Waiting) => saved.state = State::Waiting,
            (State::Done { answer, elapsed }, Progress::Done) => {
                assert!(kept);
                assert_eq!(format::from_bytes(result), Some(*answer));
                saved.spent = elapsed.unwrap_or(call.spent as i64);
            }
            (State::Dropped, Progress::Dropped) => {
                assert!(kept || self.overfull);
                saved.spent = call.spent as i64;
            }
            // A record without a slot is unchanged, though it will not wait for its backoff here.
            (State::Waiting, Progress::Backoff(_))
                if self.overfull && self.phase == Phase::LastAttempts =>
            {
                saved.state = State::Backoff;
            }
            // To be called anew.
            (State::Done { .. } | State::Dropped, Progress::Waiting) if !kept => {
                saved.state = State::Waiting;
                (saved.attempts, saved.interrupted, saved.spent) = (0, 0, 0);
            }
            // A record that had no slot when the operator was shut down is unchanged.
            (State::Done { answer: Err(Failure::ShutDown), .. }, progress) if self.overfull => {
                (saved.attempts, saved.interrupted) = (call.attempts, call.interrupted);
                saved.spent = call.spent as i64;
                saved.state = match progress {
                    Progress::Backoff(_) => State::Backoff,
                    _ => State::Waiting,
                };
            }
            other => panic!("{other:?}"),
        }
        if self.overfull && self.phase == Phase::ShutDown && saved.state == State::Waiting {
            (saved.attempts, saved.interrupted) = (call.attempts, call.interrupted);
            saved.spent = call.spent as i64;
        }
        if record.vague {
            saved.spent = call.spent as i64;
        }
        assert_eq!((call.attempts, call.interrupted), (saved.attempts, saved.interrupted));
        assert!(self.clock >= FAR || call.spent == saved.spent as u64, "{record:?} as {call:?}");
        saved.spent = call.spent as i64;
        saved
    }

    /// Ends this life, if there is a snapshot for another one.
    pub(super) fn crash(&mut self) -> Option<Restart> {
        self.origin.saved.as_ref()?;
        let mut origin = core::mem::take(&mut self.origin);
        origin.stale.extend(self.running().map(|(_, id, _)| id));
        let mut policy = self.policy;
        let what = self.bytes.byte();
        let fixed = what & 1 != 0;
        policy.max_capacity = if fixed { 8 } else { Heap::MOST };
        policy.capacity = 1 + self.bytes.below(policy.max_capacity);
        policy.keeping_results ^= what & 6 == 6;
        Some(Restart { policy, fixed, origin })
    }

    pub(super) fn restore(&mut self, saved: Saved) {
        let checkpoint = format::checkpoint(&saved.section);
        let records = saved.items.iter().filter(|item| !item.is_control()).count();
        let found = records.max(saved.items.len() - records);
        let now = self.now();
        let restored = self.op.restore(now, &checkpoint);
        if !S::BACKLOG && found > self.capacity {
            let (found, room) = (found as u64, self.capacity as u64);
            assert_eq!(restored, Err(RestoreError::TooMany { found, room }));
            return assert!(self.op.is_empty()); // and continues with nothing
        }
        assert_eq!(restored, Ok(()));
        self.overfull = found > self.capacity;
        (self.watermark_in, self.watermark_out) = (saved.watermark_in, saved.watermark_out);
        self.check_same_again(&saved.section);

        let mut behind_watermark = false;
        for mut item in saved.items {
            if let Item::Watermark { may_have_merged, .. } = &mut item {
                *may_have_merged = behind_watermark && self.overfull;
            }
            behind_watermark = matches!(item, Item::Watermark { .. });
            if let Item::Record(record) = &mut item {
                self.counts.records_in += 1;
                self.counts.dropped_or_will_be += u64::from(record.state == State::Dropped);
                self.restored(record);
            }
            self.items.push(item);
        }
    }

    /// The expected state of a restored record.
    fn restored(&self, record: &mut Record) {
        match record.state {
            State::Done { .. } if !self.policy.keeping_results => {
                record.state = State::Waiting;
                (record.attempts, record.interrupted, record.spent) = (0, 0, 0);
            }
            State::Backoff if self.phase == Phase::LastAttempts => record.state = State::Waiting,
            State::Backoff if self.overfull => record.vague = true,
            State::Backoff => record.started = Some(self.clock.saturating_sub(record.spent)),
            _ => {}
        }
        if self.phase == Phase::ShutDown && !record.state.is_over() {
            record.state = State::Done { answer: Err(Failure::ShutDown), elapsed: None };
        }
    }

    /// A restored record in the same state is saved in the same way.
    fn check_same_again(&mut self, section: &[u8]) {
        let snapshot = Snapshot::read(section).expect("it has been read before");
        let goes_on = |call: Call| match call.progress {
            Progress::Done => self.policy.keeping_results,
            Progress::Dropped => self.policy.keeping_results,
            Progress::Backoff(_) => self.phase != Phase::LastAttempts,
            Progress::Waiting => true,
        };
        let is_far = |call: Call| {
            let rest = if let Progress::Backoff(rest) = call.progress { rest } else { 0 };
            call.spent.max(rest) >= FAR as u64
        };
        let far = self.clock >= FAR || snapshot.records().any(|(call, _)| is_far(call));
        let all = snapshot.records().all(|(call, _)| goes_on(call));
        if all && !far && !self.overfull && self.phase != Phase::ShutDown {
            let again = self.section(Instant::ZERO);
            assert_eq!(Snapshot::read(&again), Some(snapshot));
            assert_eq!(again, section);
        }
    }
}
