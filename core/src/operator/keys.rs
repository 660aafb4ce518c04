//! Which call is the last of its key: a hash table whose entries are linked through the calls' numbers.
//!
//! A key is known by 64 bits that the caller has hashed it to. Two keys with the same bits are kept in
//! one order, which is more than was promised, so nothing but the bits need be stored.

use crate::deadlines::NONE;
use crate::storage::{Storage, Table};

/// Where there is room. A second entry in a bucket is a jump that the processor does not foresee and, in a large window,
/// another miss of the cache. With four a record would cost 5 to 10 % less, and 8 bytes more.
const BUCKETS_PER_ENTRY: usize = 2;

pub(super) struct Keys<S: Storage> {
    /// The first entry of each bucket.
    buckets: S::Keys<u32>,
    /// An entry for each call; only those of the last calls of their keys are linked.
    entries: S::Keys<Entry>,
    linked: usize,
}

/// In halves, so that none of its 12 bytes is for alignment.
#[derive(Clone, Copy)]
struct Entry {
    key: [u32; 2],
    /// The next entry of the same bucket.
    next: u32,
}

impl Entry {
    const NONE: Self = Self { key: [0; 2], next: NONE };

    fn key(&self) -> u64 {
        u64::from(self.key[0]) | u64::from(self.key[1]) << 32
    }

    fn set_key(&mut self, key: u64) {
        self.key = [key as u32, (key >> 32) as u32];
    }
}

impl<S: Storage> Keys<S> {
    pub(super) const fn new() -> Self {
        Self { buckets: S::Keys::EMPTY, entries: S::Keys::EMPTY, linked: 0 }
    }

    /// The key of a call in flight.
    pub(super) fn key(&self, call: u32) -> u64 {
        self.entries.as_ref().get(call as usize).map_or(0, Entry::key)
    }

    /// Remembers the key of a call where order is not by key: a checkpoint can be split by it all the same.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn note(&mut self, call: u32, key: u64) {
        match self.entries.as_mut().get_mut(call as usize) {
            Some(entry) => entry.set_key(key),
            None if key == 0 => {} // as it is without an entry
            None => self.note_first(call, key),
        }
    }

    #[cold]
    fn note_first(&mut self, call: u32, key: u64) {
        if self.make_entry(call) {
            self.entry(call).set_key(key);
        }
    }

    /// Makes `call` the last one of `key`, and returns the one that was, or [`NONE`].
    pub(super) fn replace_last(&mut self, key: u64, call: u32) -> u32 {
        if !self.make_entry(call) {
            return NONE;
        }
        self.entry(call).set_key(key);
        if let Some(bucket) = self.bucket(key)
            && let (before, last) = self.find(bucket, |_, entry| entry.key() == key)
            && last != NONE
        {
            self.entry(call).next = self.entry(last).next;
            *self.link_behind(bucket, before) = call;
            return last;
        }
        self.grow();
        self.link(call);
        NONE
    }

    /// Forgets the key of `call`, if it is the last one of it.
    pub(super) fn remove_last(&mut self, call: u32) {
        let Some(bucket) = self.bucket(self.key(call)) else { return };
        let (before, last) = self.find(bucket, |at, _| at == call);
        if last != NONE {
            *self.link_behind(bucket, before) = self.entry(call).next;
            self.linked -= 1;
        }
    }

    /// The first entry of a bucket that is looked for, or [`NONE`], and the one before it, likewise.
    fn find(&self, bucket: usize, is_it: impl Fn(u32, &Entry) -> bool) -> (u32, u32) {
        let entries = self.entries.as_ref();
        let (mut before, mut at) = (NONE, self.buckets.as_ref()[bucket]);
        while at != NONE && !is_it(at, &entries[at as usize]) {
            (before, at) = (at, entries[at as usize].next);
        }
        (before, at)
    }

    /// What points behind an entry of a bucket, or, if that is [`NONE`], to its first.
    fn link_behind(&mut self, bucket: usize, before: u32) -> &mut u32 {
        match before {
            NONE => &mut self.buckets.as_mut()[bucket],
            _ => &mut self.entry(before).next,
        }
    }

    /// The bucket of a key: its mixed bits, scaled to the number of buckets, whatever that is.
    fn bucket(&self, key: u64) -> Option<usize> {
        let buckets = self.buckets.as_ref().len() as u64;
        let mixed = (key ^ (key >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (buckets > 0).then_some((((mixed >> 32) * buckets) >> 32) as usize)
    }

    fn link(&mut self, call: u32) {
        let Some(bucket) = self.bucket(self.key(call)) else { return };
        let first = core::mem::replace(&mut self.buckets.as_mut()[bucket], call);
        self.entry(call).next = first;
        self.linked += 1;
    }

    /// Keeps buckets short: makes twice as many as before, if the storage has room.
    fn grow(&mut self) {
        let before = self.buckets.as_ref().len();
        if BUCKETS_PER_ENTRY * self.linked < before {
            return;
        }
        while self.buckets.as_ref().len() < (2 * before).max(8) {
            if self.buckets.push(NONE).is_err() {
                break;
            }
        }
        if self.buckets.as_ref().len() > before {
            self.link_again(before);
        }
    }

    /// Links all entries, which are in the buckets that were there before, where they belong now.
    #[cold]
    fn link_again(&mut self, before: usize) {
        let mut unlinked = NONE;
        for bucket in 0..before {
            let mut at = core::mem::replace(&mut self.buckets.as_mut()[bucket], NONE);
            while at != NONE {
                let next = core::mem::replace(&mut self.entry(at).next, unlinked);
                (unlinked, at) = (at, next);
            }
        }
        self.linked = 0;
        while unlinked != NONE {
            let next = self.entry(unlinked).next;
            self.link(unlinked);
            unlinked = next;
        }
    }

    /// Returns whether there is one; the storage has room for as many as for calls, or for none.
    fn make_entry(&mut self, call: u32) -> bool {
        while self.entries.as_ref().len() <= call as usize {
            if self.entries.push(Entry::NONE).is_err() {
                return false;
            }
        }
        true
    }

    fn entry(&mut self, call: u32) -> &mut Entry {
        &mut self.entries.as_mut()[call as usize]
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use super::*;
    use crate::storage::{Fixed, Heap};

    // O3: against a map as the oracle, in both storages, with keys that collide and keys that do not.
    #[test]
    fn the_last_of_each_key_is_known() {
        for spread in [1, 1 << 20, 0x9e37_79b9_7f4a_7c15] {
            check::<Heap>(500, spread);
            check::<Fixed<40>>(40, spread);
        }
    }

    // O6: whatever the keys have in common, few share a bucket.
    #[test]
    fn keys_are_spread_over_many_buckets() {
        for spread in [1, 1 << 20, 1 << 32, 1 << 50, (1 << 32) + 1] {
            let mut keys = Keys::<Heap>::new();
            let buckets =
                |keys: &Keys<Heap>| -> Vec<u32> { AsRef::<[u32]>::as_ref(&keys.buckets).to_vec() };
            for call in 0..1000 {
                keys.replace_last(u64::from(call) * spread, call);
                assert!(BUCKETS_PER_ENTRY * keys.linked <= buckets(&keys).len());
            }
            assert_eq!(buckets(&keys).len(), 2048);
            let used = buckets(&keys).iter().filter(|first| **first != NONE).count();
            assert!(used > 500, "{used} buckets for 1000 keys, {spread} apart");
        }
    }

    fn check<S: Storage>(calls: u32, spread: u64) {
        let mut random = spread;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut keys = Keys::<S>::new();
        let mut model = BTreeMap::new();
        let mut free: Vec<u32> = (0..calls).collect();
        for _ in 0..4_000 {
            if next(2) == 0 && !free.is_empty() {
                let call = free.swap_remove(next(free.len() as u64) as usize);
                let key = next(60).wrapping_mul(spread);
                let before = model.insert(key, call).unwrap_or(NONE);
                assert_eq!(keys.replace_last(key, call), before);
                assert_eq!(keys.key(call), key);
            } else if let Some(call) = (0..calls).find(|call| !free.contains(call)) {
                let key = keys.key(call);
                keys.remove_last(call);
                if model.get(&key) == Some(&call) {
                    model.remove(&key);
                }
                free.push(call);
            }
            assert_eq!(keys.linked, model.len());
        }
    }
}
