//! A turn of the stage: what was woken, what is due, what is new, in this order. And what may happen between two
//! turns: records that pass.

use super::gates::Gate;
use super::{Inner, Life};
use crate::model::Output;
use crate::plan::Home;
use crate::setup::Setup;

/// Turns in one poll of the stage, at most (L5).
const TURNS: usize = 8;
/// Records that pass between two turns, at most (L5).
const PASSING: usize = 32;
/// From so many polls on the ration may have ended what a turn does. Only huge schedules get there.
const PERHAPS_ENDED: usize = 90;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Part {
    #[default]
    Outside,
    /// What has been woken is polled.
    Polling,
    /// What is due is judged.
    Judging,
    /// Attempts are started and elements pulled.
    Refilling,
    /// Between two turns: an element has been pulled; if it is a record, its first attempt is started.
    Passing,
}

impl Part {
    /// Whether elements are pulled and attempts started.
    pub(super) fn takes_in(self) -> bool {
        matches!(self, Self::Refilling | Self::Passing)
    }
}

#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) part: Part,
    /// Requests polled, and control elements pulled.
    pub(super) used: usize,
    pub(super) pulled: usize,
    /// Turns in this poll of the stage.
    turns: usize,
    /// Elements pulled since this turn.
    passing: usize,
    /// One of them was not a record that has passed.
    passes_no_more: bool,
    /// The request of the last one has been polled twice.
    pub(super) polled_again: bool,
    /// A wake for which a request was polled between two turns is not collected yet.
    pub(super) wake_left: bool,
    was_running: bool,
    /// Something was due, and the stage has acted on it.
    pub(super) has_judged: bool,
    /// What has no outcome has been shut down in this turn.
    pub(super) shutting: bool,
    /// The attempt that was started last and not yet polled.
    pub(super) started: Option<usize>,
    /// The call that has timed out, and whose record the function is to be asked about.
    pub(super) times_out: Option<u32>,
}

/// What may be changed while the stage runs (C8), as it was last said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    pub(crate) capacity: usize,
    pub(crate) running: Option<usize>,
}

impl Limits {
    pub(crate) const fn of(setup: &Setup) -> Self {
        Self { capacity: setup.capacity, running: setup.running_limit }
    }
}

/// The stage was told to take no more input (L3).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stop {
    Asked(Option<i64>),
    Until(i64),
}

impl Inner {
    /// Somebody polls the stage.
    pub(crate) fn poll_begins(&mut self) {
        self.turn.turns = 0;
    }

    pub(super) fn turn_begins(&mut self) {
        if self.going {
            self.fail("the stage has a turn although it is over (L2)");
        }
        if self.panicked {
            return; // it may begin one more, and panics again
        }
        self.ends_passing();
        let turns = self.turn.turns + 1;
        let wake_left = self.turn.wake_left;
        self.turn = Turn { part: Part::Polling, turns, wake_left, ..Turn::default() };
        self.held_seen = self.held();
        if turns > TURNS {
            self.fail("more turns in one poll than there should be (L5)");
        }
        if self.plan.mode.is_run() {
            if turns > 1 {
                self.has_handed_out();
            }
        } else if !self.plan.mode.has_task() {
            // It has asked for outputs before, and there were none, unless it has handed out enough.
            if self.before_turn > 0 {
                let output = self.next_output();
                self.same("handed out before a turn", &None, &output);
            }
            self.before_turn = self.refill_after();
        }
        self.sees_the_time();
        self.apply_limits();
    }

    /// What leaves next. A stage that is run with its consumer asks until nothing does, with or without an outcome.
    pub(super) fn next_output(&mut self) -> Option<Output> {
        loop {
            self.sees_the_time();
            let output = self.model.poll_output();
            if output.is_some() || !self.plan.mode.is_run() {
                return output;
            }
            self.model.admit();
            if !self.model.has_output() {
                return None;
            }
        }
    }

    /// What a restore has brought has its time counted from when it gets its place, also between two turns.
    pub(super) fn sees_the_time(&mut self) {
        if self.model.has_backlog() {
            let now = self.now();
            self.model.see(now);
        }
    }

    /// What was said of the limits is known to the stage from here on.
    pub(crate) fn apply_limits(&mut self) {
        self.limits_seen = self.limits;
        self.count_held();
    }

    /// What the consumer has not taken counts against the capacity (C2), as far as the stage knows.
    pub(super) fn count_held(&mut self) {
        let Limits { capacity, running } = self.limits_seen;
        self.model.change(capacity.saturating_sub(self.held_seen), running);
    }

    pub(super) fn turn_ends(&mut self) {
        let perhaps_ended = self.turn.used >= PERHAPS_ENDED;
        if self.turn.started.is_some() {
            self.fail("an attempt that was started was not polled");
        }
        self.ends_polling();
        if self.turn.was_running {
            self.ends_judging();
        }
        if self.turn.was_running && !perhaps_ended && self.life == Life::Running {
            self.expects_no_call("after a turn");
        }
        let ration = self.plan.ration();
        if self.turn.used > ration {
            self.fail(format!("{} requests in a turn (L5)", self.turn.used));
        }
        if self.turn.pulled > ration + self.plan.setup.max_capacity {
            self.fail(format!("{} elements pulled in a turn (L5)", self.turn.pulled));
        }
        if self.turn.shutting && self.attempts.iter().any(|seen| !seen.is_over) {
            self.fail("a request outlives the end of its stage (L3)");
        }
        self.turn.part = Part::Outside;
        self.turn.wake_left &= perhaps_ended;
        if self.plan.mode.has_task() {
            self.give();
        }
    }

    /// A stage on a task of its own hands over what leaves, as far as there is room.
    fn give(&mut self) {
        while self.ring.len() < 2 * self.plan.setup.max_capacity {
            let Some(output) = self.model.poll_output() else { return };
            self.count_output(&output);
            self.ring.push_back(output);
            self.held_seen = self.held();
            self.count_held();
        }
    }

    pub(crate) fn expects_no_call(&mut self, when: &str) {
        let now = self.now();
        if let Some(started) = self.model.poll_attempt(now, None) {
            self.fail(format!("{when}, {started:?} was not invoked"));
        }
    }

    /// The source is polled between two turns: an element may come and leave at once while nothing else is inside.
    pub(super) fn begins_passing(&mut self) {
        self.ends_passing();
        let is_there = self.plan.home == Home::Heap && !self.plan.mode.is_driven();
        if !is_there || self.turn.passes_no_more || self.stop.is_some() || !self.model.is_empty() {
            self.fail("the source is polled out of turn (L4)");
        }
        self.turn.passing += 1;
        if self.turn.passing > PASSING {
            self.fail("more has passed between two turns than there should have (L5)");
        }
        self.turn.passes_no_more = true; // unless it does pass
        self.turn.polled_again = false;
        self.turn.part = Part::Passing;
    }

    /// What has been pulled between two turns is inside, or has an outcome.
    pub(super) fn ends_passing(&mut self) {
        if self.turn.part == Part::Passing {
            self.turn.part = Part::Outside;
        }
        if self.turn.started.is_some() {
            self.fail("an attempt that was started was not polled");
        }
    }

    /// This is handed out. Returns whether it has passed.
    pub(super) fn has_passed(&mut self, output: &Output) -> bool {
        let is_outcome = matches!(output, Output::Outcome { .. });
        let has_passed = self.turn.part == Part::Passing && is_outcome;
        if has_passed {
            self.turn.passes_no_more = false;
        }
        self.ends_passing();
        has_passed
    }

    /// All that was woken has been polled, or enough of it.
    pub(super) fn ends_polling(&mut self) {
        if self.turn.part == Part::Polling {
            self.turn.part = Part::Judging;
            self.apply_stop();
            self.turn.was_running = self.life == Life::Running;
        }
    }

    /// All that is due has been judged.
    pub(super) fn ends_judging(&mut self) {
        self.ends_polling();
        if self.turn.part != Part::Judging {
            return;
        }
        if let Some(number) = self.turn.times_out {
            self.fail(format!("record {number} has timed out, and nobody was asked (T3)"));
        }
        self.turn.part = Part::Refilling;
        if self.turn.used >= PERHAPS_ENDED && !self.turn.has_judged {
            return; // something may be woken and not polled: then nothing is judged (T6)
        }
        let now = self.now();
        if let Some(expired) = self.model.handle_deadline(now, None) {
            self.fail(format!("not judged: {expired:?}"));
        }
    }

    /// L3
    fn apply_stop(&mut self) {
        let now = self.now();
        let Some(stop) = self.stop else { return };
        self.model.finish(now);
        self.stopped = true;
        self.stop = match stop {
            Stop::Asked(limit) => limit.map(|limit| Stop::Until(now + limit)),
            until => Some(until),
        };
        if matches!(self.stop, Some(Stop::Until(end)) if end <= self.model.delivered) {
            self.stop = None;
            self.model.shut_down(now);
            self.turn.shutting = true;
            if self.life == Life::Opening {
                // It is closed without having been open.
                (self.life, self.opening) = (Life::Running, Gate::default());
            }
        }
        if self.feed.lives {
            self.fail("the stage was told to stop, and still has its source (L3)");
        }
    }

    /// T7: one timer, armed for something earlier or when it has fired.
    pub(super) fn timer_armed(&mut self, before: Option<i64>, at: Option<i64>) {
        self.counts.arms += 1;
        let is_needless = match (before, at) {
            (Some(before), Some(at)) => at >= before,
            (_, at) => at.is_none(),
        };
        if is_needless {
            self.fail(format!("the timer was armed for {at:?} although for {before:?} (T7)"));
        }
    }

    /// T6: what had come by then is delivered when the stage is polled again.
    pub(super) fn timer_fired(&mut self, at: i64) {
        if self.is_part_of_turn() && !self.is_over() {
            self.fail(
                "the timer fires in the middle of a turn, and nothing is delivered there (T6)",
            );
        }
        self.model.delivered = self.model.delivered.max(at);
    }

    pub(super) fn count_output(&mut self, output: &Output) {
        let counts = &mut self.counts;
        match output {
            Output::Outcome { .. } => counts.emitted += 1,
            Output::Control(_) => {
                counts.controls = counts.controls.map(|controls| controls.saturating_sub(1));
            }
            Output::Express(crate::model::Express::FailedDrain(_)) => counts.gone += 1,
            Output::Express(_) => {}
        }
        if self.model.is_empty() {
            (counts.controls, counts.gone) = (Some(0), 0);
        }
    }
}
