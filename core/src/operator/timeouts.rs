//! Deadlines that pass: of attempts, calls, backoffs and barriers.

use super::Operator;
use super::attempt::{AttemptId, Expired};
use super::call::{Call, TimedOutCallOf};
use super::ending::Overtaking;
use super::order::earlier;
use super::record::State;
use crate::function::{TimedOutCall, TimeoutAction};
use crate::outcome::Failure;
use crate::storage::{NONE, Storage};
use crate::time::Instant;

impl<C: Call, S: Storage> Operator<C, S> {
    /// Handles deadlines that have passed at `now`: of attempts and calls that took too long, and of backoffs that are over.
    /// Returns an attempt that has expired, whose request should be cancelled. Call it until it returns `None`.
    ///
    /// Hand completions in first (T4). An engine that may find answers which its runtime has not delivered yet calls
    /// [`expire`](Self::expire) instead, of which this is the short form. An attempt that times out may end the job
    /// ([`has_failed`](Self::has_failed)).
    pub fn handle_deadline(&mut self, now: Instant) -> Option<Expired> {
        self.advance(now);
        self.expire(now, self.now, |_, _| ())
    }

    /// Handles deadlines that have passed at `now`, but no deadline of a running attempt or of a barrier that is later than `delivered`: the
    /// instant up to which all answers that had come have been handed in (T6). Returns an attempt that has expired, whose request
    /// should be cancelled. Call it until it returns `None`.
    ///
    /// `last_look` is called once for each running attempt that is about to expire. If it finds the answer, it hands it in
    /// ([`handle_completion`](Self::handle_completion)), and that counts as before the deadline (T4). The answer may be a failure that ends
    /// the job; ask [`has_failed`](Self::has_failed) afterwards.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use core::time::Duration;
    /// use inflight_core::{AsyncWait, Instant, StreamElement};
    ///
    /// let policy = AsyncWait::ordered(4).timeout(Duration::from_millis(10));
    /// let mut op = policy.build_core::<u32, u32, ()>().unwrap();
    /// op.push(Instant::ZERO, StreamElement::value(20)).unwrap();
    /// let attempt = op.poll_attempt(Instant::ZERO).map(|attempt| attempt.id);
    ///
    /// // The thread was busy for 50 ms. Until the event loop has been polled, nothing is known of what came meanwhile.
    /// let now = Instant::ZERO + Duration::from_millis(50);
    /// assert_eq!(op.expire(now, Instant::ZERO, |_, _| ()), None);
    /// // It has been polled, and the answer is there.
    /// let expired = op.expire(now, now, |op, id| {
    ///     assert_eq!(Some(id), attempt);
    ///     let _ = op.handle_completion(now, id, Ok(42));
    /// });
    /// assert_eq!(expired, None);
    /// assert!(op.poll_output().is_some());
    /// # }
    /// ```
    #[cfg_attr(feature = "alloc", inline)]
    pub fn expire(
        &mut self,
        now: Instant,
        delivered: Instant,
        mut last_look: impl FnMut(&mut Self, AttemptId),
    ) -> Option<Expired> {
        self.advance(now);
        if self.ending.undecided != NONE {
            self.decide();
        }
        if self.overtaking.is_none() {
            // The limit of a drain is judged like the deadline of a running attempt: an answer may complete the drain (T6).
            let barrier = self.order.take_late_barrier(delivered.min(self.now));
            self.overtaking = barrier.map(Overtaking::Barrier);
        }
        while let Some(slot) = self.first_due(delivered) {
            if let Some(id) = self.attempt_in(slot as usize) {
                last_look(self, id);
                if self.attempt_in(slot as usize) != Some(id) {
                    continue; // its answer was there
                }
            }
            let expired = self.expire_slot(slot);
            if expired.is_some() {
                return expired;
            }
        }
        None
    }

    /// The record that is due first at the latest instant seen. A running attempt whose deadline is later than `delivered` is
    /// skipped; a backoff ends by the clock, since no answer could change that.
    #[cfg_attr(feature = "alloc", inline)]
    pub(super) fn first_due(&mut self, delivered: Instant) -> Option<u32> {
        let records = self.records.all();
        let is_running = |slot: u32| records[slot as usize].state() == State::Running;
        self.deadlines.first_due(self.now, delivered, is_running)
    }

    /// Handles the deadline of a record that is due: its call or its attempt has expired, or its backoff is over.
    fn expire_slot(&mut self, slot: u32) -> Option<Expired> {
        self.deadlines.cancel(slot);
        let (now, waiting_now) = (self.now, self.waiting_now());
        let record = self.records.at(slot);
        let (id, state) = (record.id(slot), record.state());
        // The call's clock stands still from the end of its backoff on, however late that is noticed, and in a pause (A2).
        let until = if state == State::Backoff { record.done_at().min(waiting_now) } else { now };
        let deadline = Self::deadline(&self.limits, &self.extras, record);
        if deadline.is_some_and(|deadline| deadline <= until) {
            if state == State::Running {
                self.note_end(slot, &Err(Failure::TimedOut));
            }
            let last = self.records.at(slot).take_last_result();
            self.last_result = last.map(|result| (id, result));
            self.fail(slot, Failure::TimedOut);
            self.note_timeout(slot);
            return Some(Expired::Call(id));
        }
        if state == State::Running {
            let _ = self.end_attempt(slot, Err(Failure::AttemptTimedOut));
            return Some(Expired::Attempt(id));
        }
        match self.records.at(slot).done_at() {
            // The call's deadline was due, and a pause has put it off.
            retry_at if Self::MAY_PAUSE && retry_at > now => {
                self.set_backoff_deadline(slot, retry_at);
            }
            _ => self.end_backoff(slot),
        }
        None
    }

    /// The earliest instant at which [`handle_deadline`](Self::handle_deadline) has something to do (T7).
    #[cfg_attr(feature = "alloc", inline)]
    pub fn poll_deadline(&self) -> Option<Instant> {
        let earliest = earlier(self.start_deadline(), self.deadlines.earliest());
        match self.order.drain_deadline() {
            // One barrier overtakes at a time: the next one's limit counts when this one has left.
            Some(deadline) if self.overtaking.is_none() => earlier(Some(deadline), earliest),
            _ => earliest,
        }
    }

    /// Decides the outcome of a record whose call has just timed out
    /// ([`Expired::Call`](super::Expired::Call)), from its input and its last attempt (T3, F5). If this is not called, the call fails. Returns `false`
    /// if `id` names no such call, its outcome has left already, or the job has ended. Call it before
    /// [`poll_output`](Self::poll_output). With [`fail_fast`](Self::fail_fast) the job may end here: ask
    /// [`has_failed`](Self::has_failed).
    ///
    /// The last attempt's result is kept until another call times out, so decide about one call before the next
    /// [`handle_deadline`](Self::handle_deadline).
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use core::time::Duration;
    /// use inflight_core::{AsyncWait, Expired, Instant, StreamElement, TimeoutAction};
    ///
    /// let policy = AsyncWait::ordered(4).timeout(Duration::from_secs(1));
    /// let mut op = policy.build_core::<u32, u32, ()>().unwrap();
    /// op.push(Instant::ZERO, StreamElement::value(20)).unwrap();
    /// assert!(op.poll_attempt(Instant::ZERO).is_some());
    ///
    /// let late = op.poll_deadline().unwrap();
    /// while let Some(expired) = op.handle_deadline(late) {
    ///     // Cancel the request; and if the whole call is over:
    ///     if let Expired::Call(id) = expired {
    ///         op.resolve_timeout(id, |call| TimeoutAction::Output(*call.input));
    ///     }
    /// }
    /// let Some(StreamElement::Record { value, .. }) = op.poll_output() else { panic!() };
    /// assert_eq!(value.result, Ok(20));
    /// # }
    /// ```
    pub fn resolve_timeout(
        &mut self,
        id: AttemptId,
        decide: impl FnOnce(TimedOutCallOf<'_, C>) -> TimeoutAction<C::Output, C::Error>,
    ) -> bool {
        let last = self.last_result.take_if(|(of, _)| *of == id);
        if self.has_failed() {
            return false;
        }
        // The generation went up by one when the call ended.
        let ended = AttemptId { generation: id.generation.wrapping_add(1), ..id };
        let slots = self.records.slots();
        let Some(record) = slots.get_mut(id.slot()) else { return false };
        if record.id(id.slot) != ended || !record.has_timed_out() {
            return false;
        }
        let Some(input) = &record.input else { return false };
        let call = TimedOutCall {
            input,
            attempts: record.attempts(),
            last: last.as_ref().map(|(_, result)| result),
        };
        let result = match decide(call) {
            TimeoutAction::Fail => Some(Err(Failure::TimedOut)),
            TimeoutAction::FailWith(error) => Some(Err(Failure::Error(error))),
            TimeoutAction::Output(output) => Some(Ok(output)),
            TimeoutAction::Drop => None,
        };
        record.replace_timeout(result, &mut self.counters);
        if self.ending.undecided == id.slot {
            self.decide();
        }
        true
    }
}
