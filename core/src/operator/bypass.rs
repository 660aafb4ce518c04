//! Records that pass: nothing else is inside, so there is room, and their first attempt is ready as soon as
//! it is started. They need no place.

use core::time::Duration;

use super::Operator;
use crate::function::AttemptInfo;
use crate::outcome::{Failure, Outcome};
use crate::retry::RetryStrategy;
use crate::storage::Storage;
use crate::time::Span;

impl<In, Out, E, R, S, K> Operator<In, Out, E, R, S, K>
where
    R: RetryStrategy<In, Out, E>,
    S: Storage,
{
    /// The slot of a record that comes now. Its first attempt may be started there before it has its place, by
    /// [`push_and_call`](Self::push_and_call).
    #[inline(always)]
    pub(crate) fn vacant_slot(&mut self) -> Option<usize> {
        self.calls.vacant().map(|slot| slot as usize)
    }

    /// The first attempt of a record that comes now.
    #[inline(always)]
    pub(crate) fn first_attempt(&self) -> AttemptInfo {
        AttemptInfo {
            number: 1,
            retry: 0,
            request_id: self.next_request_id,
            time_left: self.limits.timeout.map(Duration::from),
        }
    }

    /// The delay before the record's second attempt, or `None` if it can [pass](Self::pass) with this result of the
    /// first.
    #[inline(always)]
    pub(crate) fn second_attempt_in(
        &self,
        input: &In,
        result: &Result<Out, Failure<E>>,
    ) -> Option<Duration> {
        self.retry.next_delay(self.first_attempt(), input, result)
    }

    /// The first attempt has ended, and the retry strategy wants another one after `delay`.
    pub(crate) fn end_first_attempt(
        &mut self,
        slot: usize,
        result: Result<Out, Failure<E>>,
        delay: Duration,
    ) {
        let _ = self.conclude_attempt(slot as u32, result, Some(delay));
    }

    /// A record comes and leaves at once, with the result of its first attempt. It took no time.
    #[inline(always)]
    pub(crate) fn pass(
        &mut self,
        input: In,
        result: Result<Out, Failure<E>>,
    ) -> Outcome<In, Out, E> {
        self.deposit(&result);
        self.next_request_id = self.next_request_id.wrapping_add(self.request_id_step);
        self.counters.attempts += 1;
        self.counters.call_time.record_span(Span::ZERO);
        self.counters.ordering_delay.record_span(Span::ZERO);
        self.counters.end(&result);
        if result.is_err() {
            self.judge_passing(&result);
        }
        self.counters.emitted += 1;
        Outcome { input, result, attempts: 1, elapsed: Duration::ZERO }
    }
}
