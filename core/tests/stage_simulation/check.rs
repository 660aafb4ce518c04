//! What must hold when nobody has anything to do, and what must be left when all is over: nothing.

use inflight_core::Metrics;

use crate::script::Step;
use crate::values::{End, Record};
use crate::watch::{Inner, Life, Stop};
use crate::world::World;

impl World {
    /// L6: nothing has been woken, so everything waits for something outside.
    pub(crate) fn is_at_rest(&mut self) -> Result<(), String> {
        let waits = self.consumer_waits();
        let mut watch = self.watch.look();
        let mode = watch.plan.mode;
        let has_task = mode.has_task();
        if waits && has_task && !watch.ring.is_empty() {
            return Err("the consumer was not told of an output (L6)".into());
        }
        if waits && watch.is_over() {
            return Err("the consumer was not told that the stage is over".into());
        }
        if watch.is_over() || self.has_ended || !(mode.is_driven() || waits) {
            return Ok(());
        }
        if waits && watch.life == Life::Closed {
            return Err("the consumer was not told of the end".into());
        }
        if watch.life == Life::Running {
            watch.is_running_at_rest(waits)?;
        }
        watch.wakes_were_heard()?;
        let is_full = has_task && watch.ring.len() >= 2 * watch.plan.setup.max_capacity;
        let hands_on = (has_task || waits) && !is_full && !watch.has_unheard_room(waits);
        if watch.model.has_output() && hands_on {
            return Err("an output is not handed on (O4, L6)".into());
        }
        let metrics = self.subject.as_mut().map(|subject| subject.metrics());
        metrics.map_or(Ok(()), |metrics| watch.adds_up(&metrics))
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
        for _ in 0..2000 {
            for step in [Step::Want(1_000_000), Step::Opened, Step::Closed, Step::EndSource] {
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
    fn is_running_at_rest(&mut self, waits: bool) -> Result<(), String> {
        let now = self.now();
        let deadline = self.model.poll_deadline().map(|at| self.clock.rounded(at));
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(format!("what was due at {deadline:?} has not been judged (T8, L6)"));
        }
        match self.stop {
            Some(Stop::Asked(_)) => return Err("it was told to stop and does not (L3)".into()),
            Some(Stop::Until(end)) if self.clock.rounded(end) <= now => {
                return Err("its time to stop has passed (L3)".into());
            }
            _ => {}
        }
        if self.limits_seen != self.limits {
            return Err("it was told of other limits and does not know (C8)".into());
        }
        self.expects_no_call("at rest");
        let is_through = (self.stopped || self.feed.has_ended) && self.model.is_empty();
        if is_through && (!self.plan.closes_later || self.closing.is_woken) {
            return Err("everything is through and the function is not closed (L4)".into());
        }
        let takes_more = !self.stopped && !self.feed.has_ended && self.feed.is_ready();
        if takes_more && self.has_room(true) && !self.has_unheard_room(waits) {
            return Err("there is room and the source is not polled (L6)".into());
        }
        Ok(())
    }

    /// Whether the stage on its task may not know yet that there is room: a consumer that has taken
    /// some tells it every few records, or when it finds nothing more.
    fn has_unheard_room(&self, waits: bool) -> bool {
        if waits || !self.plan.mode.has_task() {
            return false;
        }
        let untold = credit_after(self.limits.capacity) - 1;
        let is_close = self.model.in_flight() + self.held() + untold >= self.limits.capacity;
        is_close || self.model.has_output()
    }

    fn wakes_were_heard(&self) -> Result<(), String> {
        let in_place = !self.plan.mode.has_request_tasks();
        for (at, seen) in self.attempts.iter().enumerate().filter(|(_, seen)| !seen.is_over) {
            if if in_place { seen.is_woken } else { !seen.lives } {
                return Err(format!("request {at} was woken and not polled (L6)"));
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

    /// M1
    fn adds_up(&mut self, metrics: &Metrics) -> Result<(), String> {
        let counts = self.counts;
        let [failed, timed_out] = self.model.failures();
        let told = [
            ("in_flight", metrics.in_flight, self.model.in_flight() as u64),
            ("running", metrics.running, self.model.running() as u64),
            ("capacity", metrics.capacity, self.limits_seen.capacity as u64),
            ("attempts", metrics.attempts, counts.attempts),
            ("emitted", metrics.emitted, counts.emitted),
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

/// After so many records the consumer tells the stage: an eighth of the window.
fn credit_after(capacity: usize) -> usize {
    (capacity / 8).clamp(1, 32)
}
