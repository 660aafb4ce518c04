//! What happens seldom: limits that change, the end of the input, a timeout that is resolved, numbers.

use super::slab::State;
use super::{AttemptId, Operator, Phase, TimeoutAction};
use crate::operator::metrics::Metrics;
use crate::outcome::Failure;
use crate::policy::{ConfigError, check_capacity, check_max_running};
use crate::retry::RetryStrategy;
use crate::storage::{Queue as _, Storage};
use crate::time::Instant;

impl<In, Out, E, R, S, K> Operator<In, Out, E, R, S, K>
where
    R: RetryStrategy<In, Out, E>,
    S: Storage,
{
    /// Says that there is no more input. Calls in flight finish as the policy's
    /// [`FinishPolicy`](crate::FinishPolicy) says. O(n log n) in the records in flight.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, Full, Instant, StreamElement};
    ///
    /// let mut op = AsyncWait::ordered(4).build_core::<u32, u32, ()>().unwrap();
    /// let now = Instant::ZERO;
    /// op.push(now, StreamElement::value(20)).unwrap();
    /// op.finish(now);
    /// assert_eq!(op.push(now, StreamElement::value(21)), Err(Full(StreamElement::value(21))));
    ///
    /// let call = op.poll_attempt(now).map(|call| call.id).unwrap(); // what is in flight goes on
    /// let _ = op.handle_completion(now, call, Ok(40));
    /// assert!(op.poll_output().is_some() && op.is_empty());
    /// # }
    /// ```
    pub fn finish(&mut self, now: Instant) {
        self.advance(now);
        if self.phase != Phase::Open {
            return;
        }
        self.phase = Phase::Finishing;
        if self.limits.last_attempt {
            self.phase = Phase::LastAttempts;
            self.calls.forget_vacant();
            let calls = self.calls.in_order(self.queue.front_number());
            for &index in calls.as_ref() {
                if self.calls.at(index).state == State::Backoff {
                    self.retry_now(index);
                }
            }
        }
    }

    /// Ends everything: no more input, and every call that has no outcome fails with
    /// [`Failure::ShutDown`]. All running requests should be cancelled. What is in flight is still to be
    /// taken out by [`poll_output`](Self::poll_output). O(n log n) in the records in flight.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, Completion, Failure, Instant, StreamElement};
    ///
    /// let mut op = AsyncWait::ordered(4).build_core::<u32, u32, ()>().unwrap();
    /// let now = Instant::ZERO;
    /// op.push(now, StreamElement::value(20)).unwrap();
    /// let call = op.poll_attempt(now).map(|call| call.id).unwrap();
    ///
    /// op.shut_down(now);
    /// let Some(StreamElement::Record { value, .. }) = op.poll_output() else { panic!() };
    /// assert_eq!((value.input, value.result), (20, Err(Failure::ShutDown)));
    /// assert_eq!(op.handle_completion(now, call, Ok(40)), Completion::Late);
    /// # }
    /// ```
    pub fn shut_down(&mut self, now: Instant) {
        self.advance(now);
        if self.has_failed() {
            return; // nothing runs, and nothing but that failure gets an outcome
        }
        self.phase = Phase::ShutDown;
        self.calls.forget_vacant();
        let calls = self.calls.in_order(self.queue.front_number());
        for &index in calls.as_ref() {
            if self.calls.at(index).state != State::Done {
                self.abandon(index, Failure::ShutDown);
            }
        }
    }

    /// Ends a call that a restore brings into an operator that has been shut down, or has failed.
    pub(super) fn end_if_shut_down(&mut self, index: u32) {
        match self.phase {
            Phase::ShutDown if self.calls.at(index).state != State::Done => {
                self.abandon(index, Failure::ShutDown);
            }
            Phase::Failed => self.halt(index),
            _ => {}
        }
    }

    /// Decides what becomes of a record whose call has just timed out
    /// ([`Expired::Call`](super::Expired::Call)), from its input. Without this it fails. Returns `false`
    /// if `id` names no such call, its outcome has left already, or the job has ended. Call it before
    /// [`poll_output`](Self::poll_output).
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
    ///         op.resolve_timeout(id, |input| TimeoutAction::Output(*input));
    ///     }
    /// }
    /// let Some(StreamElement::Record { value, .. }) = op.poll_output() else { panic!() };
    /// assert_eq!(value.result, Ok(20));
    /// # }
    /// ```
    pub fn resolve_timeout(
        &mut self,
        id: AttemptId,
        decide: impl FnOnce(&In) -> TimeoutAction<Out>,
    ) -> bool {
        if self.has_failed() {
            return false;
        }
        // Ending the call has counted its generation on.
        let ended = AttemptId { generation: id.generation.wrapping_add(1), ..id };
        let slots = self.calls.slots();
        let timed_out = slots.get_mut(id.slot()).filter(|slot| {
            slot.id(id.slot) == ended
                && slot.state == State::Done
                && matches!(slot.result, Some(Err(Failure::TimedOut)))
        });
        let Some(slot) = timed_out else { return false };
        let Some(input) = &slot.input else { return false };
        let result = match decide(input) {
            TimeoutAction::Fail => Some(Err(Failure::TimedOut)),
            TimeoutAction::Output(output) => Some(Ok(output)),
            TimeoutAction::Drop => None,
        };
        if !matches!(result, Some(Err(_))) {
            self.counters.take_back_timeout();
        }
        slot.result = result;
        // Once only.
        slot.generation = slot.generation.wrapping_add(1);
        if self.undecided == id.slot {
            self.decide();
        }
        true
    }

    /// Changes how many records may be in flight. A lower capacity takes effect as records leave.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when it is zero, or more than the policy's
    /// [`max_capacity`](crate::AsyncWait::max_capacity).
    pub fn set_capacity(&mut self, capacity: usize) -> Result<(), ConfigError> {
        check_capacity(capacity, self.limits.max_capacity)?;
        self.limits.capacity = capacity;
        match self.calls.len() < capacity {
            true => self.counters.not_full(self.now),
            false => self.counters.full(self.now),
        }
        Ok(())
    }

    /// Changes how many attempts may run at once. A lower limit takes effect as attempts end.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when it is zero.
    pub fn set_max_running(&mut self, attempts: usize) -> Result<(), ConfigError> {
        check_max_running(attempts)?;
        self.limits.max_running = attempts;
        Ok(())
    }

    /// Whether the retry strategy's settings make sense. All ways to build an operator ask this but
    /// [`build_static`](crate::AsyncWait::build_static).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when they do not.
    pub fn check_retry(&self) -> Result<(), ConfigError> {
        self.retry.check()
    }

    /// Records in flight: pushed and not yet handed on.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Attempts running.
    pub fn running(&self) -> usize {
        self.running
    }

    /// The most records in flight.
    pub fn capacity(&self) -> usize {
        self.limits.capacity
    }

    /// The latest instant seen.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Up to where the capacity can be raised.
    pub(crate) fn max_capacity(&self) -> usize {
        self.limits.max_capacity
    }

    /// Counts this many records that have left the operator against its capacity: those that its
    /// consumer has not taken.
    #[cfg(feature = "alloc")] // for the driver on a task
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn set_held(&mut self, records: usize) {
        self.held = records;
    }

    /// Whether a record has room.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn has_room_for_record(&self) -> bool {
        self.calls.len() + self.held < self.limits.capacity
    }

    /// How many records would be taken in, as long as a control element would be, too.
    pub(crate) fn room(&mut self) -> usize {
        self.admit();
        let takes_all = self.queue.controls() < self.limits.capacity
            && self.overtaking.is_none()
            && self.backlog.len() == 0
            && self.phase == Phase::Open;
        if takes_all {
            self.limits.capacity.saturating_sub(self.calls.len() + self.held)
        } else {
            0
        }
    }

    /// Whether [`poll_attempt`](Self::poll_attempt) has something to give.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn has_attempt(&self) -> bool {
        !self.waiting.is_empty() && self.running < self.limits.max_running
    }

    /// Whether [`poll_output`](Self::poll_output) has something to give, or to forget: a record that was
    /// dropped, the place of a barrier that has failed.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn has_output(&self) -> bool {
        self.overtaking.is_some() || self.queue.has_departure(self.calls.all())
    }

    /// Whether nothing is left inside, control elements and a restore's backlog included.
    pub fn is_empty(&self) -> bool {
        self.calls.len() == 0
            && self.queue.controls() == 0
            && self.overtaking.is_none()
            && self.backlog.len() == 0
    }

    /// Whether some of what a restore has brought has no place yet.
    #[cfg_attr(feature = "alloc", inline)]
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog.len() > 0
    }

    /// The slot of the call for which all others wait, if there is such a one.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn next_to_leave(&self) -> Option<usize> {
        self.queue.next_to_leave().map(|call| call as usize)
    }

    /// Records that are done and wait for their turn.
    #[cfg_attr(feature = "alloc", inline)]
    pub(crate) fn done(&self) -> usize {
        self.calls.len() - self.running - self.counters.queued - self.counters.in_backoff
    }

    /// The operator's numbers. For the age of the oldest record it looks at each place that was used since the last
    /// [`snapshot`](Self::snapshot), and takes a step for each 64 others.
    pub fn metrics(&self, now: Instant) -> Metrics {
        let now = now.max(self.now);
        let started = self.calls.occupied().map(|(_, call)| call.started).min();
        Metrics { oldest: started.map(|started| now - started), ..self.cheap_metrics(now) }
    }

    /// Makes the next [`metrics`](Self::metrics) cheap, however many records have been in flight before.
    #[cfg(feature = "alloc")] // for the driver on a task
    pub(crate) fn forget_vacant(&mut self) {
        self.calls.forget_vacant();
    }

    /// The operator's numbers but for the age of the oldest record: O(1).
    pub(crate) fn cheap_metrics(&self, now: Instant) -> Metrics {
        let counters = &self.counters;
        let in_flight = self.calls.len();
        Metrics {
            in_flight: in_flight as u64,
            running: self.running as u64,
            in_backoff: counters.in_backoff as u64,
            done: self.done() as u64,
            capacity: self.limits.capacity as u64,
            oldest: None,
            blocked: counters.blocked(now),
            records_in: in_flight as u64 + counters.emitted + counters.dropped,
            emitted: counters.emitted,
            failed: counters.failed,
            timed_out: counters.timed_out,
            dropped: counters.dropped,
            attempts: counters.attempts,
            retried: counters.retried,
            late_completions: counters.late,
            call_time: counters.call_time,
            ordering_delay: counters.ordering_delay,
        }
    }
}
