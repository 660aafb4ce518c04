//! One attempt at a time for each key, where all records are one chain (O7).
//!
//! The chain's links say which record leaves next, so the next record of a key needs a link of its own. The key table has the last
//! record of each key whose call has not ended.

use super::Operator;
use super::call::Call;
use super::record::Link;
use crate::policy::Extras;
use crate::storage::keys::Keys as _;
use crate::storage::{NONE, PerSlot, Storage};

impl<C: Call, S: Storage> Operator<C, S> {
    /// Puts a new record behind the last one of its key. Returns whether its attempt may start now.
    pub(super) fn hold_behind_key(&mut self, slot: u32, key: u64) -> bool {
        self.next_of_key.set(slot, NONE);
        let before = self.order.keys().replace_last(key, slot);
        if before == NONE {
            return true;
        }
        self.next_of_key.set(before, slot);
        self.records.at(slot).link = Link::Held;
        false
    }

    /// The next record of the key of a record whose call has ended, or [`NONE`].
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn take_next_of_key(&mut self, slot: u32) -> u32 {
        if !C::Extras::ONE_PER_KEY || !self.order.is_ordered() {
            return self.records.at(slot).successor;
        }
        let next = self.next_of_key.get(slot).unwrap_or(NONE);
        if next == NONE {
            self.order.keys().remove_last(slot); // the next record with this key waits for nobody
        }
        next
    }
}
