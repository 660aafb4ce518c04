//! When attempts may start: limits, rates and pauses (C7, A2).

use std::time::Duration;

use inflight_core::{LimitStrategy as _, Sample, Verdict};

use super::{Call, Model, Started, State, nanos, prefer};
use crate::model::SavedElement;
use crate::parts::Tokens;
use crate::values::{Answer, pause_after, verdict, weight_of};

/// Whether no attempt may start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pause {
    by_hand: bool,
    /// A mistake has asked for it.
    until: Option<i64>,
    began: i64,
    /// When the last pause that a mistake had asked for ended.
    ended: i64,
}

impl Pause {
    pub(crate) const fn is_on(self) -> bool {
        self.by_hand || self.until.is_some()
    }
}

/// A bucket of tokens. It is full at the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    tokens: Tokens,
    is_weighed: bool,
    /// Its contents at the instant `at`. One token is as many units as its period has nanoseconds, so that a whole number of units
    /// comes in each nanosecond. Below zero, what was taken is not yet paid for.
    units: i128,
    at: i64,
}

impl Bucket {
    pub(crate) fn new(tokens: Tokens, is_weighed: bool) -> Self {
        let mut bucket = Self { tokens, is_weighed, units: 0, at: 0 };
        bucket.units = bucket.units_of(tokens.burst);
        bucket
    }

    fn units_of(&self, tokens: u64) -> i128 {
        i128::from(tokens) * i128::from(nanos(self.tokens.period))
    }

    /// Whether no bucket of this size ever has enough for all of these records.
    pub(super) fn is_too_small_for(&self, numbers: &[u32]) -> bool {
        self.cost(numbers) > self.tokens.burst
    }

    /// What a request for these records takes: a batch has one token, or those of all its records.
    fn cost(&self, numbers: &[u32]) -> u64 {
        if self.is_weighed { numbers.iter().map(|number| weight_of(*number)).sum() } else { 1 }
    }

    /// From when on there is enough for a request for these records. One that weighs more than the bucket holds needs a full one.
    fn ready_at(&self, numbers: &[u32]) -> i64 {
        let needed = self.units_of(self.cost(numbers).min(self.tokens.burst));
        let missing = (needed - self.units).max(0);
        let rate = i128::from(self.tokens.tokens);
        self.at + i64::try_from((missing + rate - 1) / rate).expect("it is soon")
    }

    fn take(&mut self, now: i64, numbers: &[u32]) {
        let come = i128::from(now - self.at) * i128::from(self.tokens.tokens);
        self.units = (self.units + come).min(self.units_of(self.tokens.burst));
        self.units -= self.units_of(self.cost(numbers));
        self.at = now;
    }
}

impl Model {
    /// The next attempt to start: the one that could start first. If several could at once, `wish` decides.
    pub(crate) fn poll_attempt(&mut self, now: i64, wish: Option<u64>) -> Option<Started> {
        self.see(now);
        self.admit();
        if !self.may_start_one() {
            return None;
        }
        let next = self.next_to_start();
        let is_ready = |model: &Self, request| model.ready_at(request) <= model.now;
        if wish.is_none() && next.iter().any(|request| !is_ready(self, *request)) {
            return None; // any of them may be the one that waits for the rate
        }
        let request = prefer(next.into_iter(), wish).filter(|request| is_ready(self, *request))?;
        Some(self.begin_attempt(request))
    }

    /// An attempt with a request of its own starts.
    pub(crate) fn begin_attempt(&mut self, request: u64) -> Started {
        let started = self.set_running(request);
        self.pay(&[started.number]);
        started
    }

    /// Whether a new record's attempt starts as soon as it comes: it may, and no other one waits.
    pub(crate) fn starts_at_once(&self, request: u64) -> bool {
        self.may_start_one() && self.next_to_start() == [request]
    }

    /// A request for these records takes its tokens.
    pub(super) fn pay(&mut self, numbers: &[u32]) {
        let now = self.now;
        self.buckets.iter_mut().for_each(|bucket| bucket.take(now, numbers));
    }

    /// An attempt starts, by itself or in a batch.
    pub(crate) fn set_running(&mut self, request: u64) -> Started {
        self.start_clock(request);
        let now = self.now;
        let deadline = self.setup.attempt_timeout.map(|timeout| now + nanos(timeout));
        let call = self.call(request);
        (call.attempts, call.since) = (call.attempts + 1, now);
        call.state = State::Running { deadline };
        let number = call.number;
        let time_left = call.deadline.map(|deadline| (deadline - now).max(0));
        let attempt = call.attempts;
        Started { request, number, attempt, time_left }
    }

    /// No pause, and fewer run than may.
    pub(super) fn may_start_one(&self) -> bool {
        self.running_requests() < self.running_limit()
    }

    /// The most requests that may run now.
    pub(crate) fn running_limit(&self) -> usize {
        match self.pause.is_on() {
            true => 0,
            false => self.running_limit.unwrap_or(usize::MAX).min(self.limit.limit().max(1)),
        }
    }

    /// The running attempt of this request ends like this.
    pub(super) fn note_end(&mut self, request: u64, answer: &Answer) {
        match self.call(request).batch {
            Some(_) => self.leave_batch(request, answer),
            None => {
                let since = self.call(request).since;
                self.observe(since, self.running(), answer);
            }
        }
        self.heed(answer);
    }

    /// A request that started at `since` ends like this, beside `running` ones, itself included (A1).
    pub(super) fn observe(&mut self, since: i64, running: usize, answer: &Answer) {
        let verdict = answer.as_ref().err().map_or(Verdict::Answered, verdict);
        let latency = Duration::from_nanos((self.now - since) as u64);
        self.limit.observe(Sample::new(latency, verdict, running));
    }

    /// The requests of which one is the next to start. The others wait for it, also if it waits for the rate.
    pub(super) fn next_to_start(&self) -> Vec<u64> {
        let since = |call: &Call| match call.state {
            State::Waiting { since } => since,
            _ => None,
        };
        let first = self.calls().filter_map(since).min();
        let next = self.calls().filter(|call| first.is_some() && since(call) == first);
        next.map(|call| call.request).collect()
    }

    /// From when on the rates allow an attempt for this request.
    pub(crate) fn ready_at(&self, request: u64) -> i64 {
        self.batch_ready_at(&[request])
    }

    /// The same for a batch.
    pub(super) fn batch_ready_at(&self, requests: &[u64]) -> i64 {
        let called = self.calls().filter(|call| requests.contains(&call.request));
        let numbers: Vec<_> = called.map(|call| call.number).collect();
        let ready = self.buckets.iter().map(|bucket| bucket.ready_at(&numbers));
        ready.max().unwrap_or(i64::MIN)
    }

    /// Whether an attempt could start, or a restored element could get a slot, which comes first. `None` if that depends on which
    /// one is the next.
    pub(crate) fn may_have_attempt(&self) -> Option<bool> {
        let has_slot = match self.backlog.front() {
            Some(SavedElement::Call(_)) => self.in_flight() < self.capacity,
            Some(SavedElement::Control(_)) => self.controls() < self.capacity,
            None => false,
        };
        if has_slot || !self.may_start_one() {
            return Some(has_slot);
        }
        if self.setup.batch().is_some() {
            return self.may_have_batch();
        }
        let ready =
            self.next_to_start().into_iter().map(|request| self.ready_at(request) <= self.now);
        one_of(ready).unwrap_or(Some(false))
    }

    pub(crate) fn has_attempt(&self) -> bool {
        self.may_have_attempt().unwrap_or(true)
    }

    /// When an attempt may start that may not start now; one answer for each request that could be the next.
    pub(crate) fn start_deadlines(&self) -> Vec<Option<i64>> {
        if let Some(until) = self.pause.until {
            return vec![Some(until)];
        }
        if self.setup.batch().is_some() {
            return self.batch_deadlines();
        }
        let next = if self.may_start_one() { self.next_to_start() } else { Vec::new() };
        let later = |request| Some(self.ready_at(request)).filter(|at| *at > self.now);
        let mut deadlines: Vec<_> = next.into_iter().map(later).collect();
        if deadlines.is_empty() {
            deadlines.push(None);
        }
        deadlines
    }

    /// The instant up to which a mistake has asked for a pause.
    #[allow(dead_code, reason = "only the stage's simulation asks")]
    pub(crate) const fn paused_until(&self) -> Option<i64> {
        self.pause.until
    }

    /// When the last pause that a mistake had asked for ended.
    #[allow(dead_code, reason = "only the stage's simulation asks")]
    pub(crate) const fn pause_ended(&self) -> i64 {
        self.pause.ended
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.pause.is_on()
    }

    pub(crate) fn pause(&mut self, now: i64) {
        self.see(now);
        self.begin_pause();
        self.pause.by_hand = true;
    }

    pub(crate) fn resume(&mut self, now: i64) {
        self.see(now);
        if self.pause.by_hand {
            self.pause.by_hand = false;
            self.end_pause(self.now);
        }
    }

    /// An attempt has ended like this: everything pauses if that asks for it. Of several pauses the one that ends last counts.
    pub(crate) fn heed(&mut self, answer: &Answer) {
        let asks = self.setup.parts.is_some_and(|parts| parts.pauses);
        let millis = answer.as_ref().err().and_then(pause_after).filter(|_| asks);
        if let Some(millis @ 1..) = millis {
            self.begin_pause();
            let until = self.now + nanos(millis);
            self.pause.until = Some(self.pause.until.map_or(until, |before| before.max(until)));
        }
    }

    /// A pause that a mistake has asked for is over at its instant, whenever that is noticed.
    pub(crate) fn end_asked_pause(&mut self) {
        if let Some(until) = self.pause.until.filter(|until| *until <= self.now) {
            (self.pause.until, self.pause.ended) = (None, until);
            self.end_pause(until);
        }
    }

    /// The clocks of calls in backoff stop (A2).
    fn begin_pause(&mut self) {
        if self.pause.is_on() {
            return;
        }
        let now = self.now;
        self.pause.began = now;
        for call in self.calls_mut() {
            call.stop_clock(now);
        }
    }

    /// The clock of a call whose backoff begins in a pause stops, and says what it said when the pause began.
    pub(crate) fn stop_clock_in_pause(&mut self, request: u64) {
        let (began, late) = (self.pause.began, self.now - self.pause.began);
        let call = self.call(request);
        call.started = call.started.map(|started| started - late);
        call.deadline = call.deadline.map(|deadline| deadline - late);
        call.stop_clock(began);
        call.told = None; // it was in no list when the pause began
    }

    /// The same for a restored call.
    pub(crate) fn start_clock_in_pause(&mut self, request: u64) {
        let began = self.pause.began;
        self.set_clock(request, began);
        self.call(request).stop_clock(began);
        self.call(request).told = None;
    }

    /// The clocks go on, but for those of calls whose backoffs have ended before.
    fn end_pause(&mut self, at: i64) {
        if self.pause.is_on() {
            return;
        }
        let in_backoff = |call: &Call| match call.state {
            State::Backoff(end) => Some((call.request, end.min(at))),
            _ => None,
        };
        for (request, at) in self.calls().filter_map(in_backoff).collect::<Vec<_>>() {
            self.set_clock(request, at);
            self.call(request).told = None;
        }
    }
}

impl Call {
    /// The time of a call in backoff stands still from now on, or has done so since the end of its backoff (C5). It may be up already.
    fn stop_clock(&mut self, now: i64) {
        let State::Backoff(end) = self.state else { return };
        let Some(started) = self.started.take() else { return };
        let until = end.min(now);
        self.spent += until - started;
        self.told = self.deadline.filter(|deadline| (until + 1..end).contains(deadline));
        self.deadline = self.deadline.filter(|deadline| *deadline <= until);
    }
}

/// What all of these say, or `None` if they say different things.
pub(super) fn one_of<T: PartialEq>(mut all: impl Iterator<Item = T>) -> Option<Option<T>> {
    let first = all.next()?;
    Some(if all.all(|other| other == first) { Some(first) } else { None })
}
