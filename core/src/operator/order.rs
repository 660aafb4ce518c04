//! The order in which records and control elements leave: one structure for every mode.
//!
//! Control elements cut the stream into *segments*. No record crosses from one segment to another, so a
//! control element leaves when the segment before it is empty (O2, O4). Within a segment, records leave in the
//! order in which they become *ready*: a record is ready when it is done and its predecessor has left. Predecessors
//! form *chains*, and the modes differ only in these: ordered is one chain of all records (O1), unordered has none, by key
//! there is one for each key (O3). A record that leaves makes its successor ready, so no step walks along a chain (O6).

use super::call::Call;
use super::record::{Link, Record, State};
use super::slab::List;
use crate::checkpoint::CheckpointError;
use crate::element::{Barrier, Status, StreamElement};
use crate::policy::Order;
use crate::storage::keys::Keys;
use crate::storage::{NONE, Queue as _, Storage};
use crate::time::{Instant, Timestamp};

/// A control element that keeps its position among the records.
#[derive(Debug)]
pub(super) enum QueuedControl {
    Watermark(Timestamp),
    Status(Status),
    /// A barrier that drains, and the instant at which its checkpoint fails if it has not left by then.
    Barrier(Barrier, Option<Instant>),
    /// The position of a barrier that has failed and has left already.
    Failed,
}

impl QueuedControl {
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

pub(super) struct OutputOrder<S: Storage> {
    order: Order,
    /// Ordered: the first and the last record of the one chain.
    chain_start: u32,
    chain_end: u32,
    /// By key: the last record of each chain.
    keys: S::Keys,
    /// The segment whose records may leave.
    front: Segment,
    /// Its number. Segments count up and wrap around.
    front_number: u32,
    /// Each control element, with the segment behind it.
    behind: S::Controls<(QueuedControl, Segment)>,
    /// When the first of the barriers with a time limit fails.
    drain_deadline: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Segment {
    /// Records that have not left.
    records: u32,
    ready: List,
}

impl Segment {
    const EMPTY: Self = Self { records: 0, ready: List::EMPTY };
}

impl<S: Storage> OutputOrder<S> {
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

    /// The key of a record in flight, 0 when it has none.
    pub(super) fn key(&self, slot: u32) -> u64 {
        self.keys.key(slot)
    }

    /// The number of control elements in flight.
    pub(super) fn controls(&self) -> usize {
        self.behind.len()
    }

    /// The number of the segment whose records may leave.
    pub(super) fn front_number(&self) -> u32 {
        self.front_number
    }

    /// Whether an attempt starts only when the record's predecessor has its outcome.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn is_serial(&self) -> bool {
        self.order == Order::ByKey
    }

    /// Whether all records are one chain.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn is_ordered(&self) -> bool {
        self.order == Order::Ordered
    }

    /// Whether records leave as their calls end, whatever their keys.
    pub(super) fn is_unordered(&self) -> bool {
        self.order == Order::Unordered
    }

    /// The last record of each key.
    pub(super) fn keys(&mut self) -> &mut S::Keys {
        &mut self.keys
    }

    /// Whether no control element is behind the records of this segment.
    pub(super) fn is_last_segment(&self, number: u32) -> bool {
        number == self.last_number()
    }

    fn last_number(&self) -> u32 {
        self.front_number.wrapping_add(self.behind.len() as u32)
    }

    /// Counts a new record in the last segment, and returns the segment's number.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn count_record(&mut self) -> u32 {
        let number = self.last_number();
        self.segment(number).records += 1;
        number
    }

    /// Puts a new record at the end of its chain. Returns whether its attempt may start now.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn link_record<C: Call>(
        &mut self,
        slots: &mut [Record<C>],
        slot: u32,
        key: u64,
    ) -> bool {
        match self.order {
            Order::Unordered => {
                self.keys.note(slot, key);
                true
            }
            Order::Ordered => {
                self.keys.note(slot, key);
                match core::mem::replace(&mut self.chain_end, slot) {
                    NONE => self.chain_start = slot,
                    before => slots[before as usize].successor = slot,
                }
                true
            }
            Order::ByKey | Order::ByKeyOverlapping => self.link_by_key(slots, slot, key),
        }
    }

    #[inline(never)] // leaves the registers to the other orders
    fn link_by_key<C: Call>(&mut self, slots: &mut [Record<C>], slot: u32, key: u64) -> bool {
        let before = self.keys.replace_last(key, slot);
        if before == NONE {
            return true;
        }
        let before = &mut slots[before as usize];
        before.successor = slot;
        // A predecessor that is done but held has timed out in a restored backoff, and calls before it go on.
        let may_start =
            !self.is_serial() || (before.state() == State::Done && before.link != Link::Held);
        slots[slot as usize].link = if may_start { Link::Following } else { Link::Held };
        may_start
    }

    /// Puts a control element at the end. At the bound two adjacent watermarks merge; any other
    /// element comes back (C3).
    pub(super) fn push_control(
        &mut self,
        control: QueuedControl,
        bound: usize,
    ) -> Result<(), QueuedControl> {
        if self.behind.len() < bound {
            let deadline = match &control {
                QueuedControl::Barrier(_, deadline) => *deadline,
                _ => None,
            };
            self.behind.push_back((control, Segment::EMPTY)).map_err(|(control, _)| control)?;
            self.drain_deadline = earlier(self.drain_deadline, deadline);
            return Ok(());
        }
        match (self.behind.back_mut(), &control) {
            (Some((QueuedControl::Watermark(last), segment)), QueuedControl::Watermark(new))
                if segment.records == 0 =>
            {
                // No record is between the two, so the later one says all that both say.
                *last = (*last).max(*new);
                Ok(())
            }
            _ => Err(control),
        }
    }

    /// A record is done. If its predecessor has left, it may leave too.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn done<C: Call>(&mut self, slots: &mut [Record<C>], slot: u32) {
        if self.order == Order::Ordered {
            return; // the state of the chain's first record says it all
        }
        let record = &slots[slot as usize];
        if record.link == Link::First {
            let number = record.segment;
            self.segment(number).ready.push_back(slots, slot);
        }
    }

    /// Whether a record or a control element may leave.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn has_output<C: Call>(&self, slots: &[Record<C>]) -> bool {
        match self.front.records {
            0 => self.behind.len() > 0,
            _ if self.order == Order::Ordered => self.is_head_done(slots),
            _ => !self.front.ready.is_empty(),
        }
    }

    /// Ordered: the record that leaves next, done or not.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn head(&self) -> Option<u32> {
        (self.chain_start != NONE).then_some(self.chain_start)
    }

    /// Ordered, with a record in flight: whether it may leave.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn is_head_done<C: Call>(&self, slots: &[Record<C>]) -> bool {
        slots[self.chain_start as usize].state() == State::Done
    }

    /// Takes the next record that may leave. `None` if there is none, or a control element leaves before it.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn pop_record<C: Call>(&mut self, slots: &mut [Record<C>]) -> Option<u32> {
        if self.front.records == 0 {
            return None;
        }
        let slot = match self.order {
            Order::Ordered if self.is_head_done(slots) => self.chain_start,
            Order::Ordered => NONE,
            _ => self.front.ready.pop_front(slots),
        };
        if slot == NONE {
            return None;
        }
        self.front.records -= 1; // the last one lets the control element behind this segment leave
        self.unlink(slots, slot);
        Some(slot)
    }

    /// A record leaves its chain, and its successor may follow.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn unlink<C: Call>(&mut self, slots: &mut [Record<C>], slot: u32) {
        let successor = slots[slot as usize].successor;
        match self.order {
            Order::Unordered => {}
            Order::Ordered => {
                self.chain_start = successor;
                if successor == NONE {
                    self.chain_end = NONE;
                }
            }
            // The last record of its key: the next one with this key begins a new chain.
            _ if successor == NONE => self.keys.remove_last(slot),
            _ => {
                slots[successor as usize].link = Link::First;
                if slots[successor as usize].state() == State::Done {
                    self.done(slots, successor);
                }
            }
        }
    }

    /// Takes the next control element that may leave. `None` if there is none, or a record leaves before it: so no record
    /// is later than the watermark that it came before (O5).
    #[inline(never)] // the less frequent way out of a function that is inlined
    pub(super) fn pop_control(&mut self) -> Option<QueuedControl> {
        if self.front.records > 0 {
            return None;
        }
        let (control, segment) = self.behind.pop_front()?;
        self.begin(segment);
        if matches!(control, QueuedControl::Barrier(_, Some(_))) {
            self.drain_deadline = self.first_drain_deadline();
        }
        Some(control)
    }

    // A function of its own, so that the compiler sees two addresses that cannot overlap. Otherwise it links `memmove`, 650 bytes
    // on a small processor, to copy twelve.
    #[inline(never)]
    fn begin(&mut self, segment: Segment) {
        self.front = segment;
        self.front_number = self.front_number.wrapping_add(1);
    }

    /// The instant from which [`take_late_barrier`](Self::take_late_barrier) has a barrier to give.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn drain_deadline(&self) -> Option<Instant> {
        self.drain_deadline
    }

    /// Takes a barrier whose time limit has passed, with its checkpoint failed (K3). Its position stays.
    pub(super) fn take_late_barrier(&mut self, now: Instant) -> Option<Barrier> {
        if self.drain_deadline? > now {
            return None;
        }
        for index in 0..self.behind.len() {
            let Some((control, _)) = self.behind.get_mut(index) else { break };
            if matches!(control, QueuedControl::Barrier(_, Some(deadline)) if *deadline <= now) {
                let late = core::mem::replace(control, QueuedControl::Failed);
                self.drain_deadline = self.first_drain_deadline();
                let QueuedControl::Barrier(mut barrier, _) = late else { break };
                barrier.checkpoint.fail(CheckpointError::DrainTimedOut);
                return Some(barrier);
            }
        }
        None
    }

    fn first_drain_deadline(&self) -> Option<Instant> {
        let deadline = |control: &QueuedControl| match control {
            QueuedControl::Barrier(_, deadline) => *deadline,
            _ => None,
        };
        self.behind.iter().filter_map(|(control, _)| deadline(control)).min()
    }

    /// The control elements in order, each with the number of the segment behind it.
    pub(super) fn control_elements(&self) -> impl Iterator<Item = (u32, &QueuedControl)> {
        let number = move |index: usize| self.front_number.wrapping_add(1 + index as u32);
        self.behind.iter().enumerate().map(move |(index, (control, _))| (number(index), control))
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn segment(&mut self, number: u32) -> &mut Segment {
        // Numbers wrap around; their difference is right all the same.
        match number.wrapping_sub(self.front_number) {
            0 => &mut self.front,
            behind => match self.behind.get_mut(behind as usize - 1) {
                Some((_, segment)) => segment,
                None => unreachable!("a record's segment is in flight as long as the record"),
            },
        }
    }
}

/// The earlier of two instants, where each may be absent.
#[cfg_attr(feature = "alloc", inline(always))]
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
