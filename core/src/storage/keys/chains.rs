//! For few calls and little memory: a hash table whose entries are linked through the calls' numbers.
//!
//! Keys that somebody has chosen may all be in one bucket. Then all are looked at, which `N` bounds.

use super::{Entry, Keys, mix, scale};
use crate::storage::NONE;

/// For calls below `N`. Links are numbers of calls plus one, 0 for none, so that it is all zeros at first and costs
/// a program no flash.
#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct Chains<const N: usize> {
    /// The first entry of each bucket.
    buckets: [u32; N],
    /// An entry for each call, linked to the next one of its bucket; only those of the last calls of their keys are.
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
        let last = core::mem::replace(link, call + 1);
        let next = if last == 0 { 0 } else { self.entries[last as usize - 1].link };
        self.entries[call as usize].set_key(key);
        self.entries[call as usize].link = next;
        last.wrapping_sub(1) // which is `NONE` for none
    }

    fn remove_last(&mut self, call: u32) {
        let Entry { link: next, .. } = self.entries[call as usize];
        let link = self.link_to(self.key(call), |at, _| at == call);
        if *link != 0 {
            *link = next;
        }
    }
}

impl<const N: usize> Chains<N> {
    /// What links to the first entry in the bucket of a key that is looked for, or to none at its end.
    fn link_to(&mut self, key: u64, is_it: impl Fn(u32, &Entry) -> bool) -> &mut u32 {
        let bucket = scale(mix(key), N);
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

    // O6: whatever the keys have in common, few share a bucket.
    #[test]
    fn keys_are_spread_over_many_buckets() {
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
