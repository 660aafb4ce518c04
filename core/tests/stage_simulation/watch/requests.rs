//! Requests: started, polled, answered, cancelled.

use std::rc::Rc;
use std::task::{Context, Waker};

use inflight_core::{AttemptInfo, Completion, Failure, JoinError};

use super::turn::Part;
use super::{Inner, Life};
use crate::executor::Task;
use crate::model::{Expired, Started, TimeoutAction};
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
    /// Polls of the stage.
    polled: bool,
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
        self.ends_judging();
        if self.life != Life::Running || !self.turn.part.takes_in() {
            self.fail("invoked out of turn (L4)");
        }
        let now = self.now();
        let expected = self.model.poll_attempt(now, Some(attempt.request_id));
        let started = Started {
            request: attempt.request_id,
            number,
            attempt: attempt.number,
            time_left: attempt.time_left.map(|left| left.as_nanos() as i64),
        };
        self.same("invoked", &Some(started), &expected);
        self.counts.attempts += 1;
        self.turn.used += 1;
        let at = self.attempts.len();
        let random = &mut self.plan.random_for(number, attempt.number);
        let is_eager = self.plan.eager > 0 && random.one_in(self.plan.eager);
        let is_restless = self.plan.restless > 0 && random.one_in(self.plan.restless);
        let restless: &[usize] = if self.plan.setup.is_crowded() { &[1, 2] } else { &[1, 2, 5] };
        self.tell(|| format!("attempt {} of {number} starts", attempt.number));
        self.attempts.push(Seen {
            number,
            attempt: attempt.number,
            request: attempt.request_id,
            end: is_eager.then(|| random.pick(&[End::Success, End::Success, End::Transient])),
            restless: if is_restless { random.pick(restless) } else { 0 },
            lives: true,
            is_over: false,
            polled: false,
            is_woken: false,
            has_woken_itself: false,
            waker: None,
            task: None,
        });
        if let Some(other) = self.turn.started.replace(at) {
            self.fail(format!("attempt {other} was not polled before the next was started"));
        }
        at
    }

    /// L6: once when it starts and then once a wake. `finished` tells of a task whether it is.
    pub(super) fn stage_polls(&mut self, at: usize, finished: Option<bool>) {
        let (part, now) = (self.turn.part, self.now());
        let is_first = self.turn.started == Some(at);
        if is_first {
            self.turn.started = None;
        }
        let is_last = at + 1 == self.attempts.len();
        let seen = &mut self.attempts[at];
        let is_woken = finished.unwrap_or(seen.is_woken);
        let was_polled = std::mem::replace(&mut seen.polled, true);
        if finished.is_none() {
            seen.is_woken = false;
        }
        if seen.is_over {
            self.fail("a request is polled that is over");
        }
        match part {
            _ if part.takes_in() && is_first && !was_polled => return,
            Part::Polling => self.turn.used += 1,
            // Before it is judged (T6), as everything that is due is in one turn.
            Part::Judging if self.model.poll_deadline().is_some_and(|due| due <= now) => {}
            // Nobody else is there whose turn it would be.
            Part::Passing if is_last && !self.turn.polled_again => self.turn.polled_again = true,
            _ => self.fail(format!("a request is polled out of turn ({part:?})")),
        }
        if was_polled && !is_woken && self.plan.home.is_exact() {
            if self.counts.stale_wakes == 0 && !self.turn.wake_left {
                self.fail(format!("request {at} is polled and was not woken (L6)"));
            }
            // What passes looks whether there is a wake, and leaves it to the turn that comes.
            if part != Part::Passing && !std::mem::take(&mut self.turn.wake_left) {
                self.counts.stale_wakes = self.counts.stale_wakes.saturating_sub(1);
            }
        }
        self.turn.wake_left |= part == Part::Passing;
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
        self.ends_polling();
        if self.turn.shutting {
            return;
        }
        if self.turn.part != Part::Judging {
            return self.fail(format!("attempt {attempt} of {number} is cancelled out of turn"));
        }
        let now = self.now();
        self.tell(|| format!("attempt {attempt} of {number} is cancelled"));
        self.turn.has_judged = true;
        match self.model.handle_deadline(now, Some(request)) {
            Some(Expired::Call { request: expired }) if expired == request => {
                self.turn.times_out = Some(number);
            }
            Some(Expired::Attempt { request: expired }) if expired == request => {}
            other => {
                self.fail(format!("request {request} is cancelled, but {other:?} is due (T8)"))
            }
        }
        if has_answer {
            self.fail(format!("request {request} is ready and timed out (T6)"));
        }
    }

    /// T3: the function decides what a call that timed out ends with.
    pub(super) fn timed_out(&mut self, number: u32) -> TimeoutAction {
        let (now, request) = (self.now(), u64::from(number));
        match self.turn.times_out.take() {
            Some(expected) => self.same("timed out", &number, &expected),
            None => {
                self.ends_polling();
                if self.turn.part != Part::Judging {
                    self.fail(format!("record {number} times out out of turn"));
                }
                self.turn.has_judged = true;
                let expired = self.model.handle_deadline(now, Some(request));
                self.same("timed out", &Some(Expired::Call { request }), &expired);
            }
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
