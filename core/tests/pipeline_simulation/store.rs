//! A store that fails, tears and delays.

use std::rc::Rc;

use inflight_core::{CheckpointId, CheckpointStore, Loaded};

use crate::executor::Virtual;
use crate::plan::Flaw;
use crate::world::{Refused, Slot, World};

pub(crate) struct Store {
    pub(crate) world: Rc<World>,
    pub(crate) runtime: Virtual,
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
        // (A torn one does not say what number it had.)
        let is_behind = |slot: &Slot| slot.is_whole && slot.id >= id;
        let is_behind = world.media.borrow().slots.iter().any(is_behind);
        world.promise(!is_behind, "the numbers of checkpoints increase");
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

    async fn load_latest(&mut self) -> Result<Option<Loaded>, Refused> {
        let (world, runtime) = (&self.world, &self.runtime);
        world.step(runtime).await;
        if world.fails(world.plan.others_fail) {
            return Err(Refused("it cannot be read now"));
        }
        let media = &mut *world.media.borrow_mut();
        if !media.slots.iter().any(|slot| slot.is_whole) {
            media.slots.clear(); // none was ever saved
        }
        let damaged = media.slots.iter().rev().take_while(|slot| !slot.is_whole).count();
        let latest = media.slots.iter().rev().nth(damaged);
        Ok(latest.map(|slot| Loaded { id: slot.id, bytes: slot.bytes.clone(), damaged }))
    }
}
