//! The batches of an operator, for policies that have them: the records that wait for one, and the members of those that run.

use super::{AutoTraits, NONE, Storage, Table};
use crate::time::Instant;

/// Names one batch that was started. No other batch of the operator ever has the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchId {
    pub(crate) number: u32,
    serial: u64,
}

impl BatchId {
    /// A small number that no other batch has while this one is running: an index into a table of requests. It is below the highest
    /// capacity.
    pub const fn number(self) -> usize {
        self.number as usize
    }
}

/// The tables of batches, or nothing for a policy without them.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait BatchTables<S: Storage> {
    const EMPTY: Self;
    /// These tables, or those of another part of the policy if these are nothing.
    type Or<B: BatchTables<S> + AutoTraits>: BatchTables<S> + AutoTraits;
    fn get(&self) -> Option<&Batches<S>>;
    fn get_mut(&mut self) -> Option<&mut Batches<S>>;
}

/// The policy has no batches.
#[allow(unreachable_pub, missing_debug_implementations)]
pub struct NoBatches;

impl<S: Storage> BatchTables<S> for NoBatches {
    const EMPTY: Self = Self;
    type Or<B: BatchTables<S> + AutoTraits> = B;

    #[inline(always)]
    fn get(&self) -> Option<&Batches<S>> {
        None
    }

    #[inline(always)]
    fn get_mut(&mut self) -> Option<&mut Batches<S>> {
        None
    }
}

/// The batch that forms, and those that run.
#[allow(unreachable_pub, missing_debug_implementations)]
pub struct Batches<S: Storage> {
    pub(crate) queue: BatchQueue,
    /// By number. A number is used again before the table grows.
    batches: S::Numbers<RunningBatch>,
    /// By slot.
    members: S::Numbers<Member>,
    vacant: u32,
    running: usize,
    next_serial: u64,
    /// The batch whose last member has run out of time, until the caller asks for it.
    pub(crate) abandoned: Option<BatchId>,
}

impl<S: Storage> BatchTables<S> for Batches<S> {
    const EMPTY: Self = Self {
        queue: BatchQueue::EMPTY,
        batches: Table::EMPTY,
        members: Table::EMPTY,
        vacant: NONE,
        running: 0,
        next_serial: 0,
        abandoned: None,
    };
    type Or<B: BatchTables<S> + AutoTraits> = Self;

    fn get(&self) -> Option<&Self> {
        Some(self)
    }

    fn get_mut(&mut self) -> Option<&mut Self> {
        Some(self)
    }
}

/// The records that wait for a batch. The first of them make the next one.
pub(crate) struct BatchQueue {
    pub(crate) forming: FormingBatch,
    pub(crate) waiting: usize,
    /// So many of them, from the front, wait for no others: a control element is behind the last of these (B2).
    pub(crate) cut_off: usize,
}

impl BatchQueue {
    const EMPTY: Self = Self { forming: FormingBatch::EMPTY, waiting: 0, cut_off: 0 };
}

/// The batch that forms at the front of the queue.
#[derive(Clone, Copy)]
pub(crate) struct FormingBatch {
    pub(crate) records: usize,
    weight: u64,
    /// Nothing more can join it: it has as many records as it may have, or its weight, or the record behind it is too heavy.
    pub(crate) is_full: bool,
}

impl FormingBatch {
    pub(crate) const EMPTY: Self = Self { records: 0, weight: 0, is_full: false };

    /// The next record of the queue joins, if it fits. Any record fits alone.
    pub(crate) fn join(&mut self, weight: u64, most_records: usize, most_weight: u64) {
        if self.is_full {
            return;
        }
        let together = self.weight.saturating_add(weight);
        if self.records > 0 && together > most_weight {
            self.is_full = true;
            return;
        }
        self.records += 1;
        self.weight = together;
        self.is_full = self.records >= most_records || together >= most_weight;
    }
}

/// A batch that runs, or a number that is vacant.
struct RunningBatch {
    serial: u64,
    started: Instant,
    /// Its first member that has not left. Of a vacant number: the next vacant one.
    first: u32,
    last: u32,
    /// The records that it was started with; zero for a vacant number.
    size: u32,
    /// Its answers are being handed in.
    is_ending: bool,
}

const VACANT: RunningBatch = RunningBatch {
    serial: 0,
    started: Instant::ZERO,
    first: NONE,
    last: NONE,
    size: 0,
    is_ending: false,
};

/// The place of a running record in its batch. A member that ends early, by a timeout, leaves a gap in the positions.
#[derive(Clone, Copy)]
struct Member {
    /// [`NONE`] for a record that is in no batch.
    batch: u32,
    position: u32,
    previous: u32,
    next: u32,
}

const NOWHERE: Member = Member { batch: NONE, position: 0, previous: NONE, next: NONE };

/// A member has left its batch.
pub(crate) struct Left {
    pub(crate) id: BatchId,
    /// It was the last one, and not the batch's own answers have ended it.
    pub(crate) is_abandoned: bool,
}

impl<S: Storage> Batches<S> {
    /// The number of batches that have started.
    pub(crate) fn started_so_far(&self) -> u64 {
        self.next_serial
    }

    /// The batches that run.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Starts a batch without members, which [join](Self::join) it next.
    pub(crate) fn begin(&mut self, now: Instant) -> BatchId {
        if self.vacant == NONE {
            self.vacant = self.batches.as_ref().len() as u32;
            if self.batches.push(VACANT).is_err() {
                unreachable!(
                    "a running batch has a record, so there are no more batches than slots"
                );
            }
        }
        let (number, serial) = (self.vacant, self.next_serial);
        let batch = &mut self.batches.as_mut()[number as usize];
        self.vacant = batch.first;
        *batch = RunningBatch { serial, started: now, ..VACANT };
        self.next_serial = serial.wrapping_add(1);
        self.running += 1;
        BatchId { number, serial }
    }

    /// The record in `slot` is the next member of a batch.
    pub(crate) fn join(&mut self, id: BatchId, slot: u32) {
        let _ = self.members.at_slot(slot, NOWHERE);
        let batch = &mut self.batches.as_mut()[id.number()];
        let previous = core::mem::replace(&mut batch.last, slot);
        let members = self.members.as_mut();
        members[slot as usize] =
            Member { batch: id.number, position: batch.size, previous, next: NONE };
        match previous {
            NONE => batch.first = slot,
            _ => members[previous as usize].next = slot,
        }
        batch.size += 1;
    }

    /// The record in `slot` leaves its batch, if it is in one.
    pub(crate) fn leave(&mut self, slot: u32) -> Option<Left> {
        let members = self.members.as_mut();
        let left = core::mem::replace(members.get_mut(slot as usize)?, NOWHERE);
        let batch = self.batches.as_mut().get_mut(left.batch as usize)?;
        match left.previous {
            NONE => batch.first = left.next,
            previous => members[previous as usize].next = left.next,
        }
        match left.next {
            NONE => batch.last = left.previous,
            next => members[next as usize].previous = left.previous,
        }
        let is_abandoned = batch.first == NONE && !batch.is_ending;
        Some(Left { id: BatchId { number: left.batch, serial: batch.serial }, is_abandoned })
    }

    /// A batch is over: its number is vacant.
    pub(crate) fn end(&mut self, number: u32) {
        self.batches.as_mut()[number as usize] = RunningBatch { first: self.vacant, ..VACANT };
        self.vacant = number;
        self.running -= 1;
    }

    /// All batches are over, and no record waits for one.
    pub(crate) fn clear(&mut self) {
        while self.batches.pop().is_some() {}
        (self.vacant, self.running) = (NONE, 0);
        (self.queue, self.abandoned) = (BatchQueue::EMPTY, None);
    }

    /// The batch that runs under this number.
    pub(crate) fn in_number(&self, number: usize) -> Option<BatchId> {
        let batch = self.batches.as_ref().get(number).filter(|batch| batch.size > 0)?;
        Some(BatchId { number: number as u32, serial: batch.serial })
    }

    /// The batch of the record in `slot`.
    pub(crate) fn of_slot(&self, slot: u32) -> Option<BatchId> {
        self.in_number(self.members.as_ref().get(slot as usize)?.batch as usize)
    }

    /// The answers of a batch are handed in. Returns the number of records that it was started with; `None` if it is not running.
    pub(crate) fn begin_end(&mut self, id: BatchId) -> Option<u32> {
        let batch = self.batches.as_mut().get_mut(id.number())?;
        if batch.size == 0 || batch.serial != id.serial {
            return None;
        }
        batch.is_ending = true;
        Some(batch.size)
    }

    /// When a batch has started.
    pub(crate) fn started(&self, number: u32) -> Option<Instant> {
        self.batches.as_ref().get(number as usize).map(|batch| batch.started)
    }

    /// The first member of a batch that has not left.
    pub(crate) fn first(&self, number: u32) -> u32 {
        self.batches.as_ref().get(number as usize).map_or(NONE, |batch| batch.first)
    }

    /// The position of a member in its batch, and the member behind it.
    pub(crate) fn place(&self, slot: u32) -> Option<(u32, u32)> {
        let member = self.members.as_ref().get(slot as usize)?;
        Some((member.position, member.next))
    }
}
