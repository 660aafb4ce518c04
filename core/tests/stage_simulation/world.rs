//! The world around the stage: it does what a script says.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use inflight_core::StageError;

use crate::clock::Clock;
use crate::executor::{Executor, Flag, Role, Task};
use crate::plan::Plan;
use crate::random::Random;
use crate::run::Planned;
use crate::runtime::Virtual;
use crate::script::Step;
use crate::source::Offer;
use crate::subject::{self, Element, Subject};
use crate::values::End;
use crate::watch::{Life, Limits, NOT_OPENED, Stop, Watch};

/// So many polls without time passing are a stage that never rests.
const RESTLESS: usize = 20_000;

pub(crate) struct World {
    pub(crate) watch: Rc<Watch>,
    pub(crate) clock: Rc<Clock>,
    pub(crate) executor: Rc<Executor>,
    /// `None` once the consumer has dropped it.
    pub(crate) subject: Option<Box<dyn Subject>>,
    pub(crate) consumer: Arc<Flag>,
    /// The consumer has seen the end, or the panic.
    pub(crate) has_ended: bool,
    /// The runtime has cancelled the stage's task.
    pub(crate) is_cancelled: bool,
    random: Random,
}

impl World {
    pub(crate) fn new(plan: &Plan, tells: bool) -> Self {
        let watch = Watch::new(plan, tells);
        let clock = Rc::clone(&watch.look().clock);
        let mut world = Self {
            watch,
            clock,
            executor: Executor::new(plan.fresh_wakers, plan.cancels_late),
            subject: None,
            consumer: Flag::woken(),
            has_ended: false,
            is_cancelled: false,
            random: Random::new(!plan.seed),
        };
        world.subject = Some(subject::start(plan, &world.runtime(), None));
        world
    }

    pub(crate) fn runtime(&self) -> Virtual {
        Virtual {
            clock: Rc::clone(&self.clock),
            executor: Rc::clone(&self.executor),
            watch: Rc::clone(&self.watch),
        }
    }

    /// Does one step; the error says what is not as it should be.
    pub(crate) fn step(&mut self, step: Step) -> Result<(), String> {
        self.watch.look().tell(|| format!("{step:?}"));
        self.carry_out(step)?;
        if self.plan().prompt {
            self.settle()?;
        }
        self.verdict()
    }

    fn carry_out(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Offer(offer) => self.offer(offer),
            Step::OfferRecords(count) => {
                for at in 0..count {
                    self.offer(Offer::Record { key: at as u32 % 3, timestamp: None });
                }
            }
            Step::EndSource => self.watch.look().feed.end(),
            Step::WakeSource => self.watch.look().feed.wake(),
            Step::End(which, end) => self.end_request(which, end),
            Step::EndMany(count) => {
                (0..count).for_each(|at| self.end_request(at * 7, End::Success));
            }
            Step::Wake(which) => self.wake_request(which),
            Step::LateWake(which) => self.wake_late(which),
            Step::Poll(count) => {
                for _ in 0..count {
                    self.poll_something()?;
                }
            }
            Step::Settle => self.settle()?,
            Step::PollForNothing => self.poll_for_nothing()?,
            Step::Want(count) => {
                self.watch.look().desk.want(count);
                if !self.plan().mode.is_run() {
                    self.consumer = Flag::woken();
                }
            }
            Step::Busy => self.watch.look().desk.wants = 0,
            Step::Sleep(nanos) => self.sleep_until(self.clock.now() + nanos)?,
            Step::Jump(nanos) => self.clock.advance_to(self.clock.now() + nanos),
            Step::ToDeadline(by) => {
                let deadline = self.watch.look().model.poll_deadline();
                if let Some(deadline) = deadline {
                    self.sleep_until(deadline + by)?;
                }
            }
            Step::WakeTimer => self.clock.wake_for_nothing(),
            Step::Change { capacity, running } => self.change(capacity, running),
            Step::Pause => self.pause(true),
            Step::Resume => self.pause(false),
            Step::Stop(limit) => self.stop(limit),
            Step::Opened => self.watch.look().opening.release(),
            Step::Closed => self.watch.look().closing.release(),
            Step::Crash { capacity, clock_restarts } => self.crash(capacity, clock_restarts)?,
            Step::CancelStage => self.cancel_stage(),
            Step::PanicInPlace(which) => {
                if !self.plan().mode.has_request_tasks() {
                    self.decide(which, End::Panic);
                }
            }
            Step::Drop => self.drop_stream()?,
        }
        Ok(())
    }

    pub(crate) fn plan(&self) -> Plan {
        self.watch.look().plan
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        if let Some(surprise) = self.executor.surprise.take() {
            return Err(format!("a task panics: {surprise}"));
        }
        self.watch.look().failure.take().map_or(Ok(()), Err)
    }

    fn offer(&self, offer: Offer) {
        let is_plain = self.plan().plain;
        let offer = match offer {
            Offer::Record { key, .. } if is_plain => Offer::Record { key, timestamp: None },
            Offer::Record { .. } | Offer::Panic => offer,
            _ if is_plain => return,
            offer => offer,
        };
        let mut watch = self.watch.look();
        if !watch.feed.ends {
            watch.feed.offer(offer);
        }
    }

    fn end_request(&self, which: usize, end: End) {
        let has_tasks = self.plan().mode.has_request_tasks();
        match end {
            End::Panic | End::Cancel if !has_tasks => self.decide(which, End::Transient),
            end => self.decide(which, end),
        }
    }

    fn decide(&self, which: usize, end: End) {
        let mut watch = self.watch.look();
        let mut undecided: Vec<_> =
            watch.attempts.iter_mut().filter(|seen| seen.is_undecided()).collect();
        if undecided.is_empty() {
            return;
        }
        let which = which % undecided.len();
        let seen = &mut undecided[which];
        seen.end = Some(end);
        let task = seen.task.clone().filter(|_| end == End::Cancel);
        if task.is_none() {
            seen.wake();
        }
        drop(watch);
        if let Some(task) = task {
            task.kill();
        }
    }

    fn wake_request(&self, which: usize) {
        let mut watch = self.watch.look();
        let mut alive: Vec<_> = watch.attempts.iter_mut().filter(|seen| !seen.is_over).collect();
        if !alive.is_empty() {
            let which = which % alive.len();
            alive[which].wake();
        }
    }

    fn wake_late(&self, which: usize) {
        let mut watch = self.watch.look();
        let gone: Vec<_> = watch.attempts.iter().filter(|seen| seen.is_over).collect();
        if gone.is_empty() {
            return;
        }
        if let Some(waker) = gone[which % gone.len()].waker.clone() {
            waker.wake();
            watch.counts.stale_wakes += 1;
        }
    }

    fn change(&mut self, capacity: usize, running: Option<usize>) {
        let Some(subject) = self.subject.as_mut() else { return };
        let mut watch = self.watch.look();
        let capacity = capacity.min(watch.plan.setup.max_capacity);
        subject.change(capacity, running.unwrap_or(usize::MAX));
        watch.limits = Limits::new(&watch.plan, capacity, running);
        if !watch.plan.mode.has_task() {
            watch.limits_seen = watch.limits;
            self.consumer = Flag::woken();
        }
    }

    /// Pauses it, or resumes it.
    fn pause(&mut self, is_pause: bool) {
        let Some(subject) = self.subject.as_mut() else { return };
        match is_pause {
            true => subject.pause(),
            false => subject.resume(),
        }
        let mut watch = self.watch.look();
        watch.pause_command = Some(is_pause);
        if !watch.plan.mode.has_task() {
            watch.hears_pause();
            self.consumer = Flag::woken();
        }
    }

    fn stop(&mut self, limit: Option<u64>) {
        let Some(subject) = self.subject.as_mut() else { return };
        subject.stop(limit.map(Duration::from_millis));
        if !self.plan().mode.has_task() {
            // Whoever steers it does not await it at that moment, and polls it afterwards.
            self.consumer = Flag::woken();
        }
        self.watch.look().stop = Some(Stop::asked(limit.map(|millis| millis as i64 * 1_000_000)));
    }

    fn cancel_stage(&mut self) {
        if let Some(task) = self.executor.stage() {
            self.watch.look().going = true;
            self.is_cancelled = true;
            task.kill();
        }
    }

    pub(crate) fn drop_stream(&mut self) -> Result<(), String> {
        self.watch.look().going = true;
        self.subject = None;
        self.settle()?;
        self.nothing_is_left()
    }

    /// Everything happens at its time until then.
    pub(crate) fn sleep_until(&mut self, end: i64) -> Result<(), String> {
        self.settle()?;
        while let Some(at) = self.clock.next_alarm().filter(|at| *at <= end) {
            self.advance_to(at)?;
        }
        self.advance_to(end)
    }

    fn advance_to(&mut self, instant: i64) -> Result<(), String> {
        self.clock.advance_to(instant);
        self.watch.look().tell(|| format!("it is {} us", instant as f64 / 1000.0));
        self.settle()
    }

    /// Polls whatever is woken until nothing is; then nothing may be left undone.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        for _ in 0..RESTLESS {
            if !self.poll_something()? {
                return self.is_at_rest();
            }
        }
        Err("the stage never rests (L6)".into())
    }

    /// Polls one of those who have been woken, if there is one.
    fn poll_something(&mut self) -> Result<bool, String> {
        let tasks = self.executor.woken();
        let consumer = self.consumer.is_set() && self.consumer_is_polled();
        let choices = tasks.len() + usize::from(consumer);
        if choices == 0 {
            return Ok(false);
        }
        match tasks.get(self.random.below(choices)) {
            Some(task) => self.poll_task(task),
            None => self.poll_consumer()?,
        }
        self.verdict().map(|()| true)
    }

    fn poll_task(&self, task: &Task) {
        if task.role == Role::Stage {
            self.watch.look().poll_begins();
        }
        self.executor.poll(task);
        if task.role == Role::Stage {
            self.watch.look().poll_ends(true);
        }
    }

    fn poll_for_nothing(&mut self) -> Result<(), String> {
        match self.executor.stage() {
            Some(task) => self.poll_task(&task),
            None if self.consumer_is_polled() => self.poll_consumer()?,
            None => {}
        }
        Ok(())
    }

    pub(crate) fn consumer_waits(&self) -> bool {
        let watch = self.watch.look();
        let (is_run, desk) = (watch.plan.mode.is_run(), &watch.desk);
        let waits = if is_run { !desk.is_busy } else { desk.wants > 0 };
        waits && self.subject.is_some() && !self.has_ended
    }

    /// Whether whoever polls for the consumer does: also while it is busy, if the stage is run with it.
    fn consumer_is_polled(&self) -> bool {
        let is_run = self.plan().mode.is_run() && self.subject.is_some() && !self.has_ended;
        is_run || self.consumer_waits()
    }

    fn poll_consumer(&mut self) -> Result<(), String> {
        if self.plan().fresh_wakers {
            self.consumer = Arc::default();
        }
        if !self.plan().mode.has_task() {
            self.watch.look().poll_begins();
        }
        match self.poll_stream() {
            Ok(Poll::Pending) => self.watch.look().poll_ends(true),
            Ok(Poll::Ready(Some(element))) => {
                let mut watch = self.watch.look();
                watch.desk.wants -= 1;
                self.consumer = Flag::woken();
                watch.taken(element);
                watch.poll_ends(false);
            }
            Ok(Poll::Ready(None)) => {
                self.has_ended = true;
                self.ends_well()?;
                self.ends_again()?;
            }
            Err(panic) if self.watch.look().panicked => {
                drop(panic);
                self.has_ended = true;
                self.ends_in_panic()?;
            }
            Err(panic) => resume_unwind(panic),
        }
        Ok(())
    }

    fn poll_stream(&mut self) -> std::thread::Result<Poll<Option<Element>>> {
        let Some(subject) = self.subject.as_mut() else { return Ok(Poll::Pending) };
        self.consumer.clear();
        let waker = Waker::from(Arc::clone(&self.consumer));
        catch_unwind(AssertUnwindSafe(|| subject.poll(&mut Context::from_waker(&waker))))
    }

    /// Polled after its end it ends again (or gives way to others before it does).
    fn ends_again(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            match self.poll_stream() {
                Ok(Poll::Ready(None)) => return Ok(()),
                Ok(Poll::Pending) if self.consumer.is_set() => {}
                other => return Err(format!("after the end: {other:?}")),
            }
        }
        Err("after the end it is never ready".into())
    }

    /// The stream has ended: was that right, and does it say so?
    fn ends_well(&self) -> Result<(), String> {
        let watch = self.watch.look();
        if watch.desk.is_busy {
            return Err("the consumer was not waited for".into());
        }
        let end = self.subject.as_ref().and_then(|subject| subject.end());
        let expected = match watch.life {
            _ if watch.panicked => return Err("a panic looks like the end (F3)".into()),
            _ if self.is_cancelled => Err(StageError::Cancelled),
            Life::Closed if watch.opening_failed => Err(StageError::Open(NOT_OPENED)),
            Life::Closed => Ok(()),
            life => return Err(format!("the stream ends too early ({life:?})")),
        };
        if end != Some(expected) {
            return Err(format!("end() says {end:?}, expected {expected:?}"));
        }
        if !self.is_cancelled && !watch.may_have_let_all_out() {
            return Err(format!("the stream ends, and this is left: {:?}", watch.model));
        }
        watch.has_taken_all("the end")
    }

    /// F3: the panic has reached the consumer, and does so again.
    fn ends_in_panic(&mut self) -> Result<(), String> {
        self.watch.look().has_taken_all("the panic")?;
        loop {
            match self.poll_stream() {
                // What was done may come out before.
                Ok(Poll::Ready(Some(element))) => self.watch.look().taken(element),
                Ok(Poll::Pending) if self.consumer.is_set() => {}
                Ok(polled) => return Err(format!("after the panic: {polled:?}")),
                Err(panic) if panic.is::<Planned>() => {
                    return Err("the request was polled again after its panic".into());
                }
                Err(_) => break,
            }
            self.verdict()?;
        }
        let end = self.subject.as_ref().and_then(|subject| subject.end());
        let expected = self.plan().mode.has_task().then_some(Err(StageError::Panicked));
        if end != expected {
            return Err(format!("end() says {end:?} after a panic"));
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.watch.look().going = true;
        self.subject = None;
        self.executor.kill_all();
    }
}
