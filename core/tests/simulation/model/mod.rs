//! The model: the operator's contract as lists and loops, in the least clever way.
//!
//! It is written from the rules alone, and shares only the types of answers with the operator. After every event,
//! [`Model::settle`] visits every element and applies the consequences. Times are in nanoseconds.

mod batches;
mod retry;
mod saved;
mod starts;
mod time;

use std::collections::VecDeque;

use inflight_core::{CellState, Completion, Failure, Status};

use self::batches::Running;
pub(crate) use self::saved::{Saved, SavedElement};
use self::starts::{Bucket, Pause};
use crate::limit::Follow;
use crate::parts::Parts;
use crate::setup::{Order, Setup};
use crate::values::Answer;

/// A control element, or the remains of one. A barrier is named by its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Control {
    Watermark(i64),
    Status(Status),
    Drain(u64),
}

/// An input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Input {
    Record { number: u32, key: u32, timestamp: Option<i64> },
    Control(Control),
    DrainWithin { id: u64, limit: i64 },
    Snapshot(u64),
}

/// An output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Output {
    Outcome {
        number: u32,
        key: u32,
        timestamp: Option<i64>,
        answer: Answer,
        attempts: u32,
        elapsed: i64,
    },
    Control(Control),
    /// An output that overtakes the records in flight.
    Overtaking(Overtaking),
}

/// A barrier that overtakes everything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Overtaking {
    Snapshot(u64),
    /// A drain barrier whose time limit has passed.
    FailedDrain(u64),
}

/// An attempt to start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Started {
    pub(crate) request: u64,
    pub(crate) number: u32,
    pub(crate) attempt: u32,
    pub(crate) time_left: Option<i64>,
}

/// An attempt or a call that has timed out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expired {
    Attempt { request: u64 },
    Call { request: u64 },
}

/// The end of a call that has timed out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TimeoutAction {
    Fail,
    FailWith(u32),
    Output(u32),
    Drop,
}

/// The phase of the stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    /// The input goes on.
    Open,
    AllRetries,
    LastAttempt,
    ShutDown,
}

#[derive(Clone, Debug)]
pub(crate) enum Element {
    Call(Call),
    Control(Control),
    Drain {
        id: u64,
        limit: Option<i64>,
    },
    /// The position of a drain barrier whose time limit has passed.
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) request: u64,
    pub(crate) number: u32,
    pub(crate) key: u32,
    pub(crate) timestamp: Option<i64>,
    pub(crate) attempts: u32,
    /// The number of attempts that a crash has interrupted: they have not failed (R2).
    pub(crate) interrupted: u32,
    /// Time taken before its clock was started the last time: before a restore, or before it waited for an attempt.
    pub(crate) spent: i64,
    /// The last start of the call's clock; `None` while it waits.
    pub(crate) started: Option<i64>,
    pub(crate) deadline: Option<i64>,
    /// The deadline that it had when the pause began, of which the operator may tell until it has passed.
    pub(crate) told: Option<i64>,
    /// Since when it waits for an attempt, if it does; or since when one runs.
    pub(crate) since: i64,
    /// The batch of the attempt that runs.
    pub(crate) batch: Option<u64>,
    /// The result of the last attempt that has ended in this life.
    pub(crate) last: Option<Answer>,
    /// It has timed out, whatever came of that.
    pub(crate) has_timed_out: bool,
    pub(crate) state: State,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Waits to be invoked, which is allowed since the event `since`. Calls that wait since the same event have no order.
    Waiting {
        since: Option<u64>,
    },
    Running {
        deadline: Option<i64>,
    },
    Backoff(i64),
    /// `None` for a dropped record. It is ready to leave since the event `since`.
    Done {
        answer: Option<Answer>,
        elapsed: i64,
        since: Option<u64>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) setup: Setup,
    pub(crate) capacity: usize,
    running_limit: Option<usize>,
    pause: Pause,
    buckets: Vec<Bucket>,
    limit: Follow,
    /// The batches that run.
    batches: Vec<Running>,
    /// The batches that ever started.
    all_batches: u64,
    /// Answers that came too late (M1).
    pub(crate) late: u64,
    pub(crate) now: i64,
    /// In push order, all elements that have a slot and have not left.
    pub(crate) inside: Vec<Element>,
    /// Restored elements that have no slot yet.
    pub(crate) backlog: VecDeque<SavedElement>,
    overtaking: Option<Overtaking>,
    ending: Ending,
    /// The rest of the retry budget, in thousandths of a token.
    tokens: u64,
    requests: u64,
    /// Failures that have left, and how many of them are timeouts.
    pub(crate) failures_out: [u64; 2],
    /// Counts events, so that their order can be compared.
    pub(crate) events: u64,
    /// The event since which all calls wait that may be invoked from the same moment on.
    pub(crate) moment: Option<u64>,
    /// The instant whose deadlines are being judged.
    judging: Option<i64>,
    /// The instant up to which the runtime has delivered events: a running attempt does not time out by a later
    /// deadline (T6).
    pub(crate) delivered: i64,
}

impl Model {
    pub(crate) fn new(setup: &Setup) -> Self {
        let parts = setup.parts.unwrap_or(Parts::NONE);
        let buckets = [(parts.rate, false), (parts.weighed, true)].into_iter();
        let buckets = buckets.map(|(tokens, is_weighed)| Some(Bucket::new(tokens?, is_weighed)));
        Self {
            setup: *setup,
            capacity: setup.capacity,
            running_limit: setup.running_limit,
            pause: Pause::default(),
            buckets: buckets.flatten().collect(),
            limit: Follow::up_to(parts.limit),
            batches: Vec::new(),
            all_batches: 0,
            late: 0,
            now: 0,
            inside: Vec::new(),
            backlog: VecDeque::new(),
            overtaking: None,
            ending: Ending::Open,
            tokens: setup.retry_budget.map_or(0, |budget| budget.most * 1000),
            requests: 0,
            failures_out: [0; 2],
            events: 0,
            moment: None,
            judging: None,
            delivered: i64::MAX,
        }
    }

    /// Returns true if the element is taken in (C2, C3, C4).
    pub(crate) fn push(&mut self, now: i64, input: Input) -> bool {
        self.see(now);
        // A snapshot holds whatever is in flight, so its barrier waits neither for room nor for the end (K11).
        let overtakes = matches!(input, Input::Snapshot(_));
        if !overtakes && (!self.backlog.is_empty() || self.ending != Ending::Open) {
            return false;
        }
        match input {
            Input::Record { number, key, timestamp } => {
                if self.in_flight() >= self.capacity {
                    return false;
                }
                let (request, since) = (self.requests, self.now);
                self.requests += 1;
                self.inside.push(Element::Call(Call {
                    request,
                    number,
                    key,
                    timestamp,
                    attempts: 0,
                    interrupted: 0,
                    spent: 0,
                    started: None,
                    deadline: None,
                    told: None,
                    since,
                    batch: None,
                    last: None,
                    has_timed_out: false,
                    state: State::Waiting { since: None },
                }));
                self.settle();
                true
            }
            Input::Snapshot(id) => {
                let is_free = self.overtaking.is_none();
                self.overtaking = self.overtaking.or(Some(Overtaking::Snapshot(id)));
                is_free
            }
            Input::Control(control) => self.append(control, None),
            Input::DrainWithin { id, limit } => self.append(Control::Drain(id), Some(limit)),
        }
    }

    /// Puts a control element at the end (C3).
    fn append(&mut self, control: Control, limit: Option<i64>) -> bool {
        if self.controls() >= self.capacity {
            let (Some(Element::Control(Control::Watermark(last))), Control::Watermark(mark)) =
                (self.inside.last_mut(), control)
            else {
                return false;
            };
            *last = mark.max(*last);
            return true;
        }
        let limit = limit.map(|limit| self.now + limit);
        self.inside.push(match control {
            Control::Drain(id) => Element::Drain { id, limit },
            control => Element::Control(control),
        });
        true
    }

    /// The attempt for `request` has ended; `None` for an attempt that is not running.
    pub(crate) fn complete(
        &mut self,
        now: i64,
        request: Option<u64>,
        answer: Answer,
    ) -> Completion {
        self.see(now);
        match request {
            None => {
                self.late += 1;
                Completion::Late
            }
            Some(request) => self.end_attempt(request, answer),
        }
    }

    pub(crate) fn end_attempt(&mut self, request: u64, answer: Answer) -> Completion {
        self.note_end(request, &answer);
        let call = self.call(request);
        let number = call.attempts - call.interrupted;
        if let Some(delay) = self.next_delay(number, &answer) {
            let end = self.now + delay;
            let call = self.call(request);
            (call.last, call.state) = (Some(answer), State::Backoff(end));
            if self.is_paused() {
                self.stop_clock_in_pause(request);
            }
            return Completion::Retry;
        }
        self.end_call(request, Some(answer));
        Completion::Outcome
    }

    pub(crate) fn end_call(&mut self, request: u64, answer: Option<Answer>) {
        let now = self.now;
        let call = self.call(request);
        let until = match call.state {
            State::Backoff(end) => end.min(now), // the clock stands still from there on (C5)
            _ => now,
        };
        let elapsed = call.spent + call.started.map_or(0, |started| until - started);
        call.state = State::Done { answer, elapsed, since: None };
        (call.deadline, call.told, call.batch) = (None, None, None);
        self.settle();
    }

    /// Gives another end to a call that has just timed out (T3).
    pub(crate) fn resolve_timeout(&mut self, request: u64, action: TimeoutAction) {
        let State::Done { answer, .. } = &mut self.call(request).state else { unreachable!() };
        *answer = match action {
            TimeoutAction::Fail => Some(Err(Failure::TimedOut)),
            TimeoutAction::FailWith(mistake) => Some(Err(Failure::Error(mistake))),
            TimeoutAction::Output(output) => Some(Ok(output)),
            TimeoutAction::Drop => None,
        };
    }

    /// The next element to hand on (O1, O2, O3, O4).
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        if let Some(overtaking) = self.overtaking.take() {
            return Some(Output::Overtaking(overtaking));
        }
        self.admit();
        loop {
            let output = match self.inside.remove(self.next_out()?) {
                Element::Control(control) => Some(Output::Control(control)),
                Element::Drain { id, .. } => Some(Output::Control(Control::Drain(id))),
                Element::Gone => None,
                Element::Call(call) => {
                    let failures = failures(&call);
                    self.failures_out = add(self.failures_out, failures);
                    outcome(call)
                }
            };
            self.settle();
            if output.is_some() {
                return output;
            }
        }
    }

    /// Returns true if a restored element has no slot yet.
    #[allow(dead_code, reason = "the operator's caller tells it the time")]
    pub(crate) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    pub(crate) fn has_output(&self) -> bool {
        self.overtaking.is_some() || self.next_out().is_some()
    }

    /// Returns true if a barrier that overtakes is about to leave.
    #[allow(dead_code, reason = "only the stage's simulation asks")]
    pub(crate) fn has_express(&self) -> bool {
        self.overtaking.is_some()
    }

    /// The index of the element that leaves next.
    fn next_out(&self) -> Option<usize> {
        let ready = |element: &Element| match element {
            Element::Call(Call { state: State::Done { since, .. }, .. }) => *since,
            _ => None,
        };
        let first = self.inside.first()?;
        match first {
            Element::Control(_) | Element::Drain { .. } | Element::Gone => return Some(0),
            Element::Call(_) if self.setup.order == Order::Ordered => {
                return ready(first).map(|_| 0);
            }
            Element::Call(_) => {}
        }
        let segment = self.inside.iter().take_while(|element| matches!(element, Element::Call(_)));
        let ready = segment.enumerate().filter_map(|(at, element)| Some((ready(element)?, at)));
        ready.min().map(|(_, at)| at)
    }

    /// Notes of the calls that may now be invoked, or may now leave, since when they may.
    pub(crate) fn settle(&mut self) {
        for at in 0..self.inside.len() {
            let (before, rest) = self.inside.split_at_mut(at);
            let Element::Call(call) = &mut rest[0] else { continue };
            let mut same_key = before.iter().filter_map(|element| match element {
                Element::Call(other) => (other.key == call.key).then_some(other),
                _ => None,
            });
            match &mut call.state {
                State::Waiting { since: since @ None } => {
                    let is_over = |other: &Call| matches!(other.state, State::Done { .. });
                    if self.setup.has_one_per_key() && !same_key.all(is_over) {
                        continue;
                    }
                    self.events += 1;
                    *since = self.moment.or(Some(self.events));
                }
                State::Done { since: since @ None, .. } => {
                    let by_key =
                        matches!(self.setup.order, Order::KeyAlone | Order::KeyOverlapping);
                    if by_key && same_key.next().is_some() {
                        continue;
                    }
                    self.events += 1;
                    *since = Some(self.events);
                }
                _ => {}
            }
        }
    }

    /// Sets the capacity, and the limit of running attempts (C8).
    pub(crate) fn change(&mut self, capacity: usize, limit: Option<usize>) {
        self.capacity = capacity;
        self.running_limit = limit;
    }

    /// Ends the input (R5).
    pub(crate) fn finish(&mut self, now: i64) {
        self.see(now);
        if self.ending != Ending::Open {
            return;
        }
        self.ending = Ending::AllRetries;
        if !self.setup.last_attempts {
            return;
        }
        self.ending = Ending::LastAttempt;
        self.at_one_moment();
        let now = self.now;
        for call in self.calls_mut() {
            if matches!(call.state, State::Backoff(_)) {
                call.wait_again(now);
            }
        }
        self.settle();
        self.moment = None;
    }

    /// Calls that may be invoked from now on, until `moment` is reset, have no order.
    fn at_one_moment(&mut self) {
        self.events += 1;
        self.moment = Some(self.events);
    }

    /// Shuts everything down (L3).
    pub(crate) fn shut_down(&mut self, now: i64) {
        self.see(now);
        self.ending = Ending::ShutDown;
        let is_over = |call: &Call| matches!(call.state, State::Done { .. });
        let open: Vec<_> =
            self.calls().filter(|call| !is_over(call)).map(|call| call.request).collect();
        for request in open {
            self.end_call(request, Some(Err(Failure::ShutDown)));
        }
        self.batches.clear();
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.calls().count()
    }

    /// M2: the oldest first.
    pub(crate) fn window(&self) -> Vec<(CellState, u32)> {
        let state = |call: &Call| match call.state {
            State::Waiting { .. } => CellState::Waiting,
            State::Running { .. } => CellState::Running,
            State::Backoff(_) => CellState::Backoff,
            State::Done { .. } => CellState::Done,
        };
        self.calls().map(|call| (state(call), call.attempts)).collect()
    }

    pub(crate) fn running(&self) -> usize {
        self.calls().filter(|call| matches!(call.state, State::Running { .. })).count()
    }

    pub(crate) fn in_backoff(&self) -> usize {
        self.calls().filter(|call| matches!(call.state, State::Backoff(_))).count()
    }

    pub(crate) fn done(&self) -> usize {
        self.calls().filter(|call| matches!(call.state, State::Done { .. })).count()
    }

    /// M1: the number of calls that have failed, also while their outcomes wait; and how many of them are timeouts.
    pub(crate) fn failures(&self) -> [u64; 2] {
        self.calls().map(failures).fold(self.failures_out, add)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inside.is_empty() && self.backlog.is_empty() && self.overtaking.is_none()
    }

    /// Returns true if the request has no outcome yet.
    pub(crate) fn is_open(&self, request: u64) -> bool {
        let is_it = |call: &Call| call.request == request;
        self.calls().any(|call| is_it(call) && !matches!(call.state, State::Done { .. }))
    }

    pub(crate) fn controls(&self) -> usize {
        self.inside.len() - self.in_flight()
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.inside.iter().filter_map(|element| match element {
            Element::Call(call) => Some(call),
            _ => None,
        })
    }

    pub(crate) fn calls_mut(&mut self) -> impl Iterator<Item = &mut Call> {
        self.inside.iter_mut().filter_map(|element| match element {
            Element::Call(call) => Some(call),
            _ => None,
        })
    }

    pub(crate) fn call(&mut self, request: u64) -> &mut Call {
        self.calls_mut().find(|call| call.request == request).expect("the call is in flight")
    }
}

impl Call {
    /// The backoff is over, or is cut short at `now`. From here on the call's clock stands still, until its attempt starts (C5).
    pub(crate) fn wait_again(&mut self, now: i64) {
        let State::Backoff(end) = self.state else { unreachable!() };
        self.spent += self.started.take().map_or(0, |started| end.min(now) - started);
        (self.deadline, self.told, self.since) = (None, None, now);
        self.state = State::Waiting { since: None };
    }
}

pub(crate) fn failures(call: &Call) -> [u64; 2] {
    match call.state {
        State::Done { answer: Some(Err(failure)), .. } => {
            [1, u64::from(call.has_timed_out || failure.is_timeout())]
        }
        _ => [0; 2],
    }
}

pub(crate) fn add(one: [u64; 2], other: [u64; 2]) -> [u64; 2] {
    [one[0] + other[0], one[1] + other[1]]
}

/// The output of a call that leaves; a dropped record has none.
pub(crate) fn outcome(call: Call) -> Option<Output> {
    let State::Done { answer, elapsed, .. } = call.state else { unreachable!() };
    let Call { number, key, timestamp, attempts, .. } = call;
    Some(Output::Outcome { number, key, timestamp, answer: answer?, attempts, elapsed })
}

/// `wish` if it is one of the candidates, or else the first of them.
fn prefer<T: PartialEq>(mut candidates: impl Iterator<Item = T>, wish: Option<T>) -> Option<T> {
    let first = candidates.next()?;
    let wished = candidates.find(|other| wish.as_ref() == Some(other));
    Some(wished.unwrap_or(first))
}

pub(crate) const fn nanos(millis: u64) -> i64 {
    millis as i64 * 1_000_000
}
