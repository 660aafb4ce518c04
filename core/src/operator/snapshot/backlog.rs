//! Restored elements: they get slots in their order, before any new input (K5).

use super::format::{Progress, SavedCall};
use crate::operator::Operator;
use crate::operator::call::{Call, ResultOf};
use crate::operator::ending::Phase;
use crate::operator::order::QueuedControl;
use crate::outcome::Failure;
use crate::storage::{Queue as _, Storage};
use crate::time::Span;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use crate::time::Timestamp;

/// A restored element.
pub(in crate::operator) enum Saved<In, Out, E> {
    /// A record, and its result if that was kept.
    Record(In, SavedCall, Option<Result<Out, Failure<E>>>),
    Control(QueuedControl),
}

/// A restored element of the types `C`.
pub(super) type SavedOf<C> = Saved<<C as Call>::Input, <C as Call>::Output, <C as Call>::Error>;

impl<C: Call, S: Storage> Operator<C, S> {
    #[cold]
    pub(in crate::operator) fn admit_backlog(&mut self) {
        while let Some(saved) = self.backlog.pop_front() {
            if let Err(saved) = self.admit_saved(saved) {
                let _ = self.backlog.push_front(saved); // it came out of there a moment ago
                return;
            }
        }
    }

    /// Gives a slot to a restored element, or hands it back when there is none.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn admit_saved(&mut self, saved: SavedOf<C>) -> Result<(), SavedOf<C>> {
        match saved {
            Saved::Record(input, call, result) if self.has_room_for_record() => {
                let Some(slot) = self.records.vacant() else {
                    return Err(Saved::Record(input, call, result));
                };
                let may_start =
                    self.place(slot, (input, call.timestamp), call.request_id, call.key);
                self.go_on(slot, may_start, call, result);
                Ok(())
            }
            // A stream of plain values has no consumer for it.
            Saved::Control(_) if !S::HOLDS_CONTROLS => Ok(()),
            Saved::Control(control) => {
                self.order.push_control(control, self.limits.capacity).map_err(Saved::Control)?;
                self.cut_off_batch();
                Ok(())
            }
            saved => Err(saved),
        }
    }

    /// Goes on with a call where it was when the snapshot was taken.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn go_on(&mut self, slot: u32, may_start: bool, saved: SavedCall, result: Option<ResultOf<C>>) {
        let (now, waiting_now) = (self.now, self.waiting_now());
        let record = self.records.at(slot);
        record.queue(&mut self.counters);
        record.restore(saved.attempts, saved.interrupted, Span::from_nanos(saved.spent));
        match saved.progress {
            Progress::Done | Progress::Dropped => {
                record.restore_done(now, result, &mut self.counters);
                self.call_done(slot);
                let _ = self.check_failure(slot);
            }
            Progress::Backoff(rest) if self.ending.phase != Phase::LastAttempts => {
                let until = now.plus(Span::from_nanos(rest));
                record.restore_backoff(waiting_now, until, &mut self.counters);
                self.set_backoff_deadline(slot, until);
            }
            Progress::Waiting | Progress::Backoff(_) if may_start => {
                self.enqueue(slot);
            }
            Progress::Waiting | Progress::Backoff(_) => {}
        }
        self.end_if_over(slot);
    }
}

#[cfg(all(feature = "alloc", feature = "checkpoint"))]
impl SavedCall {
    /// The call of a new record, which no attempt was made for.
    pub(in crate::operator) const fn new(
        timestamp: Option<Timestamp>,
        request_id: u64,
        key: u64,
    ) -> Self {
        let progress = Progress::Waiting;
        Self { timestamp, request_id, key, attempts: 0, interrupted: 0, spent: 0, progress }
    }
}
