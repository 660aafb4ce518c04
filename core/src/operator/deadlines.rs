//! When each call must be looked at next, and which is first.
//!
//! With one timeout for all, deadlines come in order, so a list in the order of arrival *is* the
//! priority queue, and costs O(1). What comes out of order (backoffs, what is left of a restored
//! call's time) goes to a binary heap. Both are intrusive: a call is in at most one of them, at most
//! once, and leaves when it is cancelled; so nothing stale accumulates, and the earliest deadline is
//! exact.
//!
//! What is due and must wait before it is judged stands aside in a second list, and holds nothing else up.

use crate::storage::{NONE, Storage, Table};
use crate::time::Instant;

pub(crate) struct Deadlines<S: Storage> {
    nodes: S::Table<Node>,
    /// In ascending order.
    list: Ends,
    /// Calls that are due and not to be judged yet, in ascending order.
    aside: Ends,
    /// A binary heap of call numbers, the earliest at the top.
    heap: S::Table<u32>,
}

/// The first and the last call of a list.
#[derive(Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

const EMPTY: Ends = Ends { first: NONE, last: NONE };

/// Sixteen bytes for each place of a stage, so the three cases share two numbers.
#[derive(Clone, Copy)]
struct Node {
    at: Instant,
    /// The neighbours in one of the lists, or [`NONE`]; or [`NOWHERE`]; or [`IN_HEAP`] and the position there.
    before: u32,
    behind: u32,
}

/// In place of a neighbour before: in none of the three. No call has this number, nor the next.
const NOWHERE: u32 = NONE - 1;

/// In place of a neighbour before: the node is in the heap.
const IN_HEAP: u32 = NONE - 2;

const VACANT: Node = Node { at: Instant::FAR_FUTURE, before: NOWHERE, behind: NONE };

impl<S: Storage> Deadlines<S> {
    pub(crate) const fn new() -> Self {
        Self { nodes: S::Table::EMPTY, list: EMPTY, aside: EMPTY, heap: S::Table::EMPTY }
    }

    /// Calls `call` up at `at`; a deadline it had before is forgotten.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn set(&mut self, call: u32, at: Instant) {
        let nodes = self.nodes.as_mut();
        if nodes.get(call as usize).is_none_or(|node| node.before != NOWHERE) {
            return self.set_again(call, at);
        }
        if self.list.last != NONE && nodes[self.list.last as usize].at > at {
            return self.heap_insert(call, at);
        }
        let last = self.list.last;
        insert_behind(nodes, &mut self.list, last, call, at);
    }

    /// The same when `call` has no node yet, or another deadline.
    #[inline(never)]
    fn set_again(&mut self, call: u32, at: Instant) {
        while self.nodes.as_ref().len() <= call as usize {
            if self.nodes.push(VACANT).is_err() {
                unreachable!("the storage has room for as many nodes as for calls");
            }
        }
        self.cancel(call);
        self.set(call, at);
    }

    /// Forgets the deadline of `call`, if it has one.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn cancel(&mut self, call: u32) {
        let nodes = self.nodes.as_mut();
        let Some(node) = nodes.get_mut(call as usize) else { return };
        let Node { before, behind, .. } = *node;
        if before == NOWHERE {
            return;
        }
        node.before = NOWHERE;
        if before == IN_HEAP {
            return self.heap_remove(behind as usize);
        }
        match before {
            NONE if self.list.first == call => self.list.first = behind,
            NONE => self.aside.first = behind,
            _ => nodes[before as usize].behind = behind,
        }
        match behind {
            NONE if self.list.last == call => self.list.last = before,
            NONE => self.aside.last = before,
            _ => nodes[behind as usize].before = before,
        }
    }

    /// The earliest deadline.
    #[cfg_attr(feature = "alloc", inline)]
    pub(crate) fn earliest(&self) -> Option<Instant> {
        let first = self.first_call().map(|call| self.at(call));
        match self.aside.first {
            NONE => first,
            aside => Some(first.map_or(self.at(aside), |first| first.min(self.at(aside)))),
        }
    }

    /// The call whose deadline is the earliest of those that are not after `now`. Calls for which `must_wait` holds stand
    /// aside as long as their deadlines are after `until`.
    #[cfg_attr(feature = "alloc", inline)]
    pub(crate) fn first_due(
        &mut self,
        now: Instant,
        until: Instant,
        must_wait: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let due = loop {
            let Some(call) = self.first_call().filter(|call| self.at(*call) <= now) else {
                break None;
            };
            if self.at(call) <= until || !must_wait(call) {
                break Some(call);
            }
            self.stand_aside(call);
        };
        match self.aside.first {
            NONE => due,
            aside if self.at(aside) > until => due,
            aside => due.filter(|due| self.at(*due) < self.at(aside)).or(Some(aside)),
        }
    }

    #[cold]
    fn stand_aside(&mut self, call: u32) {
        let at = self.at(call);
        self.cancel(call);
        // Nearly always the last one: only what a restore brings can be due earlier than what is here already.
        let mut before = self.aside.last;
        while before != NONE && self.at(before) > at {
            before = self.nodes.as_ref()[before as usize].before;
        }
        insert_behind(self.nodes.as_mut(), &mut self.aside, before, call, at);
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn at(&self, call: u32) -> Instant {
        self.nodes.as_ref()[call as usize].at
    }

    /// The earliest that does not stand aside.
    #[cfg_attr(feature = "alloc", inline)]
    fn first_call(&self) -> Option<u32> {
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
    fn node(&mut self, call: u32) -> &mut Node {
        &mut self.nodes.as_mut()[call as usize]
    }

    #[inline(never)]
    fn heap_insert(&mut self, call: u32, at: Instant) {
        let position = self.heap.as_ref().len();
        if self.heap.push(call).is_err() {
            return; // as above: there is a place for every call
        }
        self.node(call).at = at;
        self.sift_up(position, call);
    }

    /// Takes the entry at `position` out and lets the last one take its place.
    #[inline(never)]
    fn heap_remove(&mut self, position: usize) {
        let Some(moved) = self.heap.pop() else { return };
        if position == self.heap.as_ref().len() {
            return;
        }
        let position = self.sift_down(position, moved);
        self.sift_up(position, moved);
    }

    fn sift_up(&mut self, mut position: usize, call: u32) {
        let at = self.node(call).at;
        while position > 0 {
            let parent = (position - 1) / 2;
            let above = self.heap.as_ref()[parent];
            if self.node(above).at <= at {
                break;
            }
            self.heap_place(position, above);
            position = parent;
        }
        self.heap_place(position, call);
    }

    fn sift_down(&mut self, mut position: usize, call: u32) -> usize {
        let at = self.node(call).at;
        loop {
            let heap = self.heap.as_ref();
            let nodes = self.nodes.as_ref();
            let left = 2 * position + 1;
            let Some(&first) = heap.get(left) else { break };
            let (child, below) = match heap.get(left + 1) {
                Some(&second) if nodes[second as usize].at < nodes[first as usize].at => {
                    (left + 1, second)
                }
                _ => (left, first),
            };
            if at <= nodes[below as usize].at {
                break;
            }
            self.heap_place(position, below);
            position = child;
        }
        self.heap_place(position, call);
        position
    }

    fn heap_place(&mut self, position: usize, call: u32) {
        self.heap.as_mut()[position] = call;
        let node = self.node(call);
        (node.before, node.behind) = (IN_HEAP, position as u32);
    }
}

/// Links a call that is in none of the three behind another one, or [`NONE`].
#[cfg_attr(feature = "alloc", inline(always))]
fn insert_behind(nodes: &mut [Node], list: &mut Ends, before: u32, call: u32, at: Instant) {
    let behind = match before {
        NONE => core::mem::replace(&mut list.first, call),
        _ => core::mem::replace(&mut nodes[before as usize].behind, call),
    };
    match behind {
        NONE => list.last = call,
        _ => nodes[behind as usize].before = call,
    }
    nodes[call as usize] = Node { at, before, behind };
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;
    use crate::storage::{Fixed, Heap};

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos as i64)
    }

    // T7: equal timeouts stay in the list, whatever is cancelled in between.
    #[test]
    fn deadlines_in_order_never_touch_the_heap() {
        let mut deadlines = Deadlines::<Heap>::new();
        for call in 0..100 {
            // In pairs: what begins in the same turn has the same deadline.
            deadlines.set(call, at(1000 + u64::from(call / 2)));
            if call % 3 == 1 {
                deadlines.cancel(call - 1);
            }
        }
        assert!(deadlines.heap.is_empty());
        assert_eq!(deadlines.earliest(), Some(at(1000)));
    }

    // Against a sorted map as the oracle, in both storages.
    #[test]
    fn the_earliest_is_the_earliest() {
        check::<Heap>(1);
        check::<Fixed<32>>(2);
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
        let must_wait = |call| call % 3 == 0;
        for _ in 0..20_000 {
            let call = next(32) as u32;
            match next(4) {
                0 => {
                    deadlines.cancel(call);
                    model.remove(&call);
                }
                1 => {
                    now += next(20);
                    until = if next(2) == 0 { now } else { until };
                    while let Some(due) = deadlines.first_due(at(now), at(until), must_wait) {
                        deadlines.cancel(due);
                        let due_at = model.remove(&due).unwrap();
                        assert!(due_at <= now && (due_at <= until || !must_wait(due)));
                        let waits = |(call, at): (&u32, &u64)| must_wait(*call) && *at > until;
                        assert!(model.iter().all(|other| *other.1 >= due_at || waits(other)));
                    }
                    let left = model.iter().filter(|(_, at)| **at <= now);
                    assert!(left.into_iter().all(|(call, at)| must_wait(*call) && *at > until));
                }
                kind => {
                    // Mostly the same timeout, now and then a backoff, or what is over when it comes.
                    let deadline = match kind {
                        2 => now + 100,
                        _ => (now + next(120)).saturating_sub(next(2) * next(40)),
                    };
                    deadlines.set(call, at(deadline));
                    model.insert(call, deadline);
                }
            }
            assert_eq!(deadlines.earliest(), model.values().min().copied().map(at), "seed {seed}");
        }
    }
}
