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
    /// Where it stands: in between there is none.
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
        let taken = {
            let slots = &world.media.borrow().slots;
            let newest = slots.iter().filter(|slot| slot.is_whole).map(|slot| slot.id.0).max();
            // Torn ones do not say what numbers they had, but each had one.
            newest
                .map(|id| id + slots.iter().rev().take_while(|slot| !slot.is_whole).count() as u64)
        };
        let increases = taken.is_none_or(|taken| taken < id.0);
        world.promise(increases, "the numbers of checkpoints increase, those of torn ones too");
        let torn = bytes[..world.below(bytes.len())].to_vec();
        world.media.borrow_mut().slots.push(Slot { id, bytes: torn, is_whole: false });
        world.step(runtime).await;
        if fails && world.one_in(2) {
            return Err(Refused("it is torn"));
        }
        if world.plan.flaw == Flaw::SavesTooLittle {
            return Ok(());
        }
        let slot = Slot { id, bytes: bytes.to_vec(), is_whole: true };
        *world.media.borrow_mut().slots.last_mut().expect("it was just put in") = slot;
        world.step(runtime).await;
        if fails { Err(Refused("it is there, and nobody knows")) } else { Ok(()) }
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
        let media = &mut *world.media.borrow_mut();
        if !media.slots.iter().any(|slot| slot.is_whole) {
            media.slots.clear(); // none was ever saved
        }
        let damaged = media.slots.iter().rev().take_while(|slot| !slot.is_whole).count();
        let latest = media.slots.iter().rev().nth(damaged);
        let Some(slot) = latest else { return Ok(None) };
        let len = slot.bytes.len();
        let room = buffer.get_mut(..len).ok_or(LoadError::BufferTooSmall { needed: len })?;
        room.copy_from_slice(&slot.bytes);
        Ok(Some(LoadedInto { id: slot.id, len, damaged }))
    }
}
