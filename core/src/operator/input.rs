//! How elements go in.

use super::Operator;
use super::attempt::{Attempt, PushError};
use super::call::Call;
use super::ending::{Overtaking, Phase};
use super::order::QueuedControl;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use super::snapshot::{Saved, SavedCall};
use crate::element::{Barrier, BarrierMode, StreamElement};
use crate::policy::{Extras, GivenKey, KeySelector};
use crate::storage::{Queue as _, Storage};
use crate::time::{Instant, Span, Timestamp};

impl<C: Call, S: Storage> Operator<C, S>
where
    C::Key: KeySelector<C::Input>,
{
    /// Takes in an element. A record has the key that the policy's key function gives it, if there is one.
    ///
    /// A barrier in [`BarrierMode::Snapshot`] gets its snapshot here and leaves at once, ahead of the records in flight (K3).
    /// If the snapshot cannot be taken, the barrier's checkpoint says so.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] hands the element back when `capacity` records are in flight, or as many control
    /// elements (two adjacent watermarks merge then, C3), or while a restore still has records waiting for a
    /// slot. [`PushError::Finished`] does after [`finish`](Self::finish).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn push(
        &mut self,
        now: Instant,
        element: StreamElement<C::Input>,
    ) -> Result<(), PushError<StreamElement<C::Input>>> {
        let key = match &element {
            StreamElement::Record { value, .. } => self.key.key_of(value),
            _ => 0,
        };
        self.push_element(now, key, element)
    }

    /// Takes in an element, and starts the first attempt of a record at once if it may run now and no other attempt waits: then
    /// [`poll_attempt`](Self::poll_attempt) would return it next. The record does not go through the queue of attempts, which is
    /// a little faster. The attempt counts as running from here on. `None` is no refusal: the attempt, if any, waits for `poll_attempt`.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, Instant, StreamElement};
    ///
    /// let mut op = AsyncWait::ordered(4).max_running(1).build_core::<u32, u32, ()>().unwrap();
    /// let attempt = op.push_start(Instant::ZERO, StreamElement::value(20)).unwrap();
    /// assert_eq!(attempt.map(|attempt| *attempt.input), Some(20));
    ///
    /// let attempt = op.push_start(Instant::ZERO, StreamElement::value(21)).unwrap();
    /// assert!(attempt.is_none(), "one attempt may run at a time");
    /// assert_eq!(op.in_flight(), 2);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push). No attempt has been started then.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn push_start(
        &mut self,
        now: Instant,
        element: StreamElement<C::Input>,
    ) -> Result<Option<Attempt<'_, C::Input>>, PushError<StreamElement<C::Input>>> {
        self.advance(now);
        let StreamElement::Record { value, timestamp } = element else {
            self.push_control(element)?;
            return Ok(None);
        };
        let Some(slot) = self.slot_for_record() else {
            return Err(self.refused(StreamElement::Record { value, timestamp }));
        };
        let key = self.key.key_of(&value);
        let may_start = self.place_new(slot, key, value, timestamp);
        // Attempts in the queue have waited longer, and go first. A start that a rate may hold back, or that a batch takes along, is
        // decided at the queue's front.
        if may_start
            && !C::Extras::THROTTLES
            && !C::Extras::BATCHES
            && self.to_start.is_empty()
            && self.may_run()
        {
            return Ok(self.start_new(slot));
        }
        self.queue_start(slot, may_start);
        Ok(None)
    }
}

impl<C: Call<Key = GivenKey>, S: Storage> Operator<C, S> {
    /// Takes in an element whose record has this key, for a policy with
    /// [`ordered_by_given_key`](crate::AsyncWait::ordered_by_given_key). The key of a control element is ignored.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn push_with_key(
        &mut self,
        now: Instant,
        key: u64,
        element: StreamElement<C::Input>,
    ) -> Result<(), PushError<StreamElement<C::Input>>> {
        self.push_element(now, key, element)
    }
}

impl<C: Call, S: Storage> Operator<C, S> {
    #[cfg_attr(feature = "alloc", inline(always))]
    fn push_element(
        &mut self,
        now: Instant,
        key: u64,
        element: StreamElement<C::Input>,
    ) -> Result<(), PushError<StreamElement<C::Input>>> {
        self.advance(now);
        match element {
            StreamElement::Record { value, timestamp } => {
                let Some(slot) = self.slot_for_record() else {
                    return Err(self.refused(StreamElement::Record { value, timestamp }));
                };
                let may_start = self.place_new(slot, key, value, timestamp);
                self.queue_start(slot, may_start);
                Ok(())
            }
            control => self.push_control(control),
        }
    }

    /// The slot for a new record, if one is taken in now.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn slot_for_record(&mut self) -> Option<u32> {
        if self.takes_record() { self.records.vacant() } else { None }
    }

    /// Why an element is not taken in. While restored records wait for a slot, the operator is full for all others (K5).
    #[cold]
    fn refused(&self, element: StreamElement<C::Input>) -> PushError<StreamElement<C::Input>> {
        match self.ending.phase {
            Phase::Open => PushError::Full(element),
            _ => PushError::Finished(element),
        }
    }

    /// Gives a new record its slot and its request id. Returns whether its attempt may start now.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn place_new(
        &mut self,
        slot: u32,
        key: u64,
        value: C::Input,
        timestamp: Option<Timestamp>,
    ) -> bool {
        let request_id = self.ids.next;
        self.ids.advance();
        self.place(slot, (value, timestamp), request_id, key)
    }

    /// Gives a record a [vacant](super::slab::Slab::vacant) slot, and its position in the order. Returns whether an attempt may
    /// start now. The record is neither queued nor started yet.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn place(
        &mut self,
        slot: u32,
        (input, timestamp): (C::Input, Option<Timestamp>),
        request_id: u64,
        key: u64,
    ) -> bool {
        let segment = self.order.count_record();
        let record = self.records.take(slot);
        record.occupy(self.now, (input, timestamp), request_id, segment);
        if self.records.len() >= self.limits.capacity {
            self.counters.full(self.now);
        }
        let may_start = self.order.link_record(self.records.slots(), slot, key);
        if C::Extras::ONE_PER_KEY && self.order.is_ordered() {
            return self.hold_behind_key(slot, key);
        }
        may_start
    }

    /// Lets a new record wait for its attempt. One that may not start yet joins the queue when its predecessor's call ends.
    pub(super) fn queue_start(&mut self, slot: u32, may_start: bool) {
        self.records.at(slot).queue(&mut self.counters);
        if may_start {
            self.enqueue(slot);
        }
    }

    fn push_control(
        &mut self,
        element: StreamElement<C::Input>,
    ) -> Result<(), PushError<StreamElement<C::Input>>> {
        if self.ending.phase != Phase::Open || self.backlog.len() > 0 {
            return match element {
                // Its snapshot holds whatever is in flight, so it waits for nothing (K11).
                StreamElement::Barrier(barrier)
                    if barrier.mode == BarrierMode::Snapshot
                        && self.ending.phase != Phase::Failed =>
                {
                    self.push_snapshot_barrier(barrier)
                }
                element => Err(self.refused(element)),
            };
        }
        let control = match element {
            StreamElement::Watermark(timestamp) => QueuedControl::Watermark(timestamp),
            StreamElement::Status(status) => QueuedControl::Status(status),
            StreamElement::Barrier(barrier) if barrier.mode == BarrierMode::Snapshot => {
                return self.push_snapshot_barrier(barrier);
            }
            StreamElement::Barrier(mut barrier) => {
                // Not into a barrier that comes back below: its checkpoint must be as it was.
                if self.order.controls() < self.limits.capacity {
                    self.put_empty_section(&mut barrier);
                }
                self.queued_barrier(barrier)
            }
            record @ StreamElement::Record { .. } => return Err(PushError::Full(record)),
        };
        let is_end = is_end_of_records(&control);
        let pushed = self.order.push_control(control, self.limits.capacity);
        if pushed.is_ok() {
            self.cut_off_batch();
        }
        if is_end && pushed.is_ok() {
            self.finish(self.now);
        }
        pushed.map_err(no_room_for)
    }

    /// Takes in an element that comes before a barrier which must not wait for room (K11): beyond the capacity it waits for a slot, like a
    /// restored one. [`push`](Self::push) is refused meanwhile, except for a barrier. Only as much as lies between this operator and the
    /// source of the barrier should be handed in like this.
    ///
    /// ```
    /// use inflight_core::{AsyncWait, Barrier, Checkpoint, CheckpointId, Instant, StreamElement};
    ///
    /// let op = AsyncWait::ordered(1).build_core::<u32, u32, ()>().unwrap();
    /// let (mut op, now) = (op.checkpointed("lookup", 1), Instant::ZERO);
    /// op.push(now, StreamElement::value(20)).unwrap();
    /// // A barrier is on its way, and a record is before it.
    /// op.push_beyond(now, StreamElement::value(21)).unwrap();
    /// let barrier = Barrier::snapshot(Checkpoint::new(CheckpointId(1)));
    /// op.push(now, StreamElement::Barrier(barrier)).unwrap();
    /// let Some(StreamElement::Barrier(barrier)) = op.poll_output() else { panic!() };
    ///
    /// let op = AsyncWait::ordered(2).build_core::<u32, u32, ()>().unwrap();
    /// let mut restored = op.checkpointed("lookup", 1);
    /// restored.restore(now, &barrier.checkpoint).unwrap();
    /// assert_eq!(restored.in_flight(), 2); // both are in the snapshot
    /// ```
    ///
    /// # Errors
    ///
    /// [`PushError::Finished`] hands the element back after [`finish`](Self::finish), unless it is a barrier in snapshot mode;
    /// [`PushError::Full`] hands back such a barrier while another one has not left, and any other element where the storage is in
    /// place and full.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub fn push_beyond(
        &mut self,
        now: Instant,
        element: StreamElement<C::Input>,
    ) -> Result<(), PushError<StreamElement<C::Input>>>
    where
        C::Key: KeySelector<C::Input>,
    {
        let element = match self.push(now, element) {
            Err(PushError::Full(element)) if !element.is_snapshot_barrier() => element,
            pushed => return pushed,
        };
        let saved = match element {
            StreamElement::Record { value, timestamp } => {
                let (request_id, key) = (self.ids.next, self.key.key_of(&value));
                self.ids.advance();
                Saved::Record(value, SavedCall::new(timestamp, request_id, key), None)
            }
            StreamElement::Watermark(timestamp) => {
                Saved::Control(QueuedControl::Watermark(timestamp))
            }
            StreamElement::Status(status) => Saved::Control(QueuedControl::Status(status)),
            StreamElement::Barrier(mut barrier) => {
                self.put_empty_section(&mut barrier);
                let control = self.queued_barrier(barrier);
                if is_end_of_records(&control) {
                    self.finish(now);
                }
                Saved::Control(control)
            }
        };
        // Only a storage on the heap has room for it.
        self.backlog.push_back(saved).map_err(|saved| match saved {
            Saved::Record(value, call, _) => {
                PushError::Full(StreamElement::Record { value, timestamp: call.timestamp })
            }
            Saved::Control(control) => no_room_for(control),
        })
    }

    /// A barrier that keeps its position, and whose limit counts from now.
    fn queued_barrier(&self, barrier: Barrier) -> QueuedControl {
        let deadline = barrier.limit.map(|limit| self.now.plus(Span::of(limit)));
        QueuedControl::Barrier(barrier, deadline)
    }

    fn push_snapshot_barrier(
        &mut self,
        mut barrier: Barrier,
    ) -> Result<(), PushError<StreamElement<C::Input>>> {
        // One element overtakes at a time, so barriers keep their order.
        if self.overtaking.is_some() {
            return Err(PushError::Full(StreamElement::Barrier(barrier)));
        }
        // The barrier leaves all the same: its checkpoint tells that it has failed, and why.
        if !self.limits.keeps_nothing
            && let Err(reason) = self.put_section(&mut barrier.checkpoint)
        {
            barrier.checkpoint.fail(reason);
        }
        self.overtaking = Some(Overtaking::Barrier(barrier));
        Ok(())
    }
}

/// Hands a control element back.
fn no_room_for<T>(control: QueuedControl) -> PushError<StreamElement<T>> {
    match control.into_element() {
        Some(element) => PushError::Full(element),
        None => unreachable!("a control element was pushed"),
    }
}

#[cfg(all(feature = "alloc", feature = "checkpoint"))]
fn is_end_of_records(control: &QueuedControl) -> bool {
    matches!(control, QueuedControl::Barrier(barrier, _) if barrier.mode == BarrierMode::End)
}

#[cfg(not(all(feature = "alloc", feature = "checkpoint")))]
const fn is_end_of_records(_: &QueuedControl) -> bool {
    false
}
