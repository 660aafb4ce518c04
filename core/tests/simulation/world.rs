//! The world around the operator: it applies a script's steps to the operator and to the model, and finds their
//! differences.

use std::fmt::Debug;
use std::time::Duration;

use inflight_core::{
    AttemptId, Barrier, BatchId, Checkpoint, CheckpointId, Completion, Expired, StreamElement,
    Timestamp,
};

use crate::batches::Going;
use crate::ledger::{Ledger, Passed, Point};
use crate::model::{self, Control, Input, Model, Output, Overtaking, Saved};
use crate::script::{Choice, Step};
use crate::setup::Setup;
use crate::subject::{Element, Started, Subject, TimedOut};
use crate::values::{End, Record};
use crate::{crash, foreign};

pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) subject: Subject,
    pub(crate) model: Model,
    pub(crate) clock: i64,
    /// Running attempts, and those that have ended.
    pub(crate) running: Vec<Started>,
    pub(crate) over: Vec<Started>,
    /// Running batches, and those that have ended.
    pub(crate) batches: Vec<Going>,
    pub(crate) over_batches: Vec<BatchId>,
    /// Ids from earlier lives.
    pub(crate) foreign: Vec<AttemptId>,
    pub(crate) ledger: Ledger,
    /// The last checkpoint that is complete.
    pub(crate) saved: Option<SavedPoint>,
    /// Barriers on their way.
    pub(crate) snapshot_barrier: Option<SavedPoint>,
    pub(crate) drain_barriers: Vec<(u64, Point, u64)>,
    pub(crate) checkpoints: u64,
    /// The events so far, for a reader.
    pub(crate) story: Option<Vec<String>>,
}

/// The state that survives a crash.
pub(crate) struct SavedPoint {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) model: Saved,
    pub(crate) ledger: Ledger,
}

impl World {
    pub(crate) fn new(setup: &Setup, tells: bool) -> Self {
        Self {
            setup: *setup,
            subject: Subject::new(setup),
            model: Model::new(setup),
            clock: 0,
            running: Vec::new(),
            over: Vec::new(),
            batches: Vec::new(),
            over_batches: Vec::new(),
            foreign: Vec::new(),
            ledger: Ledger::default(),
            saved: None,
            snapshot_barrier: None,
            drain_barriers: Vec::new(),
            checkpoints: 0,
            story: tells.then(Vec::new),
        }
    }

    /// Applies one step. The error is the difference between the operator and the model.
    pub(crate) fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Record { key, timestamp, at_once } => {
                self.push_record(key, timestamp, at_once)?;
            }
            Step::Watermark(by) => {
                let control = Control::Watermark(self.ledger.time(by));
                self.push_control(control, None)?;
            }
            Step::Status(status) => self.push_control(Control::Status(status), None)?,
            Step::DrainBarrier { limit } => {
                self.checkpoints += 1;
                self.push_control(Control::Drain(self.checkpoints), limit)?;
            }
            Step::SnapshotBarrier => self.push_snapshot_barrier()?,
            Step::Start(most) => self.start(most)?,
            Step::End(which, end) => self.end(which, end)?,
            Step::EndBatch { which, end, how } => self.end_batch(which, end, how)?,
            Step::LateBatch(which) => self.end_batch_late(which)?,
            Step::Late(which, end) => self.end_late(which, end)?,
            Step::Foreign(which, end) => self.end_foreign(which, end)?,
            Step::ToDeadline(by) => {
                if let Some(deadline) = self.model.poll_deadline() {
                    self.clock = self.clock.max(deadline.saturating_add(by));
                    self.tell(|world| format!("it is {}", nanos(world.clock)));
                }
            }
            Step::Pass(by) => {
                self.clock += by;
                self.tell(|world| format!("it is {}", nanos(world.clock)));
            }
            Step::Judge(choice) => self.judge(choice)?,
            Step::Take(most) => {
                self.take(most)?;
            }
            Step::Snapshot => self.snapshot()?,
            Step::Crash { capacity, storage, clock_restarts } => {
                self.crash(capacity, storage, clock_restarts)?;
            }
            Step::Change { capacity, running_limit } => {
                let capacity = capacity.min(self.setup.max_capacity);
                self.tell(|_| format!("now capacity {capacity}, {running_limit:?} running"));
                self.subject.change(capacity, running_limit);
                self.model.change(capacity, running_limit);
            }
            Step::Pause => {
                self.tell(|_| "paused".into());
                self.subject.pause(self.clock);
                self.model.pause(self.clock);
            }
            Step::Resume => {
                self.tell(|_| "resumed".into());
                self.subject.resume(self.clock);
                self.model.resume(self.clock);
            }
            Step::Finish => {
                self.tell(|_| "the input ends".into());
                self.subject.finish(self.clock);
                self.model.finish(self.clock);
            }
            Step::ShutDown => {
                self.tell(|_| "shut down".into());
                self.over.append(&mut self.running);
                self.all_batches_are_over();
                self.subject.shut_down(self.clock);
                self.model.shut_down(self.clock);
            }
        }
        self.agree()
    }

    /// Compares everything that can be read without changing anything.
    fn agree(&self) -> Result<(), String> {
        let (subject, model) = (&self.subject, &self.model);
        same("in_flight", &subject.in_flight(), &model.in_flight())?;
        same("running", &subject.running(), &model.running())?;
        same("running", &self.running.len(), &model.running())?;
        same("running_requests", &subject.running_requests(), &model.running_requests())?;
        same("running_limit", &subject.running_limit(), &model.running_limit())?;
        same("late completions", &subject.late(), &model.late)?;
        same("done", &subject.done(), &model.done())?;
        same("failures", &subject.failures(), &model.failures())?;
        same("capacity", &subject.capacity(), &model.capacity())?;
        same("in_backoff", &subject.in_backoff(), &model.in_backoff())?;
        same("window", &subject.window(), &model.window())?;
        same("is_paused", &subject.is_paused(), &model.is_paused())?;
        let (deadline, deadlines) = (subject.poll_deadline(), model.poll_deadlines());
        if !deadlines.contains(&deadline) && !model.knows_no_front() {
            same("poll_deadline", &vec![deadline], &deadlines)?;
        }
        let has_batches = self.setup.batch().is_some();
        if let Some(has_attempt) = model.may_have_attempt().filter(|_| !model.has_backlog()) {
            same("has_attempt", &subject.has_attempt(), &(has_attempt && !has_batches))?;
        }
        if has_batches {
            self.agree_on_batches()?;
        }
        same("has_output", &subject.has_output(), &model.has_output())?;
        same("is_empty", &subject.is_empty(), &model.is_empty())
    }

    fn push_record(
        &mut self,
        key: u32,
        timestamp: Option<i64>,
        at_once: bool,
    ) -> Result<(), String> {
        let number = self.ledger.next();
        let timestamp = timestamp.map(|by| self.ledger.time(by));
        let record = Record::new(number, key);
        let element = StreamElement::Record {
            value: record,
            timestamp: timestamp.map(Timestamp::from_millis),
        };
        let input = Input::Record { number, key, timestamp };
        let (accepted, started) = self.push(element, input, at_once)?;
        if accepted {
            self.ledger.record_in(Passed { number, key, timestamp });
        }
        if at_once && accepted {
            self.started_at_once(started)?;
        }
        Ok(())
    }

    fn push_control(&mut self, control: Control, limit: Option<i64>) -> Result<(), String> {
        let limit = limit.map(|millis| millis * 1_000_000);
        let input = match (control, limit) {
            (Control::Drain(id), Some(limit)) => Input::DrainWithin { id, limit },
            _ => Input::Control(control),
        };
        let element = match control {
            Control::Watermark(mark) => StreamElement::Watermark(Timestamp::from_millis(mark)),
            Control::Status(status) => StreamElement::Status(status),
            Control::Drain(id) => {
                let barrier = Barrier::drain(Checkpoint::new(CheckpointId(id)));
                let limit = limit.map(|limit| Duration::from_nanos(limit as u64));
                StreamElement::Barrier(match limit {
                    Some(limit) => barrier.within(limit),
                    None => barrier,
                })
            }
        };
        if self.push(element, input, false)?.0 {
            self.ledger.control_in(control);
            if let Control::Drain(id) = control {
                self.drain_barriers.push((id, self.ledger.point(), self.model.requests()));
            }
        }
        Ok(())
    }

    fn push_snapshot_barrier(&mut self) -> Result<(), String> {
        self.checkpoints += 1;
        let id = CheckpointId(self.checkpoints);
        let element = StreamElement::Barrier(Barrier::snapshot(Checkpoint::new(id)));
        if self.push(element, Input::Snapshot(id.0), false)?.0 {
            self.ledger.snapshot_barrier_in();
            let mut checkpoint = Checkpoint::new(id);
            // The barrier's section must be the same.
            if self.setup.checkpointed {
                said_ok(self.subject.snapshot(self.clock, &mut checkpoint))?;
            }
            let model = self.model.snapshot(self.clock);
            let ledger = self.ledger.kept(&model.called_again());
            self.snapshot_barrier = Some(SavedPoint { checkpoint, model, ledger });
        }
        Ok(())
    }

    /// Returns true if the element was taken in, and the attempt that has started with it. A refused element must have come back.
    fn push(
        &mut self,
        element: StreamElement<Record>,
        input: Input,
        at_once: bool,
    ) -> Result<(bool, Option<Started>), String> {
        let (shape, at) = (format_shape(&element), self.clock);
        let accepted = self.model.push(at, input);
        let result = match at_once {
            true => self.subject.push_start(at, element),
            false => self.subject.push(at, element).map(|()| None),
        };
        let refused = if accepted { "" } else { " (refused)" };
        self.tell(|_| format!("push {shape}{refused}"));
        same("push accepts", &result.is_ok(), &accepted)?;
        match result {
            Ok(started) => Ok((true, started)),
            Err(back) => {
                same("the element that comes back", &format_shape(&back), &shape)?;
                Ok((false, None))
            }
        }
    }

    /// The last record was pushed, and its attempt has started or not. With optional parts it need not.
    fn started_at_once(&mut self, started: Option<Started>) -> Result<(), String> {
        let last = self.model.requests() - 1;
        if self.setup.parts.is_none() || started.is_some() {
            let expected = self.model.starts_at_once(last);
            same("push_start starts an attempt", &started.is_some(), &expected)?;
        }
        match started {
            Some(started) => self.has_started(started),
            None => Ok(()),
        }
    }

    fn start(&mut self, most: usize) -> Result<(), String> {
        if self.setup.batch().is_some() {
            return self.start_batches(most);
        }
        for _ in 0..most {
            let started = self.subject.poll_attempt(self.clock);
            let Some(started) = started else {
                return same("poll_attempt", &None, &self.model.poll_attempt(self.clock, None));
            };
            self.has_started(started)?;
        }
        Ok(())
    }

    fn has_started(&mut self, started: Started) -> Result<(), String> {
        let expected = self.model.poll_attempt(self.clock, Some(started.request));
        same("the attempt that starts", &Some(started.in_model()), &expected)?;
        self.note_started(started)
    }

    pub(crate) fn note_started(&mut self, started: Started) -> Result<(), String> {
        self.tell(|_| format!("attempt {} of {} starts", started.attempt, started.number));
        let is_taken = |other: &Started| other.id == started.id;
        if self.running.iter().chain(&self.over).any(is_taken) {
            return Err(format!("{:?} has been another attempt's name", started.id));
        }
        let slot = started.id.slot();
        if self.running.iter().any(|other| other.id.slot() == slot) {
            return Err(format!("slot {slot} is another running attempt's"));
        }
        if slot >= self.setup.max_capacity {
            return Err(format!("slot {slot} is beyond the capacity"));
        }
        self.running.push(started);
        Ok(())
    }

    fn end(&mut self, which: usize, end: End) -> Result<(), String> {
        if self.running.is_empty() {
            return Ok(());
        }
        let started = self.running.remove(which % self.running.len());
        self.over.push(started);
        let Started { id, request, number, attempt, .. } = started;
        self.tell(|_| format!("attempt {attempt} of {number} ends: {end:?}"));
        let answer = end.answer(number, attempt);
        let expected = self.model.complete(self.clock, Some(request), answer);
        same("handle_completion", &self.subject.complete(self.clock, id, answer), &expected)?;
        self.batch_may_be_over(started)
    }

    fn end_late(&mut self, which: usize, end: End) -> Result<(), String> {
        if self.over.is_empty() {
            return Ok(());
        }
        let started = self.over[which % self.over.len()];
        self.tell(|_| format!("attempt {} of {} ends late", started.attempt, started.number));
        self.complete_in_vain(started.id, end)
    }

    fn end_foreign(&mut self, which: usize, end: End) -> Result<(), String> {
        let others = foreign::names();
        let which = which % (others.len() + self.foreign.len());
        let id = self.foreign.get(which).copied().unwrap_or_else(|| others[which % others.len()]);
        if self.running.iter().any(|started| started.id == id) {
            return Ok(());
        }
        self.tell(|_| format!("something foreign ends: {id:?}"));
        self.complete_in_vain(id, end)
    }

    fn complete_in_vain(&mut self, id: AttemptId, end: End) -> Result<(), String> {
        let answer = end.answer(0, 99);
        let expected = self.model.complete(self.clock, None, answer);
        same("expected", &expected, &Completion::Late)?;
        same("handle_completion", &self.subject.complete(self.clock, id, answer), &expected)
    }

    fn judge(&mut self, choice: Choice) -> Result<(), String> {
        loop {
            let expired = self.subject.handle_deadline(self.clock);
            self.model.see(self.clock);
            let told = self.resolve(expired, choice)?;
            let resolved = told.map(|told| u64::from(told.number));
            let wish = expired.and_then(|expired| self.request_in(expired.id().slot()));
            let wish = resolved.or(wish);
            let expected = self.model.handle_deadline(self.clock, wish);
            let (expired, request, is_call) = match (expired, expected) {
                (None, None) => return Ok(()),
                (Some(Expired::Call(id)), Some(model::Expired::Call { request })) => {
                    (id, request, true)
                }
                (Some(Expired::Attempt(id)), Some(model::Expired::Attempt { request })) => {
                    (id, request, false)
                }
                (expired, expected) => {
                    return Err(format!("handle_deadline: {expired:?}, expected {expected:?}"));
                }
            };
            let position = self.running.iter().position(|started| started.request == request);
            let running = position.map(|at| self.running.remove(at));
            self.tell(|_| {
                let what = if is_call { "" } else { "the running attempt of " };
                format!("time is up for {what}request {request}")
            });
            match running {
                Some(started) => {
                    same("the expired attempt", &expired, &started.id)?;
                    self.over.push(started);
                    self.batch_may_be_over(started)?;
                }
                None => {
                    let is_other =
                        |other: &&Started| other.id == expired && other.request != request;
                    if let Some(other) = self.running.iter().chain(&self.over).find(is_other) {
                        return Err(format!("{other:?} is not the expired attempt"));
                    }
                }
            }
            if let Some(told) = told {
                let call = self.model.call(request);
                let expected =
                    TimedOut { number: call.number, attempts: call.attempts, last: call.last };
                same("which call timed out (F5)", &told, &expected)?;
                let action = choice.action(request as u32);
                self.tell(|_| format!("it ends with {action:?}"));
                self.model.resolve_timeout(request, action);
                if choice == Choice::Drop {
                    self.ledger.dropped(request as u32);
                }
            }
        }
    }

    /// T3: only a call that has just timed out can be given another end, and only once. The operator is asked to fail
    /// some calls explicitly, and all calls that came with a restore and have not been seen since, because that
    /// reveals their numbers.
    fn resolve(
        &mut self,
        expired: Option<Expired>,
        choice: Choice,
    ) -> Result<Option<TimedOut>, String> {
        let id = match expired {
            Some(Expired::Call(id)) => id,
            Some(Expired::Attempt(id)) => {
                let resolved = self.subject.resolve_timeout(id, Choice::Drop);
                same("resolve_timeout", &resolved, &None)?;
                return Ok(None);
            }
            None => return Ok(None),
        };
        // A question about a call that there never was takes nothing away (F5).
        let nobody = foreign::names().last().expect("there are some");
        same("resolve_timeout", &self.subject.resolve_timeout(*nobody, Choice::Drop), &None)?;
        let is_known = self.request_in(id.slot()).is_some();
        if choice == Choice::Fail && is_known && id.slot() % 2 == 0 {
            return Ok(None);
        }
        let resolved = self.subject.resolve_timeout(id, choice);
        same("resolve_timeout again", &self.subject.resolve_timeout(id, Choice::Drop), &None)?;
        resolved.map(Some).ok_or_else(|| "resolve_timeout: no such call".into())
    }

    /// The request of an attempt with this slot, unless it was restored in backoff: a call in backoff keeps its slot.
    fn request_in(&self, slot: usize) -> Option<u64> {
        let mut started = self.running.iter().chain(self.over.iter().rev());
        let last = started.find(|started| started.id.slot() == slot)?.request;
        Some(last).filter(|last| self.model.is_open(*last))
    }

    /// Returns true if anything came out.
    fn take(&mut self, most: usize) -> Result<bool, String> {
        for taken in 0..most {
            let expected = self.model.poll_output();
            let element = self.subject.poll_output();
            same("poll_output", &element.as_ref().map(output), &expected)?;
            let (Some(element), Some(output)) = (element, expected) else { return Ok(taken > 0) };
            self.tell(|_| format!("out comes {output:?}"));
            match output {
                Output::Outcome { number, key, timestamp, .. } => {
                    self.ledger.record_out(Passed { number, key, timestamp })?;
                }
                Output::Control(control) => self.ledger.control_out(control)?,
                Output::Overtaking(Overtaking::FailedDrain(id)) => self.ledger.late_drain_out(id),
                Output::Overtaking(Overtaking::Snapshot(_)) => {}
            }
            if let StreamElement::Barrier(barrier) = element {
                self.barrier_out(barrier)?;
            }
            self.agree()?;
        }
        Ok(most > 0)
    }

    /// Runs everything to its end.
    pub(crate) fn run_out(&mut self) -> Result<(), String> {
        self.tell(|_| "from here on everything succeeds".into());
        self.step(Step::Resume)?;
        for _ in 0..1000 {
            self.step(Step::Judge(Choice::Fail))?;
            self.step(Step::Start(100))?;
            let mut moved = !self.running.is_empty();
            while !self.running.is_empty() {
                self.step(self.end_of(0, End::Success))?;
            }
            moved |= self.take(100)?;
            if self.subject.is_empty() {
                return self.ledger.check(self.setup.order, true);
            }
            if !moved {
                self.step(Step::ToDeadline(0))?;
            }
        }
        Err("stuck: it does not become empty".into())
    }

    /// The numbers of the running attempts.
    pub(crate) fn attempts(&self) -> impl Iterator<Item = u32> {
        self.running.iter().map(|started| started.attempt)
    }

    pub(crate) fn awaits_time(&self) -> bool {
        self.model.poll_deadline().is_some()
    }

    pub(crate) fn has_attempt(&self) -> bool {
        self.model.has_attempt()
    }

    pub(crate) fn has_output(&self) -> bool {
        self.model.has_output()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.model.is_empty()
    }

    pub(crate) fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        if let Some(mut story) = self.story.take() {
            story.push(line(self));
            self.story = Some(story);
        }
    }
}

impl Started {
    pub(crate) fn in_model(self) -> model::Started {
        let Self { request, number, attempt, time_left, .. } = self;
        model::Started { request, number, attempt, time_left }
    }
}

/// Converts an output into the model's terms.
fn output(element: &Element) -> Output {
    match element {
        StreamElement::Record { value: outcome, timestamp } => Output::Outcome {
            number: outcome.input.number,
            key: outcome.input.key,
            timestamp: timestamp.map(Timestamp::as_millis),
            answer: outcome.result,
            attempts: outcome.attempts,
            elapsed: outcome.elapsed.as_nanos() as i64,
        },
        StreamElement::Watermark(mark) => Output::Control(Control::Watermark(mark.as_millis())),
        StreamElement::Status(status) => Output::Control(Control::Status(*status)),
        StreamElement::Barrier(barrier) => crash::barrier(barrier),
    }
}

/// Prints an element, for a reader and to compare it with the one that comes back.
fn format_shape(element: &StreamElement<Record>) -> String {
    match element {
        StreamElement::Record { value, timestamp } => {
            let time = timestamp.map(Timestamp::as_millis);
            format!("record {} (key {}, time {time:?})", value.number, value.key)
        }
        StreamElement::Watermark(mark) => format!("watermark {}", mark.as_millis()),
        StreamElement::Status(status) => format!("{status:?}"),
        StreamElement::Barrier(Barrier { mode, checkpoint, .. }) => {
            format!("barrier {} ({mode:?})", checkpoint.id().0)
        }
    }
}

fn nanos(clock: i64) -> String {
    let (millis, rest) = (clock.div_euclid(1_000_000), clock.rem_euclid(1_000_000));
    if rest == 0 { format!("{millis} ms") } else { format!("{millis} ms and {rest} ns") }
}

pub(crate) fn same<T: PartialEq + Debug>(
    what: &str,
    operator: &T,
    model: &T,
) -> Result<(), String> {
    if operator == model {
        return Ok(());
    }
    Err(format!("{what}\n    operator: {operator:?}\n    model:    {model:?}"))
}

pub(crate) fn said_ok<E: Debug>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|error| format!("refused: {error:?}"))
}
