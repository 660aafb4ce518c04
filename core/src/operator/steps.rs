//! The steps of a call: an attempt starts or ends, a backoff begins or ends, the call is over. Each is a transition of its
//! [record](super::record) with all that depends on it: deadlines, the queue of attempts to start, the order of outcomes.

use core::time::Duration;

use super::Operator;
use super::attempt::{Attempt, Completion};
use super::call::{Call, ResultOf};
use super::ending::Phase;
use super::metrics::Counters;
use super::order::earlier;
use super::record::{Link, Record, State};
use crate::outcome::Failure;
use crate::policy::{Extras as _, RetriedCall};
use crate::retry::{RetryBudget, RetryStrategy};
use crate::storage::{NONE, Storage};
use crate::time::{Instant, Span};

impl<C: Call, S: Storage> Operator<C, S> {
    /// Starts an attempt of a record that is `Queued`, and in no list.
    #[cfg_attr(feature = "alloc", inline(always))]
    #[cfg_attr(not(feature = "alloc"), inline(never))]
    pub(super) fn start(&mut self, slot: u32) -> Option<Attempt<'_, C::Input>> {
        self.start_by(slot, Record::start)
    }

    /// The attempt that is running in a slot.
    pub(super) fn running_attempt(&self, slot: u32) -> Option<Attempt<'_, C::Input>> {
        let record = self.records.all().get(slot as usize)?;
        let deadline = Self::deadline(&self.limits, &self.extras, record);
        let (id, info) = (record.id(slot), record.info(self.now, deadline));
        record.input.as_ref().map(|input| Attempt { id, info, input })
    }

    /// Starts the first attempt of a record that has just come. Without a heap, flash counts for more than speed: then it is
    /// started like any other.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn start_new(&mut self, slot: u32) -> Option<Attempt<'_, C::Input>> {
        if cfg!(feature = "alloc") {
            return self.start_by(slot, |record, _, counters| record.start_new(counters));
        }
        self.records.at(slot).queue(&mut self.counters);
        self.start(slot)
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn start_by(
        &mut self,
        slot: u32,
        transition: impl FnOnce(&mut Record<C>, Instant, &mut Counters),
    ) -> Option<Attempt<'_, C::Input>> {
        self.note_start(slot);
        let now = self.now;
        let record = self.records.at(slot);
        transition(record, now, &mut self.counters);
        let deadline = Self::deadline(&self.limits, &self.extras, record);
        let attempt_deadline = self.limits.attempt_timeout.map(|timeout| now.plus(timeout));
        // One deadline a slot is enough: the earlier of the two ends this attempt.
        if let Some(first) = earlier(deadline, attempt_deadline) {
            self.deadlines.set(slot, first);
        }
        let (id, info) = (record.id(slot), record.info(now, deadline));
        record.input.as_ref().map(|input| Attempt { id, info, input })
    }

    /// The running attempt has ended: the call is tried again, or this is its result.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn end_attempt(&mut self, slot: u32, result: ResultOf<C>) -> Completion {
        let record = self.records.at(slot);
        let info = record.info(self.now, Self::deadline(&self.limits, &self.extras, record));
        let delay =
            record.input.as_ref().and_then(|input| self.retry.next_delay(info, input, &result));
        self.end_attempt_with(slot, result, delay)
    }

    /// The same, where the retry strategy has answered already. It is the user's code and may panic, so no counter has
    /// changed before it.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn end_attempt_with(
        &mut self,
        slot: u32,
        result: ResultOf<C>,
        delay: Option<Duration>,
    ) -> Completion {
        let delay = delay.filter(|_| self.may_retry());
        if let Some(delay) = delay {
            self.tell_of_retry(slot, &result, delay);
        }
        self.note_end(slot, &result);
        if let Some(delay) = delay {
            self.back_off(slot, self.now.plus(Span::of(delay)), result);
            return Completion::Retry;
        }
        let has_failed = result.is_err();
        self.pay_retry_budget(&result);
        self.deadlines.cancel(slot);
        self.records.at(slot).complete(self.now, result, &mut self.counters);
        self.call_done(slot);
        if has_failed && self.check_failure(slot) { Completion::Final } else { Completion::Outcome }
    }

    /// Pays into the retry budget for a call that has succeeded (R7).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn pay_retry_budget(&mut self, result: &ResultOf<C>) {
        if let (Some(retry_budget), Ok(_)) = (&mut self.retry_budget, result) {
            retry_budget.deposit();
        }
    }

    fn may_retry(&mut self) -> bool {
        // The retry budget is asked last: it takes a token for its yes.
        self.ending.phase != Phase::LastAttempts
            && self.retry_budget.as_mut().is_none_or(RetryBudget::withdraw)
    }

    /// Tells the policy's part for it of a retry (R8). It is the user's code and may panic, so no counter has changed before it.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn tell_of_retry(&mut self, slot: u32, result: &ResultOf<C>, delay: Duration) {
        let record = self.records.at(slot);
        let attempts = record.attempts();
        if let Some(input) = &record.input {
            self.extras.retried(RetriedCall { input, attempts, result, delay });
        }
    }

    fn back_off(&mut self, slot: u32, until: Instant, result: ResultOf<C>) {
        let in_pause = self.now.since(self.waiting_now());
        let record = self.records.at(slot);
        record.back_off(until, in_pause, result, &mut self.counters);
        self.set_backoff_deadline(slot, until);
    }

    /// A record in `Backoff` is due at `until`, or at the call's deadline if that is earlier and no pause puts it off (A2).
    pub(super) fn set_backoff_deadline(&mut self, slot: u32, until: Instant) {
        let record = self.records.at(slot);
        let deadline = Self::deadline(&self.limits, &self.extras, record);
        let deadline = deadline.filter(|deadline| self.reaches(*deadline));
        if let Some(first) = earlier(Some(until), deadline) {
            self.deadlines.set(slot, first);
        }
    }

    /// The backoff is over: the record waits for its next attempt.
    pub(super) fn end_backoff(&mut self, slot: u32) {
        self.deadlines.cancel(slot);
        let waiting_now = self.waiting_now();
        let record = self.records.at(slot);
        record.end_backoff(self.now, waiting_now, &mut self.counters);
        // A held record joins the queue when its predecessor's call ends.
        if record.link != Link::Held {
            self.enqueue(slot);
        }
    }

    /// Ends a call that has no outcome yet with a failure, whatever it is doing.
    #[cold]
    pub(super) fn fail(&mut self, slot: u32, failure: Failure<C::Error>) {
        // A call that waits for an attempt fails by a shutdown and by nothing else. No attempt starts after it.
        if self.ending.phase == Phase::ShutDown {
            self.clear_attempts();
        }
        self.deadlines.cancel(slot);
        let waiting_now = self.waiting_now();
        self.records.at(slot).fail(self.now, waiting_now, failure, &mut self.counters);
        self.call_done(slot);
    }

    /// The call has ended: its record leaves when its order allows, and the next attempt of its key may start.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn call_done(&mut self, slot: u32) {
        self.order.done(self.records.slots(), slot);
        let is_serial = match self.order.is_ordered() {
            true => C::Extras::ONE_PER_KEY,
            false => self.order.is_serial(),
        };
        if is_serial
            // A restored call that times out in its backoff can be held: calls before it go on, and its successor waits for them.
            && self.records.at(slot).link != Link::Held
        {
            let successor = self.take_next_of_key(slot);
            self.release(successor);
        }
    }

    /// All calls before `slot` with its key have their outcome, so its attempt may start. A record that a restore brought in
    /// backoff can have timed out before its predecessors ended: then the record after it is released.
    fn release(&mut self, mut slot: u32) {
        while slot != NONE {
            let record = self.records.at(slot);
            if record.link == Link::Held {
                record.link = Link::Following;
            }
            match record.state() {
                State::Done => slot = self.take_next_of_key(slot),
                State::Queued => {
                    return self.enqueue(slot);
                }
                _ => return,
            }
        }
    }
}
