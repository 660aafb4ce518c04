//! The stage pulls elements from its source.

use std::task::{Context, Poll, Waker};

use inflight_core::{Barrier, Checkpoint, CheckpointId, StreamElement, Timestamp};

use super::consumer::OnItsWay;
use super::{Inner, Life};
use crate::ledger::Passed;
use crate::model::{Control, Input, Overtaking, Saved};
use crate::run::Planned;
use crate::source::Offer;
use crate::values::Record;

/// What the source has, and how it is polled. It can be replayed.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    pub(crate) offers: Vec<Offer>,
    /// How many of them have been pulled.
    pub(crate) position: usize,
    /// Nothing more will be offered.
    pub(crate) ends: bool,
    /// And the stage knows.
    pub(crate) has_ended: bool,
    pub(crate) lives: bool,
    /// Whether the stage may poll it: it was woken, or the last poll gave something.
    is_woken: bool,
    waker: Option<Waker>,
}

impl Feed {
    pub(super) fn begin_life(&mut self) {
        (self.has_ended, self.lives, self.is_woken, self.waker) = (false, true, true, None);
    }

    pub(crate) fn offer(&mut self, offer: Offer) {
        self.offers.push(offer);
        self.wake();
    }

    pub(crate) fn end(&mut self) {
        self.ends = true;
        self.wake();
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            self.is_woken = true;
            waker.wake();
        }
    }

    /// Whether a poll would give something.
    pub(crate) fn is_ready(&self) -> bool {
        self.lives && (self.ends || self.offers[self.position..].iter().any(is_something))
    }

    fn next(&mut self) -> Option<Offer> {
        while let Some(offer) = self.offers.get_mut(self.position) {
            self.position += 1;
            let taken = *offer;
            // Barriers belong to the life that they were made in.
            if matches!(taken, Offer::SnapshotBarrier | Offer::DrainBarrier { .. } | Offer::Panic) {
                *offer = Offer::Nothing;
            }
            if is_something(&taken) {
                return Some(taken);
            }
        }
        None
    }
}

fn is_something(offer: &Offer) -> bool {
    *offer != Offer::Nothing
}

impl Inner {
    /// Whether there may be room for whatever comes (C2, C3, C4). What the consumer has not taken counts, too; of control
    /// elements that were handed over it is only said that they are bounded.
    fn may_have_room(&self) -> bool {
        let capacity = self.allowed().capacity;
        let controls = self.model.marks() + self.overtaking.len();
        let most = if self.is_exact() { capacity } else { 4 * self.plan.setup.max_capacity };
        self.model.records(self.may_be_out()) < capacity && controls < most
    }

    /// Whether there is room for whatever comes, whatever the stage has not yet noticed.
    pub(crate) fn has_room(&self) -> bool {
        let capacity = self.limits.capacity;
        // A barrier that overtakes waits for the consumer, and the next element may be another one.
        let is_free = self.overtaking.is_empty();
        is_free && self.model.in_flight() < capacity && self.model.controls() < capacity
    }

    pub(super) fn source_polled(
        &mut self,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<StreamElement<Record>, Planned>>> {
        self.works();
        self.give_slots();
        if self.model.has_backlog() {
            self.must_have_let_out();
        }
        if self.life != Life::Running {
            self.fail("the source is polled before the function is open (L4)");
        }
        if self.feed.has_ended || self.stopped {
            self.fail("the source is polled after its end");
        }
        if !self.feed.is_woken && self.plan.home.is_all_exact() {
            self.fail("the source is polled and was not woken (L6)");
        }
        if self.model.has_backlog() {
            self.fail("the source is polled before all restored elements have slots (K5)");
        }
        if !self.may_have_room() {
            self.fail("the source is polled without room (C2, C3, C4)");
        }
        let alive = Record::alive();
        if alive >= self.allowed().capacity as i64 {
            self.fail(format!("the source is polled with {alive} records inside (C2, C4)"));
        }
        match self.feed.next() {
            Some(Offer::Panic) => {
                self.tell(|| "the source panics".into());
                self.panicked = true;
                Poll::Ready(Some(Err(Planned)))
            }
            Some(offer) => Poll::Ready(Some(Ok(self.pulled(offer)))),
            None if self.feed.ends => {
                self.tell(|| "the source has ended".into());
                self.feed.has_ended = true;
                self.finishes();
                Poll::Ready(None)
            }
            None => {
                self.feed.is_woken = false;
                self.feed.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The stage takes no more input: because it was told to, if it was (L3).
    pub(super) fn source_dropped(&mut self) {
        self.feed.lives = false;
        if !self.is_over() {
            self.hears_stop();
        }
    }

    fn pulled(&mut self, offer: Offer) -> StreamElement<Record> {
        self.tell(|| format!("pulled: {offer:?}"));
        match offer {
            Offer::Record { key, timestamp } => self.pulled_record(key, timestamp),
            Offer::Watermark(by) => {
                let mark = self.ledger.time(by);
                self.control_goes_in(Control::Watermark(mark), None);
                StreamElement::Watermark(Timestamp::from_millis(mark))
            }
            Offer::Status(status) => {
                self.control_goes_in(Control::Status(status), None);
                StreamElement::Status(status)
            }
            Offer::SnapshotBarrier => {
                let checkpoint = self.new_checkpoint();
                let id = checkpoint.id().0;
                self.overtaking.push_back((Overtaking::Snapshot(id), self.model.events));
                self.ledger.snapshot_barrier_in();
                let now = self.now();
                let model = self.model.snapshot(now);
                let perhaps = self.model.perhaps_left(self.may_be_out());
                self.on_its_way(id, model, perhaps);
                StreamElement::Barrier(Barrier::snapshot(checkpoint))
            }
            Offer::DrainBarrier { limit } => {
                let checkpoint = self.new_checkpoint();
                let id = checkpoint.id().0;
                self.control_goes_in(Control::Drain(id), limit);
                let model = Saved { elements: Vec::new(), requests: self.model.requests() };
                self.on_its_way(id, model, Vec::new());
                let barrier = Barrier::drain(checkpoint);
                StreamElement::Barrier(match limit {
                    Some(millis) => barrier.within(std::time::Duration::from_millis(millis as u64)),
                    None => barrier,
                })
            }
            Offer::Panic | Offer::Nothing => unreachable!("it is no element"),
        }
    }

    fn pulled_record(&mut self, key: u32, by: Option<i64>) -> StreamElement<Record> {
        let (number, timestamp) = (self.ledger.next(), by.map(|by| self.ledger.time(by)));
        self.goes_in(Input::Record { number, key, timestamp });
        self.ledger.record_in(Passed { number, key, timestamp });
        let (value, timestamp) = (Record::new(number, key), timestamp.map(Timestamp::from_millis));
        StreamElement::Record { value, timestamp }
    }

    fn control_goes_in(&mut self, control: Control, limit: Option<i64>) {
        let limit = limit.map(|millis| millis * 1_000_000);
        self.goes_in(match (control, limit) {
            (Control::Drain(id), Some(limit)) => Input::DrainWithin { id, limit },
            _ => Input::Control(control),
        });
        self.ledger.control_in(control);
    }

    /// What is pulled has room: that was looked at.
    fn goes_in(&mut self, input: Input) {
        let (now, running) = (self.now(), self.allowed().running);
        self.model.change(usize::MAX, running);
        if !self.model.push(now, input) {
            self.fail(format!("pulled after the end: {input:?} (C4)"));
        }
    }

    /// K4: the source puts its position in.
    fn new_checkpoint(&mut self) -> Checkpoint {
        self.checkpoints += 1;
        let mut checkpoint = Checkpoint::new(CheckpointId(self.checkpoints));
        let position = (self.feed.position as u64).to_le_bytes();
        checkpoint.put("source", &position).expect("there is no such section");
        checkpoint
    }

    fn on_its_way(&mut self, id: u64, model: Saved, perhaps: Vec<u32>) {
        let (point, position) = (self.ledger.point(), self.feed.position);
        self.barriers.push(OnItsWay { id, model, perhaps, point, position });
    }
}
