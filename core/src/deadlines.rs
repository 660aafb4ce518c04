//! When each call must be looked at next, and which is first.
//!
//! With one timeout for all, deadlines come in order, so a list in the order of arrival *is* the
//! priority queue, and costs O(1). What comes out of order (backoffs, what is left of a restored
//! call's time) goes to a binary heap. Both are intrusive: a call is in at most one of them, at most
//! once, and leaves when it is cancelled; so nothing stale accumulates, and the earliest deadline is
//! exact.

use crate::storage::{Storage, Table};
use crate::time::Instant;

pub(crate) const NONE: u32 = u32::MAX;

pub(crate) struct Deadlines<S: Storage> {
    nodes: S::Table<Node>,
    /// The list, in ascending order.
    first: u32,
    last: u32,
    /// A binary heap of call numbers, the earliest at the top.
    heap: S::Table<u32>,
}

/// Sixteen bytes for each place of a stage, so the three cases share two numbers.
#[derive(Clone, Copy)]
struct Node {
    at: Instant,
    /// The neighbours in the list, or [`NONE`]; or [`NOWHERE`]; or [`IN_HEAP`] and the position there.
    before: u32,
    behind: u32,
}

/// In place of a neighbour before: in neither of the two. No call has this number, nor the next.
const NOWHERE: u32 = NONE - 1;

/// In place of a neighbour before: the node is in the heap.
const IN_HEAP: u32 = NONE - 2;

const VACANT: Node = Node { at: Instant::FAR_FUTURE, before: NOWHERE, behind: NONE };

impl<S: Storage> Deadlines<S> {
    pub(crate) const fn new() -> Self {
        Self { nodes: S::Table::EMPTY, first: NONE, last: NONE, heap: S::Table::EMPTY }
    }

    /// Calls `call` up at `at`; a deadline it had before is forgotten.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn set(&mut self, call: u32, at: Instant) {
        let nodes = self.nodes.as_mut();
        if nodes.get(call as usize).is_none_or(|node| node.before != NOWHERE) {
            return self.set_again(call, at);
        }
        match self.last {
            NONE => self.first = call,
            last => {
                let last = &mut nodes[last as usize];
                if last.at > at {
                    return self.heap_insert(call, at);
                }
                last.behind = call;
            }
        }
        nodes[call as usize] = Node { at, before: self.last, behind: NONE };
        self.last = call;
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
            NONE => self.first = behind,
            _ => nodes[before as usize].behind = behind,
        }
        match behind {
            NONE => self.last = before,
            _ => nodes[behind as usize].before = before,
        }
    }

    /// The earliest deadline.
    #[cfg_attr(feature = "alloc", inline)]
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.first_call().map(|call| self.nodes.as_ref()[call as usize].at)
    }

    /// The call whose deadline is the earliest, if that is not after `now`.
    #[cfg_attr(feature = "alloc", inline)]
    pub(crate) fn first_due(&self, now: Instant) -> Option<u32> {
        self.first_call().filter(|call| self.nodes.as_ref()[*call as usize].at <= now)
    }

    #[cfg_attr(feature = "alloc", inline)]
    fn first_call(&self) -> Option<u32> {
        let nodes = self.nodes.as_ref();
        match (self.first, self.heap.as_ref().first()) {
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
        let mut now = 0;
        for _ in 0..20_000 {
            let call = next(32) as u32;
            match next(4) {
                0 => {
                    deadlines.cancel(call);
                    model.remove(&call);
                }
                1 => {
                    now += next(20);
                    while let Some(due) = deadlines.first_due(at(now)) {
                        deadlines.cancel(due);
                        let due_at = model.remove(&due).unwrap();
                        assert!(due_at <= now);
                        assert!(model.values().all(|other| *other >= due_at));
                    }
                }
                kind => {
                    // Mostly the same timeout, now and then a backoff.
                    let deadline = now + if kind == 2 { 100 } else { next(120) };
                    deadlines.set(call, at(deadline));
                    model.insert(call, deadline);
                }
            }
            assert_eq!(deadlines.earliest(), model.values().min().copied().map(at), "seed {seed}");
        }
    }
}
