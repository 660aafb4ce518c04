//! How an attempt ends, and its call with it or not.

use core::time::Duration;

use super::order::earlier;
use super::slab::{Link, State, Waiting};
use super::{Operator, Phase};
use crate::function::AttemptInfo;
use crate::outcome::Failure;
use crate::retry::{RetryBudget, RetryStrategy};
use crate::storage::NONE;
use crate::storage::Storage;
use crate::time::{Instant, Span};

/// What has ended with an attempt.
pub(super) enum Ended {
    /// Nothing else: it is tried again after a backoff.
    Attempt,
    /// The call, with its outcome.
    Call,
    /// Everything, with a failure that ends the job.
    Job,
}

impl<In, Out, E, R, S, K> Operator<In, Out, E, R, S, K>
where
    R: RetryStrategy<In, Out, E>,
    S: Storage,
{
    /// Ends the running attempt of a call: either the call is tried again, or this is its outcome.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn end_attempt(&mut self, index: u32, result: Result<Out, Failure<E>>) -> Ended {
        let now = self.now;
        let slot = self.calls.at(index);
        let attempt = AttemptInfo {
            number: slot.attempts,
            retry: slot.retries(),
            request_id: slot.request_id,
            time_left: self.limits.deadline(slot.started).map(|deadline| deadline - now),
        };
        let delay =
            slot.input.as_ref().and_then(|input| self.retry.next_delay(attempt, input, &result));
        self.conclude_attempt(index, result, delay)
    }

    /// The same, once the retry strategy has spoken.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn conclude_attempt(
        &mut self,
        index: u32,
        result: Result<Out, Failure<E>>,
        delay: Option<Duration>,
    ) -> Ended {
        self.running -= 1; // behind the user's code, which may panic
        match delay {
            Some(delay) if self.may_retry() => {
                self.back_off(index, self.now.plus(Span::of(delay)));
                Ended::Attempt
            }
            _ => {
                let has_failed = result.is_err();
                self.deposit(&result);
                self.finish_call(index, result);
                if has_failed && self.judge_failure(index) { Ended::Job } else { Ended::Call }
            }
        }
    }

    /// What a call ends with: a success fills the budget for retries.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn deposit(&mut self, result: &Result<Out, Failure<E>>) {
        if let (Some(budget), Ok(_)) = (&mut self.budget, result) {
            budget.deposit();
        }
    }

    pub(super) fn may_retry(&mut self) -> bool {
        self.phase != Phase::LastAttempts && self.budget.as_mut().is_none_or(RetryBudget::withdraw)
    }

    pub(super) fn back_off(&mut self, index: u32, until: Instant) {
        self.counters.retried += 1;
        self.counters.in_backoff += 1;
        let slot = self.calls.at(index);
        slot.spent = until.since(slot.started);
        slot.state = State::Backoff;
        let deadline = self.limits.deadline(slot.started);
        if let Some(first) = earlier(Some(until), deadline) {
            self.deadlines.set(index, first);
        }
    }

    /// Ends a backoff.
    pub(super) fn retry_now(&mut self, index: u32) {
        let slot = self.calls.at(index);
        slot.state = State::Due;
        match self.limits.deadline(slot.started) {
            Some(deadline) => self.deadlines.set(index, deadline),
            None => self.deadlines.cancel(index),
        }
        if self.calls.at(index).link != Link::Held {
            self.waiting.push_back(self.calls.slots(), index);
        }
    }

    /// Ends a call that has no outcome, whatever it is doing.
    #[cold]
    pub(super) fn abandon(&mut self, index: u32, failure: Failure<E>) {
        let now = self.now;
        let slot = self.calls.at(index);
        let waits = slot.state == State::Due && slot.link != Link::Held;
        match slot.state {
            State::Running => self.running -= 1,
            State::Backoff | State::Due => self.counters.in_backoff -= 1,
            State::Queued => {
                slot.started = now.back(slot.spent); // no time was spent on it
                self.counters.queued -= 1;
            }
            State::Done | State::Vacant => {}
        }
        if matches!(self.phase, Phase::ShutDown) {
            self.waiting = Waiting::EMPTY; // none of them is invoked any more
        } else if waits {
            self.waiting.remove(self.calls.slots(), index);
        }
        self.finish_call(index, Err(failure));
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn finish_call(&mut self, index: u32, result: Result<Out, Failure<E>>) {
        self.deadlines.cancel(index);
        self.counters.end(&result);
        let slot = self.calls.at(index);
        slot.finish(self.now, result);
        self.counters.call_time.record_span(slot.spent);
        self.call_done(index);
    }

    /// A call is done: it leaves when its turn comes, and may let its successor start.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn call_done(&mut self, index: u32) {
        self.queue.done(self.calls.slots(), index);
        if self.queue.is_serial() {
            let slot = self.calls.at(index);
            let (successor, link) = (slot.successor, slot.link);
            if link != Link::Held {
                self.release(successor);
            }
        }
    }

    /// All calls before `index` in its chain have their outcome. (One that a restore brought in backoff
    /// can have had its own before them, because its time was over.)
    pub(super) fn release(&mut self, mut index: u32) {
        while index != NONE {
            let slot = self.calls.at(index);
            if slot.link == Link::Held {
                slot.link = Link::Following;
            }
            match slot.state {
                State::Done => index = slot.successor,
                State::Queued | State::Due => {
                    return self.waiting.push_back(self.calls.slots(), index);
                }
                _ => return,
            }
        }
    }
}
