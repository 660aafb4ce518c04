//! The bypass: a record whose first attempt is ready at once needs no slot, if it may leave before everything that is in flight.
//!
//! It costs a third of the instructions of the way through the slots. The stage is its only user. It is not
//! public: its caller has to keep the order of these steps, and no mistake in that order would be noticed here.

use core::time::Duration;

use super::Operator;
use super::call::{Call, OutcomeOf, ResultOf};
use crate::function::AttemptInfo;
use crate::outcome::Outcome;
use crate::policy::Extras;
use crate::retry::RetryStrategy;
use crate::storage::Storage;
use crate::time::Span;

impl<C: Call, S: Storage> Operator<C, S> {
    /// Whether the next record may bypass the slots, or take one and start its attempt there: no attempt has waited longer, and no
    /// element in flight has to leave before it. That may be an outcome: [`has_output`](Self::has_output) tells.
    #[inline]
    pub(crate) fn may_bypass(&self) -> bool {
        self.takes_record()
            && self.may_run()
            && (self.is_empty() || self.is_unordered_segment() && self.to_start.is_empty())
    }

    /// Whether records in flight leave in any order, and no control element is among them.
    fn is_unordered_segment(&self) -> bool {
        self.order.is_unordered() && self.order.controls() == 0 && self.overtaking.is_none()
    }

    /// The slot that the next record gets. The request of its first attempt may be started there before the record has
    /// its slot, if it is [pushed](Self::push_start) then.
    #[inline(always)]
    pub(crate) fn vacant_slot(&mut self) -> Option<usize> {
        self.records.vacant().map(|slot| slot as usize)
    }

    /// The first attempt of the next record.
    #[inline(always)]
    pub(crate) fn first_attempt(&self, input: &C::Input) -> AttemptInfo {
        AttemptInfo {
            number: 1,
            retry: 0,
            request_id: self.ids.next,
            time_left: self.extras.timeout_of(input).or(self.limits.timeout.map(Duration::from)),
        }
    }

    /// The delay before a second attempt, or `None` if the record can [bypass](Self::bypass) the slots with this result.
    #[inline(always)]
    pub(crate) fn second_attempt_in(
        &self,
        input: &C::Input,
        result: &ResultOf<C>,
    ) -> Option<Duration> {
        self.retry.next_delay(self.first_attempt(input), input, result)
    }

    /// Whether a record whose attempt has failed can [bypass](Self::bypass) the slots. A failure that may end the job cannot while anything is
    /// in flight, which the job's end has to discard.
    #[cold]
    pub(crate) fn failure_may_bypass(&self) -> bool {
        !self.ending.fails_fast() || self.is_empty()
    }

    /// Ends the first attempt of a record that has its slot now. `delay` is the answer of [`second_attempt_in`](Self::second_attempt_in).
    pub(crate) fn end_first_attempt(
        &mut self,
        slot: usize,
        result: ResultOf<C>,
        delay: Option<Duration>,
    ) {
        let _ = self.end_attempt_with(slot as u32, result, delay);
    }

    /// A record comes and leaves at once, with the result of its first attempt. It took no time.
    #[inline(always)]
    pub(crate) fn bypass(&mut self, input: C::Input, result: ResultOf<C>) -> OutcomeOf<C> {
        self.pay_retry_budget(&result);
        self.ids.advance();
        self.counters.attempts += 1;
        self.counters.call_time.record_span(Span::ZERO);
        self.counters.ordering_delay.record_span(Span::ZERO);
        self.counters.end(&result);
        if result.is_err() {
            self.check_bypassing_failure(&result);
        }
        self.counters.emitted += 1;
        Outcome { input, result, attempts: 1, elapsed: Duration::ZERO }
    }
}
