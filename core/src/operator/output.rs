//! How elements come out.

use core::time::Duration;

use super::Operator;
use super::call::{Call, OutcomeOf};
use super::order::QueuedControl;
use crate::element::{Status, StreamElement};
use crate::outcome::Outcome;
use crate::storage::{Queue as _, Storage};
use crate::time::Timestamp;

/// An outcome, and the timestamp of its record.
pub(super) type Emitted<C> = (OutcomeOf<C>, Option<Timestamp>);

/// The last watermark that has left, and whether the stream was idle then.
pub(super) struct EventTime {
    pub(super) watermark: Option<Timestamp>,
    pub(super) idle: bool,
}

impl<C: Call, S: Storage> Operator<C, S> {
    /// The next element to hand on, if there is one.
    ///
    /// An element that leaves makes room for a record that a restore has brought, so ask
    /// [`poll_attempt`](Self::poll_attempt) again afterwards, also when the answer was `None`.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn poll_output(&mut self) -> Option<StreamElement<OutcomeOf<C>>> {
        // Without a heap, flash counts for more than speed: then the records go the longer way, too.
        if cfg!(feature = "alloc")
            && let Some((value, timestamp)) = self.poll_record()
        {
            return Some(StreamElement::Record { value, timestamp });
        }
        self.poll_rare_output()
    }

    /// The next output if it is a record and nothing less frequent comes before it: the short form of
    /// [`poll_output`](Self::poll_output), which has to be asked when the answer is `None`.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn poll_record(&mut self) -> Option<(OutcomeOf<C>, Option<Timestamp>)> {
        // Both are rare: an overtaking element leaves first, and restored elements get slots before the next output leaves.
        if self.overtaking.is_some() || self.backlog.len() > 0 {
            return None;
        }
        let slot = self.order.pop_record(self.records.slots())?;
        self.take_record(slot)
    }

    #[cfg_attr(feature = "alloc", inline(never))] // leaves `poll_output` small enough to be inlined
    fn poll_rare_output(&mut self) -> Option<StreamElement<OutcomeOf<C>>> {
        if self.overtaking.is_some() {
            return self.poll_overtaking();
        }
        if self.backlog.len() > 0 {
            self.admit_backlog();
            if self.overtaking.is_some() {
                return self.poll_overtaking(); // a restored failure that ends the job (F6)
            }
        }
        loop {
            if let Some(slot) = self.order.pop_record(self.records.slots()) {
                match self.take_record(slot) {
                    Some((value, timestamp)) => {
                        return Some(StreamElement::Record { value, timestamp });
                    }
                    None => continue, // it was dropped
                }
            }
            match self.order.pop_control()? {
                QueuedControl::Failed => {} // the barrier has left already
                control => return self.emit_control(control),
            }
        }
    }

    /// Whether [`poll_output`](Self::poll_output) has something to give or to discard: also a record that was
    /// dropped, or the position of a barrier that has failed. It may have one more if [restored elements
    /// wait](Self::has_backlog) for a slot; [`room`](Self::room) gives them theirs.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn has_output(&self) -> bool {
        self.overtaking.is_some() || self.order.has_output(self.records.all())
    }

    /// In an ordered operator, the slot of the record that leaves next, whether its call is done or not; `None` in another order, or
    /// if nothing is in flight. A caller that polls this record's request first completes fewer calls whose outcomes have to wait.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn head_slot(&self) -> Option<usize> {
        self.order.head().map(|slot| slot as usize)
    }

    /// Takes a record out: its input goes back to the caller (E2). `None` if it was dropped.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn take_record(&mut self, slot: u32) -> Option<Emitted<C>> {
        let now = self.now;
        let record = self.records.vacate(slot);
        let (attempts, timestamp) = (record.attempts(), record.timestamp());
        self.counters.ordering_delay.record_span(now.passed_since(record.done_at()));
        let elapsed = Duration::from(record.spent());
        let contents = record.take();
        if self.counters.is_full() && self.records.len() < self.limits.capacity {
            self.counters.not_full(now);
        }
        let (Some(input), Some(result)) = contents else {
            self.counters.dropped += 1;
            return None;
        };
        self.counters.emitted += 1;
        Some((Outcome { input, result, attempts, elapsed }, timestamp))
    }

    /// A control element leaves.
    pub(super) fn emit_control(
        &mut self,
        control: QueuedControl,
    ) -> Option<StreamElement<OutcomeOf<C>>> {
        match &control {
            QueuedControl::Watermark(timestamp) => self.event_time.watermark = Some(*timestamp),
            QueuedControl::Status(status) => self.event_time.idle = *status == Status::Idle,
            QueuedControl::Barrier(..) | QueuedControl::Failed => {}
        }
        control.into_element()
    }
}
