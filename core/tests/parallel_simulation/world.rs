//! The world around the stage: it does what chance says.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, BarrierMode, Checkpoint, Checkpointing, FixedDelay, Instances, Job,
    KeySelector, NoRetry, Outcome, ParallelExt, StageBuilder, StreamElement,
};

use crate::clock::Clock;
use crate::executor::{Flag, Virtual};
use crate::function::{Function, Watch};
use crate::judge::{self, Out};
use crate::plan::{Order, Plan, Record};
use crate::random::Random;
use crate::source::{Feed, Source};

type Outcomes = Pin<Box<dyn Stream<Item = StreamElement<Outcome<Record, u32, u32>>>>>;

const MS: i64 = 1_000_000;

/// So many polls without anything happening are a stage that never rests.
const RESTLESS: usize = 10_000;

/// A checkpoint, and what had come out before it.
#[derive(Clone)]
struct Saved {
    bytes: Vec<u8>,
    position: u32,
    out: usize,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    random: Random,
    clock: Rc<Clock>,
    runtime: Virtual,
    feed: Rc<Feed>,
    watch: Rc<Watch>,
    stage: Option<Outcomes>,
    consumer: Arc<Flag>,
    out: Vec<Out>,
    dropped: Vec<u32>,
    saved: Option<Saved>,
    has_ended: bool,
}

impl World {
    pub(crate) fn new(plan: Plan, random: Random) -> Self {
        let clock = Clock::new(0, 1);
        let runtime = Virtual::new(&clock);
        let feed = Feed::starting_at(0);
        let watch = Watch::new(plan, &clock, &runtime.current);
        let stage = Some(start(&plan, &runtime, &feed, &watch, None));
        let (out, dropped, saved, has_ended) = (Vec::new(), Vec::new(), None, false);
        let consumer = Flag::woken();
        Self {
            plan,
            random,
            clock,
            runtime,
            feed,
            watch,
            stage,
            consumer,
            out,
            dropped,
            saved,
            has_ended,
        }
    }

    pub(crate) fn run(&mut self) -> Result<(), String> {
        for _ in 0..300 {
            self.step()?;
            if self.has_ended {
                return self.ends();
            }
        }
        // From here on everything succeeds.
        for _ in 0..10_000 {
            if self.feed.until.get() < self.plan.elements {
                self.feed.let_go(&self.plan);
            }
            self.watch.undecided().into_iter().for_each(|at| self.watch.answer(at, true));
            self.settle()?;
            if self.has_ended {
                return self.ends();
            }
            self.clock.advance_to(self.clock.next_alarm().unwrap_or(self.clock.now()));
        }
        Err(format!("the stream does not end: {:?}", self.out))
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..25 if self.feed.until.get() < self.plan.elements => self.feed.let_go(&self.plan),
            0..45 => {
                let undecided = self.watch.undecided();
                if !undecided.is_empty() {
                    let at = self.random.pick(&undecided);
                    let succeeds = !self.random.one_in(4);
                    self.watch.answer(at, succeeds);
                }
            }
            45..50 => self.clock.advance_to(self.clock.now() + MS * self.random.pick(&[1, 4, 40])),
            50..56 => self.settle()?,
            56..57 => self.crash()?,
            _ => _ = self.poll_something()?,
        }
        self.watch.wrong.take().map_or(Ok(()), Err)
    }

    /// Polls one of those who have been woken, if there is one.
    fn poll_something(&mut self) -> Result<bool, String> {
        let tasks = self.runtime.woken();
        let choices = tasks.len() + usize::from(self.consumer.is_set() && !self.has_ended);
        if choices == 0 {
            return Ok(false);
        }
        match tasks.get(self.random.below(choices)) {
            Some(task) => self.runtime.poll(task),
            None => self.take()?,
        }
        self.watch.wrong.take().map_or(Ok(true), Err)
    }

    /// Polls whatever is woken until nothing is. K11: then no barrier in snapshot mode waits.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..RESTLESS {
            if self.poll_something()? {
                continue;
            }
            let next = self.feed.next.get();
            let passed = |number: &u32| {
                judge::is_barrier(&self.plan, *number, BarrierMode::Snapshot)
                    && !self.out.contains(&Out::Control(*number))
            };
            let waits = (0..next).find(passed);
            let is_next = next < self.feed.until.get() && passed(&next);
            return match waits.or(is_next.then_some(next)) {
                Some(number) if !self.has_ended => Err(format!("barrier {number} waits (K11)")),
                _ => Ok(()),
            };
        }
        Err("the stage never rests (L6)".into())
    }

    /// The consumer takes an element.
    fn take(&mut self) -> Result<(), String> {
        self.consumer.clear();
        let Some(stage) = &mut self.stage else { return Ok(()) };
        let waker = Waker::from(Arc::clone(&self.consumer));
        let element = match stage.as_mut().poll_next(&mut Context::from_waker(&waker)) {
            Poll::Pending => return Ok(()),
            Poll::Ready(None) => {
                self.has_ended = true;
                return Ok(());
            }
            Poll::Ready(Some(element)) => element,
        };
        self.consumer = Flag::woken();
        self.taken(element)?;
        judge::is_in_order(&self.plan, &self.out)
    }

    fn taken(&mut self, element: StreamElement<Outcome<Record, u32, u32>>) -> Result<(), String> {
        let controls = |world: &Self| {
            let is_it = |number: &u32| !world.out.contains(&Out::Control(*number));
            (0..world.plan.elements).filter(is_it).collect::<Vec<_>>()
        };
        let same = |number: &u32, plan: &Plan| match (&element, plan.element(*number)) {
            (StreamElement::Watermark(one), StreamElement::Watermark(other)) => *one == other,
            (StreamElement::Status(one), StreamElement::Status(other)) => *one == other,
            _ => false,
        };
        match element {
            StreamElement::Record { value: Outcome { input, result, .. }, .. } => {
                let Record { number, key } = input;
                if !judge::is_possible(number, &result) {
                    return Err(format!("record {number} has {result:?} (F1)"));
                }
                self.out.push(Out::Record { number, key });
            }
            StreamElement::Barrier(mut barrier) => {
                let number = barrier.checkpoint.id().0 as u32 - 1;
                self.out.push(Out::Control(number));
                let bytes =
                    barrier.checkpoint.bytes().map_err(|error| format!("{error}"))?.to_vec();
                let (position, out) = (number + 1, self.out.len());
                // A drain that a later checkpoint has overtaken is older than that.
                if self.saved.as_ref().is_none_or(|saved| saved.position < position) {
                    self.saved = Some(Saved { bytes, position, out });
                }
                self.dropped.extend(self.watch.dropped.take());
            }
            _ => {
                let Some(number) =
                    controls(self).into_iter().find(|number| same(number, &self.plan))
                else {
                    return Err(format!("{element:?} has come out twice (E3)"));
                };
                self.out.push(Out::Control(number));
            }
        }
        Ok(())
    }

    /// The process dies, and begins again from its last checkpoint, perhaps with another number of instances (P2).
    fn crash(&mut self) -> Result<(), String> {
        self.stop_all()?;
        self.dropped.extend(self.watch.dropped.take());
        self.plan.next_life(&mut self.random);
        self.runtime = Virtual::new(&self.clock);
        self.consumer = Flag::woken();
        let saved = self.saved.clone();
        let position = saved.as_ref().map_or(0, |saved| saved.position);
        self.out.truncate(saved.as_ref().map_or(0, |saved| saved.out));
        self.feed = Feed::starting_at(position);
        self.watch = Watch::new(self.plan, &self.clock, &self.runtime.current);
        *self.watch.restored.borrow_mut() = (0..position).collect();
        let checkpoint =
            saved.map(|saved| Checkpoint::from_bytes(&saved.bytes).expect("it is whole"));
        self.stage =
            Some(start(&self.plan, &self.runtime, &self.feed, &self.watch, checkpoint.as_ref()));
        Ok(())
    }

    /// L2: the consumer drops the stage, and nothing is left of it.
    fn stop_all(&mut self) -> Result<(), String> {
        if self.random.one_in(2) {
            self.stage = None;
            // The end of the stage's task cancels those of the instances.
            while let Some(task) = self.runtime.woken().first() {
                self.runtime.poll(task);
            }
        } else {
            self.runtime.kill_all();
            self.stage = None;
        }
        let alive = self.runtime.alive().len();
        let requests = self.watch.requests.borrow().iter().filter(|seen| seen.lives).count();
        match (alive, requests) {
            (0, 0) => Ok(()),
            left => Err(format!("{left:?} tasks and requests are left (L2)")),
        }
    }

    fn ends(&mut self) -> Result<(), String> {
        self.dropped.extend(self.watch.dropped.take());
        judge::is_whole(&self.plan, &self.out, &self.dropped)?;
        let instances = self.plan.instances.unwrap_or(1);
        let (open, closed) = (self.watch.open.get(), self.watch.closed.get());
        if (open, closed) != (instances, instances) {
            return Err(format!("{open} instances were opened and {closed} closed (L4)"));
        }
        self.stop_all()
    }
}

fn start(
    plan: &Plan,
    runtime: &Virtual,
    feed: &Rc<Feed>,
    watch: &Rc<Watch>,
    from: Option<&Checkpoint>,
) -> Outcomes {
    let key = |record: &Record| record.key;
    let capacity = plan.capacity;
    let life = (plan, runtime, feed, watch, from);
    match plan.order {
        Order::Ordered => with_policy(life, AsyncWait::ordered(capacity)),
        Order::OrderedWithKey => with_policy(life, AsyncWait::ordered(capacity).with_key(key)),
        Order::Unordered => with_policy(life, AsyncWait::unordered(capacity)),
        Order::ByKey => with_policy(life, AsyncWait::ordered_by_key(capacity, key)),
        Order::ByKeyOverlapping => {
            with_policy(life, AsyncWait::ordered_by_key(capacity, key).overlapping())
        }
    }
}

type LifeOf<'a> = (&'a Plan, &'a Virtual, &'a Rc<Feed>, &'a Rc<Watch>, Option<&'a Checkpoint>);

fn with_policy<K>(life: LifeOf<'_>, policy: AsyncWait<NoRetry, K>) -> Outcomes
where
    K: KeySelector<Record> + Clone + 'static,
{
    let (plan, runtime, feed, watch, _) = life;
    let retries = FixedDelay::new(Duration::from_millis(3)).max_retries(plan.retries);
    let mut policy = policy.retry(retries);
    if let Some(timeout) = plan.timeout {
        policy = policy.timeout(timeout);
    }
    let source = Source { plan: *plan, feed: Rc::clone(feed) };
    let function = |instance| Function { watch: Rc::clone(watch), instance };
    match plan.instances {
        None => finish(life, source.async_wait_with(policy, function(0))),
        Some(count) => {
            let instances = Instances::on(runtime.clone(), count);
            let instances = if plan.is_spread { instances.spread() } else { instances };
            finish(life, source.async_wait_parallel(instances, policy, function))
        }
    }
}

fn finish<J>(life: LifeOf<'_>, stage: StageBuilder<'_, J>) -> Outcomes
where
    J: Job<Input = Record, Output = u32, Error = u32, Kind = inflight_core::Elements> + 'static,
{
    let (plan, runtime, feed, _, from) = life;
    let how = Checkpointing::new("stage", 1);
    let how = if plan.keeps_results { how.keeping_results() } else { how };
    let stage = stage.checkpointed_with(how).restore(from).barriers(&feed.signal);
    let runtime = runtime.clone();
    match plan.is_spawned {
        true => Box::pin(stage.spawn(runtime).expect("the settings make sense")),
        false => Box::pin(stage.in_place(runtime).expect("the settings make sense")),
    }
}
