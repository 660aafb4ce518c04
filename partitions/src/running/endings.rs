//! What becomes of a partition when a life of it has ended.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use inflight_core::pipeline::Ended;
use inflight_core::{AttemptInfo, Failure, RetryStrategy};

use super::{End, Running, Slot, State};
use crate::assignment::Assignment;
use crate::event::Event;
use crate::partition::Partition;
use crate::view::PartitionState;

/// A pipeline that has run for so long has not failed at its start: the count of its failures begins anew.
const RUNS_WELL: Duration = Duration::from_secs(60);

/// A partition whose pipeline was stopped by somebody else than the job starts again after this time.
const AFTER_A_STOP: Duration = Duration::from_secs(1);

impl<A, R, L, G, F, E> Running<A, R, L, G, F>
where
    A: Assignment,
    R: RetryStrategy<A::Partition, (), E>,
    L: FnMut(Event<'_, A::Partition>),
    G: Fn(Partition<A::Partition>) -> F,
    F: Future<Output = Result<Ended, E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    /// A life has ended.
    pub(super) fn life_ended(&mut self, partition: &A::Partition, result: Result<Ended, E>) {
        let Some(slot) = self.slots.remove(partition) else { return };
        self.has_changed = true;
        let slot = match (result, &slot.state) {
            (Ok(Ended::Finished), _) => self.finished(partition, slot),
            (Ok(_), State::HandsOver { .. }) => {
                self.tell(Event::HandedOver { partition });
                self.handed_over(partition, slot)
            }
            (Ok(_), _) => {
                self.tell(Event::Stopped { partition, retry_in: AFTER_A_STOP });
                Some(self.waits(slot, AFTER_A_STOP))
            }
            (Err(error), State::HandsOver { starts_again: false, .. }) => {
                self.tell_failure(partition, &slot, None, &*error.into());
                self.handed_over(partition, slot)
            }
            (Err(error), _) => self.failed(partition, slot, error),
        };
        if let Some(slot) = slot {
            self.slots.insert(partition.clone(), slot);
        }
    }

    /// The source has ended, and everything is committed. The partition stays to be seen.
    fn finished(&mut self, partition: &A::Partition, mut slot: Slot<F>) -> Option<Slot<F>> {
        slot.watch.set_state(PartitionState::Finished);
        self.tell(Event::Finished { partition });
        self.assignment.finished(partition);
        if let State::HandsOver { starts_again: false, .. } = slot.state {
            self.assignment.released(partition); // the engine waits for it
        }
        slot.state = State::Finished;
        Some(slot)
    }

    /// A hand-over has come to its end.
    fn handed_over(&mut self, partition: &A::Partition, mut slot: Slot<F>) -> Option<Slot<F>> {
        if let State::HandsOver { starts_again: true, .. } = slot.state {
            slot.state = self.begin_life(partition, &slot.watch);
            return Some(slot);
        }
        self.give_back(partition);
        None
    }

    /// The partition starts again after a while, as long as the engine says that it is this worker's; also one that was fenced, because
    /// the engine decides who has it (P4).
    fn failed(&mut self, partition: &A::Partition, mut slot: Slot<F>, error: E) -> Option<Slot<F>> {
        if let State::Runs { since, .. } = slot.state
            && self.now - since >= RUNS_WELL
        {
            slot.failures = 0;
        }
        let attempt = AttemptInfo {
            number: slot.failures.saturating_add(1),
            retry: slot.failures,
            request_id: u64::from(slot.watch.number()),
            time_left: None,
        };
        let result = Err(Failure::Error(error));
        let retry_in = self.restart.next_delay(attempt, partition, &result);
        let Err(Failure::Error(error)) = result else { return None }; // it is what it was
        let error = error.into();
        self.tell_failure(partition, &slot, retry_in, &*error);
        let Some(delay) = retry_in else {
            self.give_back(partition);
            self.end_with(End::GaveUp { partition: format!("{partition:?}"), error });
            return None;
        };
        slot.failures = slot.failures.saturating_add(1);
        Some(self.waits(slot, delay))
    }

    fn waits(&self, mut slot: Slot<F>, delay: Duration) -> Slot<F> {
        slot.watch.set_state(PartitionState::WaitingToRestart);
        slot.state = State::Waits { until: self.now + delay };
        slot
    }

    fn tell_failure(
        &mut self,
        partition: &A::Partition,
        slot: &Slot<F>,
        retry_in: Option<Duration>,
        error: &(dyn Error + 'static),
    ) {
        let is_fenced = slot.watch.is_fenced();
        self.tell(match is_fenced {
            true => Event::Fenced { partition, error, retry_in },
            false => Event::Failed { partition, error, retry_in },
        });
    }
}
