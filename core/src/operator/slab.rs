//! The slots of the records in flight, and the lists that are linked through them.

use super::call::Call;
use super::record::{Record, State};
use crate::storage::{InUse, NONE, Storage, Table, sort};

/// The slots. A vacant slot is used again before the table grows, the most recently used one first: it is in the cache.
pub(super) struct Slab<C: Call, S: Storage> {
    slots: S::Table<Record<C>>,
    vacant: List,
    occupied: usize,
    in_use: S::InUse,
}

impl<C: Call, S: Storage> Slab<C, S> {
    pub(super) const fn new() -> Self {
        Self { slots: S::Table::EMPTY, vacant: List::EMPTY, occupied: 0, in_use: S::InUse::EMPTY }
    }

    /// Records in flight.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn len(&self) -> usize {
        self.occupied
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn slots(&mut self) -> &mut [Record<C>] {
        self.slots.as_mut()
    }

    /// All slots, the vacant ones included.
    pub(super) fn all(&self) -> &[Record<C>] {
        self.slots.as_ref()
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn at(&mut self, slot: u32) -> &mut Record<C> {
        &mut self.slots.as_mut()[slot as usize]
    }

    /// The slot for the next record. `None` when all slots are occupied and the storage has no more.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn vacant(&mut self) -> Option<u32> {
        if self.vacant.is_empty() {
            self.grow();
        }
        self.vacant.first()
    }

    #[cold]
    fn grow(&mut self) {
        let new = self.slots.as_ref().len() as u32;
        if self.slots.push(Record::VACANT).is_ok() {
            self.vacant.replace_first(new);
            self.in_use.grow(new);
        }
    }

    /// Takes the slot that [`vacant`](Self::vacant) has named, for a record that [occupies](Record::occupy) it.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn take(&mut self, slot: u32) -> &mut Record<C> {
        self.occupied += 1;
        self.in_use.mark(slot);
        let record = &mut self.slots.as_mut()[slot as usize];
        self.vacant.replace_first(record.next);
        record
    }

    /// Makes the slot of a record that is done vacant. The caller [takes](Record::take) the contents.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn vacate(&mut self, slot: u32) -> &mut Record<C> {
        self.occupied -= 1;
        let record = &mut self.slots.as_mut()[slot as usize];
        record.vacate();
        // To the front, so that the next record gets it while it is in the cache. Nothing is ever put at the end of this list.
        record.next = self.vacant.replace_first(slot);
        record
    }

    /// The records in flight and their slots, in no order.
    pub(super) fn occupied(&self) -> impl Iterator<Item = (usize, &Record<C>)> {
        let records = self.all();
        let records = self.in_use.iter(records.len()).map(|slot| (slot, &records[slot]));
        records.filter(|(_, record)| record.state() != State::Vacant)
    }

    /// Makes the next [`occupied`](Self::occupied) cost as much as there are records in flight, however many there were
    /// before. It takes one step for each use of a slot since the last time.
    pub(super) fn forget_vacant(&mut self) {
        let slots = self.slots.as_ref();
        self.in_use.retain(|slot| slots[slot].state() != State::Vacant);
    }

    /// The slots in the order in which their records came. `front` is the number of the first segment.
    pub(super) fn in_order(&self, front: u32) -> S::Table<u32> {
        let mut slots = S::Table::EMPTY;
        for (slot, _) in self.occupied() {
            let _ = slots.push(slot as u32); // the table has as much room as the slab
        }
        sort::by_key(&mut slots, |slot| came(&self.all()[slot as usize], front));
        slots
    }

    /// The first slots of [`in_order`](Self::in_order): `most` of them, or all, and perhaps some more. It holds at most twice as many
    /// at a time.
    pub(super) fn oldest(&self, front: u32, most: usize) -> S::Table<u32> {
        let mut slots = S::Table::EMPTY;
        let mut bound = None; // `most` records came before it
        for (slot, record) in self.occupied() {
            if bound.is_some_and(|bound| came(record, front) > bound) {
                continue;
            }
            let _ = slots.push(slot as u32); // the table has as much room as the slab
            if slots.as_ref().len() == 2 * most {
                sort::by_key(&mut slots, |slot| came(&self.all()[slot as usize], front));
                while slots.as_ref().len() > most {
                    let _ = slots.pop();
                }
                let last = slots.as_ref().last();
                bound = last.map(|last| came(&self.all()[*last as usize], front));
            }
        }
        sort::by_key(&mut slots, |slot| came(&self.all()[slot as usize], front));
        slots
    }
}

/// A number for each record that is the smaller, the earlier the record came. `front` is the number of the first segment.
///
/// Request ids alone would not do: those of a merged checkpoint are not in order. Segments always are.
fn came<C: Call>(record: &Record<C>, front: u32) -> (u32, u64) {
    (record.segment.wrapping_sub(front), record.request_id())
}

/// A list that is linked through the slots. A record is in at most one list, so one link serves them all. In an empty list `last` is
/// out of date: `first` alone says that it is empty.
#[derive(Clone, Copy)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE };

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn is_empty(self) -> bool {
        self.first == NONE
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn push_back<C: Call>(&mut self, slots: &mut [Record<C>], slot: u32) {
        slots[slot as usize].next = NONE;
        match self.first {
            NONE => self.first = slot,
            _ => slots[self.last as usize].next = slot,
        }
        self.last = slot;
    }

    /// The first slot, or [`NONE`]; it leaves the list.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn pop_front<C: Call>(&mut self, slots: &mut [Record<C>]) -> u32 {
        let slot = self.first;
        if slot != NONE {
            self.first = slots[slot as usize].next;
        }
        slot
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn first(self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// Puts another slot, or [`NONE`], in front and returns the one that was. The caller links the two.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn replace_first(&mut self, slot: u32) -> u32 {
        core::mem::replace(&mut self.first, slot)
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::operator::metrics::Counters;
    use crate::policy::Unkeyed;
    use crate::retry::NoRetry;
    use crate::storage::Heap;
    use crate::time::Instant;

    type Records = Slab<(u32, (), (), NoRetry, Unkeyed, ()), Heap>;

    fn occupy(records: &mut Records) -> u32 {
        let (slot, mut counters) = (records.vacant().expect("the heap has room"), Counters::NONE);
        records.take(slot).occupy(Instant::ZERO, (0, None), 0, 0);
        records.at(slot).queue(&mut counters);
        slot
    }

    // M1: after a peak, a walk over the records in flight looks at these, not at every slot that was ever used.
    #[test]
    fn a_peak_leaves_nothing_to_walk_over() {
        let mut records = Records::new();
        for _ in 0..10_000 {
            occupy(&mut records);
        }
        let stay = [0, 63, 64, 5_000, 9_999];
        for slot in (0..10_000).filter(|slot| !stay.contains(slot)) {
            let _ = records.vacate(slot);
        }
        assert!(records.occupied().map(|(slot, _)| slot as u32).eq(stay));
        assert_eq!(records.in_order(0).len(), stay.len());
        records.forget_vacant();
        assert!(records.in_use.iter(10_000).eq(stay.map(|slot| slot as usize)));
        let _ = records.vacate(64);
        assert_eq!(occupy(&mut records), 64);
        assert!(records.occupied().map(|(slot, _)| slot as u32).eq(stay));
    }
}
