//! The world around the workers: its steps, what happens at them, and the promises that must hold.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;

use crate::engine::{self, Engine};
use crate::executor::{Executor, Process, State};
use crate::join::{Join, TaskEnd};
use crate::log::{Log, Refused};
use crate::plan::{Event, Flaw, Plan};
use crate::random::Random;
use crate::worker::Worker;

const MILLISECOND: i64 = 1_000_000;

/// By then a job has ended, whatever has happened to its workers.
const LONGEST: i64 = 20_000 * MILLISECOND;

/// The counts of one or more runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) runs: u64,
    pub(crate) steps: u64,
    pub(crate) lives: u64,
    pub(crate) fenced: u64,
    pub(crate) handed_over: u64,
    pub(crate) timed_out: u64,
    pub(crate) lost: u64,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) executor: Rc<Executor>,
    random: RefCell<Random>,
    events: RefCell<Vec<(u64, Event)>>,
    pub(crate) log: RefCell<Log>,
    pub(crate) engine: RefCell<Engine>,
    pub(crate) workers: RefCell<Vec<Rc<Worker>>>,
    /// It changes when the broker forgets.
    generation: Cell<u64>,
    pub(crate) tally: RefCell<Tally>,
    /// The record of each request id, and the id of each record.
    ids: RefCell<(BTreeMap<u64, u32>, BTreeMap<u32, u64>)>,
    /// The first promise that was broken.
    broken: RefCell<Option<String>>,
}

/// Runs a job with these events, each at a step, to its end.
pub(crate) fn run(plan: &Plan, events: &[(u64, Event)]) -> Result<Tally, String> {
    let first = events.first().map_or(0, |(step, _)| *step);
    let executor = Executor::new();
    let world = Rc::new(World {
        plan: *plan,
        executor: Rc::clone(&executor),
        random: RefCell::new(Random::new(plan.seed ^ first.wrapping_mul(0x9E37_79B9))),
        events: RefCell::new(events.to_vec()),
        log: RefCell::new(Log::new(plan.partitions)),
        engine: RefCell::new(Engine::new(plan.partitions)),
        workers: RefCell::default(),
        generation: Cell::new(0),
        tally: RefCell::default(),
        ids: RefCell::default(),
        broken: RefCell::default(),
    });
    engine::start(&world);
    (0..plan.workers).for_each(|_| Worker::start(&world));
    produce(&world);
    let ended = executor.run(|end| world.below(end), || world.is_over());
    executor.drop_all();
    let in_context = |error| format!("{events:?}: {error}");
    ended.and_then(|()| world.check_end()).map_err(in_context)?;
    let mut tally = *world.tally.borrow();
    tally.runs = 1;
    Ok(tally)
}

/// Appends records to the log while the job runs, and closes the partitions in the end.
fn produce(world: &Rc<World>) {
    let of = Rc::clone(world);
    world.executor.spawn(None, async move {
        for record in 0..of.plan.records {
            of.executor.sleep(of.below(4 * MILLISECOND as usize) as i64).await;
            let partition = of.below(usize::from(of.plan.partitions)) as u16;
            of.log.borrow_mut().append(partition, record);
        }
        of.log.borrow_mut().close();
    });
}

impl World {
    pub(crate) fn below(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    pub(crate) fn one_in(&self, chances: usize) -> bool {
        self.random.borrow_mut().one_in(chances)
    }

    /// Some time, up to that many nanoseconds.
    pub(crate) async fn some_time(&self, longest: i64) {
        let nanos = 1 + self.below(longest as usize) as i64;
        self.executor.sleep(nanos).await;
    }

    pub(crate) fn promise(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.borrow_mut().get_or_insert_with(what);
        }
    }

    /// Takes a step, at which something may happen to this worker, or to another one.
    pub(crate) fn step(self: &Rc<Self>, process: &Process) {
        let step = {
            let mut tally = self.tally.borrow_mut();
            tally.steps += 1;
            tally.steps
        };
        let events = self.events.borrow();
        let due: Vec<_> = events.iter().filter(|(at, _)| *at == step).map(|(_, e)| *e).collect();
        drop(events);
        due.into_iter().for_each(|event| self.meet(event, process.number));
    }

    /// A call of the broker. The worker may die before it is sent, or at any time later; the call may be under way for longer.
    pub(crate) async fn call<T: 'static>(
        self: &Rc<Self>,
        process: &Rc<Process>,
        effect: impl FnOnce(&mut Log) -> T + 'static,
    ) -> Result<T, Refused> {
        self.step(process);
        process.runs().await;
        let (generation, join) = (self.generation.get(), Join::new());
        let (of, process, end) = (Rc::clone(self), Rc::clone(process), TaskEnd(Rc::clone(&join)));
        self.executor.spawn(None, async move {
            let end = end; // an answer that is lost is an error
            of.some_time(of.plan.way).await;
            of.step(&process);
            if of.generation.get() != generation {
                return;
            }
            let answer = effect(&mut of.log.borrow_mut());
            of.step(&process);
            of.some_time(of.plan.way).await;
            let is_lost = of.plan.loses_answers.is_some_and(|chances| of.one_in(chances));
            if of.generation.get() == generation && !is_lost {
                end.0.tell(Ok(answer));
            }
        });
        poll_fn(|cx| join.poll(cx)).await.map_err(|_| Refused::Lost)
    }

    fn meet(self: &Rc<Self>, event: Event, number: usize) {
        match event {
            Event::Join => Worker::start(self),
            Event::Forget => {
                self.generation.set(self.generation.get() + 1);
                engine::forget(self);
            }
            Event::Move => engine::move_one(self),
            Event::AssignTwice => engine::assign_one_twice(self),
            Event::Kill | Event::Freeze | Event::Leave => {
                let worker = self.some_worker(number);
                worker.into_iter().for_each(|worker| self.meet_worker(event, &worker));
            }
        }
    }

    /// Mostly the worker at whose step it happens.
    fn some_worker(&self, number: usize) -> Option<Rc<Worker>> {
        let runs =
            |worker: &&Rc<Worker>| worker.process.state.get() == State::Runs && !worker.has_ended();
        let running: Vec<_> = self.workers.borrow().iter().filter(runs).cloned().collect();
        let same = running.iter().find(|worker| worker.process.number == number);
        let same = same.filter(|_| !self.one_in(4)).cloned();
        same.or_else(|| running.get(self.below(running.len().max(1))).cloned())
    }

    fn meet_worker(self: &Rc<Self>, event: Event, worker: &Rc<Worker>) {
        let (of, process) = (Rc::clone(self), Rc::clone(&worker.process));
        match event {
            Event::Kill => process.state.set(State::IsDead),
            Event::Freeze => process.state.set(State::IsFrozen),
            _ if self.plan.flaw == Flaw::SeenDeadFirst => {
                engine::miss(self, process.number);
                worker.is_silent.set(true);
                worker.leave();
            }
            _ => worker.leave(),
        }
        self.executor.spawn(None, async move {
            of.some_time(100 * MILLISECOND).await;
            if event == Event::Freeze && process.state.get() == State::IsFrozen {
                process.state.set(State::Runs);
            } else {
                Worker::start(&of);
            }
        });
    }

    /// Whether something of a partition runs in a worker.
    pub(crate) fn has_life(&self, worker: usize, partition: u16) -> bool {
        self.workers.borrow()[worker].has_life(partition)
    }

    /// A request is made for a record (K17).
    pub(crate) fn request(&self, record: u32, id: u64) {
        let (of_id, of_record) = &mut *self.ids.borrow_mut();
        let known = (*of_id.entry(id).or_insert(record), *of_record.entry(record).or_insert(id));
        self.promise(known == (record, id), || {
            format!("K17: record {record} has the id {id:x}, and {known:?} was known")
        });
    }

    /// All partitions have finished, and all jobs have ended.
    fn is_over(&self) -> Result<bool, String> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        if self.executor.clock.now() > LONGEST {
            return Err("the job does not come to its end".into());
        }
        let has_ended =
            |worker: &Rc<Worker>| worker.has_ended() || worker.process.state.get() == State::IsDead;
        Ok(self.engine.borrow().is_all_finished() && self.workers.borrow().iter().all(has_ended))
    }

    /// P3: each partition has each of its records once, in the order of its keys.
    fn check_end(&self) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), Err)?;
        self.log.borrow().check(self.plan.is_by_key)
    }
}
