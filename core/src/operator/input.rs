//! How elements go in.

use super::Operator;
use super::attempt::{Attempt, PushError};
use super::call::Call;
use super::ending::{Overtaking, Phase};
use super::order::Control;
use crate::element::{Barrier, BarrierMode, StreamElement};
use crate::policy::{GivenKey, KeySelector};
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

    /// Takes in an element and returns the next attempt to start, if there is one: [`push`](Self::push), and then
    /// [`poll_attempt`](Self::poll_attempt). A record that may start at once does not stand in a queue for that, which is
    /// a little faster. The attempt counts as running from here on.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, Instant, StreamElement};
    ///
    /// let mut op = AsyncWait::ordered(4).build_core::<u32, u32, ()>().unwrap();
    /// let attempt = op.push_start(Instant::ZERO, StreamElement::value(20)).unwrap();
    /// assert_eq!(attempt.map(|attempt| *attempt.input), Some(20));
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
        let StreamElement::Record { value, timestamp } = element else {
            self.push_element(now, 0, element)?;
            return Ok(self.poll_attempt(now));
        };
        self.advance(now);
        let key = self.key.key_of(&value);
        let (slot, may_start) = self.place_new(key, value, timestamp)?;
        if may_start && !self.has_attempt() && self.may_run() {
            return Ok(self.start(slot));
        }
        self.queue_start(slot, may_start);
        Ok(self.poll_attempt(now))
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
                let (slot, may_start) = self.place_new(key, value, timestamp)?;
                self.queue_start(slot, may_start);
                Ok(())
            }
            control => self.push_control(control),
        }
    }

    /// Gives a new record its slot and its request id.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn place_new(
        &mut self,
        key: u64,
        value: C::Input,
        timestamp: Option<Timestamp>,
    ) -> Result<(u32, bool), PushError<StreamElement<C::Input>>> {
        if self.ending.phase != Phase::Open {
            return Err(PushError::Finished(StreamElement::Record { value, timestamp }));
        }
        // Restored records come first (K5).
        if self.backlog.len() > 0 || !self.has_room_for_record() {
            return Err(PushError::Full(StreamElement::Record { value, timestamp }));
        }
        let request_id = self.ids.next;
        match self.place((value, timestamp), request_id, key) {
            Ok(placed) => {
                self.ids.advance();
                Ok(placed)
            }
            Err(value) => Err(PushError::Full(StreamElement::Record { value, timestamp })),
        }
    }

    /// Gives a record a slot, and its position in the order. Returns the slot and whether an attempt may start now. The
    /// record is in no list of attempts to start yet.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn place(
        &mut self,
        (input, timestamp): (C::Input, Option<Timestamp>),
        request_id: u64,
        key: u64,
    ) -> Result<(u32, bool), C::Input> {
        let Some(slot) = self.records.vacant() else { return Err(input) };
        let segment = self.order.count_record();
        let record = self.records.take(slot);
        record.occupy(self.now, (input, timestamp), request_id, segment, &mut self.counters);
        if self.records.len() >= self.limits.capacity {
            self.counters.full(self.now);
        }
        let may_start = self.order.link_record(self.records.slots(), slot, key);
        Ok((slot, may_start))
    }

    /// Lets a new record wait for its attempt. One that may not start yet is queued when its predecessor's call ends.
    pub(super) fn queue_start(&mut self, slot: u32, may_start: bool) {
        if may_start {
            self.to_start.push_back(self.records.slots(), slot);
        }
    }

    fn push_control(
        &mut self,
        element: StreamElement<C::Input>,
    ) -> Result<(), PushError<StreamElement<C::Input>>> {
        if self.ending.phase != Phase::Open {
            return Err(PushError::Finished(element));
        }
        if self.backlog.len() > 0 {
            return Err(PushError::Full(element));
        }
        let control = match element {
            StreamElement::Watermark(timestamp) => Control::Watermark(timestamp),
            StreamElement::Status(status) => Control::Status(status),
            StreamElement::Barrier(barrier) if barrier.mode == BarrierMode::Snapshot => {
                return self.push_snapshot_barrier(barrier);
            }
            StreamElement::Barrier(mut barrier) => {
                if self.order.controls() < self.limits.capacity {
                    self.put_empty_section(&mut barrier);
                }
                let deadline = barrier.limit.map(|limit| self.now.plus(Span::of(limit)));
                Control::Barrier(barrier, deadline)
            }
            record @ StreamElement::Record { .. } => return Err(PushError::Full(record)),
        };
        let pushed = self.order.push_control(control, self.limits.capacity);
        pushed.map_err(|control| match control.into_element() {
            Some(element) => PushError::Full(element),
            None => unreachable!("a control element was pushed"),
        })
    }

    fn push_snapshot_barrier(
        &mut self,
        mut barrier: Barrier,
    ) -> Result<(), PushError<StreamElement<C::Input>>> {
        if self.overtaking.is_some() {
            return Err(PushError::Full(StreamElement::Barrier(barrier)));
        }
        if let Err(reason) = self.put_section(&mut barrier.checkpoint) {
            barrier.checkpoint.fail(reason);
        }
        self.overtaking = Some(Overtaking::Barrier(barrier));
        Ok(())
    }
}
