//! For many calls: a hash table in which what is there is told by a few bytes.
//!
//! In a large window every look at a random place of the memory is a wait, and the next locked instruction (a request
//! leaves its waker somewhere) waits for it too. So:
//!
//! * What says that a key is not there is small: a byte for each place, seven places in a word, nearly always one
//!   word. (Looking at many places at once is from Swiss tables; counting in the word what went past it, which
//!   needs no tombstones, from F14.)
//! * What need not be known at once is done for many calls at once, so that they wait together: a call is written into its
//!   place, and a place is made free, later; but before anything is read that depends on it, which is only where the bytes
//!   are the same.
//!
//! Keys may be names that strangers have chosen, and how they are mixed is no secret: any number of them can be made to
//! belong to one group. So a key is in one of a few groups or, if these are full, in an ordered map, whose cost depends on
//! no key. (A secret to mix them with would have to come from somewhere: there is no randomness here.)

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{Entry, Keys, mix, scale};
use crate::storage::NONE;
use crate::storage::{Heap, Storage};

/// How many calls a group of seven places has on average, at most. Where calls come and go, one in ten goes past its group
/// then.
const CALLS_PER_GROUP: usize = 4;

/// How many things are done at once.
const BATCH: usize = 32;

/// A place that is to be made free, and not a call that is to be written into its place. There are fewer than 2^30 of each.
const FREED: u32 = 1 << 31;

/// The call went past the first group of its key.
const STRAYED: u32 = 1 << 30;

/// In how many groups a key is looked for: its first, and those behind that are passed on the way.
const REACH: usize = 8;

/// Where a call is that went past all of them: in no place, but in the map.
const BEYOND: u32 = STRAYED | (STRAYED - 1);

// Three bytes are enough for a call's number.
const _: () = assert!(Heap::MAX_CAPACITY <= 1 << 24);

#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct Groups {
    groups: Vec<Group>,
    /// Which call is in each place, [seven](in_table) to a group; in three bytes, of which the lowest comes first.
    places: Vec<[u8; 3]>,
    /// An entry for each call, linked to its place if it is the last of its key.
    entries: Vec<Entry>,
    /// The last calls of keys for which none of their groups had room: next to none, unless that was meant.
    beyond: BTreeMap<u64, u32>,
    /// Places that are not free.
    taken: usize,
    /// What is to be done: calls to be written into their places, and places to be made free.
    later: [u32; BATCH],
    /// How many things that are.
    put_off: usize,
    /// Groups and entries that were looked at behind the first one's bytes.
    #[cfg(test)]
    looks: usize,
}

impl Keys for Groups {
    const EMPTY: Self = Self {
        groups: Vec::new(),
        places: Vec::new(),
        entries: Vec::new(),
        beyond: BTreeMap::new(),
        taken: 0,
        later: [0; BATCH],
        put_off: 0,
        #[cfg(test)]
        looks: 0,
    };

    fn key(&self, call: u32) -> u64 {
        self.entries.get(call as usize).map_or(0, Entry::key)
    }

    #[inline(always)]
    fn note(&mut self, call: u32, key: u64) {
        match self.entries.get_mut(call as usize) {
            Some(entry) => entry.set_key(key),
            None if key == 0 => {} // as it is without an entry
            None => self.make_entry(call).set_key(key),
        }
    }

    fn replace_last(&mut self, key: u64, call: u32) -> u32 {
        // Places that are still to be made free count as taken. So many of them are no reason yet, or in a full table it would
        // be done for one call at a time.
        let groups = self.groups.len();
        if CALLS_PER_GROUP * groups + groups.min(BATCH) <= self.taken {
            self.make_room();
        }
        let (first, tag) = self.hash(key);
        let last = self.find(first, tag, key);
        let entry = match self.entries.get_mut(call as usize) {
            Some(entry) => entry,
            None => self.make_entry(call),
        };
        entry.set_key(key);
        if last == NONE {
            self.link(first, tag, call);
        } else {
            let place = core::mem::replace(&mut self.entries[last as usize].link, NONE);
            self.entries[call as usize].link = place;
            self.write(place, call);
        }
        last
    }

    fn remove_last(&mut self, call: u32) {
        let Some(entry) = self.entries.get_mut(call as usize) else { return };
        let place = core::mem::replace(&mut entry.link, NONE);
        if place == NONE {
            return;
        }
        if place & STRAYED != 0 && self.come_back(call, place) == BEYOND {
            return;
        }
        self.put_off(place & !STRAYED | FREED);
    }
}

impl Groups {
    /// The last call of a key, or [`NONE`].
    #[inline(always)]
    fn find(&mut self, first: usize, tag: u8, key: u64) -> u32 {
        let group = self.groups[first];
        if group.with(tag) == Lanes::NONE && !group.is_passed() {
            return NONE;
        }
        self.find_there(first, tag, key)
    }

    /// The same, where there is something to look at.
    #[inline(never)]
    fn find_there(&mut self, first: usize, tag: u8, key: u64) -> u32 {
        let mut at = first;
        for _ in 0..self.reach() {
            if self.groups[at].with(tag) != Lanes::NONE && self.put_off > 0 {
                self.catch_up();
            }
            let group = self.groups[at];
            self.look();
            for lane in group.with(tag) {
                self.look();
                let [low, middle, high] = self.places[in_table((8 * at + lane) as u32)];
                let call = u32::from_le_bytes([low, middle, high, 0]);
                if self.entries[call as usize].key() == key {
                    return call;
                }
            }
            if !group.is_passed() {
                return NONE;
            }
            at = self.behind(at);
        }
        self.beyond.get(&key).copied().unwrap_or(NONE)
    }

    /// Puts a call whose key is not in the table into the first of its groups that has room.
    #[inline(always)]
    fn link(&mut self, first: usize, tag: u8, call: u32) {
        let place = match self.groups[first].take(tag) {
            Some(lane) => (8 * first + lane) as u32,
            None => self.link_behind(first, tag, call),
        };
        self.entries[call as usize].link = place;
        if place != BEYOND {
            self.taken += 1;
            self.put_off(call);
        }
    }

    /// The same where the first group is full.
    #[inline(never)]
    fn link_behind(&mut self, first: usize, tag: u8, call: u32) -> u32 {
        let mut at = first;
        for _ in 1..self.reach() {
            self.groups[at].count(1);
            at = self.behind(at);
            self.look();
            if let Some(lane) = self.groups[at].take(tag) {
                return (8 * at + lane) as u32 | STRAYED;
            }
        }
        self.groups[at].count(1);
        self.write_beyond(call);
        BEYOND
    }

    /// A call that went past groups leaves its place, or the map.
    #[cold]
    fn come_back(&mut self, call: u32, place: u32) -> u32 {
        let key = self.key(call);
        if place == BEYOND {
            self.beyond.remove(&key);
        }
        let (mut at, _) = self.hash(key);
        for _ in 0..self.reach() {
            if at == (place & !STRAYED) as usize / 8 {
                break;
            }
            self.look();
            self.groups[at].count(-1);
            at = self.behind(at);
        }
        place
    }

    #[cold]
    fn write_beyond(&mut self, call: u32) {
        self.beyond.insert(self.key(call), call);
    }

    /// In how many groups a key is looked for.
    fn reach(&self) -> usize {
        self.groups.len().min(REACH)
    }

    fn look(&mut self) {
        #[cfg(test)]
        (self.looks += 1);
    }

    /// (The remainders here and below change nothing, but spare a check of the bounds.)
    #[inline(always)]
    fn put_off(&mut self, what: u32) {
        self.later[self.put_off % BATCH] = what;
        self.put_off += 1;
        if self.put_off == BATCH {
            self.catch_up();
        }
    }

    /// Does what was put off.
    #[inline(never)]
    fn catch_up(&mut self) {
        for at in 0..core::mem::take(&mut self.put_off) {
            let what = self.later[at % BATCH];
            if what & FREED != 0 {
                let place = (what & !FREED) as usize;
                self.groups[place / 8].set_free(place % 8);
                self.taken -= 1;
                continue;
            }
            // The call may have left since. If its number is in use again, for another place, that is written, twice at worst.
            let place = self.entries[what as usize].link;
            if place != NONE {
                self.write(place, what);
            }
        }
    }

    #[inline(always)]
    fn write(&mut self, place: u32, call: u32) {
        let [low, middle, high, _] = call.to_le_bytes();
        match self.places.get_mut(in_table(place & !STRAYED)) {
            Some(place) => *place = [low, middle, high],
            None => self.write_beyond(call), // there is no such place
        }
    }

    /// Makes free what is to be, and, if that is not enough, twice as many groups.
    #[cold]
    fn make_room(&mut self) {
        self.catch_up();
        let groups = self.groups.len();
        if self.taken < CALLS_PER_GROUP * groups {
            return;
        }
        self.groups.clear();
        self.groups.resize((2 * groups).max(2), Group(0));
        self.places.resize(7 * self.groups.len(), [0; 3]);
        self.beyond.clear();
        self.taken = 0;
        for call in 0..self.entries.len() as u32 {
            if core::mem::replace(&mut self.entries[call as usize].link, NONE) != NONE {
                let (first, tag) = self.hash(self.key(call));
                self.link(first, tag, call);
            }
        }
    }

    #[cold]
    fn make_entry(&mut self, call: u32) -> &mut Entry {
        let call = call as usize;
        self.entries.resize(self.entries.len().max(call + 1), Entry { key: [0; 2], link: NONE });
        &mut self.entries[call]
    }

    /// The group in which a key is looked for first, and the byte of its place: neither 0, which is [`FREE`], nor 1 (see
    /// [`Group::with`]). Of the half that the group is of, but independent of it: there are at most 2^22 groups.
    #[inline(always)]
    fn hash(&self, key: u64) -> (usize, u8) {
        let mixed = mix(key);
        (scale(mixed, self.groups.len()), ((mixed >> 32) as u8).max(2))
    }

    /// The group after another one.
    #[inline]
    fn behind(&self, group: usize) -> usize {
        if group + 1 == self.groups.len() { 0 } else { group + 1 }
    }
}

/// Where a place is in a table. As a number, it is eight times that of its group and which of the seven it is.
#[inline(always)]
fn in_table(place: u32) -> usize {
    (place - place / 8) as usize
}

/// A byte each for seven places. The highest byte counts the calls that belong here and are in a group behind, because this
/// one was full; at 255 it stays as it is until the table grows.
#[derive(Clone, Copy, Debug)]
struct Group(u64);

/// The byte of a place without a call.
const FREE: u8 = 0;

/// The lowest bit of each place's byte.
const ONES: u64 = 0x0001_0101_0101_0101;

impl Group {
    /// The places with this byte. Behind the first, seldom, also some whose byte differs from it in the lowest bit; so
    /// that free ones are not among them, no call's byte is 1.
    #[inline(always)]
    fn with(self, byte: u8) -> Lanes {
        let different = self.0 ^ (u64::from(byte) * ONES);
        Lanes(different.wrapping_sub(ONES) & !different & (ONES << 7))
    }

    /// Writes the byte of a call into the first free place, if there is one, and returns which that is.
    #[inline(always)]
    fn take(&mut self, byte: u8) -> Option<usize> {
        let lane = self.with(FREE).next()?;
        self.0 |= u64::from(byte) << (8 * lane);
        Some(lane)
    }

    #[inline(always)]
    fn set_free(&mut self, lane: usize) {
        self.0 &= !(0xff << (8 * lane));
    }

    #[inline(always)]
    fn is_passed(self) -> bool {
        self.0 >> 56 != 0
    }

    /// One call more, or one less, has gone past.
    #[cold]
    fn count(&mut self, calls: i64) {
        if self.0 >> 56 != 0xff {
            self.0 = self.0.wrapping_add_signed(calls << 56);
        }
    }
}

/// The highest bit of the byte of some places.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Lanes(u64);

impl Lanes {
    const NONE: Self = Self(0);
}

impl Iterator for Lanes {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let lane = (self.0 != 0).then(|| self.0.trailing_zeros() as usize / 8);
        self.0 &= self.0.wrapping_sub(1);
        lane
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::storage::keys::tests::unmix;

    // O6: whatever the keys have in common, few go past their group.
    #[test]
    fn keys_are_spread_over_many_groups() {
        for spread in [1, 1 << 20, 1 << 32, 1 << 50, (1 << 32) + 1] {
            let mut keys = Groups::EMPTY;
            let mut tags = BTreeSet::new();
            for call in 0..4096 {
                let key = u64::from(call) * spread;
                keys.replace_last(key, call);
                tags.insert(keys.hash(key).1);
            }
            assert!(tags.len() > 150, "{} bytes for 4096 keys, {spread} apart", tags.len());
            assert_eq!(keys.groups.len(), 1024);
            let strayed = keys.entries.iter().filter(|entry| entry.link & STRAYED != 0).count();
            assert!(strayed < 4096 / 16, "{strayed} of 4096 keys, {spread} apart");
        }
    }

    // O6: what has left makes room, and leaves no trace.
    #[test]
    fn a_table_does_not_grow_with_the_calls_that_went_through() {
        let mut keys = Groups::EMPTY;
        let (mut key, mut strayed) = (1_u64, 0);
        for call in 0..100_000 {
            key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            assert_eq!(keys.replace_last(key, 100), NONE);
            strayed += u32::from(keys.entries[100].link & STRAYED != 0);
            assert_eq!(keys.replace_last(key, call % 100), 100);
            keys.remove_last((call + 1) % 100);
        }
        assert!(strayed > 100, "{strayed} of 100,000 have gone past a group");
        assert_eq!(keys.groups.len(), 32);
        (0..100).for_each(|call| keys.remove_last(call));
        keys.catch_up();
        assert!(keys.taken == 0 && keys.groups.iter().all(|group| group.0 == 0));
    }

    // O6: also in a window that fills a table as far as may be, what can wait is done for many calls at once.
    #[test]
    fn a_full_table_catches_up_seldom() {
        for window in [64, 100, 1024, 4096] {
            let mut keys = Groups::EMPTY;
            let (mut key, mut times, mut waiting) = (1_u64, 0, 0);
            for call in 0..100_000 {
                keys.remove_last(call % window);
                key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                keys.replace_last(key, call % window);
                times += u32::from(keys.put_off != waiting + 2);
                waiting = keys.put_off;
            }
            assert!(times < 100_000 / 5, "{times} times for 100,000 calls, {window} at once");
        }
    }

    // O6: more keys in one group than it can count: all the same they are found, and forgotten.
    #[test]
    fn a_group_that_too_many_went_past_is_always_passed() {
        let mut keys = Groups::EMPTY;
        let key = |call| unmix(1 << 32 | u64::from(call));
        for call in 0..600 {
            assert_eq!(keys.replace_last(key(call), call), NONE);
        }
        assert_eq!(keys.groups[0].0 >> 56, 255);
        (0..600).for_each(|call| keys.remove_last(call));
        for call in 0..600 {
            assert_eq!(keys.replace_last(key(call), call), NONE);
            assert_eq!(keys.replace_last(key(call), 1000 + call), call);
        }
    }

    // O6: what a key costs has a bound, whatever strangers have made of it.
    #[test]
    fn keys_that_were_made_to_collide_are_as_good_as_others() {
        const WINDOW: u32 = 4000;
        // Eight groups and what is in them to look for a key, eight to put it somewhere, and eight to take it away.
        const MOST: usize = 8 + 7 * 8 + 8 + 8;
        let keys_of = [
            |number| unmix(1 << 32 | u64::from(number)), // one group, one byte
            |number| unmix(u64::from(number) << 32),     // one group, all bytes
            |number| unmix(u64::from(number % 5) << 61 | u64::from(number)), // five groups
        ];
        for key in keys_of {
            let mut keys = Groups::EMPTY;
            (0..WINDOW).for_each(|call| _ = keys.replace_last(key(call), call));
            for number in WINDOW..3 * WINDOW {
                keys.looks = 0;
                keys.remove_last(number % WINDOW);
                assert_eq!(keys.replace_last(key(number), number % WINDOW), NONE);
                assert!(
                    keys.looks <= MOST,
                    "{} groups and entries, for number {number}",
                    keys.looks
                );
            }
            (0..WINDOW).for_each(|call| keys.remove_last(call));
            keys.catch_up();
            assert!(keys.taken == 0 && keys.beyond.is_empty());
        }
    }

    // O6: also where every group is passed, looking for what is not there has an end.
    #[test]
    fn all_groups_can_be_passed() {
        let mut keys = Groups::EMPTY;
        let key = |group: u64, number| unmix(group << 63 | u64::from(number));
        (0..8).for_each(|call| _ = keys.replace_last(key(0, call), call));
        (0..7).for_each(|call| keys.remove_last(call));
        (0..7).for_each(|call| _ = keys.replace_last(key(1, call), call));
        assert!(keys.groups.len() == 2 && keys.groups.iter().all(|group| group.is_passed()));
        keys.taken = 0; // so that it does not grow
        assert_eq!(keys.replace_last(key(0, 8), 8), NONE);
    }
}
