//! The key table for many records: an open-addressing hash table with one byte of tag for each cell.
//!
//! In a large window every access to a random place in memory is a cache miss, and the next locked instruction (a
//! request stores its waker) has to wait for that miss too. So:
//!
//! * One word decides that a key is absent. It holds the tags of a group of seven cells, and in nearly all cases one
//!   group is enough. (Comparing many tags at once comes from Swiss tables; the overflow count in the word, which makes
//!   tombstones unnecessary, comes from `F14`.)
//! * Writes to cells are deferred and flushed in batches of 32, so that their cache misses overlap. The tag of a new
//!   record is set at once; its slot is written into its cell, and a cell is freed, at the next flush. A
//!   lookup flushes before it reads a cell, which it does only if a tag matches.
//!
//! Strangers may choose the keys (names of users), and the hash function is no secret: any number of keys can be made to
//! hash to one group. So a key is stored in one of at most eight groups or, when these are full, in an ordered map, whose
//! cost depends on no hash. (A secret hash seed would need a source of randomness, which a `no_std` library has not.)

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Entry, Keys, mix, scale};
use crate::storage::NONE;
use crate::storage::{Heap, Storage};

/// The load factor: the table grows when its groups of seven cells hold more than this many records on average. At this
/// load one record in ten is displaced from its home group.
const RECORDS_PER_GROUP: usize = 4;

/// The number of deferred writes that a flush carries out.
const BATCH: usize = 32;

/// Marks a deferred write that frees a cell; without the mark it stores a slot in its cell. The numbers of cells and slots
/// are both below 2^30.
const FREE_CELL: u32 = 1 << 31;

/// Marks the cell of a displaced record: one that is not in the home group of its key.
const DISPLACED: u32 = 1 << 30;

/// The most groups that a lookup probes: the home group, and those after it as long as their predecessors have overflowed.
const MAX_PROBES: usize = 8;

/// In place of a cell: the record is in the map, because all groups that its key may be in were full.
const IN_MAP: u32 = DISPLACED | (DISPLACED - 1);

// A cell stores a slot in three bytes.
const _: () = assert!(Heap::MAX_CAPACITY <= 1 << 24);

#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct Groups {
    groups: Vec<Group>,
    /// The slot in each cell, [seven](cell_index) to a group; in three bytes, the lowest first.
    cells: Vec<[u8; 3]>,
    /// An entry for each slot, linked to its cell if the slot's record is the last of its key.
    entries: Vec<Entry>,
    /// The last records of keys whose groups were all full: hardly any, unless keys were chosen to collide.
    map: BTreeMap<u64, u32>,
    /// Cells that are not free; those that the next flush frees are still counted.
    occupied: usize,
    /// Writes for the next flush: a slot to store in its cell, or a cell to free (with [`FREE_CELL`]).
    deferred: [u32; BATCH],
    deferred_len: usize,
    /// Groups and entries that were accessed after the home group's word.
    #[cfg(test)]
    probes: usize,
}

impl Keys for Groups {
    const EMPTY: Self = Self {
        groups: Vec::new(),
        cells: Vec::new(),
        entries: Vec::new(),
        map: BTreeMap::new(),
        occupied: 0,
        deferred: [0; BATCH],
        deferred_len: 0,
        #[cfg(test)]
        probes: 0,
    };

    fn key(&self, slot: u32) -> u64 {
        self.entries.get(slot as usize).map_or(0, Entry::key)
    }

    #[inline(always)]
    fn note(&mut self, slot: u32, key: u64) {
        match self.entries.get_mut(slot as usize) {
            Some(entry) => entry.set_key(key),
            None if key == 0 => {} // a slot without an entry has the key 0 already
            None => self.make_entry(slot).set_key(key),
        }
    }

    fn replace_last(&mut self, key: u64, slot: u32) -> u32 {
        // O6: cells that wait to be freed count as occupied. The allowance for them keeps a full table from flushing for
        // every single record.
        let groups = self.groups.len();
        if RECORDS_PER_GROUP * groups + groups.min(BATCH) <= self.occupied {
            self.make_room();
        }
        let (home, tag) = self.hash(key);
        let last = self.find(home, tag, key);
        let entry = match self.entries.get_mut(slot as usize) {
            Some(entry) => entry,
            None => self.make_entry(slot),
        };
        entry.set_key(key);
        if last == NONE {
            self.insert(home, tag, slot);
        } else {
            // The new record takes over the cell of the last one, and with it the tag and all overflow counts.
            let cell = core::mem::replace(&mut self.entries[last as usize].link, NONE);
            self.entries[slot as usize].link = cell;
            self.write(cell, slot);
        }
        last
    }

    fn remove_last(&mut self, slot: u32) {
        let Some(entry) = self.entries.get_mut(slot as usize) else { return };
        let cell = core::mem::replace(&mut entry.link, NONE);
        if cell == NONE {
            return; // a later record of the same key has taken the cell over
        }
        if cell & DISPLACED != 0 && self.remove_displaced(slot, cell) == IN_MAP {
            return;
        }
        self.defer(cell & !DISPLACED | FREE_CELL);
    }
}

impl Groups {
    /// The slot of a key's last record, or [`NONE`].
    #[inline(always)]
    fn find(&mut self, home: usize, tag: u8, key: u64) -> u32 {
        let group = self.groups[home];
        if group.bytes_with(tag) == Bytes::NONE && !group.has_overflowed() {
            return NONE;
        }
        self.find_in_cells(home, tag, key)
    }

    /// Continues [`find`](Self::find) where the home group's word does not rule the key out.
    #[inline(never)]
    fn find_in_cells(&mut self, home: usize, tag: u8, key: u64) -> u32 {
        let mut at = home;
        for _ in 0..self.max_probes() {
            // A tag matches, so a cell will be read: it must hold what was deferred.
            if self.groups[at].bytes_with(tag) != Bytes::NONE && self.deferred_len > 0 {
                self.flush();
            }
            let group = self.groups[at];
            self.count_probe();
            for byte in group.bytes_with(tag) {
                self.count_probe();
                let [low, middle, high] = self.cells[cell_index((8 * at + byte) as u32)];
                let slot = u32::from_le_bytes([low, middle, high, 0]);
                if self.entries[slot as usize].key() == key {
                    return slot;
                }
            }
            if !group.has_overflowed() {
                return NONE; // no key was displaced past this group
            }
            at = self.next_group(at);
        }
        self.map.get(&key).copied().unwrap_or(NONE)
    }

    /// Inserts a record whose key is not in the table: into the first of the key's groups that has a free cell.
    #[inline(always)]
    fn insert(&mut self, home: usize, tag: u8, slot: u32) {
        let cell = match self.groups[home].insert(tag) {
            Some(byte) => (8 * home + byte) as u32,
            None => self.insert_displaced(home, tag, slot),
        };
        self.entries[slot as usize].link = cell;
        if cell != IN_MAP {
            self.occupied += 1;
            self.defer(slot);
        }
    }

    /// Inserts a record whose home group is full. Each group that it is displaced from counts it.
    #[inline(never)]
    fn insert_displaced(&mut self, home: usize, tag: u8, slot: u32) -> u32 {
        let mut at = home;
        for _ in 1..self.max_probes() {
            self.groups[at].add_overflow(1);
            at = self.next_group(at);
            self.count_probe();
            if let Some(byte) = self.groups[at].insert(tag) {
                return (8 * at + byte) as u32 | DISPLACED;
            }
        }
        self.groups[at].add_overflow(1);
        self.insert_in_map(slot);
        IN_MAP
    }

    /// Takes a displaced record out of the overflow counts of the groups before its cell, or out of the map. Returns `cell`.
    #[cold]
    fn remove_displaced(&mut self, slot: u32, cell: u32) -> u32 {
        let key = self.key(slot);
        if cell == IN_MAP {
            self.map.remove(&key);
        }
        // The table has not grown since the record was displaced, because growing inserts all records again.
        let (mut at, _) = self.hash(key);
        for _ in 0..self.max_probes() {
            if at == (cell & !DISPLACED) as usize / 8 {
                break;
            }
            self.count_probe();
            self.groups[at].add_overflow(-1);
            at = self.next_group(at);
        }
        cell
    }

    #[cold]
    fn insert_in_map(&mut self, slot: u32) {
        self.map.insert(self.key(slot), slot);
    }

    /// The number of groups that a lookup probes before it asks the map.
    fn max_probes(&self) -> usize {
        self.groups.len().min(MAX_PROBES)
    }

    fn count_probe(&mut self) {
        #[cfg(test)]
        (self.probes += 1);
    }

    /// Adds a write to the next flush. (The remainders here and in [`flush`](Self::flush) change no value; they spare a
    /// bounds check.)
    #[inline(always)]
    fn defer(&mut self, write: u32) {
        self.deferred[self.deferred_len % BATCH] = write;
        self.deferred_len += 1;
        if self.deferred_len == BATCH {
            self.flush();
        }
    }

    /// Carries out the deferred writes.
    #[inline(never)]
    fn flush(&mut self) {
        for at in 0..core::mem::take(&mut self.deferred_len) {
            let write = self.deferred[at % BATCH];
            if write & FREE_CELL != 0 {
                let cell = (write & !FREE_CELL) as usize;
                self.groups[cell / 8].remove(cell % 8);
                self.occupied -= 1;
                continue;
            }
            // The record may have left since, and then has no cell. Or its slot was reused for another record, whose write
            // follows: that cell is written twice with the same slot, which does no harm.
            let cell = self.entries[write as usize].link;
            if cell != NONE {
                self.write(cell, write);
            }
        }
    }

    #[inline(always)]
    fn write(&mut self, cell: u32, slot: u32) {
        let [low, middle, high, _] = slot.to_le_bytes();
        match self.cells.get_mut(cell_index(cell & !DISPLACED)) {
            Some(cell) => *cell = [low, middle, high],
            None => self.insert_in_map(slot), // `IN_MAP` is no cell's number
        }
    }

    /// Flushes, which may free cells; if the table is still full, doubles the groups and inserts all records again.
    #[cold]
    fn make_room(&mut self) {
        self.flush();
        let groups = self.groups.len();
        if self.occupied < RECORDS_PER_GROUP * groups {
            return;
        }
        self.groups.clear();
        self.groups.resize((2 * groups).max(2), Group(0));
        self.cells.resize(7 * self.groups.len(), [0; 3]);
        self.map.clear();
        self.occupied = 0;
        // O6: growing takes time in proportion to the records, but doubles the room, so it is O(1) for each insertion.
        for slot in 0..self.entries.len() as u32 {
            if core::mem::replace(&mut self.entries[slot as usize].link, NONE) != NONE {
                let (home, tag) = self.hash(self.key(slot));
                self.insert(home, tag, slot);
            }
        }
    }

    #[cold]
    fn make_entry(&mut self, slot: u32) -> &mut Entry {
        let slot = slot as usize;
        self.entries.resize(self.entries.len().max(slot + 1), Entry { key: [0; 2], link: NONE });
        &mut self.entries[slot]
    }

    /// The home group of a key, and its tag: neither 0, which is [`FREE`], nor 1 (see [`Group::bytes_with`]).
    ///
    /// Both come from the higher 32 bits, the group from their top and the tag from their bottom. There are at most 2^22
    /// groups, so the two hardly depend on each other.
    #[inline(always)]
    fn hash(&self, key: u64) -> (usize, u8) {
        let mixed = mix(key);
        (scale(mixed, self.groups.len()), ((mixed >> 32) as u8).max(2))
    }

    /// The group that is probed after `group`.
    #[inline]
    fn next_group(&self, group: usize) -> usize {
        if group + 1 == self.groups.len() { 0 } else { group + 1 }
    }
}

/// The index of a cell in the table. A cell's number is eight times its group plus the byte of its tag, and each group has seven tags.
#[inline(always)]
fn cell_index(cell: u32) -> usize {
    (cell - cell / 8) as usize
}

/// The tags of seven cells, a byte each. The highest byte is the overflow count: how many records were displaced from or past
/// this group, because it was full. At 255 the count stays until the table grows, since it no longer knows its true value.
#[derive(Clone, Copy, Debug)]
struct Group(u64);

/// The tag of a free cell.
const FREE: u8 = 0;

/// The lowest bit of each tag.
const ONES: u64 = 0x0001_0101_0101_0101;

impl Group {
    /// The bytes that hold this tag.
    ///
    /// The subtraction borrows from byte to byte, so bytes above the first match may be reported although their tags differ
    /// from `tag` in the lowest bit. A lookup compares keys anyway; a search for [`FREE`] must be exact, so no record has the
    /// tag 1.
    #[inline(always)]
    fn bytes_with(self, tag: u8) -> Bytes {
        let different = self.0 ^ (u64::from(tag) * ONES);
        Bytes(different.wrapping_sub(ONES) & !different & (ONES << 7))
    }

    /// Writes a tag into the first free byte, if there is one, and returns that byte's number.
    #[inline(always)]
    fn insert(&mut self, tag: u8) -> Option<usize> {
        let byte = self.bytes_with(FREE).next()?;
        self.0 |= u64::from(tag) << (8 * byte);
        Some(byte)
    }

    #[inline(always)]
    fn remove(&mut self, byte: usize) {
        self.0 &= !(0xff << (8 * byte));
    }

    /// Returns true if records were displaced from or past this group, so that a lookup has to probe the next one.
    #[inline(always)]
    fn has_overflowed(self) -> bool {
        self.0 >> 56 != 0
    }

    /// Adds to the overflow count, unless it is saturated.
    #[cold]
    fn add_overflow(&mut self, records: i64) {
        if self.0 >> 56 != 0xff {
            self.0 = self.0.wrapping_add_signed(records << 56);
        }
    }
}

/// A set of bytes of a word: the highest bit of each.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Bytes(u64);

impl Bytes {
    const NONE: Self = Self(0);
}

impl Iterator for Bytes {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        // `x & (x - 1)` clears the lowest bit that is set, and leaves an empty set empty.
        let byte = (self.0 != 0).then(|| self.0.trailing_zeros() as usize / 8);
        self.0 &= self.0.wrapping_sub(1);
        byte
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::storage::keys::tests::unmix;

    // O6: keys with a regular pattern spread well, so few are displaced.
    #[test]
    fn regular_keys_spread_over_all_groups() {
        for spread in [1, 1 << 20, 1 << 32, 1 << 50, (1 << 32) + 1] {
            let mut keys = Groups::EMPTY;
            let mut tags = BTreeSet::new();
            for slot in 0..4096 {
                let key = u64::from(slot) * spread;
                keys.replace_last(key, slot);
                tags.insert(keys.hash(key).1);
            }
            assert!(tags.len() > 150, "{} tags for 4096 keys, {spread} apart", tags.len());
            assert_eq!(keys.groups.len(), 1024);
            let displaced = keys.entries.iter().filter(|entry| entry.link & DISPLACED != 0).count();
            assert!(displaced < 4096 / 16, "{displaced} of 4096 keys, {spread} apart");
        }
    }

    // O6: cells of records that have left are reused, and overflow counts return to zero.
    #[test]
    fn a_table_does_not_grow_with_the_records_that_went_through() {
        let mut keys = Groups::EMPTY;
        let (mut key, mut displaced) = (1_u64, 0);
        for record in 0..100_000 {
            key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            assert_eq!(keys.replace_last(key, 100), NONE);
            displaced += u32::from(keys.entries[100].link & DISPLACED != 0);
            assert_eq!(keys.replace_last(key, record % 100), 100);
            keys.remove_last((record + 1) % 100);
        }
        assert!(displaced > 100, "{displaced} of 100,000 were displaced");
        assert_eq!(keys.groups.len(), 32);
        (0..100).for_each(|slot| keys.remove_last(slot));
        keys.flush();
        assert!(keys.occupied == 0 && keys.groups.iter().all(|group| group.0 == 0));
    }

    // O6: a table at its load factor still flushes in batches, not once a record.
    #[test]
    fn a_full_table_flushes_seldom() {
        for window in [64, 100, 1024, 4096] {
            let mut keys = Groups::EMPTY;
            let (mut key, mut flushes, mut waiting) = (1_u64, 0, 0);
            for record in 0..100_000 {
                keys.remove_last(record % window);
                key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                keys.replace_last(key, record % window);
                flushes += u32::from(keys.deferred_len != waiting + 2);
                waiting = keys.deferred_len;
            }
            assert!(
                flushes < 100_000 / 5,
                "{flushes} flushes for 100,000 records, {window} at once"
            );
        }
    }

    // O6: after an overflow count has saturated, lookups still find every key, and removals still remove it.
    #[test]
    fn a_saturated_overflow_count_stays_saturated() {
        let mut keys = Groups::EMPTY;
        let key = |slot| unmix(1 << 32 | u64::from(slot));
        for slot in 0..600 {
            assert_eq!(keys.replace_last(key(slot), slot), NONE);
        }
        assert_eq!(keys.groups[0].0 >> 56, 255);
        (0..600).for_each(|slot| keys.remove_last(slot));
        for slot in 0..600 {
            assert_eq!(keys.replace_last(key(slot), slot), NONE);
            assert_eq!(keys.replace_last(key(slot), 1000 + slot), slot);
        }
    }

    // O6: the cost of a key is bounded, also if strangers chose the keys so that they collide.
    #[test]
    fn colliding_keys_cost_a_bounded_number_of_probes() {
        const WINDOW: u32 = 4000;
        // A lookup probes eight groups and all their cells, an insertion eight groups, a removal eight groups.
        const MOST: usize = 8 + 7 * 8 + 8 + 8;
        let keys_of = [
            |number| unmix(1 << 32 | u64::from(number)), // one group, one tag
            |number| unmix(u64::from(number) << 32),     // one group, all tags
            |number| unmix(u64::from(number % 5) << 61 | u64::from(number)), // five groups
        ];
        for key in keys_of {
            let mut keys = Groups::EMPTY;
            (0..WINDOW).for_each(|slot| _ = keys.replace_last(key(slot), slot));
            for number in WINDOW..3 * WINDOW {
                keys.probes = 0;
                keys.remove_last(number % WINDOW);
                assert_eq!(keys.replace_last(key(number), number % WINDOW), NONE);
                assert!(keys.probes <= MOST, "{} probes for number {number}", keys.probes);
            }
            (0..WINDOW).for_each(|slot| keys.remove_last(slot));
            keys.flush();
            assert!(keys.occupied == 0 && keys.map.is_empty());
        }
    }

    // O6: a lookup of an absent key ends, also if every group has overflowed.
    #[test]
    fn a_lookup_ends_where_all_groups_have_overflowed() {
        let mut keys = Groups::EMPTY;
        let key = |group: u64, number| unmix(group << 63 | u64::from(number));
        (0..8).for_each(|slot| _ = keys.replace_last(key(0, slot), slot));
        (0..7).for_each(|slot| keys.remove_last(slot));
        (0..7).for_each(|slot| _ = keys.replace_last(key(1, slot), slot));
        assert!(keys.groups.len() == 2 && keys.groups.iter().all(|group| group.has_overflowed()));
        keys.occupied = 0; // so that it does not grow
        assert_eq!(keys.replace_last(key(0, 8), 8), NONE);
    }
}
