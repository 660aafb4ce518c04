//! What leaves the operator.

use core::time::Duration;

use super::Operator;
use super::order::Control;
use crate::element::{Status, StreamElement};
use crate::outcome::Outcome;
use crate::retry::RetryStrategy;
use crate::storage::{Queue as _, Storage};
use crate::time::Timestamp;

impl<In, Out, E, R, S, K> Operator<In, Out, E, R, S, K>
where
    R: RetryStrategy<In, Out, E>,
    S: Storage,
{
    /// The next element to hand on, if there is one.
    ///
    /// What leaves makes room for what a restore has brought, so ask
    /// [`poll_attempt`](Self::poll_attempt) again afterwards, also when the answer was `None`.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn poll_output(&mut self) -> Option<StreamElement<Outcome<In, Out, E>>> {
        if self.overtaking.is_some() {
            return self.poll_overtaking();
        }
        if self.backlog.len() > 0 {
            self.admit_backlog();
            if self.overtaking.is_some() {
                return self.poll_overtaking(); // a failure that was kept, and ends the job
            }
        }
        loop {
            if let Some(index) = self.queue.pop_call(self.calls.slots()) {
                match self.take_record(index) {
                    Some((value, timestamp)) => {
                        return Some(StreamElement::Record { value, timestamp });
                    }
                    None => continue,
                }
            }
            match self.queue.pop_control()? {
                Control::Failed => {}
                control => return self.hand_on(control),
            }
        }
    }

    /// The next element, if that is a record, and nothing that happens seldom comes first: what
    /// [`poll_output`](Self::poll_output) gives most of the time.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn poll_record(&mut self) -> Option<(Outcome<In, Out, E>, Option<Timestamp>)> {
        if self.overtaking.is_some() || self.backlog.len() > 0 {
            return None;
        }
        let index = self.queue.pop_call(self.calls.slots())?;
        self.take_record(index)
    }

    /// A record leaves; `None` if it was dropped.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn take_record(
        &mut self,
        index: u32,
    ) -> Option<(Outcome<In, Out, E>, Option<Timestamp>)> {
        let now = self.now;
        let slot = self.calls.vacate(index);
        let (attempts, timestamp) = (slot.attempts, slot.timestamp());
        let done = slot.started.plus(slot.spent);
        self.counters.ordering_delay.record_span(now.passed_since(done));
        let elapsed = Duration::from(slot.spent);
        let content = (slot.input.take(), slot.result.take());
        if self.counters.is_full() && self.calls.len() < self.limits.capacity {
            self.counters.not_full(now);
        }
        let (Some(input), Some(result)) = content else {
            self.counters.dropped += 1;
            return None;
        };
        self.counters.emitted += 1;
        Some((Outcome { input, result, attempts, elapsed }, timestamp))
    }

    /// A control element leaves.
    pub(super) fn hand_on(
        &mut self,
        control: Control,
    ) -> Option<StreamElement<Outcome<In, Out, E>>> {
        match &control {
            Control::Watermark(timestamp) => self.watermark = Some(*timestamp),
            Control::Status(status) => self.idle = *status == Status::Idle,
            Control::Barrier(..) | Control::Failed => {}
        }
        control.into_element()
    }
}
