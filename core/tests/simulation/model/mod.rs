//! The contract as lists and loops: what an operator must do, in the least clever way.
//!
//! Written from the rules alone, and sharing nothing with the operator but the vocabulary of
//! answers. Whatever happens, [`Model::settle`] looks at every element and finds what follows.
//! Times are in nanoseconds.

mod retry;
mod saved;
mod time;

use std::collections::VecDeque;

use inflight_core::{Completion, Failure, Status};

pub(crate) use self::saved::{Saved, SavedElement};
use crate::setup::{Order, Setup};
use crate::values::Answer;

/// A control element, or what stands for one. A barrier is named by its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Control {
    Watermark(i64),
    Status(Status),
    Drain(u64),
}

/// What goes in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Input {
    Record { number: u32, key: u32, timestamp: Option<i64> },
    Control(Control),
    DrainWithin { id: u64, limit: i64 },
    Snapshot(u64),
}

/// What comes out.
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
    /// A drain barrier that took too long.
    FailedDrain(u64),
    Snapshot(u64),
}

/// An attempt to start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Started {
    pub(crate) request: u64,
    pub(crate) number: u32,
    pub(crate) attempt: u32,
    pub(crate) time_left: Option<i64>,
}

/// Something that is over because time is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Expired {
    Attempt { request: u64 },
    Call { request: u64 },
}

/// What a call that timed out ends with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TimeoutAction {
    Fail,
    Output(u32),
    Drop,
}

/// How the stage goes on after its input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    /// Not at all yet, or with all retries.
    Open,
    LastAttempt,
    ShutDown,
}

/// An instant that matters. Of two at one instant the one that was set first comes first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Deadline {
    at: i64,
    set: u64,
}

#[derive(Debug)]
enum Element {
    Call(Call),
    Control(Control),
    Drain { id: u64, limit: Option<Deadline>, failed: bool },
}

#[derive(Debug)]
struct Call {
    request: u64,
    number: u32,
    key: u32,
    timestamp: Option<i64>,
    attempts: u32,
    /// Time taken before a restore.
    spent: i64,
    /// When this life's clock of the call started.
    started: Option<i64>,
    deadline: Option<Deadline>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// For its turn to be invoked, which came at the event `turn`.
    Waiting { turn: Option<u64> },
    Running { deadline: Option<Deadline> },
    Backoff(Deadline),
    /// `None` has been dropped. It became ready to leave at the event `turn`.
    Done { answer: Option<Answer>, elapsed: i64, turn: Option<u64> },
}

#[derive(Debug)]
pub(crate) struct Model {
    setup: Setup,
    capacity: usize,
    running_limit: Option<usize>,
    now: i64,
    /// In push order, whatever has a place and has not left.
    inside: Vec<Element>,
    /// What a restore brought and what has no place yet.
    backlog: VecDeque<SavedElement>,
    /// A snapshot barrier on its way past everything.
    express: Option<u64>,
    ending: Ending,
    /// Thousandths of retries that the budget has left.
    tokens: u64,
    requests: u64,
    /// Counts whatever happens, to tell what came first.
    events: u64,
}

impl Model {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            setup: *setup,
            capacity: setup.capacity,
            running_limit: setup.running_limit,
            now: i64::MIN,
            inside: Vec::new(),
            backlog: VecDeque::new(),
            express: None,
            ending: Ending::Open,
            tokens: setup.budget.map_or(0, |budget| budget.most * 1000),
            requests: 0,
            events: 0,
        }
    }

    /// Whether the element is taken in (C2, C3, C4).
    pub(crate) fn push(&mut self, now: i64, input: Input) -> bool {
        self.see(now);
        if !self.backlog.is_empty() {
            return false;
        }
        match input {
            Input::Record { number, key, timestamp } => {
                if self.in_flight() >= self.capacity {
                    return false;
                }
                let request = self.requests;
                self.requests += 1;
                self.inside.push(Element::Call(Call {
                    request,
                    number,
                    key,
                    timestamp,
                    attempts: 0,
                    spent: 0,
                    started: None,
                    deadline: None,
                    state: State::Waiting { turn: None },
                }));
                self.settle();
                true
            }
            Input::Snapshot(id) => self.express.is_none() && self.express.replace(id).is_none(),
            Input::Control(control) => self.place(control, None),
            Input::DrainWithin { id, limit } => self.place(Control::Drain(id), Some(limit)),
        }
    }

    /// Gives a control element its place at the end (C3).
    fn place(&mut self, control: Control, limit: Option<i64>) -> bool {
        if self.controls() >= self.capacity {
            let (Some(Element::Control(Control::Watermark(last))), Control::Watermark(mark)) =
                (self.inside.last_mut(), control)
            else {
                return false;
            };
            *last = mark.max(*last);
            return true;
        }
        self.inside.push(match control {
            Control::Drain(id) => {
                let limit = limit.map(|limit| self.deadline_at(self.now + limit));
                Element::Drain { id, limit, failed: false }
            }
            control => Element::Control(control),
        });
        true
    }

    /// The next attempt to start: of those whose turn it is, the one whose turn came first.
    pub(crate) fn poll_call(&mut self, now: i64) -> Option<Started> {
        self.see(now);
        self.admit();
        if self.running_limit.is_some_and(|limit| self.running() >= limit) {
            return None;
        }
        let turn = |call: &Call| match call.state {
            State::Waiting { turn } => turn,
            _ => None,
        };
        let request = self.calls().filter_map(|call| Some((turn(call)?, call.request))).min()?.1;
        self.start_clock(request);
        let deadline = self.setup.attempt_timeout.map(|timeout| self.deadline_in(timeout));
        let now = self.now;
        let call = self.call(request);
        call.attempts += 1;
        call.state = State::Running { deadline };
        Some(Started {
            request,
            number: call.number,
            attempt: call.attempts,
            time_left: call.deadline.map(|deadline| (deadline.at - now).max(0)),
        })
    }

    /// The attempt that is running for `request` has ended; `None` is one that is not running.
    pub(crate) fn complete(
        &mut self,
        now: i64,
        request: Option<u64>,
        answer: Answer,
    ) -> Completion {
        self.see(now);
        match request {
            None => Completion::Late,
            Some(request) => self.end_attempt(request, answer),
        }
    }

    fn end_attempt(&mut self, request: u64, answer: Answer) -> Completion {
        let number = self.call(request).attempts;
        if let Some(delay) = self.next_delay(number, &answer) {
            let end = self.deadline_at(self.now.saturating_add(delay));
            self.call(request).state = State::Backoff(end);
            return Completion::Retry;
        }
        self.end_call(request, Some(answer));
        Completion::Outcome
    }

    fn end_call(&mut self, request: u64, answer: Option<Answer>) {
        let now = self.now;
        let call = self.call(request);
        let elapsed = call.spent + call.started.map_or(0, |started| now - started);
        call.state = State::Done { answer, elapsed, turn: None };
        call.deadline = None;
        self.settle();
    }

    /// Another end for a call that has just timed out (T3).
    pub(crate) fn resolve_timeout(&mut self, request: u64, action: TimeoutAction) {
        let State::Done { answer, .. } = &mut self.call(request).state else { unreachable!() };
        *answer = match action {
            TimeoutAction::Fail => Some(Err(Failure::TimedOut)),
            TimeoutAction::Output(output) => Some(Ok(output)),
            TimeoutAction::Drop => None,
        };
    }

    /// The next element to hand on (O1, O2, O3, O4).
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        if let Some(id) = self.express.take() {
            return Some(Output::Snapshot(id));
        }
        self.admit();
        loop {
            let output = match self.inside.remove(self.next_out()?) {
                Element::Control(control) => Some(Output::Control(control)),
                Element::Drain { id, failed: false, .. } => {
                    Some(Output::Control(Control::Drain(id)))
                }
                Element::Drain { id, failed: true, .. } => Some(Output::FailedDrain(id)),
                Element::Call(call) => outcome(call),
            };
            self.settle();
            self.admit();
            if output.is_some() {
                return output;
            }
        }
    }

    /// Where the element stands that leaves next.
    fn next_out(&self) -> Option<usize> {
        let ready = |element: &Element| match element {
            Element::Call(Call { state: State::Done { turn, .. }, .. }) => *turn,
            _ => None,
        };
        let first = self.inside.first()?;
        match first {
            Element::Control(_) | Element::Drain { .. } => return Some(0),
            Element::Call(_) if self.setup.order == Order::Ordered => {
                return ready(first).map(|_| 0);
            }
            Element::Call(_) => {}
        }
        let segment = self.inside.iter().take_while(|element| matches!(element, Element::Call(_)));
        let ready = segment.enumerate().filter_map(|(at, element)| Some((ready(element)?, at)));
        ready.min().map(|(_, at)| at)
    }

    /// Finds the calls whose turn it is now, to be invoked or to leave.
    fn settle(&mut self) {
        for at in 0..self.inside.len() {
            let (before, rest) = self.inside.split_at_mut(at);
            let Element::Call(call) = &mut rest[0] else { continue };
            let mut same_key = before.iter().filter_map(|element| match element {
                Element::Call(other) => (other.key == call.key).then_some(other),
                _ => None,
            });
            let turn = match &mut call.state {
                State::Waiting { turn } => {
                    let is_over = |other: &Call| matches!(other.state, State::Done { .. });
                    let alone = self.setup.order == Order::KeyAlone;
                    if alone && !same_key.all(is_over) {
                        continue;
                    }
                    turn
                }
                State::Done { turn, .. } => {
                    let by_key =
                        matches!(self.setup.order, Order::KeyAlone | Order::KeyOverlapping);
                    if by_key && same_key.next().is_some() {
                        continue;
                    }
                    turn
                }
                State::Running { .. } | State::Backoff(_) => continue,
            };
            if turn.is_none() {
                self.events += 1;
                *turn = Some(self.events);
            }
        }
    }

    /// From now on at most `capacity` records, and at most `limit` attempts running (C8).
    pub(crate) fn change(&mut self, capacity: usize, limit: Option<usize>) {
        self.capacity = capacity;
        self.running_limit = limit;
    }

    /// The input has ended (R5).
    pub(crate) fn finish_with_last_attempts(&mut self, now: i64) {
        self.see(now);
        self.ending = Ending::LastAttempt;
        for call in self.calls_mut() {
            if matches!(call.state, State::Backoff(_)) {
                call.state = State::Waiting { turn: None };
            }
        }
        self.settle();
    }

    /// Everything has ended (L3).
    pub(crate) fn shut_down(&mut self, now: i64) {
        self.see(now);
        self.ending = Ending::ShutDown;
        let is_over = |call: &Call| matches!(call.state, State::Done { .. });
        let open: Vec<_> =
            self.calls().filter(|call| !is_over(call)).map(|call| call.request).collect();
        for request in open {
            self.end_call(request, Some(Err(Failure::ShutDown)));
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.calls().count()
    }

    pub(crate) fn running(&self) -> usize {
        self.calls().filter(|call| matches!(call.state, State::Running { .. })).count()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inside.is_empty() && self.backlog.is_empty() && self.express.is_none()
    }

    fn controls(&self) -> usize {
        self.inside.len() - self.in_flight()
    }

    fn calls(&self) -> impl Iterator<Item = &Call> {
        self.inside.iter().filter_map(|element| match element {
            Element::Call(call) => Some(call),
            _ => None,
        })
    }

    fn calls_mut(&mut self) -> impl Iterator<Item = &mut Call> {
        self.inside.iter_mut().filter_map(|element| match element {
            Element::Call(call) => Some(call),
            _ => None,
        })
    }

    fn call(&mut self, request: u64) -> &mut Call {
        self.calls_mut().find(|call| call.request == request).expect("the call is in flight")
    }
}

/// How a call leaves; a dropped one does without a word.
fn outcome(call: Call) -> Option<Output> {
    let State::Done { answer, elapsed, .. } = call.state else { unreachable!() };
    let Call { number, key, timestamp, attempts, .. } = call;
    Some(Output::Outcome { number, key, timestamp, answer: answer?, attempts, elapsed })
}
