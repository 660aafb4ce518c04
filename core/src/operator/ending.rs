//! How the input and the job end: finished, shut down, or failed.

use super::Operator;
use super::call::{Call, OutcomeOf, ResultOf};
use super::output::Emitted;
use super::record::State;
use crate::element::{Barrier, StreamElement};
use crate::outcome::Failure;
use crate::storage::{NONE, Queue as _, Storage};
use crate::time::{Instant, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// No more input.
    Finishing,
    /// No more input and no more retries: [`FinishPolicy::LastAttempt`](crate::FinishPolicy::LastAttempt).
    LastAttempts,
    /// No more input and no more attempts.
    ShutDown,
    /// A failure has ended the job: no more input, no more attempts, and one more outcome.
    Failed,
}

/// How far the job has come to its end.
pub(super) struct Ending<E> {
    pub(super) phase: Phase,
    /// Which failures end the job.
    fail_fast: Option<fn(&Failure<E>) -> bool>,
    /// The slot of a call that has timed out, or [`NONE`]. Whether its failure ends the job is decided when the caller has had its
    /// chance to [resolve](Operator::resolve_timeout) it.
    pub(super) undecided: u32,
}

impl<E> Ending<E> {
    pub(super) const OPEN: Self = Self { phase: Phase::Open, fail_fast: None, undecided: NONE };

    /// Whether a failure can end the job.
    pub(super) fn fails_fast(&self) -> bool {
        self.fail_fast.is_some()
    }
}

/// An element that leaves before everything in flight.
pub(super) enum Overtaking {
    /// A barrier whose snapshot is taken, or whose time limit has passed.
    Barrier(Barrier),
    /// The failure that ends the job. Outcomes that may leave at this moment leave before it, and nothing after it.
    Failure(u32),
}

impl<C: Call, S: Storage> Operator<C, S> {
    /// Says that there is no more input. Calls in flight finish as the policy's
    /// [`FinishPolicy`](crate::FinishPolicy) says (R5). O(n log n) in the records in flight.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, Instant, PushError, StreamElement};
    ///
    /// let mut op = AsyncWait::ordered(4).build_core::<u32, u32, ()>().unwrap();
    /// let now = Instant::ZERO;
    /// op.push(now, StreamElement::value(20)).unwrap();
    /// op.finish(now);
    /// assert_eq!(op.push(now, StreamElement::value(21)), Err(PushError::Finished(StreamElement::value(21))));
    ///
    /// let attempt = op.poll_attempt(now).map(|attempt| attempt.id).unwrap(); // the call in flight goes on
    /// let _ = op.handle_completion(now, attempt, Ok(40));
    /// assert!(op.poll_output().is_some() && op.is_empty());
    /// # }
    /// ```
    pub fn finish(&mut self, now: Instant) {
        self.advance(now);
        if self.ending.phase != Phase::Open {
            return;
        }
        match self.cut_backoffs_short {
            None => self.enter(Phase::Finishing),
            Some(cut_backoffs_short) => {
                self.enter(Phase::LastAttempts);
                cut_backoffs_short(self);
            }
        }
    }

    /// Lets the last attempt of each call in backoff start now (R5).
    pub(super) fn end_backoffs(&mut self) {
        // In the order in which the records came, since their attempts start in the order in which they join the queue.
        for &slot in self.in_order().as_ref() {
            if self.records.at(slot).state() == State::Backoff {
                self.end_backoff(slot);
            }
        }
    }

    /// Ends everything: no more input, and every call that has no outcome fails with
    /// [`Failure::ShutDown`]. All running requests should be cancelled. The outcomes are still to be
    /// taken out by [`poll_output`](Self::poll_output). O(n log n) in the records in flight.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, Completion, Failure, Instant, StreamElement};
    ///
    /// let mut op = AsyncWait::ordered(4).build_core::<u32, u32, ()>().unwrap();
    /// let now = Instant::ZERO;
    /// op.push(now, StreamElement::value(20)).unwrap();
    /// let attempt = op.poll_attempt(now).map(|attempt| attempt.id).unwrap();
    ///
    /// op.shut_down(now);
    /// let Some(StreamElement::Record { value, .. }) = op.poll_output() else { panic!() };
    /// assert_eq!((value.input, value.result), (20, Err(Failure::ShutDown)));
    /// assert_eq!(op.handle_completion(now, attempt, Ok(40)), Completion::Late);
    /// # }
    /// ```
    pub fn shut_down(&mut self, now: Instant) {
        self.advance(now);
        if self.has_failed() {
            return; // no attempt runs, and no record but the failed one gets an outcome
        }
        self.enter(Phase::ShutDown); // first: `fail` empties the queue of attempts in this phase
        for &slot in self.in_order().as_ref() {
            if self.records.at(slot).state() != State::Done {
                self.fail(slot, Failure::ShutDown);
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.ending.phase = phase;
        self.update_intake();
    }

    fn in_order(&mut self) -> S::Table<u32> {
        self.records.forget_vacant();
        self.records.in_order(self.order.front_number())
    }

    /// Ends a call that a restore brings into an operator that has been shut down, or has failed.
    pub(super) fn end_if_over(&mut self, slot: u32) {
        match self.ending.phase {
            Phase::ShutDown if self.records.at(slot).state() != State::Done => {
                self.fail(slot, Failure::ShutDown);
            }
            Phase::Failed if cfg!(feature = "alloc") => self.halt(slot),
            _ => {}
        }
    }

    /// Lets a failure for which `ends_the_job` holds end everything at once: its outcome does not wait for calls that are
    /// still running, and is the last element that comes out (F6).
    ///
    /// When a call ends with such a failure, no more input is taken in and no more attempts are started; all running
    /// requests should be cancelled ([`Completion::Final`](super::Completion::Final)). Outcomes that may leave at that moment come out before it. The other
    /// records in flight leave without an outcome after it, and count as dropped; so do control elements among them. O(n) in
    /// the slots that were ever used, once.
    ///
    /// Whether the failure of a call that has timed out ends the job is decided when [`resolve_timeout`](Self::resolve_timeout) or the next
    /// [`handle_deadline`](Self::handle_deadline) is called: if the call is given an output, it has not failed.
    /// [`shut_down`](Self::shut_down) does not ask `ends_the_job`.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, Completion, Failure, Instant, StreamElement};
    ///
    /// let op = AsyncWait::ordered(4).build_core::<u32, u32, &str>().unwrap();
    /// let mut op = op.fail_fast(|failure| failure.error() == Some(&"wrong password"));
    /// let now = Instant::ZERO;
    /// op.push(now, StreamElement::value(20)).unwrap();
    /// op.push(now, StreamElement::value(21)).unwrap();
    /// let head = op.poll_attempt(now).map(|attempt| attempt.id).unwrap();
    /// let second = op.poll_attempt(now).map(|attempt| attempt.id).unwrap();
    ///
    /// let failure = Err(Failure::Error("wrong password"));
    /// assert_eq!(op.handle_completion(now, second, failure), Completion::Final);
    /// let Some(StreamElement::Record { value, .. }) = op.poll_output() else { panic!() };
    /// assert_eq!((value.input, value.result), (21, Err(Failure::Error("wrong password"))));
    ///
    /// assert!(op.has_failed() && op.is_empty());
    /// assert_eq!(op.handle_completion(now, head, Ok(40)), Completion::Late);
    /// # }
    /// ```
    #[cfg(feature = "alloc")] // it takes 1.5 KB of flash, which a program without a heap does not pay
    #[must_use]
    pub const fn fail_fast(mut self, ends_the_job: fn(&Failure<C::Error>) -> bool) -> Self {
        self.ending.fail_fast = Some(ends_the_job);
        self
    }

    /// Whether a failure has ended the job: see [`fail_fast`](Self::fail_fast). Its outcome may not have been taken out yet.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn has_failed(&self) -> bool {
        cfg!(feature = "alloc") && matches!(self.ending.phase, Phase::Failed)
    }

    /// A record that needed no slot has failed: that may end the job.
    #[cold]
    pub(super) fn check_bypassing_failure(&mut self, result: &ResultOf<C>) {
        if self.ends_job(Some(result)) {
            self.enter(Phase::Failed);
        }
    }

    /// A call has failed: that may end the job. Returns whether it has.
    #[cold]
    pub(super) fn check_failure(&mut self, slot: u32) -> bool {
        let result = self.records.all()[slot as usize].result();
        let ends_job = !self.has_failed() && self.ends_job(result);
        if ends_job {
            self.enter(Phase::Failed);
            self.overtaking = Some(Overtaking::Failure(slot)); // a barrier that is about to leave is lost like the others (F6)
            for other in 0..self.records.all().len() {
                self.halt(other as u32);
            }
        }
        ends_job
    }

    fn ends_job(&self, result: Option<&ResultOf<C>>) -> bool {
        match (self.ending.fail_fast, result) {
            (Some(ends_the_job), Some(Err(failure))) => {
                cfg!(feature = "alloc") && ends_the_job(failure)
            }
            _ => false,
        }
    }

    /// A call has timed out. Whether its failure ends the job is decided by [`decide`](Self::decide).
    pub(super) fn note_timeout(&mut self, slot: u32) {
        if cfg!(feature = "alloc") && self.ending.fail_fast.is_some() {
            self.ending.undecided = slot;
        }
    }

    /// The caller has had its chance to give the call that has timed out another outcome.
    pub(super) fn decide(&mut self) {
        if !cfg!(feature = "alloc") {
            return;
        }
        let slot = core::mem::replace(&mut self.ending.undecided, NONE);
        // Its failure may be one of the timeout handler's own (F5).
        if self.records.all().get(slot as usize).is_some_and(|record| record.has_failed()) {
            let _ = self.check_failure(slot);
        }
    }

    /// Stops a call that has no outcome, without one.
    fn halt(&mut self, slot: u32) {
        self.clear_attempts();
        let waiting_now = self.waiting_now();
        if self.records.at(slot).halt(self.now, waiting_now, &mut self.counters) {
            self.deadlines.cancel(slot);
        }
    }

    /// Takes the overtaking element; for a failure that ends the job, first the outcomes that may leave before it.
    #[cold]
    #[inline(never)]
    pub(super) fn poll_overtaking(&mut self) -> Option<StreamElement<OutcomeOf<C>>> {
        let last = match self.overtaking.take()? {
            Overtaking::Barrier(barrier) => return Some(StreamElement::Barrier(barrier)),
            Overtaking::Failure(last) if cfg!(feature = "alloc") => last,
            Overtaking::Failure(_) => return None,
        };
        // Outcomes and control elements that may leave at this moment go first. Later calls of this function go on here.
        while self.order.has_output(self.records.all()) {
            let element = match self.order.pop_record(self.records.slots()) {
                Some(slot) => {
                    let record = self.take_record(slot);
                    if slot == last {
                        let _ = self.discard_all_but(last);
                        return record.map(into_element);
                    }
                    record.map(into_element)
                }
                None => self.order.pop_control().and_then(|control| self.emit_control(control)),
            };
            if element.is_some() {
                self.overtaking = Some(Overtaking::Failure(last));
                return element;
            }
        }
        // Nothing else may leave: the failure goes past records that are not done.
        self.discard_all_but(last).map(into_element)
    }

    /// Takes everything out without an outcome, but for the record in the slot `last`, if it is still there.
    fn discard_all_but(&mut self, last: u32) -> Option<Emitted<C>> {
        while self.backlog.pop_front().is_some() {}
        for other in (0..self.records.all().len() as u32).filter(|other| *other != last) {
            // The order knows already of a record that was done; a queued one is done only now.
            if self.records.at(other).discard(&mut self.counters) {
                self.order.done(self.records.slots(), other);
            }
        }
        let mut record = None;
        loop {
            if let Some(slot) = self.order.pop_record(self.records.slots()) {
                record = self.take_record(slot).or(record);
            } else if self.order.pop_control().is_none() {
                return record;
            }
        }
    }
}

fn into_element<T>((value, timestamp): (T, Option<Timestamp>)) -> StreamElement<T> {
    StreamElement::Record { value, timestamp }
}
