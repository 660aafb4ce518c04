//! The order in which things leave, in every mode the same structure.
//!
//! Control elements cut the stream into *segments*; nothing crosses from one segment to another, so a
//! control element leaves when the segment before it is empty. Within a segment, calls leave in the
//! order in which they became *ready*: done, and nothing that must leave before them still there.
//! What must leave before what is a *chain* of successors. The modes differ only in the chains:
//! ordered is one chain of all calls, unordered none, by key one for each key.

use super::calls::{Call, List, State};
use crate::config::Order;
use crate::deadlines::NONE;
use crate::element::{Barrier, Status};
use crate::storage::{Queue as _, Storage};
use crate::time::Timestamp;

/// A control element that keeps its place.
#[derive(Debug)]
pub(super) enum Control {
    Watermark(Timestamp),
    Status(Status),
    Barrier(Barrier),
}

pub(super) enum Departure {
    Call(u32),
    Control(Control),
}

pub(super) struct Queue<S: Storage> {
    order: Order,
    /// The last call of the one chain, when ordered.
    chain_end: u32,
    /// The segment whose calls may leave.
    front: Segment,
    /// Its number; segments count up, wrapping around.
    front_number: u32,
    /// Each control element, with the segment behind it.
    behind: S::Queue<(Control, Segment)>,
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
        Self { order, chain_end: NONE, front, front_number: 0, behind: S::Queue::EMPTY }
    }

    /// How many control elements are in it.
    pub(super) fn controls(&self) -> usize {
        self.behind.len()
    }

    /// The number of the segment whose calls may leave.
    pub(super) fn front_number(&self) -> u32 {
        self.front_number
    }

    /// Puts `call` at the end.
    #[inline(always)]
    pub(super) fn push_call<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>], call: u32) {
        let number = self.front_number.wrapping_add(self.behind.len() as u32);
        slots[call as usize].segment = number;
        self.segment(number).calls += 1;
        let before = match self.order {
            Order::Ordered => core::mem::replace(&mut self.chain_end, call),
            Order::Unordered => NONE,
        };
        slots[call as usize].first_of_chain = before == NONE;
        if before != NONE {
            slots[before as usize].successor = call;
        }
    }

    /// Puts a control element at the end. At the bound two adjacent watermarks merge; otherwise the
    /// element is handed back.
    pub(super) fn push_control(&mut self, control: Control, bound: usize) -> Result<(), Control> {
        if self.behind.len() < bound {
            let pushed = self.behind.push_back((control, Segment::EMPTY));
            return pushed.map_err(|(control, _)| control);
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
    #[inline(always)]
    pub(super) fn done<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>], call: u32) {
        let slot = &slots[call as usize];
        if slot.first_of_chain {
            let number = slot.segment;
            self.segment(number).ready.push_back(slots, call);
        }
    }

    /// Whether something leaves next.
    #[inline(always)]
    pub(super) fn has_departure(&self) -> bool {
        !self.front.ready.is_empty() || (self.front.calls == 0 && self.behind.len() > 0)
    }

    /// What leaves next.
    #[inline(always)]
    pub(super) fn pop<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>]) -> Option<Departure> {
        let call = self.front.ready.pop_front(slots);
        if call != NONE {
            self.front.calls -= 1;
            self.end_of_turn(slots, call);
            return Some(Departure::Call(call));
        }
        if self.front.calls > 0 {
            return None;
        }
        let (control, segment) = self.behind.pop_front()?;
        self.front = segment;
        self.front_number = self.front_number.wrapping_add(1);
        Some(Departure::Control(control))
    }

    /// The control elements in order, each with the number of the segment behind it.
    pub(super) fn control_elements(&self) -> impl Iterator<Item = (u32, &Control)> {
        let number = move |index: usize| self.front_number.wrapping_add(1 + index as u32);
        self.behind.iter().enumerate().map(move |(index, (control, _))| (number(index), control))
    }

    /// `call` leaves: its successor's turn has come.
    #[inline(always)]
    fn end_of_turn<In, Out, E>(&mut self, slots: &mut [Call<In, Out, E>], call: u32) {
        let successor = slots[call as usize].successor;
        if successor == NONE {
            if self.chain_end == call {
                self.chain_end = NONE;
            }
            return;
        }
        slots[successor as usize].first_of_chain = true;
        if slots[successor as usize].state == State::Done {
            self.done(slots, successor);
        }
    }

    #[inline(always)]
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
