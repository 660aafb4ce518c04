//! The key table for few records and little memory: a hash table whose buckets are lists, linked through the slots' numbers.
//!
//! Strangers may choose keys that all hash to one bucket. Then a lookup goes through the list of all of them, and `N`
//! bounds its length (O6).

use super::{Entry, Keys, mix, scale};
use crate::storage::NONE;

/// A table for the slots below `N`. A link is a slot's number plus one, and 0 means none: an empty table is all zeros, so a
/// table in a `static` takes no flash.
#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct Buckets<const N: usize> {
    /// The first entry of each bucket.
    buckets: [u32; N],
    /// An entry for each slot. The entry of a key's last record is linked to the next one in its bucket; the other entries are in
    /// no bucket.
    entries: [Entry; N],
}

impl<const N: usize> Keys for Buckets<N> {
    const EMPTY: Self = Self { buckets: [0; N], entries: [Entry { key: [0; 2], link: 0 }; N] };

    fn key(&self, slot: u32) -> u64 {
        self.entries[slot as usize].key()
    }

    fn note(&mut self, slot: u32, key: u64) {
        self.entries[slot as usize].set_key(key);
    }

    fn replace_last(&mut self, key: u64, slot: u32) -> u32 {
        let link = self.link_to(key, |_, entry| entry.key() == key);
        // The new record's entry takes the position of the last one's in the bucket.
        let last = core::mem::replace(link, slot + 1);
        let next = if last == 0 { 0 } else { self.entries[last as usize - 1].link };
        self.entries[slot as usize].set_key(key);
        self.entries[slot as usize].link = next;
        last.wrapping_sub(1) // 0 becomes `NONE`
    }

    fn remove_last(&mut self, slot: u32) {
        let Entry { link: next, .. } = self.entries[slot as usize];
        let link = self.link_to(self.key(slot), |at, _| at == slot);
        // A link of 0 is the end of the bucket: a later record of the same key has replaced this one.
        if *link != 0 {
            *link = next;
        }
    }
}

impl<const N: usize> Buckets<N> {
    /// Searches the bucket of `key` and returns the link that leads to the first entry for which `is_it` is true, or the
    /// last link of the bucket, which is 0.
    fn link_to(&mut self, key: u64, is_it: impl Fn(u32, &Entry) -> bool) -> &mut u32 {
        let bucket = scale(mix(key), N);
        // Walks by index and borrows the link at the end: the borrow checker refuses a `&mut` that walks along.
        let mut before = NONE;
        let mut at = self.buckets[bucket].wrapping_sub(1);
        while at != NONE && !is_it(at, &self.entries[at as usize]) {
            before = at;
            at = self.entries[at as usize].link.wrapping_sub(1);
        }
        match before {
            NONE => &mut self.buckets[bucket],
            _ => &mut self.entries[before as usize].link,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // O6: keys with a regular pattern spread well, so few share a bucket.
    #[test]
    fn regular_keys_spread_over_many_buckets() {
        for spread in [1, 1 << 20, 1 << 32, 1 << 50, (1 << 32) + 1] {
            let mut keys = Buckets::<2048>::EMPTY;
            for slot in 0..1000 {
                keys.replace_last(u64::from(slot) * spread, slot);
            }
            let used = keys.buckets.iter().filter(|first| **first != 0).count();
            assert!(used > 500, "{used} buckets for 1000 keys, {spread} apart");
        }
    }
}
