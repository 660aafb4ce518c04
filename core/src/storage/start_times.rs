//! When the running attempts have started, for policies that ask for it.

use super::{Storage, Table};
use crate::time::Instant;

/// When the running attempt of each slot has started, if anybody asks.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait StartTimes {
    const EMPTY: Self;
    fn set(&mut self, slot: u32, now: Instant);
    /// `None` where nothing is kept.
    fn get(&self, slot: u32) -> Option<Instant>;
}

/// Nobody asks.
#[allow(unreachable_pub, missing_debug_implementations)]
pub struct NoTimes;

impl StartTimes for NoTimes {
    const EMPTY: Self = Self;
    fn set(&mut self, _: u32, _: Instant) {}
    fn get(&self, _: u32) -> Option<Instant> {
        None
    }
}

/// An instant for each slot.
#[allow(unreachable_pub, missing_debug_implementations)]
pub struct Times<S: Storage>(S::Numbers<Instant>);

impl<S: Storage> StartTimes for Times<S> {
    const EMPTY: Self = Self(Table::EMPTY);

    fn set(&mut self, slot: u32, now: Instant) {
        // Slots are numbered from 0 as they are first used, so this adds one entry in most cases.
        while self.0.as_ref().len() <= slot as usize {
            if self.0.push(now).is_err() {
                unreachable!("the storage has room for as many entries as for slots");
            }
        }
        self.0.as_mut()[slot as usize] = now;
    }

    fn get(&self, slot: u32) -> Option<Instant> {
        self.0.as_ref().get(slot as usize).copied()
    }
}

impl<A: StartTimes, B: StartTimes> StartTimes for (A, B) {
    const EMPTY: Self = (A::EMPTY, B::EMPTY);

    fn set(&mut self, slot: u32, now: Instant) {
        self.0.set(slot, now);
        self.1.set(slot, now);
    }

    fn get(&self, slot: u32) -> Option<Instant> {
        self.0.get(slot).or_else(|| self.1.get(slot))
    }
}
