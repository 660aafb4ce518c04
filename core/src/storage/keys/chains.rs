//! The key table for few calls and little memory: a hash table with chaining, linked through the calls' numbers.
//!
//! Strangers may choose keys that all hash to one bucket. Then a lookup follows one chain through all of them, and `N`
//! bounds its length (O6).

use super::{Entry, Keys, mix, scale};
use crate::storage::NONE;

/// A table for the calls below `N`. A link is a call's number plus one, and 0 means none: an empty table is all zeros, so a
/// table in a `static` takes no flash.
#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct Chains<const N: usize> {
    /// The first entry of each bucket.
    buckets: [u32; N],
    /// An entry for each call. The entries of last calls are linked to the next one in their bucket; the others are in no
    /// chain.
    entries: [Entry; N],
}

impl<const N: usize> Keys for Chains<N> {
    const EMPTY: Self = Self { buckets: [0; N], entries: [Entry { key: [0; 2], link: 0 }; N] };

    fn key(&self, call: u32) -> u64 {
        self.entries[call as usize].key()
    }

    fn note(&mut self, call: u32, key: u64) {
        self.entries[call as usize].set_key(key);
    }

    fn replace_last(&mut self, key: u64, call: u32) -> u32 {
        let link = self.link_to(key, |_, entry| entry.key() == key);
        // The new call takes the last one's place in the chain.
        let last = core::mem::replace(link, call + 1);
        let next = if last == 0 { 0 } else { self.entries[last as usize - 1].link };
        self.entries[call as usize].set_key(key);
        self.entries[call as usize].link = next;
        last.wrapping_sub(1) // 0 becomes `NONE`
    }

    fn remove_last(&mut self, call: u32) {
        let Entry { link: next, .. } = self.entries[call as usize];
        let link = self.link_to(self.key(call), |at, _| at == call);
        // A link of 0 is the end of the chain: a later call of the same key has replaced this one.
        if *link != 0 {
            *link = next;
        }
    }
}

impl<const N: usize> Chains<N> {
    /// Searches the bucket of `key` and returns the link that leads to the first entry for which `is_it` is true, or the
    /// last link of the chain, which is 0.
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
            let mut keys = Chains::<2048>::EMPTY;
            for call in 0..1000 {
                keys.replace_last(u64::from(call) * spread, call);
            }
            let used = keys.buckets.iter().filter(|first| **first != 0).count();
            assert!(used > 500, "{used} buckets for 1000 keys, {spread} apart");
        }
    }
}
