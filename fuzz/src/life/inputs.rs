//! The input of the operator.

use inflight_core::{
    Barrier, Checkpoint, CheckpointError, CheckpointId, Instant, Status, StreamElement, Timestamp,
};

use super::{Input, Item, Life, Phase, Record, State};
use crate::format::NAME;
use crate::policy::Built;

impl<S: Built> Life<'_, '_, S> {
    pub(super) fn push_record(&mut self) {
        let what = self.bytes.byte();
        let key = u64::from(what % 3);
        let timestamp = (what & 128 != 0).then(|| self.event_time());
        let id = self.origin.records;
        let element = StreamElement::Record {
            value: Input(id),
            timestamp: timestamp.map(Timestamp::from_millis),
        };
        let (in_flight, backlog) = (self.op.in_flight(), self.backlog());
        let now = self.now();
        match self.op.push_with_key(now, key, element) {
            Ok(()) => {
                assert!(in_flight < self.capacity && self.phase == Phase::Open, "it does not fit");
                assert_eq!(backlog, 0, "others wait before it");
                self.origin.records += 1;
                self.counts.records_in += 1;
                self.items.push(Item::Record(Record {
                    id,
                    key,
                    timestamp,
                    on_time: timestamp.is_some() && timestamp > self.watermark_in,
                    request_id: None,
                    attempts: 0,
                    interrupted: 0,
                    started: None,
                    vague: false,
                    spent: 0,
                    state: State::Waiting,
                }));
            }
            Err(full) => {
                let StreamElement::Record { value, timestamp: back } = full.into_inner() else {
                    panic!("another element is handed back");
                };
                assert_eq!((value.0, back.map(Timestamp::as_millis)), (id, timestamp));
                let fits = in_flight < self.capacity && self.phase == Phase::Open;
                assert!(!fits || self.overfull, "there is room for it");
            }
        }
    }

    fn event_time(&mut self) -> i64 {
        match self.bytes.byte() {
            255 => self.watermark_in.unwrap_or(0), // just late
            time => i64::from(time) << 16,
        }
    }

    /// True if a control element should find room, if that is known.
    fn control_fits(&self) -> Option<bool> {
        let controls = self.items.iter().filter(|item| item.is_control()).count();
        match self.phase {
            Phase::Open if self.overfull => None,
            Phase::Open => Some(controls < self.capacity),
            _ => Some(false),
        }
    }

    pub(super) fn push_watermark(&mut self) {
        // All watermarks differ, so that the output shows which ones have merged.
        self.origin.watermarks += 1;
        let timestamp = (i64::from(self.bytes.byte()) << 16) + self.origin.watermarks;
        let fits = self.control_fits();
        let now = self.now();
        let pushed = self.op.push_with_key(
            now,
            0,
            StreamElement::Watermark(Timestamp::from_millis(timestamp)),
        );
        if pushed.is_ok() {
            self.watermark_in = self.watermark_in.max(Some(timestamp));
        }
        let last = self.items.last_mut();
        match (pushed, fits, last) {
            (Ok(()), Some(true), _) => {
                self.items.push(Item::Watermark { timestamp, may_have_merged: false });
            }
            (Ok(()), None, last) => {
                let may_have_merged = matches!(last, Some(Item::Watermark { .. }));
                self.items.push(Item::Watermark { timestamp, may_have_merged });
            }
            (Ok(()), Some(false), Some(Item::Watermark { timestamp: last, .. })) => {
                assert!(self.phase == Phase::Open, "it was to be refused");
                *last = timestamp.max(*last);
            }
            (Ok(()), Some(false), _) => panic!("a watermark has found room where there is none"),
            (Err(full), fits, last) => {
                assert_eq!(
                    full.into_inner(),
                    StreamElement::Watermark(Timestamp::from_millis(timestamp))
                );
                assert_ne!(fits, Some(true), "there is room for it");
                let merges = matches!(last, Some(Item::Watermark { .. })) && fits.is_some();
                assert!(!merges || self.phase != Phase::Open, "two adjacent watermarks merge");
            }
        }
    }

    pub(super) fn push_status(&mut self) {
        let status = if self.bytes.flag() { Status::Idle } else { Status::Active };
        let fits = self.control_fits();
        let now = self.now();
        let pushed = self.op.push_with_key(now, 0, StreamElement::Status(status));
        assert!(fits.is_none_or(|fits| fits == pushed.is_ok()));
        match pushed {
            Ok(()) => self.items.push(Item::Status(status)),
            Err(full) => assert_eq!(full.into_inner(), StreamElement::Status(status)),
        }
    }

    pub(super) fn push_drain(&mut self) {
        self.barriers += 1;
        let id = self.barriers;
        let limit = self.bytes.flag().then(|| self.bytes.duration());
        let mut barrier = Barrier::drain(Checkpoint::new(CheckpointId(id)));
        barrier.limit = limit;
        let fits = self.control_fits();
        let now = self.now();
        let pushed = self.op.push_with_key(now, 0, StreamElement::Barrier(barrier));
        assert!(fits.is_none_or(|fits| fits == pushed.is_ok()));
        match pushed {
            Ok(()) => {
                let fails_at =
                    limit.map(|limit| (Instant::from_nanos(self.clock) + limit).as_nanos());
                self.items.push(Item::Barrier { id, fails_at });
            }
            Err(full) => {
                let StreamElement::Barrier(back) = full.into_inner() else {
                    panic!("another element")
                };
                assert_eq!(back.checkpoint, Checkpoint::new(CheckpointId(id)), "it is unchanged");
            }
        }
    }

    pub(super) fn push_snapshot(&mut self) {
        self.barriers += 1;
        let id = self.barriers;
        let mut checkpoint = Checkpoint::new(CheckpointId(id));
        let taken = self.bytes.byte() == 255;
        if taken {
            checkpoint.put(NAME, b"").expect("an empty checkpoint takes a section");
        }
        let now = self.now();
        // An element of a failing job is leaving too, and then there is no room for another.
        match self.op.push_with_key(now, 0, StreamElement::Barrier(Barrier::snapshot(checkpoint))) {
            Ok(()) => {
                assert!(self.phase == Phase::Open);
                let Some(StreamElement::Barrier(mut barrier)) = self.op.poll_output() else {
                    panic!("it leaves at once");
                };
                assert_eq!(barrier.checkpoint.id(), CheckpointId(id));
                if taken {
                    assert_eq!(barrier.checkpoint.failure(), Err(CheckpointError::NameTaken));
                } else {
                    let saved = barrier.checkpoint.bytes().expect("it has not failed").to_vec();
                    let loaded = Checkpoint::from_bytes(&saved).expect("it has just been saved");
                    let section = loaded.section(NAME).expect("it has been through the stage");
                    self.keep(section.to_vec());
                }
            }
            Err(full) => {
                let StreamElement::Barrier(back) = full.into_inner() else {
                    panic!("another element")
                };
                assert_eq!(back.checkpoint.id(), CheckpointId(id));
            }
        }
    }
}
