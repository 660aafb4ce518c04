//! A store that fails, tears and delays.

use std::rc::Rc;

use inflight_core::{CheckpointId, CheckpointStore, LoadError, LoadedInto};

use crate::executor::Virtual;
use crate::plan::Flaw;
use crate::world::{Refused, Slot, World};

pub(crate) struct Store {
    pub(crate) world: Rc<World>,
    pub(crate) runtime: Virtual,
}

impl Store {
    /// May make the newest checkpoint unreadable. The medium never loses a committed checkpoint, nor all checkpoints:
    /// no pipeline could recover from that.
    fn decay(&self) {
        if !self.world.fails(self.world.plan.decays) {
            return;
        }
        let media = &mut *self.world.media.borrow_mut();
        let intact = media.slots.iter().filter(|slot| slot.is_intact()).count();
        let committed = media.committed;
        let newest = media.slots.iter_mut().rfind(|slot| slot.is_intact());
        if let Some(newest) = newest.filter(|slot| intact > 1 && Some(slot.id) > committed) {
            newest.is_lost = true;
        }
    }

    /// The slot of the checkpoint; while it is rewritten there is none.
    async fn rewrite_latest(&self) {
        let latest = self.world.media.borrow().slots.iter().rposition(|slot| slot.is_whole);
        let Some(latest) = latest else { return };
        self.world.media.borrow_mut().slots[latest].is_whole = false;
        self.world.step(&self.runtime).await;
        self.world.media.borrow_mut().slots[latest].is_whole = true;
    }
}

impl CheckpointStore for Store {
    type Error = Refused;

    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), Refused> {
        let (world, runtime) = (&self.world, &self.runtime);
        world.step(runtime).await;
        let fails = world.fails(world.plan.save_fails);
        if fails && world.one_in(3) {
            return Err(Refused("nothing was written"));
        }
        // (A torn checkpoint has no readable number; an unreadable one may become readable again.)
        let is_behind = |slot: &Slot| slot.is_whole && slot.id >= id;
        let is_behind = world.media.borrow().slots.iter().any(is_behind);
        world.promise(!is_behind, "the numbers of checkpoints increase");
        let torn = bytes[..world.below(bytes.len())].to_vec();
        world.media.borrow_mut().slots.push(Slot {
            id,
            bytes: torn,
            is_whole: false,
            is_lost: false,
        });
        world.step(runtime).await;
        if fails && world.one_in(2) {
            return Err(Refused("it is torn"));
        }
        if world.plan.flaw == Flaw::SavesTooLittle {
            return Ok(());
        }
        let slot = Slot { id, bytes: bytes.to_vec(), is_whole: true, is_lost: false };
        *world.media.borrow_mut().slots.last_mut().expect("it was just put in") = slot;
        world.step(runtime).await;
        if fails { Err(Refused("saved, but reported as failed")) } else { Ok(()) }
    }

    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<Refused>> {
        let (world, runtime) = (&self.world, &self.runtime);
        world.step(runtime).await;
        if world.fails(world.plan.others_fail) {
            return Err(Refused("it cannot be read now").into());
        }
        if world.plan.flaw == Flaw::RewritesWhatItLoads {
            self.rewrite_latest().await;
        }
        self.decay();
        let media = &mut *world.media.borrow_mut();
        if !media.slots.iter().any(|slot| slot.is_whole) {
            media.slots.clear(); // as if none was ever saved
        }
        let damaged = media.slots.iter().rev().take_while(|slot| !slot.is_intact()).count();
        let latest = media.slots.iter().rev().nth(damaged);
        if latest.is_none() && damaged > 0 {
            return Err(Refused("there were some, and none can be read").into());
        }
        let Some(slot) = latest else { return Ok(None) };
        let len = slot.bytes.len();
        let room = buffer.get_mut(..len).ok_or(LoadError::BufferTooSmall { needed: len })?;
        room.copy_from_slice(&slot.bytes);
        Ok(Some(LoadedInto { id: slot.id, len, damaged }))
    }
}
