//! Key tables: they find the last record of each key.
//!
//! A key is 64 bits, which the caller has hashed it to. Two keys with the same bits share one order, which
//! is stricter than promised and does no harm (O3); so no table stores anything but the bits.

mod buckets;
#[cfg(feature = "alloc")]
mod groups;

pub(crate) use self::buckets::Buckets;
#[cfg(feature = "alloc")]
pub(crate) use self::groups::Groups;
use crate::storage::AutoTraits;
use crate::storage::NONE;

/// The keys of the records in flight, and the last record of each key. A record is named by its slot, a number below the storage's
/// capacity.
#[doc(hidden)]
#[allow(unreachable_pub)]
pub trait Keys: AutoTraits {
    const EMPTY: Self;

    /// The key of a record in flight; 0 in a table without keys.
    fn key(&self, slot: u32) -> u64;

    /// Stores the key of a record where the order is not by key, because a checkpoint can be split by it (K8).
    fn note(&mut self, slot: u32, key: u64);

    /// Makes the record in `slot` the last one of `key`. Returns the slot of the previous last one, or [`NONE`].
    fn replace_last(&mut self, key: u64, slot: u32) -> u32;

    /// Removes the record in `slot` from the table, if it is the last one of its key.
    fn remove_last(&mut self, slot: u32);
}

/// The entry of a slot. The key is stored in halves, so that the entry takes 12 bytes and no padding.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: [u32; 2],
    /// The record's position in the table; each table defines its meaning.
    link: u32,
}

impl Entry {
    fn key(&self) -> u64 {
        u64::from(self.key[0]) | u64::from(self.key[1]) << 32
    }

    fn set_key(&mut self, key: u64) {
        self.key = [key as u32, (key >> 32) as u32];
    }
}

/// Mixes the bits of a key (multiplicative hashing). The higher bits are mixed best.
#[cfg_attr(feature = "alloc", inline(always))]
fn mix(key: u64) -> u64 {
    // In a product, a bit of the key influences only bits at its own position and above. The fold copies the higher half
    // down, so that it influences all of the product's higher half. The factor is 2^64 divided by the golden ratio.
    (key ^ (key >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Scales the higher half of mixed bits to a bucket's number, for any number of buckets and without a division.
#[cfg_attr(feature = "alloc", inline(always))]
fn scale(mixed: u64, buckets: usize) -> usize {
    (((mixed >> 32) * buckets as u64) >> 32) as usize
}

/// The table of a stage without keys.
#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct NoKeys;

impl Keys for NoKeys {
    const EMPTY: Self = Self;

    fn key(&self, _: u32) -> u64 {
        0
    }

    fn note(&mut self, _: u32, _: u64) {}

    fn replace_last(&mut self, _: u64, _: u32) -> u32 {
        NONE
    }

    fn remove_last(&mut self, _: u32) {}
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeMap;
    use std::vec::Vec;

    use super::*;

    // O3: compared with a map, for many keys and few that spread well, badly or not at all.
    #[test]
    fn a_table_finds_the_last_call_of_each_key() {
        for keys in [1, 60, 10_000] {
            for spread in [1, 1 << 20, 1 << 50, 0x9e37_79b9_7f4a_7c15] {
                check_all(keys, |key| key.wrapping_mul(spread));
            }
            check_all(keys, unmix);
            // Half of the keys collide and half spread well, so that the table grows with collisions in it.
            check_all(keys, |key| if key % 2 == 0 { unmix(key) } else { key });
        }
    }

    /// Inverts [`mix`]: keys made from small numbers all hash to the same bucket.
    pub(super) fn unmix(mixed: u64) -> u64 {
        let inverse = 0xf1de_83e1_9937_733d; // of the multiplier in `mix`
        let folded = mixed.wrapping_mul(inverse);
        let key = folded ^ (folded >> 32);
        assert_eq!(mix(key), mixed);
        key
    }

    fn check_all(keys: u64, key: impl Fn(u64) -> u64) {
        check::<Buckets<1>>(1, keys, &key);
        check::<Buckets<40>>(40, keys, &key);
        #[cfg(feature = "alloc")]
        for slots in [1, 9, 40, 700] {
            check::<Groups>(slots, keys, &key);
        }
    }

    /// Runs random insertions and removals: at most `slots` records at a time, each with one of `keys` keys. The window fills and
    /// empties in turn.
    fn check<K: Keys>(slots: u32, keys: u64, key: impl Fn(u64) -> u64) {
        let mut random = keys;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut table = K::EMPTY;
        let mut model = BTreeMap::new();
        let (mut vacant, mut used): (Vec<u32>, Vec<u32>) = ((0..slots).collect(), Vec::new());
        let mut come = true;
        for _ in 0..10_000 {
            come = if next(2 * u64::from(slots)) == 0 { !come } else { come };
            if !vacant.is_empty() && (used.is_empty() || (next(4) != 0) == come) {
                let slot = vacant.swap_remove(next(vacant.len() as u64) as usize);
                let key = key(next(keys));
                let before = model.insert(key, slot).unwrap_or(NONE);
                assert_eq!(table.replace_last(key, slot), before, "{slots} slots, {keys} keys");
                assert_eq!(table.key(slot), key);
                used.push(slot);
            } else {
                let slot = used.swap_remove(next(used.len() as u64) as usize);
                let key = table.key(slot);
                if model.get(&key) == Some(&slot) {
                    model.remove(&key);
                }
                table.remove_last(slot);
                vacant.push(slot);
            }
        }
    }
}
