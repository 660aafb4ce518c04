//! What the engine says, and what becomes of the partition.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use inflight_core::RetryStrategy;
use inflight_core::pipeline::Ended;

use super::{End, Running, Slot, State};
use crate::assignment::{Assignment, Change};
use crate::event::Event;
use crate::partition::Partition;
use crate::view::PartitionState;
use crate::watch::Watch;

/// A request id has 10 bits for the number of a partition (K17).
const MOST_PARTITIONS: u16 = 1_024;

impl<A, R, L, G, F, E> Running<A, R, L, G, F>
where
    A: Assignment,
    R: RetryStrategy<A::Partition, (), E>,
    L: FnMut(Event<'_, A::Partition>),
    G: Fn(Partition<A::Partition>) -> F,
    F: Future<Output = Result<Ended, E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    pub(super) fn change(&mut self, change: Change<A::Partition>) {
        self.has_changed = true;
        match change {
            // A worker that leaves takes nothing more.
            Change::Assigned(partition) if self.end.is_some() => self.revoked(partition),
            Change::Assigned(partition) => self.assigned(partition),
            Change::Revoked(partition) => self.revoked(partition),
            Change::Lost(partition) => self.lost(&partition),
            Change::Owner { partition, worker } => {
                self.shared.owners().insert(partition, worker);
            }
        }
    }

    fn assigned(&mut self, partition: A::Partition) {
        match self.slots.get_mut(&partition).map(|slot| &mut slot.state) {
            Some(State::Runs { .. } | State::Waits { .. }) => {}
            Some(State::HandsOver { starts_again, .. }) => *starts_again = true,
            Some(State::Finished) | None => {
                let number = self.assignment.number(&partition);
                if let Some(why) = self.why_not(number) {
                    return self.refuse(&partition, why);
                }
                let watch = Arc::new(Watch::new(number));
                self.shared.watches().insert(partition.clone(), Arc::clone(&watch));
                let state = self.begin_life(&partition, &watch);
                self.slots.insert(partition, Slot { state, watch, failures: 0 });
            }
        }
    }

    /// Why no partition can run with this number: a service would take its calls for those of another partition.
    fn why_not(&self, number: u16) -> Option<String> {
        if number >= MOST_PARTITIONS {
            return Some(format!(
                "number {number}: a job has at most {MOST_PARTITIONS} partitions"
            ));
        }
        let has_it = |slot: &Slot<F>| {
            slot.watch.number() == number && !matches!(slot.state, State::Finished)
        };
        let (other, _) = self.slots.iter().find(|(_, slot)| has_it(slot))?;
        Some(format!("number {number}: partition {other:?} has it too"))
    }

    /// That would fail again and again, so the job ends.
    fn refuse(&mut self, partition: &A::Partition, why: String) {
        self.assignment.released(partition);
        self.end_with(End::GaveUp { partition: format!("{partition:?}"), error: why.into() });
    }

    /// Hands a partition over and gives it back. Nothing is to be handed over while it waits to start again, or has no pipeline yet.
    fn revoked(&mut self, partition: A::Partition) {
        let until = self.now + self.hand_over_within;
        let Some(mut slot) = self.slots.remove(&partition) else {
            return self.assignment.released(&partition);
        };
        slot.state = match slot.state {
            State::Runs { life, .. } if slot.watch.hand_over() => {
                slot.watch.set_state(PartitionState::HandingOver);
                State::HandsOver { life, until, starts_again: false }
            }
            State::HandsOver { life, until, .. } => {
                State::HandsOver { life, until, starts_again: false }
            }
            State::Runs { life, .. } => {
                life.cut();
                self.tell(Event::HandedOver { partition: &partition });
                return self.give_back(&partition);
            }
            State::Waits { .. } => {
                self.tell(Event::HandedOver { partition: &partition });
                return self.give_back(&partition);
            }
            State::Finished => {
                self.assignment.released(&partition);
                State::Finished
            }
        };
        self.slots.insert(partition, slot);
    }

    /// Drops a partition at once. It is not given back, because it is not this worker's any more.
    fn lost(&mut self, partition: &A::Partition) {
        let is_here = |slot: &&mut Slot<F>| !matches!(slot.state, State::Finished);
        if self.slots.get_mut(partition).filter(is_here).is_none() {
            return;
        }
        if let Some(Slot {
            state: State::Runs { life, .. } | State::HandsOver { life, .. }, ..
        }) = self.slots.remove(partition)
        {
            life.cut();
        }
        self.shared.watches().remove(partition);
        self.tell(Event::Lost { partition });
    }

    /// The job ends, for the first of the reasons that there are: everything is handed over.
    pub(super) fn end_with(&mut self, end: End<A::Error>) {
        if self.end.is_some() {
            return;
        }
        (self.end, self.has_changed) = (Some(end), true);
        let is_live = |slot: &Slot<F>| !matches!(slot.state, State::Finished);
        let live = self.slots.iter().filter(|(_, slot)| is_live(slot));
        let live: Vec<_> = live.map(|(partition, _)| partition.clone()).collect();
        live.into_iter().for_each(|partition| self.revoked(partition));
    }
}
