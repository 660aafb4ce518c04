//! The order in which things leave, in every mode the same structure.
//!
//! Control elements cut the stream into *segments*; nothing crosses from one segment to another, so a
//! control element leaves when the segment before it is empty. Within a segment, calls leave in the
//! order in which they became *ready*: done, and nothing that must leave before them still there.
//! What must leave before what is a *chain* of successors. The modes differ only in the chains:
//! ordered is one chain of all calls, unordered none, by key one for each key.

use super::slab::{Call, Link, List, State};
use crate::checkpoint::CheckpointError;
use crate::element::{Barrier, Status, StreamElement};
use crate::policy::Order;
use crate::storage::NONE;
use crate::storage::keys::Keys;
use crate::storage::{Queue as _, Storage};
use crate::time::{Instant, Timestamp};

/// A control element that keeps its place.
#[derive(Debug)]
pub(super) enum Control {
    Watermark(Timestamp),
    Status(Status),
    /// With the instant at which its checkpoint fails if it is still here.
    Barrier(Barrier, Option<Instant>),
    /// A barrier that has failed and left.
    Failed,
}

impl Control {
    /// Whether a snapshot holds it. A barrier belongs to the checkpoint it carries, not to another.
    pub(super) fn is_saved(&self) -> bool {
        matches!(self, Self::Watermark(_) | Self::Status(_))
    }

    pub(super) fn into_element<T>(self) -> Option<StreamElement<T>> {
        match self {
            Self::Watermark(timestamp) => Some(StreamElement::Watermark(timestamp)),
            Self::Status(status) => Some(StreamElement::Status(status)),
            Self::Barrier(barrier, _) => Some(StreamElement::Barrier(barrier)),
            Self::Failed => None,
        }
    }
}

pub(super) struct Queue<S: Storage> {
    order: Order,
    /// The first and the last call of the one chain, when ordered.
    chain_start: u32,
    chain_end: u32,
    /// The last calls of the chains, when by key.
    keys: S::Keys,
    /// The segment whose calls may leave.
    front: Segment,
    /// Its number; segments count up, wrapping around.
    front_number: u32,
    /// Each control element, with the segment behind it.
    behind: S::Controls<(Control, Segment)>,
    /// When the first barrier fails that has a time limit.
    drain_deadline: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Segment {
    /// Calls that have not left.
    calls: u32,
    ready: List,
}

impl Segment {
    const EMPTY: Self = Self { calls: 0, ready: List::EMPTY };
}

impl<S: Storage> Queue<S> {
    pub(super) const fn new(order: Order) -> Self {
        let front = Segment::EMPTY;
        Self {
            order,
            chain_start: NONE,
            chain_end: NONE,
            keys: S::Keys::EMPTY,
            front,
            front_number: 0,
            behind: S::Controls::EMPTY,
            drain_deadline: None,
        }
    }

    /// The key of a call in flight, 0 when it has none.
    pub(super) fn key(&self, call: u32) -> u64 {
        self.keys.key(call)
    }

    /// How many control elements are in it.
    pub(super) fn controls(&self) -> usize {
        self.behind.len()
    }

    /// The number of the segment whose calls may leave.
    pub(super) fn front_number(&self) -> u32 {
        self.front_number
    }

    /// Counts a call at the end. Returns the number of its segment.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn count_call(&mut self) -> u32 {
        let number = self.front_number.wrapping_add(self.behind.len() as u32);
        self.segment(number).calls += 1;
        number
    }

    /// Puts the new `call` at the end of its chain. Returns whether it may be invoked now.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn link_call<In, Out, E>(
        &mut self,
        slots: &mut [Call<In, Out, E>],
        call: u32,
        key: u64,
    ) -> bool {
        match self.order {
            Order::Unordered => {
                self.keys.note(call, key);
                true
            }
            Order::Ordered => {
                self.keys.note(call, key);
                match core::mem::replace(&mut self.chain_end, call) {
                    NONE => self.chain_start = call,
                    before => slots[before as usize].successor = call,
                }
                true
            }
            Order::ByKey | Order::ByKeyOverlapping => self.link_by_key(slots, call, key),
        }
    }

    #[inline(never)] // leaves the registers to the others
    fn link_by_key<In, Out, E>(
        &mut self,
        slots: &mut [Call<In, Out, E>],
        call: u32,
        key: u64,
    ) -> bool {
        let before = self.keys.replace_last(key, call);
        if before == NONE {
            return true;
        }
        let before = &mut slots[before as usize];
        before.successor = call;
        let may_start =
            !self.is_serial() || (before.state == State::Done && before.link != Link::Held);
        slots[call as usize].link = if may_start { Link::Following } else { Link::Held };
        may_start
    }

    /// Whether a call is invoked only when its predecessor has its outcome.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn is_serial(&self) -> bool {
        self.order == Order::ByKey
    }

    /// Puts a control element at the end. At the bound two adjacent watermarks merge; otherwise the
    /// element is handed back.
    pub(super) fn push_control(&mut self, control: Control, bound: usize) -> Result<(), Control> {
        if self.behind.len() < bound {
            let deadline = match &control {
                Control::Barrier(_, deadline) => *deadline,
                _ => None,
            };
            self.behind.push_back((control, Segment::EMPTY)).map_err(|(control, _)| control)?;
            self.drain_deadline = earlier(self.drain_deadline, deadline);
            return Ok(());
        }
        match (self.behind.back_mut(), &control) {
            (Some((Control::Watermark(last), segment)), Control::Watermark(new))
                if segment.calls == 0 =>
            {
                *last = (*last).max(*new);
                Ok(())
            }
            _ => Err(control),
        }
    }

    /// Notes that `call` is done; it leaves at once if its turn has come.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn done<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>], call: u32) {
        if self.order == Order::Ordered {
            return;
        }
        let slot = &slots[call as usize];
        if slot.link == Link::First {
            let number = slot.segment;
            self.segment(number).ready.push_back(slots, call);
        }
    }

    /// Whether something leaves next.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn has_departure<In, Out, E>(&self, slots: &[Call<In, Out, E>]) -> bool {
        match self.front.calls {
            0 => self.behind.len() > 0,
            _ if self.order == Order::Ordered => self.chain_start_is_done(slots),
            _ => !self.front.ready.is_empty(),
        }
    }

    /// The call that leaves next, done or not, if that is decided: when ordered, and there are calls.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn next_to_leave(&self) -> Option<u32> {
        (self.chain_start != NONE).then_some(self.chain_start)
    }

    /// When ordered, and there are calls: nothing but this decides about the next one.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn chain_start_is_done<In, Out, E>(&self, slots: &[Call<In, Out, E>]) -> bool {
        slots[self.chain_start as usize].state == State::Done
    }

    /// The call that leaves next; `None` if none does, or a control element before it.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn pop_call<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>]) -> Option<u32> {
        if self.front.calls == 0 {
            return None;
        }
        let call = match self.order {
            Order::Ordered if self.chain_start_is_done(slots) => self.chain_start,
            Order::Ordered => NONE,
            _ => self.front.ready.pop_front(slots),
        };
        if call == NONE {
            return None;
        }
        self.front.calls -= 1;
        self.end_of_turn(slots, call);
        Some(call)
    }

    /// The control element that leaves next; `None` if none does, or a call before it.
    #[inline(never)] // the seldom one of two ways out of a function that is inlined
    pub(super) fn pop_control(&mut self) -> Option<Control> {
        if self.front.calls > 0 {
            return None;
        }
        let (control, segment) = self.behind.pop_front()?;
        self.begin(segment);
        if matches!(control, Control::Barrier(_, Some(_))) {
            self.drain_deadline = self.first_drain_deadline();
        }
        Some(control)
    }

    // Copied in one function, the compiler takes the two places for ones that may overlap, and links `memmove`:
    // 650 bytes on a small processor, for twelve.
    #[inline(never)]
    fn begin(&mut self, segment: Segment) {
        self.front = segment;
        self.front_number = self.front_number.wrapping_add(1);
    }

    /// When [`take_late_barrier`](Self::take_late_barrier) has something to do.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn drain_deadline(&self) -> Option<Instant> {
        self.drain_deadline
    }

    /// A barrier whose time limit has passed, with its checkpoint failed. It leaves its place.
    pub(super) fn take_late_barrier(&mut self, now: Instant) -> Option<Barrier> {
        if self.drain_deadline? > now {
            return None;
        }
        for index in 0..self.behind.len() {
            let Some((control, _)) = self.behind.get_mut(index) else { break };
            if matches!(control, Control::Barrier(_, Some(deadline)) if *deadline <= now) {
                let late = core::mem::replace(control, Control::Failed);
                self.drain_deadline = self.first_drain_deadline();
                let Control::Barrier(mut barrier, _) = late else { break };
                barrier.checkpoint.fail(CheckpointError::DrainTimedOut);
                return Some(barrier);
            }
        }
        None
    }

    fn first_drain_deadline(&self) -> Option<Instant> {
        let deadline = |control: &Control| match control {
            Control::Barrier(_, deadline) => *deadline,
            _ => None,
        };
        self.behind.iter().filter_map(|(control, _)| deadline(control)).min()
    }

    /// The control elements in order, each with the number of the segment behind it.
    pub(super) fn control_elements(&self) -> impl Iterator<Item = (u32, &Control)> {
        let number = move |index: usize| self.front_number.wrapping_add(1 + index as u32);
        self.behind.iter().enumerate().map(move |(index, (control, _))| (number(index), control))
    }

    /// `call` leaves: its successor's turn has come.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn end_of_turn<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>], call: u32) {
        let successor = slots[call as usize].successor;
        match self.order {
            Order::Unordered => {}
            Order::Ordered => {
                self.chain_start = successor;
                if successor == NONE {
                    self.chain_end = NONE;
                }
            }
            _ if successor == NONE => self.keys.remove_last(call),
            _ => {
                slots[successor as usize].link = Link::First;
                if slots[successor as usize].state == State::Done {
                    self.done(slots, successor);
                }
            }
        }
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn segment(&mut self, number: u32) -> &mut Segment {
        match number.wrapping_sub(self.front_number) {
            0 => &mut self.front,
            behind => match self.behind.get_mut(behind as usize - 1) {
                Some((_, segment)) => segment,
                None => unreachable!("a call names a segment that is there"),
            },
        }
    }
}

/// The earlier of two instants that there may be.
#[cfg_attr(feature = "alloc", inline(always))]
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
