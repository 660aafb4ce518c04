//! A worker: a process with a job over the partitions that the engine gives it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use inflight_core::pipeline::{
    Ended, PipelineError, SinkHalfError, StoreHalfError, one_transaction,
};
use inflight_core::{ExponentialBackoff, Permits};
use inflight_partitions::{Event, JobHandle, Partition, Partitions};

use crate::engine::{self, HEARTBEAT};
use crate::executor::{Process, State, Virtual};
use crate::log::{LogSource, LogTransaction, Refused};
use crate::plan::Keeps;
use crate::world::World;

type Failed = PipelineError<Refused, SinkHalfError, StoreHalfError<Refused>>;

pub(crate) struct Worker {
    pub(crate) world: Rc<World>,
    pub(crate) process: Rc<Process>,
    handle: RefCell<Option<JobHandle<u16>>>,
    has_ended: Cell<bool>,
    /// It shows itself no more.
    pub(crate) is_silent: Cell<bool>,
    pub(crate) permits: Permits,
    running: Cell<usize>,
    /// The lives of each partition.
    lives: RefCell<Vec<u32>>,
}

/// Counts something while it exists.
pub(crate) struct Counted<F: Fn(bool)>(F);

impl<F: Fn(bool)> Counted<F> {
    pub(crate) fn new(count: F) -> Self {
        count(true);
        Self(count)
    }
}

impl<F: Fn(bool)> Drop for Counted<F> {
    fn drop(&mut self) {
        (self.0)(false);
    }
}

impl Worker {
    pub(crate) fn start(world: &Rc<World>) {
        let number = world.workers.borrow().len();
        let worker = Rc::new(Self {
            world: Rc::clone(world),
            process: Rc::new(Process { number, state: Cell::new(State::Runs) }),
            handle: RefCell::default(),
            has_ended: Cell::new(false),
            is_silent: Cell::new(false),
            permits: Permits::new(world.plan.permits).expect("it makes sense"),
            running: Cell::new(0),
            lives: RefCell::new(vec![0; usize::from(world.plan.partitions)]),
        });
        let job = Rc::clone(&worker).job();
        world.executor.spawn(Some(&worker.process), job);
        world.executor.spawn(Some(&worker.process), Rc::clone(&worker).show_itself());
        world.workers.borrow_mut().push(worker);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    pub(crate) fn leave(&self) {
        self.handle.borrow().iter().for_each(JobHandle::leave);
    }

    /// It is seen alive until its job has ended.
    async fn show_itself(self: Rc<Self>) {
        while !self.has_ended.get() && !self.is_silent.get() {
            engine::seen(&self.world, self.process.number);
            self.world.executor.sleep(HEARTBEAT).await;
        }
    }

    fn job(self: Rc<Self>) -> impl Future<Output = ()> {
        let plan = self.world.plan;
        let restart = ExponentialBackoff::new(Duration::from_millis(2)).max_retries(u32::MAX);
        let told = Rc::clone(&self);
        let job = Partitions::new(engine::meet(&self.world, self.process.number))
            .restart_after(restart.max_delay(Duration::from_millis(20)))
            .hand_over_within(plan.hand_over_within)
            .on_event(move |event| told.hears(event));
        *self.handle.borrow_mut() = Some(job.handle());
        async move {
            let runtime = self.runtime();
            let ended = job.run(runtime, async |partition| self.live(partition).await).await;
            self.world.promise(ended.is_ok(), || format!("a job ends with {ended:?}"));
            self.has_ended.set(true);
        }
    }

    pub(crate) fn runtime(&self) -> Virtual {
        let executor = Rc::clone(&self.world.executor);
        Virtual { executor, process: Rc::clone(&self.process) }
    }

    fn hears(&self, event: Event<'_, u16>) {
        let tally = &mut *self.world.tally.borrow_mut();
        match event {
            Event::Started { .. } => tally.lives += 1,
            Event::HandedOver { .. } => tally.handed_over += 1,
            Event::HandOverTimedOut { .. } => tally.timed_out += 1,
            Event::Fenced { .. } => tally.fenced += 1,
            Event::Lost { .. } => tally.lost += 1,
            Event::Failed { error, .. } => {
                // The answer of a claim or of a save that a pipeline cannot do without was lost.
                let is_planned = error.to_string().ends_with("Lost")
                    || error.to_string().ends_with("Superseded");
                self.world.promise(is_planned, || format!("a partition fails with {error}"));
            }
            _ => {}
        }
    }

    /// One life of a partition.
    async fn live(self: &Rc<Self>, partition: Partition<u16>) -> Result<Ended, Failed> {
        let (id, plan) = (*partition.id(), self.world.plan);
        let _counted = Counted::new(|up| self.count_life(id, up));
        let (world, process) = (Rc::clone(&self.world), Rc::clone(&self.process));
        let source = LogSource { world: Rc::clone(&world), partition: id, next: 0 };
        let owner = (0, 0);
        let (sink, store) =
            one_transaction(LogTransaction { world, process, partition: id, owner });
        let pipeline = partition.pipeline(source, sink, store).interval(plan.interval);
        match plan.keeps {
            Keeps::Records => {
                let stage = |records, recovery: &_| self.records_stage(records, recovery);
                pipeline.run(self.runtime(), stage).await
            }
            Keeps::Positions => {
                let stage = |records, recovery: &_| self.positions_stage(records, recovery);
                pipeline.run_positions_only(self.runtime(), stage).await
            }
        }
    }

    fn count_life(&self, partition: u16, up: bool) {
        let lives = &mut self.lives.borrow_mut()[usize::from(partition)];
        *lives = if up { *lives + 1 } else { *lives - 1 };
        let lives = *lives;
        self.world.promise(lives < 2, || format!("partition {partition} runs twice in a worker"));
    }

    pub(crate) fn has_life(&self, partition: u16) -> bool {
        self.lives.borrow()[usize::from(partition)] > 0
    }

    pub(crate) fn count_request(&self, up: bool) {
        let running = self.running.get();
        self.running.set(if up { running + 1 } else { running - 1 });
        let is_bounded = self.running.get() <= self.world.plan.permits;
        self.world.promise(is_bounded, || format!("C9: {} requests run", running + 1));
    }
}
