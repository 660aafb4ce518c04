//! What must hold when nobody has anything to do, and what must be left when all is over: nothing.

use std::rc::Rc;

use inflight_core::{CellState, Metrics, Window};

use crate::model::Model;
use crate::script::Step;
use crate::values::{End, Record};
use crate::watch::{Inner, Life};
use crate::world::World;

impl World {
    /// L6: nothing has been woken, so everything waits for something outside.
    pub(crate) fn is_at_rest(&mut self) -> Result<(), String> {
        let waits = self.consumer_waits();
        let mut watch = self.watch.look();
        let mode = watch.plan.mode;
        if waits && watch.is_over() {
            return Err("the consumer was not told that the stage is over".into());
        }
        if watch.is_over() || self.has_ended || !(mode.is_driven() || waits) {
            return Ok(());
        }
        if waits && watch.life == Life::Closed {
            return Err("the consumer was not told of the end".into());
        }
        if watch.life != Life::Closed {
            watch.has_heard();
        }
        watch.model.see(self.clock.now());
        if watch.pause_command.is_some() && watch.life != Life::Closed {
            return Err("it was told to pause or to resume, and was not polled (A2, L6)".into());
        }
        if matches!(watch.life, Life::Opening | Life::Running) {
            watch.has_stopped()?;
        }
        if watch.life == Life::Running {
            watch.is_running_at_rest(waits)?;
        }
        watch.wakes_were_heard()?;
        watch.has_handed_over(waits);
        if waits && (!watch.overtaking.is_empty() || watch.model.could_hand_out()) {
            return Err("an output is not handed on (O4, L6)".into());
        }
        let metrics = self.subject.as_mut().map(|subject| subject.metrics());
        let window = self.subject.as_mut().and_then(|subject| subject.window());
        if let (Some(metrics), Some(window)) = (&metrics, &window) {
            shows_all(metrics, window)?;
        }
        watch.rests();
        metrics.map_or(Ok(()), |metrics| watch.adds_up(&metrics, waits))
    }

    /// L2, L4
    pub(crate) fn nothing_is_left(&self) -> Result<(), String> {
        let watch = self.watch.look();
        watch.ledger.check(watch.plan.setup.order, false)?;
        let left = |what| Err(format!("{what} is left after the stage (L2)"));
        if watch.attempts.iter().any(|seen| seen.lives) {
            return left("a request");
        }
        if watch.feed.lives {
            return left("the source");
        }
        if watch.function_lives {
            return left("the function");
        }
        if self.executor.alive() > 0 {
            return left("a task");
        }
        if Record::alive() > 0 {
            return left("a record");
        }
        if self.clock.next_alarm().is_some() {
            return left("an alarm");
        }
        Ok(())
    }

    /// Drives everything to its end.
    pub(crate) fn run_out(&mut self) -> Result<(), String> {
        self.watch.look().tell(|| "from here on everything succeeds".into());
        if self.subject.is_none() {
            return self.nothing_is_left();
        }
        // Where one attempt runs at a time, a round ends one call of the thousands that may have been offered.
        for _ in 0..10_000 {
            for step in
                [Step::Resume, Step::Want(1_000_000), Step::Opened, Step::Closed, Step::EndSource]
            {
                self.step(step)?;
            }
            let undecided = self.undecided();
            (0..undecided).try_for_each(|_| self.step(Step::End(0, End::Success)))?;
            self.settle()?;
            self.verdict()?;
            if self.has_ended {
                break;
            }
            if self.undecided() == 0
                && let Some(at) = self.clock.next_alarm()
            {
                self.sleep_until(at)?;
            }
        }
        if !self.has_ended {
            return Err("stuck: the stream does not end".into());
        }
        let watch = self.watch.look();
        let is_whole = !watch.is_over() && watch.life == Life::Closed && watch.feed.has_ended;
        if is_whole {
            watch.ledger.check(watch.plan.setup.order, true)?;
        }
        drop(watch);
        self.drop_stream()
    }

    fn undecided(&self) -> usize {
        self.watch.look().attempts.iter().filter(|seen| seen.is_undecided()).count()
    }
}

impl Inner {
    /// L3
    fn has_stopped(&self) -> Result<(), String> {
        let Some(stop) = self.stop else { return Ok(()) };
        if !stop.is_heard() {
            return Err("it was told to stop and does not (L3)".into());
        }
        match stop.ends() {
            Some(end) if self.clock.rounded(end) <= self.now() => {
                Err("its time to stop has passed (L3)".into())
            }
            Some(end) => self.is_armed_for(end),
            None => Ok(()),
        }
    }

    /// T7
    fn is_armed_for(&self, deadline: i64) -> Result<(), String> {
        match self.armed {
            Some(armed) if armed <= deadline => Ok(()),
            other => Err(format!("{deadline} is due, and the timer is armed for {other:?} (T7)")),
        }
    }

    fn is_running_at_rest(&mut self, waits: bool) -> Result<(), String> {
        let now = self.now();
        let has_handed_over = self.has_handed_over(waits);
        self.let_out();
        let is_through = (self.stopped || self.feed.has_ended) && self.has_let_all_out();
        let is_through = is_through && has_handed_over;
        if is_through && (!self.plan.closes_later || self.closing.is_woken) {
            return Err("everything is through and the function is not closed (L4)".into());
        }
        let clock = Rc::clone(&self.clock);
        self.model.end_backoffs(now, |_, end| clock.rounded(end) <= now);
        self.drains_have_failed();
        let deadline = self.next_deadline(now);
        match deadline {
            Some(deadline) if self.clock.rounded(deadline) <= now => {
                return Err(format!("what was due at {deadline} has not been judged (T8, L6)"));
            }
            Some(deadline) => self.is_armed_for(deadline)?,
            None => {}
        }
        let hears_of_room = self.hears_of_room(waits);
        let has_startable =
            |model: &Model| model.has_startable(self.limits.running, |at| clock.rounded(at) <= now);
        if has_startable(&self.model) {
            // A backoff may have ended before its timer fires. Then its record may be the first to wait, and a rate holds it up.
            let mut early = self.model.clone();
            early.end_backoffs(now, |_, end| end <= now);
            if has_startable(&early) {
                return Err("an attempt could start and does not (C7, L6)".into());
            }
        }
        let takes_more = !self.stopped && !self.feed.has_ended && self.feed.is_ready();
        if takes_more && hears_of_room && self.has_room() {
            return Err("there is room and the source is not polled (L1, L6)".into());
        }
        Ok(())
    }

    /// Of what was not handed over.
    fn next_deadline(&self, now: i64) -> Option<i64> {
        let drains = self.overtaking.is_empty();
        match self.is_exact() {
            true => self.model.next_deadline(drains, now, self.limits.running),
            false => self.model.handed_out().1.next_deadline(drains, now, self.limits.running),
        }
    }

    /// Whether the stage knows what room there is: that the consumer has taken all, or half of the window (L1).
    fn hears_of_room(&self, waits: bool) -> bool {
        let free = self.limits.capacity.saturating_sub(self.model.in_flight());
        waits || !self.plan.mode.has_task() || 2 * free >= self.limits.capacity
    }

    fn wakes_were_heard(&self) -> Result<(), String> {
        let in_place = !self.plan.mode.has_request_tasks();
        for (at, seen) in self.attempts.iter().enumerate().filter(|(_, seen)| !seen.is_over) {
            if if in_place { seen.is_woken } else { !seen.lives } {
                return Err(format!("request {at} was woken and not polled (L6)"));
            }
            if !seen.is_polled {
                return Err(format!("request {at} was started and not polled (L6)"));
            }
        }
        if self.life == Life::Opening && (self.opening.is_woken || self.opening.is_open) {
            return Err("the function was opened, and nobody knows (L6)".into());
        }
        if self.desk.is_woken {
            return Err("the consumer was woken and not polled (L6)".into());
        }
        if self.closing.is_woken {
            return Err("the function was closed, and nobody knows (L6)".into());
        }
        Ok(())
    }

    /// Whether what could leave has been handed over: unless there was more than a window of what the consumer had not
    /// taken, and it has not come back for more since.
    fn has_handed_over(&mut self, waits: bool) -> bool {
        self.is_too_much &= !waits;
        !self.is_too_much
    }

    /// M1
    fn adds_up(&mut self, metrics: &Metrics, waits: bool) -> Result<(), String> {
        let counts = self.counts;
        let [failed, timed_out] = self.model.failures();
        // A stage on a task of its own has handed over what could leave, unless that is very much.
        let (mut left, mut inside) = (Vec::new(), self.model.in_flight());
        if self.plan.mode.has_task() {
            if self.is_too_much {
                return Ok(());
            }
            let (numbers, rest) = self.model.handed_out();
            (left, inside) = (numbers, rest.in_flight());
        }
        self.handed_over.clone_from(&left);
        // A dropped record may have left.
        let least = inside - self.model.perhaps_left(self.may_be_out()).len().min(inside);
        // A restored record may wait for its slot, because the stage does not know of all that the consumer has taken (L1).
        let is_behind = self.plan.mode.has_task() && self.counts.restored > 0 && !waits;
        let behind = if is_behind { (self.limits.capacity / 8).clamp(1, 32) } else { 0 };
        let least = least.saturating_sub(behind);
        let inside = inside.clamp(least, (metrics.in_flight as usize).max(least));
        let told = [
            ("in_flight", metrics.in_flight, inside as u64),
            ("running", metrics.running, self.model.running() as u64),
            ("capacity", metrics.capacity, self.limits_seen.capacity as u64),
            ("attempts", metrics.attempts, counts.attempts),
            ("emitted", metrics.emitted, counts.emitted + left.len() as u64),
            ("failed", metrics.failed, failed),
            ("timed_out", metrics.timed_out, timed_out),
            ("late_completions", metrics.late_completions, 0),
            (
                "records_in",
                metrics.records_in,
                metrics.in_flight + metrics.emitted + metrics.dropped,
            ),
        ];
        for (what, stage, model) in told {
            if stage != model {
                return Err(format!("metrics: {what} is {stage}, expected {model} (M1)"));
            }
        }
        if metrics.dropped > counts.dropped + counts.restored {
            return Err(format!("metrics: {} dropped (M1)", metrics.dropped));
        }
        Ok(())
    }
}

/// M2: the window's cells are the records that the numbers count.
fn shows_all(metrics: &Metrics, window: &[CellState]) -> Result<(), String> {
    let states = [
        (CellState::Waiting, metrics.waiting()),
        (CellState::Running, metrics.running),
        (CellState::Backoff, metrics.in_backoff),
        (CellState::Done, metrics.done),
    ];
    for (state, expected) in states {
        let shown = window.iter().filter(|cell| **cell == state).count() as u64;
        // A window ends after so many cells.
        if shown != expected && (window.len() < Window::CELLS || shown > expected) {
            return Err(format!("{shown} cells are {state:?}, of {expected} records (M2)"));
        }
    }
    Ok(())
}
