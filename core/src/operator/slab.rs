//! The table of calls in flight: slots that are reused, and lists linked through them.

use super::AttemptId;
use crate::outcome::Failure;
use crate::storage::NONE;
use crate::storage::sort;
use crate::storage::{InUse, Storage, Table};
use crate::time::{Instant, Span, Timestamp};

/// One record in flight.
pub(super) struct Call<In, Out, E> {
    pub(super) input: Option<In>,
    /// What the call ends with; a done call without one leaves without an outcome.
    pub(super) result: Option<Result<Out, Failure<E>>>,
    timestamp: i64,
    pub(super) request_id: u64,
    /// When it was first invoked; for a restored call, as long before as it had already taken. Until
    /// then, when it came.
    pub(super) started: Instant,
    /// A time taken, counted from `started`: by a queued call what it took before a restore, by one in
    /// backoff all until its retry, by a done one all of it. One that is due needs none, and keeps the call
    /// that waits before it here (see [`Waiting`]).
    pub(super) spent: Span,
    pub(super) attempts: u32,
    /// Changes whenever an attempt begins or a call ends; also over the calls of the slot.
    pub(super) generation: u32,
    /// The next call in the one list this one is in: vacant, waiting to be invoked, or ready.
    next: u32,
    /// The next call that may not leave before this one does.
    pub(super) successor: u32,
    pub(super) segment: u32,
    pub(super) state: State,
    pub(super) link: Link,
    has_timestamp: bool,
    /// How many attempts a crash has interrupted; from 255 on they count as failed.
    interrupted: u8,
}

/// Where a call stands in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nothing that must leave before it is still here.
    First,
    Following,
    /// Following, and not to be invoked before the call that it follows has its outcome.
    Held,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Vacant,
    /// To be invoked for the first time in this life.
    Queued,
    Running,
    Backoff,
    /// The backoff is over; to be invoked again.
    Due,
    Done,
}

/// The slots, and which of them are vacant.
pub(super) struct Calls<In, Out, E, S: Storage> {
    slots: S::Table<Call<In, Out, E>>,
    vacant: List,
    occupied: usize,
    in_use: S::InUse,
}

impl<In, Out, E, S: Storage> Calls<In, Out, E, S> {
    pub(super) const fn new() -> Self {
        Self { slots: S::Table::EMPTY, vacant: List::EMPTY, occupied: 0, in_use: S::InUse::EMPTY }
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn len(&self) -> usize {
        self.occupied
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn slots(&mut self) -> &mut [Call<In, Out, E>] {
        self.slots.as_mut()
    }

    /// All slots, the vacant ones included.
    pub(super) fn all(&self) -> &[Call<In, Out, E>] {
        self.slots.as_ref()
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn at(&mut self, call: u32) -> &mut Call<In, Out, E> {
        &mut self.slots.as_mut()[call as usize]
    }

    /// Makes the next look for the calls in flight cheap, whatever has been in flight before. Each use of a slot since the
    /// last time costs one step.
    pub(super) fn forget_vacant(&mut self) {
        let slots = self.slots.as_ref();
        self.in_use.retain(|slot| slots[slot].state != State::Vacant);
    }

    /// The calls in flight and their numbers, in no order.
    pub(super) fn occupied(&self) -> impl Iterator<Item = (usize, &Call<In, Out, E>)> {
        let calls = self.all();
        let calls = self.in_use.iter(calls.len()).map(|slot| (slot, &calls[slot]));
        calls.filter(|(_, call)| call.state != State::Vacant)
    }

    /// The slot that is occupied next; `None` when all are, and the storage has room for no more.
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
        if self.slots.push(Call::VACANT).is_ok() {
            self.vacant.replace_first(new);
            self.in_use.grow(new);
        }
    }

    /// Occupies the slot that [`vacant`](Self::vacant) has named.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn occupy(&mut self, call: u32) -> &mut Call<In, Out, E> {
        self.occupied += 1;
        self.in_use.mark(call);
        let slot = &mut self.slots.as_mut()[call as usize];
        self.vacant.replace_first(slot.next);
        slot.spent = Span::ZERO;
        slot.attempts = 0;
        slot.interrupted = 0;
        slot.successor = NONE;
        slot.link = Link::First;
        slot.state = State::Queued;
        slot
    }

    /// Makes the slot vacant; what is in it is to be taken out. The most recently used one is used again
    /// first: it is in the cache.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn vacate(&mut self, call: u32) -> &mut Call<In, Out, E> {
        self.occupied -= 1;
        let slot = &mut self.slots.as_mut()[call as usize];
        slot.state = State::Vacant;
        slot.next = self.vacant.replace_first(call);
        slot
    }

    /// The calls in the order in which they came; `front` is the number of the first segment.
    ///
    /// Request ids count up, but for what a merged checkpoint has brought; segments always do.
    pub(super) fn in_order(&self, front: u32) -> S::Table<u32> {
        let mut indices = S::Table::EMPTY;
        for (index, _) in self.occupied() {
            let _ = indices.push(index as u32); // there is a place for each
        }
        sort::by_key(indices.as_mut(), |index| {
            let call = &self.all()[index as usize];
            (call.segment.wrapping_sub(front), call.request_id)
        });
        indices
    }
}

impl<In, Out, E> Call<In, Out, E> {
    /// The name of its latest attempt, where it is in this slot.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn id(&self, slot: u32) -> AttemptId {
        AttemptId { request_id: self.request_id, slot, generation: self.generation }
    }

    const VACANT: Self = Self {
        input: None,
        result: None,
        timestamp: 0,
        request_id: 0,
        started: Instant::ZERO,
        spent: Span::ZERO,
        attempts: 0,
        generation: 0,
        next: NONE,
        successor: NONE,
        segment: 0,
        state: State::Vacant,
        link: Link::First,
        has_timestamp: false,
        interrupted: 0,
    };

    /// How many attempts have failed, if the one that is running does not.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn retries(&self) -> u32 {
        self.attempts.saturating_sub(1).saturating_sub(self.interrupted())
    }

    /// How many of the attempts a crash has interrupted.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn interrupted(&self) -> u32 {
        u32::from(self.interrupted)
    }

    pub(super) fn set_interrupted(&mut self, attempts: u32) {
        self.interrupted = u8::try_from(attempts).unwrap_or(u8::MAX);
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        self.has_timestamp.then_some(Timestamp::from_millis(self.timestamp))
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn set_timestamp(&mut self, timestamp: Option<Timestamp>) {
        self.has_timestamp = timestamp.is_some();
        self.timestamp = timestamp.map_or(0, Timestamp::as_millis);
    }

    /// The call is done, and this is what it ends with.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn finish(&mut self, now: Instant, result: Result<Out, Failure<E>>) {
        self.result = Some(result);
        self.spent = now.passed_since(self.started);
        self.generation = self.generation.wrapping_add(1);
        self.state = State::Done;
    }
}

/// A list linked through the slots. A call is in one list at a time.
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
    pub(super) fn push_back<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>], call: u32) {
        slots[call as usize].next = NONE;
        match self.first {
            NONE => self.first = call,
            _ => slots[self.last as usize].next = call,
        }
        self.last = call;
    }

    /// The first call.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn first(self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// Puts another call, or [`NONE`], in front, and returns the one that was; the caller links the two.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn replace_first(&mut self, call: u32) -> u32 {
        core::mem::replace(&mut self.first, call)
    }

    /// The first call, or [`NONE`].
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn pop_front<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>]) -> u32 {
        let call = self.first;
        if call != NONE {
            self.first = slots[call as usize].next;
        }
        call
    }
}

/// Calls to be invoked, in order.
///
/// Nothing is taken out of the middle but calls that are due: a backoff is over, and then their time is,
/// before their turn has come. So these know the call before them; `spent`, which they do not need, is
/// where.
pub(super) struct Waiting(List);

impl Waiting {
    pub(super) const EMPTY: Self = Self(List::EMPTY);

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push_back<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>], call: u32) {
        set_before(slots, call, self.0.last);
        self.0.push_back(slots, call);
    }

    /// The first call, or [`NONE`].
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn pop_front<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>]) -> u32 {
        self.0.pop_front(slots)
    }

    /// Takes out a call that is due.
    pub(super) fn remove<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>], call: u32) {
        let Call { next, spent, .. } = slots[call as usize];
        let before = spent.as_nanos() as u32;
        if self.0.first == call {
            self.0.first = next;
        } else {
            slots[before as usize].next = next;
        }
        if self.0.last == call {
            self.0.last = before;
        } else {
            set_before(slots, next, before);
        }
    }
}

fn set_before<In, Out, E>(slots: &mut [Call<In, Out, E>], call: u32, before: u32) {
    let slot = &mut slots[call as usize];
    if slot.state == State::Due {
        slot.spent = Span::from_nanos(u64::from(before));
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::storage::Heap;

    // M1: after a peak, what looks for the calls in flight looks at these and not at all slots that ever were.
    #[test]
    fn a_peak_leaves_nothing_to_be_gone_through() {
        let mut calls = Calls::<u32, (), (), Heap>::new();
        for _ in 0..10_000 {
            let call = calls.vacant().expect("the heap has room");
            let _ = calls.occupy(call);
        }
        let stay = [0, 63, 64, 5_000, 9_999];
        for call in (0..10_000).filter(|call| !stay.contains(call)) {
            let _ = calls.vacate(call);
        }
        assert!(calls.occupied().map(|(call, _)| call as u32).eq(stay));
        assert_eq!(calls.in_order(0).len(), stay.len());
        calls.forget_vacant();
        assert!(calls.in_use.iter(10_000).eq(stay.map(|call| call as usize)));
        let _ = calls.vacate(64);
        assert_eq!(calls.vacant(), Some(64));
        let _ = calls.occupy(64);
        assert!(calls.occupied().map(|(call, _)| call as u32).eq(stay));
    }
}
