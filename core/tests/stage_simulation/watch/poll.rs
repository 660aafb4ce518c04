//! A poll of the stage: how much it may do (L5), and what it knows at its beginning and at its end.

use std::rc::Rc;

use super::allowed::{HandedOut, is_over};
use super::{Inner, Life};
use crate::model::Overtaking;
use crate::plan::Plan;

/// Polls of requests, attempts started and elements pulled in one poll of the stage: "a bounded amount of work" (L5), whatever
/// the capacity and however much there is to do. Storage in place has some more for each of its few slots.
const WORK: usize = 4_096;
const WORK_FOR_A_SLOT: usize = 32;

/// What one poll of the stage has done.
#[derive(Debug, Default)]
pub(super) struct Polled {
    is_on: bool,
    work: usize,
    /// Attempts that were due when it began.
    due: Vec<(u64, u32)>,
    /// Something was due, and the stage has acted on it.
    pub(super) has_judged: bool,
    /// What has no outcome has been shut down.
    pub(super) shutting: bool,
    /// The call that has timed out, and whose record the function is to be asked about.
    pub(super) times_out: Option<u32>,
}

/// What may be changed while the stage runs (C8).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    pub(crate) capacity: usize,
    pub(crate) running: Option<usize>,
}

impl Limits {
    pub(crate) fn of(plan: &Plan) -> Self {
        Self::new(plan, plan.setup.capacity, plan.setup.running_limit)
    }

    /// The stage has permits for a part of what may run (C9).
    pub(crate) fn new(plan: &Plan, capacity: usize, running: Option<usize>) -> Self {
        let most = running.unwrap_or(usize::MAX).min(plan.permits.unwrap_or(usize::MAX));
        Self { capacity, running: Some(most).filter(|most| *most < usize::MAX) }
    }

    /// What is allowed by either.
    fn or(self, other: Self) -> Self {
        let running = self.running.zip(other.running).map(|(one, other)| one.max(other));
        Self { capacity: self.capacity.max(other.capacity), running }
    }
}

/// The stage was told to take no more input (L3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stop {
    limit: Option<i64>,
    /// When it may have noticed that, and when it has: its time counts from between the two.
    first: Option<i64>,
    last: Option<i64>,
}

impl Stop {
    pub(crate) const fn asked(limit: Option<i64>) -> Self {
        Self { limit, first: None, last: None }
    }

    /// When its time may be over, and when it is.
    fn may_end(self) -> Option<i64> {
        Some(self.first? + self.limit?)
    }

    pub(crate) fn ends(self) -> Option<i64> {
        Some(self.last? + self.limit?)
    }

    pub(crate) const fn is_heard(self) -> bool {
        self.last.is_some()
    }
}

impl Inner {
    /// Somebody polls the stage.
    pub(crate) fn poll_begins(&mut self) {
        let now = self.now();
        self.poll = Polled { is_on: true, due: self.model.due(now), ..Polled::default() };
        self.was_polled = true;
        self.hears_pause();
        if let Some(stop) = &mut self.stop {
            stop.first.get_or_insert(now);
        }
        if self.may_shut_down() {
            self.shut_down_since.get_or_insert(now);
        }
        self.ends_backoffs();
        self.give_slots();
    }

    /// A2: what was said last counts.
    pub(crate) fn hears_pause(&mut self) {
        let now = self.now();
        match self.pause_command.take() {
            Some(true) => self.model.pause(now),
            Some(false) => self.model.resume(now),
            None => {}
        }
    }

    pub(crate) fn ends_backoffs(&mut self) {
        let now = self.now();
        if self.life == Life::Running {
            self.model.end_backoffs(now, |call, end| is_over(call, end, now));
        }
    }

    /// The poll is over; the stage has `given_way` if it did not hand out an element.
    pub(crate) fn poll_ends(&mut self, given_way: bool) {
        if !self.poll.is_on || self.is_over() {
            return;
        }
        if let Some(number) = self.poll.times_out {
            self.fail(format!("record {number} has timed out, and nobody was asked (T3)"));
        }
        let left = self.model.due(self.now());
        if self.poll.has_judged && self.poll.due.iter().any(|due| left.contains(due)) {
            self.fail("something was judged and not all that is due (L5)");
        }
        if given_way && self.plan.mode.is_driven() {
            self.has_heard();
        }
        if self.poll.shutting && self.attempts.iter().any(|seen| !seen.is_over) {
            self.fail("a request outlives the end of its stage (L3)");
        }
        let untaken = self.model.inside.len() + self.overtaking.len();
        self.is_too_much |= self.plan.mode.has_task() && untaken > self.limits.capacity;
        if given_way {
            self.let_out();
            // T6: what had come by then has been delivered when the stage is polled again.
            self.model.delivered = self.fired;
        }
        self.poll.is_on = false;
    }

    /// Nothing is woken, and whatever the stage could notice it has noticed since it was polled last.
    pub(crate) fn rests(&mut self) {
        if std::mem::take(&mut self.was_polled) {
            self.model.rest();
        }
    }

    /// The stage knows what it was told before this poll.
    pub(crate) fn has_heard(&mut self) {
        self.limits_seen = self.limits;
        if self.stop.is_some() {
            self.hears_stop();
            if self.feed.lives {
                self.fail("the stage was told to stop, and still has its source (L3)");
            }
        }
        if self.may_shut_down() {
            self.shut_down();
        }
    }

    /// One more piece of work.
    pub(crate) fn works(&mut self) {
        if self.going {
            self.fail("the stage does something although it is over (L2)");
        }
        if !self.poll.is_on && !self.panicked {
            self.fail("the stage does something and is not polled");
        }
        self.poll.work += 1;
        let bound = WORK + WORK_FOR_A_SLOT * self.plan.slots();
        if self.poll.work > bound {
            self.fail(format!("{bound} pieces of work in a poll, and more (L5)"));
        }
    }

    /// What may be in flight, and run: what was said last, or before if the stage may not know (C8).
    pub(crate) fn allowed(&self) -> Limits {
        self.limits.or(self.limits_seen)
    }

    /// Restored elements have slots as far as there is room (K5).
    pub(crate) fn give_slots(&mut self) {
        self.give_slots_within(self.certain_capacity(), None);
    }

    /// And what leaves without an outcome has left, unless a consumer that is run with its stage is busy and holds it up, or there was
    /// more before it than the stage's task has to hand over.
    pub(crate) fn let_out(&mut self) {
        let forgets = (!self.desk.is_busy && !self.is_too_much).then(|| self.may_be_out());
        self.give_slots_within(self.certain_capacity(), forgets);
    }

    /// And what could leave has left: the stage does what it could not do otherwise.
    pub(crate) fn must_have_let_out(&mut self) {
        self.give_slots_within(self.allowed().capacity, Some(self.may_be_out()));
    }

    /// By what was said last, and by what was said before.
    fn certain_capacity(&self) -> usize {
        self.limits.capacity.min(self.limits_seen.capacity)
    }

    fn give_slots_within(&mut self, capacity: usize, forgets: Option<HandedOut>) {
        let (now, running) = (self.now(), self.allowed().running);
        self.model.change(capacity, running);
        self.model.give_slots(now, forgets);
    }

    /// It takes no more input (L3).
    pub(crate) fn hears_stop(&mut self) {
        let now = self.now();
        if let Some(stop) = &mut self.stop {
            stop.first.get_or_insert(now);
            stop.last.get_or_insert(now);
            self.stopped = true;
            self.finishes();
        }
    }

    /// There is no more input (R5). A backoff that is over may have ended before.
    pub(crate) fn finishes(&mut self) {
        if self.plan.setup.last_attempts {
            self.ends_backoffs();
        }
        let now = self.now();
        self.model.finish(now);
    }

    /// Whether the time to stop may be over, by what the runtime has delivered (T6).
    pub(crate) fn may_shut_down(&self) -> bool {
        self.stop.and_then(Stop::may_end).is_some_and(|end| end <= self.model.delivered)
    }

    /// What has no outcome fails (L3).
    pub(crate) fn shut_down(&mut self) {
        let now = self.now();
        self.hears_stop();
        self.model.give_slots(now, None);
        self.model.shut_down(now);
        self.stop = None;
        self.poll.shutting = true;
        if self.life == Life::Opening {
            // It is closed without having been open.
            (self.life, self.opening) = (Life::Running, super::Gate::default());
        }
    }

    /// At rest: a drain barrier whose time is over has been let ahead, unless another barrier is about to (K3).
    pub(crate) fn drains_have_failed(&mut self) {
        let (now, clock) = (self.now(), Rc::clone(&self.clock));
        if !self.overtaking.is_empty() || self.model.controls() == 0 {
            return;
        }
        let mut inside =
            if self.is_exact() { self.model.clone() } else { self.model.handed_out().1 };
        if let Some(id) = inside.lets_ahead(|_, limit| clock.rounded(limit) <= now) {
            self.model.lets_ahead(|other, _| other == id);
            self.overtaking.push_back((Overtaking::FailedDrain(id), self.model.events));
        }
    }

    /// T7: one timer, and what it is armed for.
    pub(crate) fn timer_armed(&mut self, at: Option<i64>) {
        self.armed = at;
    }

    pub(crate) fn timer_fired(&mut self, at: i64) {
        self.armed = None;
        self.fired = self.fired.max(at);
    }
}
