//! The output of the operator, and its order.

use core::time::Duration;

use inflight_core::{Barrier, CheckpointError, CheckpointId, Outcome, StreamElement, Timestamp};

use super::{FAR, Input, Item, Life, Output, Record, State};
use crate::format::{NAME, Snapshot};
use crate::policy::{Built, Error, Order, Out};

impl<S: Built> Life<'_, '_, S> {
    pub(super) fn poll_output(&mut self) -> bool {
        let has_output = self.op.has_output();
        let Some(output) = self.op.poll_output() else {
            while self.items.first().is_some_and(|item| self.may_have_left(item))
                && !self.first_has_no_place()
            {
                self.items.remove(0);
            }
            self.check_nothing_to_hand_on();
            return false;
        };
        assert!(has_output || self.overfull, "it was not to be seen that something comes out");
        self.output(output);
        true
    }

    /// True if the first item is a restored record that still waits for its slot, as all items behind it do.
    fn first_has_no_place(&self) -> bool {
        let is_record = self.items.first().is_some_and(|item| !item.is_control());
        is_record && self.overfull && self.records().count() as u64 <= self.backlog()
    }

    fn output(&mut self, output: Output) {
        match output {
            StreamElement::Record { value, timestamp } => self.outcome(&value, timestamp),
            StreamElement::Watermark(timestamp) => self.watermark(timestamp.as_millis()),
            StreamElement::Status(status) => {
                let at = self.next_control();
                let same = matches!(self.items[at], Item::Status(inside) if inside == status);
                assert!(same, "{status:?} overtakes {:?}", self.items[at]);
                self.items.drain(..=at);
            }
            StreamElement::Barrier(barrier) => self.barrier(&barrier),
        }
    }

    fn outcome(&mut self, outcome: &Outcome<Input, Out, Error>, timestamp: Option<Timestamp>) {
        let at =
            self.find(outcome.input.0).expect("a record comes out once, and only if it went in");
        let Item::Record(record) = self.items.remove(at) else { unreachable!() };
        for item in &self.items[..at] {
            let may_stay = match item.record() {
                None => self.may_have_left(item),
                Some(earlier) => self.may_stay(earlier, &record),
            };
            assert!(may_stay, "{outcome:?} overtakes {item:?}");
        }
        // All control elements before it have left, including merged ones.
        let mut place = 0..;
        self.items.retain(|item| place.next() >= Some(at) || !item.is_control());
        let State::Done { answer, elapsed } = record.state else {
            panic!("it has no outcome: {record:?}");
        };
        assert_eq!(outcome.result, answer);
        assert_eq!(outcome.attempts, record.attempts);
        assert_eq!(timestamp.map(Timestamp::as_millis), record.timestamp);
        if let Some(elapsed) = elapsed.filter(|_| self.clock < FAR) {
            assert_eq!(outcome.elapsed, Duration::from_nanos(elapsed as u64));
        }
        let late = record.timestamp.is_some() && record.timestamp <= self.watermark_out;
        assert!(!(record.on_time && late), "{record:?} has become late");
        self.undecided.retain(|(_, id)| *id != record.id);
        self.counts.emitted += 1;
        if let Err(failure) = answer {
            self.counts.failed += 1;
            self.counts.timed_out += u64::from(failure.is_timeout());
        }
    }

    /// True if a record may leave while an earlier one stays.
    fn may_stay(&self, earlier: &Record, record: &Record) -> bool {
        earlier.state == State::Dropped
            || match self.policy.order {
                Order::Ordered => false,
                Order::Unordered => true,
                Order::Serial | Order::Overlapping => earlier.key != record.key,
            }
    }

    /// True if an item may have left without an element in the output.
    pub(super) fn may_have_left(&self, item: &Item) -> bool {
        match item {
            // It has merged with a watermark that has left.
            Item::Watermark { timestamp, may_have_merged } => {
                *may_have_merged && Some(*timestamp) <= self.watermark_out
            }
            item => item.is_silent(),
        }
    }

    /// The position of the control element that leaves next.
    fn next_control(&self) -> usize {
        let at = self.items.iter().position(|item| !self.may_have_left(item));
        let at = at.expect("something is inside");
        assert!(self.items[at].is_control(), "it overtakes {:?}", self.items[at]);
        at
    }

    fn watermark(&mut self, found: i64) {
        // A watermark that comes out has not merged.
        let unmerged = self.items.iter().take_while(|item| self.may_have_left(item)).position(
            |item| matches!(item, Item::Watermark { timestamp, .. } if *timestamp == found),
        );
        let at = unmerged.unwrap_or_else(|| {
            let mut at = self.next_control();
            let Item::Watermark { timestamp: mut highest, .. } = self.items[at] else {
                panic!("{found} overtakes {:?}", self.items[at]);
            };
            while highest < found {
                at += 1;
                let Some(Item::Watermark { timestamp, may_have_merged: true }) = self.items.get(at)
                else {
                    panic!("{found} comes out, {:?} are inside", self.items);
                };
                highest = highest.max(*timestamp);
            }
            assert_eq!(highest, found);
            at
        });
        self.items.drain(..=at);
        self.watermark_out = self.watermark_out.max(Some(found));
    }

    fn barrier(&mut self, barrier: &Barrier) {
        let CheckpointId(found) = barrier.checkpoint.id();
        let is_it = |item: &Item| matches!(item, Item::Barrier { id, .. } if *id == found);
        let at = self.items.iter().position(is_it).expect("a barrier comes out once");
        match barrier.checkpoint.failure() {
            Ok(()) => {
                assert_eq!(self.next_control(), at);
                self.items.drain(..=at);
                let section =
                    barrier.checkpoint.section(NAME).expect("it has been through the stage");
                let snapshot = Snapshot::read(section).expect("a snapshot can be read");
                assert!(snapshot.pieces.is_empty(), "nothing is in flight behind a drain");
            }
            Err(failure) => {
                assert_eq!(failure, CheckpointError::DrainTimedOut);
                let Item::Barrier { fails_at, .. } = self.items[at] else { unreachable!() };
                assert!(fails_at.is_some_and(|fails_at| fails_at <= self.clock), "too early");
                self.items[at] = Item::Gone;
            }
        }
    }

    /// If nothing comes out, no item may leave.
    fn check_nothing_to_hand_on(&self) {
        if self.overfull {
            return;
        }
        let mut before: Vec<&Record> = Vec::new();
        for item in &self.items {
            let Item::Record(record) = item else {
                return assert!(!before.is_empty(), "{item:?} may leave");
            };
            let blocked = before.iter().any(|earlier| !self.may_stay(earlier, record));
            assert!(blocked || !record.state.is_done(), "{record:?} may leave");
            before.push(record);
        }
    }
}
