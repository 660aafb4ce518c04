//! The deadlines of records in flight, each by its slot, and the earliest of them (T7).
//!
//! With one timeout for all calls, deadlines come in order, so a list in the order of arrival *is* the
//! priority queue, and costs O(1). Deadlines that come out of order (backoffs, the rest of a restored
//! call's time) go to a binary heap. Both are intrusive: a slot's node is in at most one of them, at most once,
//! and a cancelled deadline is removed at once; so nothing stale accumulates, and the earliest deadline
//! is exact. A [small](Table::IS_SMALL) storage has no use for the heap: a walk along its list to the right place
//! takes a bounded number of steps and 800 bytes of flash less.
//!
//! A deadline that is due but must not be judged yet (T6: the runtime may not have delivered the answer)
//! moves to a second list, so that it does not delay the deadlines after it.

use crate::storage::{NONE, Storage, Table};
use crate::time::Instant;

pub(crate) struct Deadlines<S: Storage> {
    nodes: S::Table<Node>,
    /// Deadlines that came in order, in ascending order.
    list: Ends,
    /// Deadlines that are due and must not be judged yet, in ascending order.
    deferred: Ends,
    /// A binary heap of slot numbers, the earliest at the top.
    heap: S::Table<u32>,
}

/// The first and the last slot of a list.
#[derive(Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

const EMPTY: Ends = Ends { first: NONE, last: NONE };

/// The node of a slot. It takes 16 bytes, for each slot there is, so the three cases share two numbers.
#[derive(Clone, Copy)]
struct Node {
    at: Instant,
    /// In a list: the neighbours, or [`NONE`] at an end. Without a deadline: `prev` is [`NOWHERE`]. In the heap: `prev` is
    /// [`IN_HEAP`], and `next` the position there.
    prev: u32,
    next: u32,
}

/// In place of `prev`: the slot has no deadline. No slot has this number or the one below it.
const NOWHERE: u32 = NONE - 1;

/// In place of `prev`: the node is in the heap.
const IN_HEAP: u32 = NONE - 2;

const VACANT: Node = Node { at: Instant::FAR_FUTURE, prev: NOWHERE, next: NONE };

impl<S: Storage> Deadlines<S> {
    const HAS_HEAP: bool = !<S::Table<u32> as Table<u32>>::IS_SMALL;

    pub(crate) const fn new() -> Self {
        Self { nodes: S::Table::EMPTY, list: EMPTY, deferred: EMPTY, heap: S::Table::EMPTY }
    }

    /// Sets the deadline of `slot`, in place of an earlier one.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn set(&mut self, slot: u32, at: Instant) {
        let nodes = self.nodes.as_mut();
        if nodes.get(slot as usize).is_none_or(|node| node.prev != NOWHERE) {
            return self.set_again(slot, at);
        }
        // T7: O(1) as long as deadlines come in order, which equal timeouts do.
        if !Self::HAS_HEAP {
            return insert_sorted(nodes, &mut self.list, slot, at);
        }
        if self.list.last != NONE && nodes[self.list.last as usize].at > at {
            return self.heap_insert(slot, at);
        }
        let last = self.list.last;
        insert_after(nodes, &mut self.list, last, slot, at);
    }

    /// Sets the deadline of a `slot` that has no node yet, or another deadline.
    #[inline(never)]
    fn set_again(&mut self, slot: u32, at: Instant) {
        let _ = self.nodes.at_slot(slot, VACANT);
        self.cancel(slot);
        self.set(slot, at);
    }

    /// Removes the deadline of `slot`, if it has one.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn cancel(&mut self, slot: u32) {
        let nodes = self.nodes.as_mut();
        let Some(node) = nodes.get_mut(slot as usize) else { return };
        let Node { prev, next, .. } = *node;
        if prev == NOWHERE {
            return;
        }
        node.prev = NOWHERE;
        if Self::HAS_HEAP && prev == IN_HEAP {
            return self.heap_remove(next as usize);
        }
        // A node does not store its list. Only an end has to know it, and `first` and `last` identify it.
        match prev {
            NONE if self.list.first == slot => self.list.first = next,
            NONE => self.deferred.first = next,
            _ => nodes[prev as usize].next = next,
        }
        match next {
            NONE if self.list.last == slot => self.list.last = prev,
            NONE => self.deferred.last = prev,
            _ => nodes[next as usize].prev = prev,
        }
    }

    /// The earliest deadline, including deferred ones.
    #[cfg_attr(feature = "alloc", inline)]
    pub(crate) fn earliest(&self) -> Option<Instant> {
        // A deferred deadline counts: the runtime's timer has to fire for it, or it would never be judged (T6).
        let first = self.first_undeferred().map(|slot| self.at(slot));
        match self.deferred.first {
            NONE => first,
            deferred => Some(first.map_or(self.at(deferred), |first| first.min(self.at(deferred)))),
        }
    }

    /// The slot with the earliest deadline that is not after `now`. Defers the deadlines after `until` of slots for which
    /// `must_wait` is true: the clock alone must not judge them (T6).
    #[cfg_attr(feature = "alloc", inline)]
    pub(crate) fn first_due(
        &mut self,
        now: Instant,
        until: Instant,
        must_wait: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let due = loop {
            let Some(slot) = self.first_undeferred().filter(|slot| self.at(*slot) <= now) else {
                break None;
            };
            if self.at(slot) <= until || !must_wait(slot) {
                break Some(slot);
            }
            self.defer(slot);
        };
        // A deferred deadline up to `until` may be judged now, in the order of instants.
        match self.deferred.first {
            NONE => due,
            deferred if self.at(deferred) > until => due,
            deferred => due.filter(|due| self.at(*due) < self.at(deferred)).or(Some(deferred)),
        }
    }

    /// Moves the deadline of `slot` to the list of deferred ones.
    #[cold]
    fn defer(&mut self, slot: u32) {
        let at = self.at(slot);
        self.cancel(slot);
        // Deadlines are deferred in ascending order, so the place is the last one; only a restored call can be due earlier than
        // one that was deferred before.
        insert_sorted(self.nodes.as_mut(), &mut self.deferred, slot, at);
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn at(&self, slot: u32) -> Instant {
        self.nodes.as_ref()[slot as usize].at
    }

    /// The slot with the earliest deadline that is not deferred.
    #[cfg_attr(feature = "alloc", inline)]
    fn first_undeferred(&self) -> Option<u32> {
        if !Self::HAS_HEAP {
            return (self.list.first != NONE).then_some(self.list.first);
        }
        let nodes = self.nodes.as_ref();
        match (self.list.first, self.heap.as_ref().first()) {
            (NONE, None) => None,
            (list, None) => Some(list),
            (NONE, Some(&heap)) => Some(heap),
            (list, Some(&heap)) => {
                Some(if nodes[list as usize].at <= nodes[heap as usize].at { list } else { heap })
            }
        }
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn node(&mut self, slot: u32) -> &mut Node {
        &mut self.nodes.as_mut()[slot as usize]
    }

    #[inline(never)]
    fn heap_insert(&mut self, slot: u32, at: Instant) {
        let position = self.heap.as_ref().len();
        if self.heap.push(slot).is_err() {
            return; // cannot happen: the storage has room for as many heap entries as for slots
        }
        self.node(slot).at = at;
        self.sift_up(position, slot);
    }

    /// Removes the entry at `position`; the last entry takes its place.
    #[inline(never)]
    fn heap_remove(&mut self, position: usize) {
        let Some(moved) = self.heap.pop() else { return };
        if position == self.heap.as_ref().len() {
            return;
        }
        // The moved entry comes from another branch of the heap, so it may belong below or above this position.
        let position = self.sift_down(position, moved);
        self.sift_up(position, moved);
    }

    fn sift_up(&mut self, mut position: usize, slot: u32) {
        let at = self.node(slot).at;
        while position > 0 {
            let parent = (position - 1) / 2;
            let above = self.heap.as_ref()[parent];
            if self.node(above).at <= at {
                break;
            }
            self.heap_set(position, above);
            position = parent;
        }
        self.heap_set(position, slot);
    }

    fn sift_down(&mut self, mut position: usize, slot: u32) -> usize {
        let at = self.node(slot).at;
        loop {
            let heap = self.heap.as_ref();
            let nodes = self.nodes.as_ref();
            let left = 2 * position + 1;
            let Some(&first) = heap.get(left) else { break };
            // The earlier of the two children, so that it may stand above the other one.
            let (child, below) = match heap.get(left + 1) {
                Some(&second) if nodes[second as usize].at < nodes[first as usize].at => {
                    (left + 1, second)
                }
                _ => (left, first),
            };
            if at <= nodes[below as usize].at {
                break;
            }
            self.heap_set(position, below);
            position = child;
        }
        self.heap_set(position, slot);
        position
    }

    fn heap_set(&mut self, position: usize, slot: u32) {
        // The node knows its position, so that `cancel` can remove it from the middle of the heap.
        self.heap.as_mut()[position] = slot;
        let node = self.node(slot);
        (node.prev, node.next) = (IN_HEAP, position as u32);
    }
}

/// Links a slot without a deadline into `list`, behind the deadlines that are not later than `at`.
#[inline(never)]
fn insert_sorted(nodes: &mut [Node], list: &mut Ends, slot: u32, at: Instant) {
    let mut prev = list.last;
    while prev != NONE && nodes[prev as usize].at > at {
        prev = nodes[prev as usize].prev;
    }
    insert_after(nodes, list, prev, slot, at);
}

/// Links a slot without a deadline into `list`: after the slot `prev`, or at the front if that is [`NONE`].
#[inline(always)]
fn insert_after(nodes: &mut [Node], list: &mut Ends, prev: u32, slot: u32, at: Instant) {
    let next = match prev {
        NONE => core::mem::replace(&mut list.first, slot),
        _ => core::mem::replace(&mut nodes[prev as usize].next, slot),
    };
    match next {
        NONE => list.last = slot,
        _ => nodes[next as usize].prev = slot,
    }
    nodes[slot as usize] = Node { at, prev, next };
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;
    use crate::storage::{Fixed, Heap};

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos as i64)
    }

    // T7: equal timeouts stay in the list, also if some are cancelled in between.
    #[test]
    fn deadlines_in_order_never_touch_the_heap() {
        let mut deadlines = Deadlines::<Heap>::new();
        for slot in 0..100 {
            // In pairs: calls that start in the same turn have the same deadline.
            deadlines.set(slot, at(1000 + u64::from(slot / 2)));
            if slot % 3 == 1 {
                deadlines.cancel(slot - 1);
            }
        }
        assert!(deadlines.heap.is_empty());
        assert_eq!(deadlines.earliest(), Some(at(1000)));
    }

    // T7: compared with a sorted map, in both storages.
    #[test]
    fn the_earliest_deadline_agrees_with_a_sorted_map() {
        check::<Heap>(1);
        check::<Fixed<33>>(2);
        check::<Fixed<32>>(3); // without the heap
    }

    fn check<S: Storage>(seed: u64) {
        let mut random = seed;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut deadlines = Deadlines::<S>::new();
        let mut model = BTreeMap::new();
        let (mut now, mut until) = (0, 0);
        let must_wait = |slot| slot % 3 == 0;
        for _ in 0..20_000 {
            let slot = next(32) as u32;
            match next(4) {
                0 => {
                    deadlines.cancel(slot);
                    model.remove(&slot);
                }
                1 => {
                    now += next(20);
                    until = if next(2) == 0 { now } else { until };
                    while let Some(due) = deadlines.first_due(at(now), at(until), must_wait) {
                        deadlines.cancel(due);
                        let due_at = model.remove(&due).unwrap();
                        assert!(due_at <= now && (due_at <= until || !must_wait(due)));
                        let waits = |(slot, at): (&u32, &u64)| must_wait(*slot) && *at > until;
                        assert!(model.iter().all(|other| *other.1 >= due_at || waits(other)));
                    }
                    let left = model.iter().filter(|(_, at)| **at <= now);
                    assert!(left.into_iter().all(|(slot, at)| must_wait(*slot) && *at > until));
                }
                kind => {
                    // Mostly the same timeout, sometimes a backoff, or a deadline that has passed when it is set.
                    let deadline = match kind {
                        2 => now + 100,
                        _ => (now + next(120)).saturating_sub(next(2) * next(40)),
                    };
                    deadlines.set(slot, at(deadline));
                    model.insert(slot, deadline);
                }
            }
            assert_eq!(deadlines.earliest(), model.values().min().copied().map(at), "seed {seed}");
        }
    }
}
