//! The set of slots that are in use. A snapshot, a metrics report and the like visit its slots.

use super::AutoTraits;

/// Finds the slots of a table that are in use without visiting every slot that was ever used (M1: the cost of the numbers
/// follows the records in flight).
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait InUse: AutoTraits {
    const EMPTY: Self;
    /// Makes room for a new slot of the table.
    fn grow(&mut self, slot: u32);
    /// Adds a slot to the set.
    fn mark(&mut self, slot: u32);
    /// Removes the slots for which `is_used` is false.
    fn retain(&mut self, is_used: impl Fn(usize) -> bool);
    /// The slots in the set, in ascending order: all that are in use, and those that were vacated since the last
    /// [`retain`](Self::retain). `len` is the length of the table.
    fn iter(&self, len: usize) -> impl Iterator<Item = usize>;
}

/// A bit for each slot, set when the slot is used. Vacating a slot does not clear its bit, because every record would pay for
/// that; [`retain`](InUse::retain) clears it, now and then. So each use of a slot costs at most one extra visit.
#[cfg(feature = "alloc")]
#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct BitPerSlot(alloc::vec::Vec<u64>);

#[cfg(feature = "alloc")]
impl InUse for BitPerSlot {
    const EMPTY: Self = Self(alloc::vec::Vec::new());

    fn grow(&mut self, slot: u32) {
        // Tables grow by one slot at a time, so a new word is needed at every 64th.
        if slot as usize / 64 == self.0.len() {
            self.0.push(0);
        }
    }

    #[inline(always)]
    fn mark(&mut self, slot: u32) {
        self.0[slot as usize / 64] |= 1 << (slot % 64);
    }

    fn retain(&mut self, is_used: impl Fn(usize) -> bool) {
        for (at, word) in self.0.iter_mut().enumerate() {
            for bit in bits(*word) {
                if !is_used(at * 64 + bit) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    fn iter(&self, _: usize) -> impl Iterator<Item = usize> {
        let words = self.0.iter().enumerate();
        words.flat_map(|(at, word)| bits(*word).map(move |bit| at * 64 + bit))
    }
}

/// The bits that are set, the lowest first.
#[cfg(feature = "alloc")]
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1; // clears the lowest bit that is set
        Some(lowest)
    })
}

/// The set for tables in place: there are few slots, so a visit tries all of them.
#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct AnySlot;

impl InUse for AnySlot {
    const EMPTY: Self = Self;

    fn grow(&mut self, _: u32) {}

    #[inline(always)]
    fn mark(&mut self, _: u32) {}

    fn retain(&mut self, _: impl Fn(usize) -> bool) {}

    fn iter(&self, len: usize) -> impl Iterator<Item = usize> {
        0..len
    }
}
