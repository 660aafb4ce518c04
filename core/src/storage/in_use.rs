//! Which slots of a table are in use.

use super::AutoTraits;

/// Finds the slots of a table that are in use, without looking at all that ever were.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait InUse: AutoTraits {
    const EMPTY: Self;
    /// The table has got this slot.
    fn grow(&mut self, slot: u32);
    /// A slot of the table is in use from now on.
    fn mark(&mut self, slot: u32);
    /// Forgets slots for which `is_used` does not hold.
    fn retain(&mut self, is_used: impl Fn(usize) -> bool);
    /// The slots in use, in ascending order, of a table of `len`; and those that were not forgotten.
    fn iter(&self, len: usize) -> impl Iterator<Item = usize>;
}

/// A bit for each slot, set when the slot is used. It is not cleared when the slot is given back, since that would cost every
/// record, but by who looks for the slots now and then: so each use of a slot costs one look at most.
#[cfg(feature = "alloc")]
#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct BitPerSlot(alloc::vec::Vec<u64>);

#[cfg(feature = "alloc")]
impl InUse for BitPerSlot {
    const EMPTY: Self = Self(alloc::vec::Vec::new());

    fn grow(&mut self, slot: u32) {
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
        word &= word - 1;
        Some(lowest)
    })
}

/// In place there are few slots, and all of them are looked at.
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
