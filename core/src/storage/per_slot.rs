//! A number for each slot, for the parts of a policy that need one; and nothing for all others.

use super::{AutoTraits, Storage, Table};

/// A `T` for each slot that it was set for, or nothing.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait PerSlot<T> {
    const EMPTY: Self;
    /// This table, or that of another part of the policy if this is nothing.
    type Or<B: PerSlot<T> + AutoTraits>: PerSlot<T> + AutoTraits;
    fn set(&mut self, slot: u32, item: T);
    /// Of a slot that something was set for. `None` where nothing is kept.
    fn get(&self, slot: u32) -> Option<T>;
}

/// Keeps nothing.
#[allow(unreachable_pub, missing_debug_implementations)]
pub struct Nothing;

impl<T> PerSlot<T> for Nothing {
    const EMPTY: Self = Self;
    type Or<B: PerSlot<T> + AutoTraits> = B;

    fn set(&mut self, _: u32, _: T) {}

    fn get(&self, _: u32) -> Option<T> {
        None
    }
}

/// Keeps a `T` for each slot.
#[allow(unreachable_pub, missing_debug_implementations)]
pub struct Column<S: Storage, T: AutoTraits>(S::Numbers<T>);

impl<S: Storage, T: Copy + AutoTraits> PerSlot<T> for Column<S, T> {
    const EMPTY: Self = Self(Table::EMPTY);
    type Or<B: PerSlot<T> + AutoTraits> = Self;

    fn set(&mut self, slot: u32, item: T) {
        *self.0.at_slot(slot, item) = item;
    }

    fn get(&self, slot: u32) -> Option<T> {
        self.0.as_ref().get(slot as usize).copied()
    }
}
