//! One record's life: its states, and the transitions between them.
//!
//! ```text
//!           queue             start             complete          vacate
//!    Vacant --------> Queued -------> Running ------------> Done --------> Vacant
//!       |  start_new    ^ ^            ^  |                  ^
//!       +---------------|-|------------+  | back_off         | fail: from Queued, Running, Backoff
//!           end_backoff | | halt          v                  |
//!                       +-+----------- Backoff --------------+
//! ```
//!
//! This is the only file that assigns a state. A transition adjusts the counters that depend on it, so that they always
//! agree with the states. `steps.rs` has all else that a transition entails.

use super::attempt::AttemptId;
use super::call::{Call, ResultOf};
use super::metrics::Counters;
use crate::function::AttemptInfo;
use crate::outcome::Failure;
use crate::storage::NONE;
use crate::time::{Instant, Span, Timestamp};

/// The contents of a slot: a record in flight and its call, or nothing (`Vacant`).
pub(super) struct Record<C: Call> {
    pub(super) input: Option<C::Input>,
    /// The call's result. A completed call without one leaves without an outcome. Before the call is done: the result of its last
    /// attempt, if there was one that was followed by another.
    result: Option<ResultOf<C>>,
    timestamp: i64,
    request_id: u64,
    /// When the first attempt started, moved on by the time that the call has waited since for an attempt to start, and back by the
    /// time that it had taken before a restore. In `Queued`: since when the record waits.
    started: Instant,
    /// In `Queued`: the time that the call had taken before it began to wait. In `Backoff`: from `started` to the retry. In `Done`:
    /// from `started` to the end of the call.
    spent: Span,
    attempts: u32,
    /// Counts attempts and calls of this slot, so that an old [`AttemptId`] names nothing any more (T5).
    generation: u32,
    /// The next record in the one list that this one is in: vacant slots, attempts to start, or outcomes that may leave.
    pub(super) next: u32,
    /// The next record of the same chain, which must not leave before this one.
    pub(super) successor: u32,
    pub(super) segment: u32,
    state: State,
    pub(super) link: Link,
    has_timestamp: bool,
    /// How many attempts a crash has interrupted, up to 255; an interrupted attempt is no failed attempt.
    interrupted: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The slot holds no record.
    Vacant,
    /// It waits for an attempt to start, the first one or another one. That takes no time of the call's (C5).
    Queued,
    Running,
    Backoff,
    /// The call has ended; the record waits until it may leave.
    Done,
}

/// A record's position in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The first one: it may leave as soon as it is done.
    First,
    /// Its predecessor has not left.
    Following,
    /// Its predecessor has no outcome yet, and its attempt must not start before that (O3, one attempt a key).
    Held,
}

/// The transitions.
impl<C: Call> Record<C> {
    pub(super) const VACANT: Self = Self {
        input: None,
        result: None,
        timestamp: 0,
        request_id: 0,
        started: Instant::ZERO,
        spent: Span::ZERO,
        attempts: 0,
        generation: 0,
        next: NONE,
        successor: NONE,
        segment: 0,
        state: State::Vacant,
        link: Link::First,
        has_timestamp: false,
        interrupted: 0,
    };

    /// Fills a `Vacant` slot with a record, which is [queued](Self::queue) or [started](Self::start_new) next.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn occupy(
        &mut self,
        now: Instant,
        (input, timestamp): (C::Input, Option<Timestamp>),
        request_id: u64,
        segment: u32,
    ) {
        self.input = Some(input);
        self.has_timestamp = timestamp.is_some();
        self.timestamp = timestamp.map_or(0, Timestamp::as_millis);
        self.request_id = request_id;
        self.started = now;
        self.spent = Span::ZERO;
        self.attempts = 0;
        self.interrupted = 0;
        self.successor = NONE;
        self.segment = segment;
        self.link = Link::First;
    }

    /// `Vacant` to `Queued`: the record waits for its first attempt.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn queue(&mut self, counters: &mut Counters) {
        self.state = State::Queued;
        counters.queued += 1;
    }

    /// `Vacant` to `Running`: its first attempt starts as soon as the record comes.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn start_new(&mut self, counters: &mut Counters) {
        self.state = State::Running;
        self.attempts = 1;
        self.generation = self.generation.wrapping_add(1);
        counters.running += 1;
        counters.attempts += 1;
    }

    /// `Queued` to `Running`: an attempt starts.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn start(&mut self, now: Instant, counters: &mut Counters) {
        // Time that the call has taken before counts, time in the queue does not (C5).
        self.started = now.back(self.spent);
        counters.queued -= 1;
        self.state = State::Running;
        self.attempts = self.attempts.saturating_add(1);
        self.generation = self.generation.wrapping_add(1);
        counters.running += 1;
        counters.attempts += 1;
    }

    /// `Running` to `Backoff`: the attempt has ended, and another one follows at `until`. The record keeps its slot (R3).
    /// When a pause ends, its whole length will not count, so the time of this one that has passed (`in_pause`) counts now.
    pub(super) fn back_off(
        &mut self,
        until: Instant,
        in_pause: Span,
        result: ResultOf<C>,
        counters: &mut Counters,
    ) {
        self.result = Some(result);
        self.started = self.started.back(in_pause);
        self.spent = until.since(self.started);
        self.state = State::Backoff;
        counters.running -= 1;
        counters.retried += 1;
        counters.in_backoff += 1;
    }

    /// `Backoff` to `Queued`: the backoff is over, or cut short. The call has taken the time until `waiting_now`.
    pub(super) fn end_backoff(
        &mut self,
        now: Instant,
        waiting_now: Instant,
        counters: &mut Counters,
    ) {
        self.spent = self.spent.min(waiting_now.since(self.started)); // not the time since, if the end was noticed late
        self.started = now;
        self.state = State::Queued;
        counters.in_backoff -= 1;
        counters.queued += 1;
    }

    /// `Running` to `Done`: the attempt's result is the call's.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn complete(&mut self, now: Instant, result: ResultOf<C>, counters: &mut Counters) {
        counters.running -= 1;
        self.end(now, result, counters);
    }

    /// Any state but `Done` to `Done`, with a failure that is not an attempt's.
    pub(super) fn fail(
        &mut self,
        now: Instant,
        waiting_now: Instant,
        failure: Failure<C::Error>,
        counters: &mut Counters,
    ) {
        match self.state {
            State::Running => counters.running -= 1,
            State::Backoff => {
                self.end_backoff(now, waiting_now, counters);
                return self.fail(now, waiting_now, failure, counters);
            }
            State::Queued => {
                self.started = now.back(self.spent); // waiting for an attempt takes no time of the call's (C5)
                counters.queued -= 1;
            }
            State::Done | State::Vacant => {}
        }
        self.end(now, Err(failure), counters);
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn end(&mut self, now: Instant, result: ResultOf<C>, counters: &mut Counters) {
        counters.end(&result);
        self.result = Some(result);
        self.spent = now.passed_since(self.started);
        // The id of the last attempt names nothing from here on: its completion would be late (T5).
        self.generation = self.generation.wrapping_add(1);
        self.state = State::Done;
        counters.call_time.record_span(self.spent);
    }

    /// `Running` or `Backoff` back to `Queued`, because the job has ended (F6): the record gets no outcome. A record in another state
    /// stays in it. Returns whether it was one of the two.
    pub(super) fn halt(
        &mut self,
        now: Instant,
        waiting_now: Instant,
        counters: &mut Counters,
    ) -> bool {
        match self.state {
            State::Running => {
                self.interrupted = self.interrupted.saturating_add(1);
                self.spent = now.since(self.started); // a snapshot holds it (K1)
                self.state = State::Queued;
                counters.running -= 1;
                counters.queued += 1;
            }
            State::Backoff => self.end_backoff(now, waiting_now, counters),
            State::Queued | State::Done | State::Vacant => return false,
        }
        true
    }

    /// `Queued` or `Done` to `Done` without a result: the record leaves without an outcome. Returns whether it was `Queued`.
    pub(super) fn discard(&mut self, counters: &mut Counters) -> bool {
        self.result = None;
        let was_queued = self.state == State::Queued;
        if was_queued {
            self.state = State::Done;
            counters.queued -= 1;
        }
        was_queued
    }

    /// `Done` to `Vacant`: the record leaves, and its contents are [taken](Self::take) next.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn vacate(&mut self) {
        self.state = State::Vacant;
    }

    /// Takes the input and the result out of a slot that is vacant now.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn take(&mut self) -> (Option<C::Input>, Option<ResultOf<C>>) {
        (self.input.take(), self.result.take())
    }

    /// Of a restored record in `Queued`: the attempts and the time that it had before.
    pub(super) fn restore(&mut self, attempts: u32, interrupted: u32, spent: Span) {
        self.attempts = attempts;
        self.interrupted = u8::try_from(interrupted).unwrap_or(u8::MAX);
        self.spent = spent;
    }

    /// `Queued` to `Done`, of a [restored](Self::restore) record whose result was kept (K2).
    pub(super) fn restore_done(
        &mut self,
        now: Instant,
        result: Option<ResultOf<C>>,
        counters: &mut Counters,
    ) {
        if let Some(result) = &result {
            counters.end(result);
        }
        self.started = now.back(self.spent);
        self.result = result;
        self.state = State::Done;
        counters.queued -= 1;
    }

    /// `Queued` to `Backoff`, of a [restored](Self::restore) record whose backoff ends at `until`.
    pub(super) fn restore_backoff(
        &mut self,
        waiting_now: Instant,
        until: Instant,
        counters: &mut Counters,
    ) {
        self.started = waiting_now.back(self.spent);
        self.spent = until.since(self.started);
        self.state = State::Backoff;
        counters.queued -= 1;
        counters.in_backoff += 1;
    }

    /// Of a record in `Backoff`: the time of its call has stood still for so long.
    pub(super) fn move_start(&mut self, by: Span) {
        let until = self.done_at();
        self.started = self.started.plus(by);
        self.spent = until.since(self.started);
    }

    /// Of a record whose call is not done: takes the result of its last attempt.
    pub(super) fn take_last_result(&mut self) -> Option<ResultOf<C>> {
        self.result.take()
    }

    /// Of a record in `Done` that has timed out: another result, once. `None` drops the record.
    pub(super) fn replace_timeout(&mut self, result: Option<ResultOf<C>>, counters: &mut Counters) {
        if !matches!(result, Some(Err(_))) {
            counters.take_back_timeout();
        }
        self.result = result;
        self.generation = self.generation.wrapping_add(1); // a second answer finds no call of its id
    }
}

/// Reading a record.
impl<C: Call> Record<C> {
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// The id of its latest attempt, where `slot` is the record's slot.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn id(&self, slot: u32) -> AttemptId {
        AttemptId { request_id: self.request_id, slot, generation: self.generation }
    }

    pub(super) fn request_id(&self) -> u64 {
        self.request_id
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// When the call began or, before that, the record was taken in, without the times in which it waited for an attempt to start
    /// after its first one.
    pub(super) fn since(&self) -> Instant {
        if self.state == State::Queued { self.started.back(self.spent) } else { self.started }
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn spent(&self) -> Span {
        self.spent
    }

    /// Of a record in `Done`: when its call ended. In `Backoff`: when the next attempt is due.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn done_at(&self) -> Instant {
        self.started.plus(self.spent)
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) fn interrupted(&self) -> u32 {
        u32::from(self.interrupted)
    }

    pub(super) fn result(&self) -> Option<&ResultOf<C>> {
        self.result.as_ref()
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        self.has_timestamp.then_some(Timestamp::from_millis(self.timestamp))
    }

    /// Whether the call has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.state == State::Done && matches!(self.result, Some(Err(_)))
    }

    /// Whether the call has timed out, and that is its outcome.
    pub(super) fn has_timed_out(&self) -> bool {
        self.state == State::Done && matches!(self.result, Some(Err(Failure::TimedOut)))
    }

    /// The latest attempt, as the function and the retry strategy see it. `deadline` is the call's.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn info(&self, now: Instant, deadline: Option<Instant>) -> AttemptInfo {
        // The attempts before this one, but for those that a crash has interrupted.
        let failed = self.attempts.saturating_sub(1).saturating_sub(self.interrupted());
        AttemptInfo {
            number: self.attempts,
            retry: failed,
            request_id: self.request_id,
            time_left: deadline.map(|deadline| deadline - now),
        }
    }
}
