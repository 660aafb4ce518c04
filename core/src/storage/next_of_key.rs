//! The next record of the same key, where the order of the outputs is another one (O7).

use super::{NONE, Storage, Table};

/// For each slot, the slot of the next record of the same key.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait NextOfKey {
    const EMPTY: Self;
    fn set(&mut self, slot: u32, next: u32);
    /// [`NONE`] if there is none.
    fn get(&self, slot: u32) -> u32;
}

/// The order of the outputs knows it already.
#[allow(unreachable_pub, missing_debug_implementations)]
pub struct NoNext;

impl NextOfKey for NoNext {
    const EMPTY: Self = Self;
    fn set(&mut self, _: u32, _: u32) {}
    fn get(&self, _: u32) -> u32 {
        NONE
    }
}

/// A slot for each slot.
#[allow(unreachable_pub, missing_debug_implementations)]
pub struct NextOfKeys<S: Storage>(S::Numbers<u32>);

impl<S: Storage> NextOfKey for NextOfKeys<S> {
    const EMPTY: Self = Self(Table::EMPTY);

    fn set(&mut self, slot: u32, next: u32) {
        // Slots are numbered from 0 as they are first used, so this adds one entry in most cases.
        while self.0.as_ref().len() <= slot as usize {
            if self.0.push(NONE).is_err() {
                unreachable!("the storage has room for as many entries as for slots");
            }
        }
        self.0.as_mut()[slot as usize] = next;
    }

    fn get(&self, slot: u32) -> u32 {
        self.0.as_ref().get(slot as usize).copied().unwrap_or(NONE)
    }
}

/// Of the parts of a policy one at most has a table.
impl<A: NextOfKey, B: NextOfKey> NextOfKey for (A, B) {
    const EMPTY: Self = (A::EMPTY, B::EMPTY);

    fn set(&mut self, slot: u32, next: u32) {
        self.0.set(slot, next);
        self.1.set(slot, next);
    }

    fn get(&self, slot: u32) -> u32 {
        let next = self.0.get(slot);
        if next == NONE { self.1.get(slot) } else { next }
    }
}
