//! A store that fails, tears and delays, and that has one owner.

use std::rc::Rc;

use inflight_core::pipeline;
use inflight_core::{Checkpoint, CheckpointId, CheckpointStore, LoadError, LoadedInto};

use crate::plan::Flaw;
use crate::process::Process;
use crate::source::Position;
use crate::world::{Refused, Slot};

pub(crate) struct Store {
    pub(crate) process: Rc<Process>,
}

/// Marks a save that has begun, until it ends or is dropped.
struct Saving<'a>(&'a Process);

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        self.0.is_saving.set(false);
    }
}

impl Store {
    /// May make the newest checkpoint unreadable. The medium never loses a committed checkpoint, nor all checkpoints:
    /// no pipeline could recover from that.
    fn decay(&self) {
        let world = &self.process.world;
        if !world.decays() {
            return;
        }
        let media = &mut *world.media.borrow_mut();
        let intact = media.slots.iter().filter(|slot| slot.is_intact()).count();
        let committed = media.committed;
        let newest = media.slots.iter_mut().rfind(|slot| slot.is_intact());
        if let Some(newest) = newest.filter(|slot| intact > 1 && Some(slot.id) > committed) {
            newest.is_lost = true;
        }
    }

    /// The slot of the checkpoint; while it is rewritten there is none.
    async fn rewrite_latest(&self) {
        let world = &self.process.world;
        let latest = world.media.borrow().slots.iter().rposition(|slot| slot.is_whole);
        let Some(latest) = latest else { return };
        world.media.borrow_mut().slots[latest].is_whole = false;
        self.process.step().await;
        world.media.borrow_mut().slots[latest].is_whole = true;
    }

    /// A step, after which only the latest owner goes on.
    async fn step(&self) -> Result<(), Refused> {
        self.process.step().await;
        let owner = self.process.world.media.borrow().owners;
        self.process.check_owner(owner, Flaw::SavesForAnyOwner)
    }

    async fn save_slot(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), Refused> {
        let process = Rc::clone(&self.process);
        let (world, plan) = (&process.world, process.plan());
        self.step().await?;
        let fails = world.fails(plan.save_fails);
        if fails && world.one_in(3) {
            return Err(Refused::For("nothing was written"));
        }
        // (A torn checkpoint has no readable number; an unreadable one may become readable again.)
        let is_behind = |slot: &Slot| slot.is_whole && slot.id >= id;
        let is_behind = world.media.borrow().slots.iter().any(is_behind);
        world.promise(!is_behind, "the numbers of checkpoints increase");
        let torn = bytes[..world.below(bytes.len())].to_vec();
        let (is_whole, is_lost) = (false, false);
        world.media.borrow_mut().slots.push(Slot { id, bytes: torn, is_whole, is_lost });
        let mut time = plan.save_time.as_nanos() as i64;
        if plan.flaw == Flaw::SavesTooLate {
            time += 10_000_000_000;
        }
        if time > 0 {
            process.runtime.sleep(time).await;
        }
        self.step().await?;
        if fails && world.one_in(2) {
            return Err(Refused::For("it is torn"));
        }
        if plan.flaw == Flaw::SavesTooLittle {
            return Ok(());
        }
        let slot = Slot { id, bytes: bytes.to_vec(), is_whole: true, is_lost };
        *world.media.borrow_mut().slots.last_mut().expect("it was just put in") = slot;
        process.step().await;
        if fails { Err(Refused::For("saved, but reported as failed")) } else { Ok(()) }
    }
}

impl CheckpointStore for Store {
    type Error = Refused;

    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), Refused> {
        let process = Rc::clone(&self.process);
        let is_alone = !process.is_saving.replace(true);
        process.world.promise(is_alone, "K12: one checkpoint is saved at a time");
        let saving = Saving(&process);
        let result = self.save_slot(id, bytes).await;
        drop(saving);
        if result.is_ok() {
            let checkpoint = Checkpoint::from_bytes(bytes).expect("the pipeline has made it");
            let position = pipeline::position::<Position>(&checkpoint);
            let position = position.expect("every checkpoint has a position");
            process.committed_position.set(position.next);
        }
        result
    }

    fn is_final(&self, error: &Refused) -> bool {
        *error == Refused::Fenced && self.process.plan().flaw != Flaw::CallsTheFenceAPassingError
    }

    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<Refused>> {
        let process = &self.process;
        let world = &process.world;
        process.step().await;
        if world.fails(world.plan.others_fail) {
            return Err(Refused::For("it cannot be read now").into());
        }
        if world.plan.flaw == Flaw::RewritesWhatItLoads {
            self.rewrite_latest().await;
        }
        if process.owner.get() == 0 {
            let owners = &mut world.media.borrow_mut().owners;
            *owners += 1;
            process.owner.set(*owners);
        }
        self.decay();
        let media = &mut *world.media.borrow_mut();
        if !media.slots.iter().any(|slot| slot.is_whole) {
            media.slots.clear(); // as if none was ever saved
        }
        let damaged = media.slots.iter().rev().take_while(|slot| !slot.is_intact()).count();
        let latest = media.slots.iter().rev().nth(damaged);
        if latest.is_none() && damaged > 0 {
            return Err(Refused::For("there were some, and none can be read").into());
        }
        let Some(slot) = latest else { return Ok(None) };
        let len = slot.bytes.len();
        let room = buffer.get_mut(..len).ok_or(LoadError::BufferTooSmall { needed: len })?;
        room.copy_from_slice(&slot.bytes);
        Ok(Some(LoadedInto { id: slot.id, len, damaged }))
    }
}
