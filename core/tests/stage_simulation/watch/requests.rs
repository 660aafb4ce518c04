//! Requests: started, polled, answered, cancelled.

use std::rc::Rc;
use std::task::{Context, Waker};

use inflight_core::{AttemptInfo, Completion, Failure, JoinError};

use super::allowed::is_over;
use super::{Inner, Life};
use crate::executor::Task;
use crate::model::{Call, Expired, Started, TimeoutAction};
use crate::plan::Home;
use crate::script::choice;
use crate::values::{Answer, End};

/// One attempt.
pub(crate) struct Seen {
    pub(crate) number: u32,
    pub(crate) attempt: u32,
    request: u64,
    /// How it ends, once that is decided.
    pub(crate) end: Option<End>,
    /// It wakes itself so many times more.
    restless: usize,
    /// Its future is there.
    pub(crate) lives: bool,
    /// The stage has its answer, or has dropped it.
    pub(crate) is_over: bool,
    /// By the stage.
    pub(crate) is_polled: bool,
    /// It may be polled so many times more than it was woken (L6).
    unasked: usize,
    /// Its latest waker was woken, and it was not polled since.
    pub(crate) is_woken: bool,
    /// In its latest poll.
    has_woken_itself: bool,
    pub(crate) waker: Option<Waker>,
    pub(crate) task: Option<Rc<Task>>,
}

/// What a request does when it is polled.
pub(crate) enum Act {
    Wait,
    Answer(Result<u32, u32>),
    Panic,
}

impl Seen {
    /// How a request on a task of its own ends besides by answering: the task does.
    pub(crate) const fn is_undecided(&self) -> bool {
        self.lives && !self.is_over && self.end.is_none()
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = &self.waker {
            self.is_woken = true;
            waker.wake_by_ref();
        }
    }
}

impl Inner {
    pub(super) fn invoked(&mut self, number: u32, attempt: AttemptInfo) -> usize {
        self.works();
        if self.life != Life::Running {
            self.fail("invoked before it was opened (L4)");
        }
        if self.may_shut_down() {
            self.fail("an attempt starts after the time to stop is over (L3)");
        }
        let now = self.now();
        let is_it = |call: &Call| call.request == attempt.request_id;
        self.model.end_backoffs(now, |call, end| is_it(call) && is_over(call, end, now));
        self.give_slots();
        if !self.model.has_slot(attempt.request_id) {
            self.must_have_let_out();
        }
        let started = Started {
            request: attempt.request_id,
            number,
            attempt: attempt.number,
            time_left: attempt.time_left.map(|left| left.as_nanos() as i64),
        };
        match self.model.start(attempt.request_id, self.allowed().running) {
            Ok(expected) => self.same("invoked", &started, &expected),
            Err(what) => self.fail(what),
        }
        self.counts.attempts += 1;
        let at = self.attempts.len();
        let random = &mut self.plan.random_for(number, attempt.number);
        let is_eager = self.plan.eager > 0 && random.one_in(self.plan.eager);
        let is_restless = self.plan.restless > 0 && random.one_in(self.plan.restless);
        let restless: &[usize] = if self.plan.setup.is_crowded() { &[1, 2] } else { &[1, 2, 5] };
        let is_alone = self.plan.home == Home::Heap && self.model.records(self.may_be_out()) <= 1;
        self.tell(|| format!("attempt {} of {number} starts", attempt.number));
        self.attempts.push(Seen {
            number,
            attempt: attempt.number,
            request: attempt.request_id,
            end: is_eager.then(|| random.pick(&[End::Success, End::Success, End::Transient])),
            restless: if is_restless { random.pick(restless) } else { 0 },
            lives: true,
            is_over: false,
            is_polled: false,
            unasked: if is_alone { 3 } else { 0 },
            is_woken: false,
            has_woken_itself: false,
            waker: None,
            task: None,
        });
        at
    }

    /// L6: once when it starts and then once a wake. `finished` tells of a task whether it is.
    pub(super) fn stage_polls(&mut self, at: usize, finished: Option<bool>) {
        self.works();
        let is_exact = self.plan.home.is_exact();
        let seen = &mut self.attempts[at];
        let is_asked = finished.unwrap_or(seen.is_woken) || !seen.is_polled || !is_exact;
        seen.is_polled = true;
        if finished.is_none() {
            seen.is_woken = false;
        }
        let is_over = seen.is_over;
        if !is_asked && seen.unasked > 0 {
            seen.unasked -= 1;
        } else if !is_asked && self.counts.stale_wakes > 0 {
            self.counts.stale_wakes -= 1; // one for the request that had its slot before
        } else if !is_asked {
            self.fail(format!("request {at} is polled and was not woken (L6)"));
        }
        if is_over {
            self.fail("a request is polled that is over");
        }
    }

    pub(super) fn request_polled(&mut self, at: usize, cx: &Context<'_>) -> Act {
        let in_place = !self.plan.mode.has_request_tasks();
        let seen = &mut self.attempts[at];
        if in_place && seen.is_over {
            self.fail("a request is polled after its end");
            return Act::Wait;
        }
        seen.waker = Some(cx.waker().clone());
        seen.has_woken_itself = seen.restless > 0;
        if seen.has_woken_itself {
            seen.restless -= 1;
            seen.wake();
            return Act::Wait;
        }
        let Some(end) = seen.end else { return Act::Wait };
        let (number, attempt) = (seen.number, seen.attempt);
        match end.answer(number, attempt) {
            Ok(output) => Act::Answer(Ok(output)),
            Err(Failure::Error(mistake)) => Act::Answer(Err(mistake)),
            Err(_) => {
                self.tell(|| format!("attempt {attempt} of {number} panics"));
                self.panicked |= in_place;
                Act::Panic
            }
        }
    }

    pub(super) fn stage_has_answer(&mut self, at: usize, answer: Answer) {
        let now = self.now();
        let seen = &mut self.attempts[at];
        let (number, attempt, request) = (seen.number, seen.attempt, seen.request);
        let is_twice = std::mem::replace(&mut seen.is_over, true);
        let expected = seen.end.map(|end| end.answer(number, attempt));
        self.same("the answer", &Some(answer), &expected);
        if is_twice {
            self.fail("a request has two answers");
        }
        self.tell(|| format!("attempt {attempt} of {number} has ended: {answer:?}"));
        if self.failure.is_some() {
            return; // the model may know no such call
        }
        let completion = self.model.complete(now, Some(request), answer);
        if completion == Completion::Late {
            self.fail("a completion is late");
        }
    }

    /// The stage lets go of a request: after its answer, or because time is up, or all is over.
    pub(super) fn stage_drops(&mut self, at: usize) {
        let (over, in_place) = (self.is_over(), !self.plan.mode.has_request_tasks());
        let seen = &mut self.attempts[at];
        if std::mem::replace(&mut seen.is_over, true) || over {
            return;
        }
        let would_answer = seen.is_woken && seen.restless == 0;
        let has_answer = seen.end.is_some() && if in_place { would_answer } else { !seen.lives };
        // What polls everything once a turn cannot know that once was not enough.
        let has_answer = has_answer && (self.plan.home.is_exact() || !seen.has_woken_itself);
        let (number, attempt, request) = (seen.number, seen.attempt, seen.request);
        if let Some(other) = self.poll.times_out {
            self.fail(format!("record {other} has timed out, and nobody was asked (T3)"));
        }
        if self.may_shut_down() {
            self.shut_down();
        }
        self.tell(|| format!("attempt {attempt} of {number} is cancelled"));
        if has_answer {
            self.fail(format!("request {request} is ready and timed out (T6)"));
        }
        if self.poll.shutting {
            return;
        }
        let now = self.now();
        self.model.see(now);
        self.poll.has_judged = true;
        match self.model.expire(request) {
            Ok(Expired::Call { .. }) => self.poll.times_out = Some(number),
            Ok(Expired::Attempt { .. }) => {}
            Err(what) => self.fail(what),
        }
    }

    /// T3: the function decides what a call that timed out ends with.
    pub(super) fn timed_out(
        &mut self,
        number: u32,
        attempts: u32,
        last: Option<Answer>,
    ) -> TimeoutAction {
        let (now, request) = (self.now(), u64::from(number));
        match self.poll.times_out.take() {
            Some(expected) => self.same("timed out", &number, &expected),
            None => {
                self.model.see(now);
                self.poll.has_judged = true;
                let expired = self.model.expire(request);
                self.same("timed out", &expired, &Ok(Expired::Call { request }));
            }
        }
        if self.failure.is_none() {
            let call = self.model.call(request);
            let expected = (call.attempts, call.last);
            self.same("told of the call that has timed out (F5)", &(attempts, last), &expected);
        }
        let action = match self.plan.timeout_actions {
            true => choice(&mut self.plan.random_for(number, 255)).action(number),
            false => TimeoutAction::Fail,
        };
        self.tell(|| format!("the call of {number} times out: {action:?}"));
        if self.failure.is_none() {
            self.model.resolve_timeout(request, action);
        }
        if action == TimeoutAction::Drop {
            self.ledger.dropped(number);
            self.counts.dropped += 1;
        }
        action
    }

    pub(super) fn request_dropped(&mut self, at: usize) {
        self.attempts[at].lives = false;
        self.attempts[at].task = None;
    }
}

/// What came of a request, as an answer.
pub(super) fn answer(joined: Result<Result<u32, u32>, JoinError>) -> Answer {
    match joined {
        Ok(answer) => answer.map_err(Failure::Error),
        Err(JoinError::Panicked) => Err(Failure::Panicked),
        Err(JoinError::Cancelled) => Err(Failure::Cancelled),
    }
}
