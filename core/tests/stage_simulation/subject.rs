//! The real stage, run in whichever way, in the words of the simulation.
//!
//! This file alone names how stages are built.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, CellState, Checkpoint, Checkpointing, Elements, Extras, Fixed, Heap,
    Instant, IntoElement, Job, JoinError, KeySelector, Metrics, NoRetry, Outcome, Permits, Run,
    SpawnedStage, Stage, StageBuilder, StageError, StageStorage, StreamElement, StreamKind, Values,
    WakeTable,
};

use crate::consumer::{Busy, Consumer};
use crate::function::Function;
use crate::plan::{HUGE_SLOTS, Home, Mode, Plan, SLOTS};
use crate::runtime::{Tasks, Virtual, VirtualTimer};
use crate::setup::{Order, Strategy};
use crate::source::Source;
use crate::values::Record;

/// How many records the stage's section of a checkpoint holds: an operator takes it up (K1, K5).
pub(crate) fn records_in(plan: &Plan, checkpoint: &Checkpoint) -> usize {
    let how = Checkpointing::new(NAME, 1);
    let how = if plan.setup.keeps_results { how.keeping_results() } else { how };
    let policy = AsyncWait::unordered(10_000);
    let operator = policy.build_core::<Record, u32, u32>().expect("the settings make sense");
    let mut operator = operator.checkpointed_with(how);
    operator.restore(Instant::ZERO, checkpoint).expect("it can be restored");
    operator.in_flight()
}

/// The name of the stage in checkpoints.
pub(crate) const NAME: &str = "stage";

pub(crate) type Out = Outcome<Record, u32, u32>;
pub(crate) type Element = StreamElement<Out>;

/// A stage, however it is run.
pub(crate) trait Subject {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Element>>;
    fn end(&self) -> Option<Result<(), StageError<u32>>>;
    fn metrics(&mut self) -> Metrics;
    /// The states of the records in flight, unless the stage has a task of its own: asking wakes that.
    fn window(&mut self) -> Option<Vec<CellState>>;
    fn change(&mut self, capacity: usize, running: usize);
    fn pause(&mut self);
    fn resume(&mut self);
    fn stop(&mut self, limit: Option<Duration>);
}

/// What comes out, as an element.
pub(crate) trait Shaped: StreamKind {
    fn element(item: Self::Item<Out>) -> Element;
}

impl Shaped for Elements {
    fn element(item: Element) -> Element {
        item
    }
}

impl Shaped for Values {
    fn element(item: Out) -> Element {
        StreamElement::value(item)
    }
}

pub(crate) fn start(plan: &Plan, runtime: &Virtual, from: Option<&Checkpoint>) -> Box<dyn Subject> {
    match plan.plain {
        true => with_shape::<Values>(plan, runtime, from),
        false => with_shape::<Elements>(plan, runtime, from),
    }
}

fn with_shape<M>(plan: &Plan, runtime: &Virtual, from: Option<&Checkpoint>) -> Box<dyn Subject>
where
    M: Shaped + 'static,
    Source<M>: Stream + Unpin,
    <Source<M> as Stream>::Item: IntoElement<Record, M>,
{
    let capacity = plan.setup.capacity;
    let key = |record: &Record| record.key;
    match plan.setup.order {
        Order::Ordered if plan.setup.one_per_key => {
            let policy = plan.setup.policy(AsyncWait::ordered(capacity).with_key(key));
            match plan.setup.parts {
                None => with_parts(plan, policy.one_attempt_per_key(), runtime, from),
                Some(parts) => {
                    with_parts(plan, parts.policy(policy).one_attempt_per_key(), runtime, from)
                }
            }
        }
        Order::Ordered => with_policy(plan, AsyncWait::ordered(capacity), runtime, from),
        Order::Unordered => with_policy(plan, AsyncWait::unordered(capacity), runtime, from),
        Order::KeyAlone => {
            with_policy(plan, AsyncWait::ordered_by_key(capacity, key), runtime, from)
        }
        Order::KeyOverlapping => {
            let policy = AsyncWait::ordered_by_key(capacity, key).overlapping();
            with_policy(plan, policy, runtime, from)
        }
    }
}

fn with_policy<M, K>(
    plan: &Plan,
    policy: AsyncWait<NoRetry, K>,
    runtime: &Virtual,
    from: Option<&Checkpoint>,
) -> Box<dyn Subject>
where
    M: Shaped + 'static,
    K: KeySelector<Record> + 'static,
    Source<M>: Stream + Unpin,
    <Source<M> as Stream>::Item: IntoElement<Record, M>,
{
    let policy = plan.setup.policy(policy);
    match plan.setup.parts {
        None => with_parts(plan, policy, runtime, from),
        Some(parts) => with_parts(plan, parts.policy(policy), runtime, from),
    }
}

fn with_parts<M, K, X>(
    plan: &Plan,
    policy: AsyncWait<Strategy, K, X>,
    runtime: &Virtual,
    from: Option<&Checkpoint>,
) -> Box<dyn Subject>
where
    M: Shaped + 'static,
    K: KeySelector<Record> + 'static,
    X: Extras<Record, u32, u32> + 'static,
    Source<M>: Stream + Unpin,
    <Source<M> as Stream>::Item: IntoElement<Record, M>,
{
    let source = Source::<M>::new(Rc::clone(&runtime.watch));
    let function = Function { watch: Rc::clone(&runtime.watch) };
    let mut stage = source.async_wait_with(policy, function);
    if let Some(permits) = plan.permits {
        stage = stage.permits(&Permits::new(permits).expect("it makes sense"));
    }
    if plan.setup.checkpointed {
        let how = Checkpointing::new(NAME, 1);
        let how = if plan.setup.keeps_results { how.keeping_results() } else { how };
        stage = stage.checkpointed_with(how);
    }
    let stage = stage.restore(from);
    let has_task = plan.mode.has_task();
    match plan.mode {
        Mode::InPlace | Mode::SpawnedStage | Mode::Run => run(stage, runtime, has_task),
        _ => run(stage.spawn_requests(Tasks(runtime.clone())), runtime, has_task),
    }
}

fn run<J>(stage: StageBuilder<'_, J>, runtime: &Virtual, has_task: bool) -> Box<dyn Subject>
where
    J: Job<Input = Record, Output = u32, Error = u32, Kind: Shaped> + 'static,
    J::Source: Unpin,
{
    let runtime = runtime.clone();
    let plan = runtime.watch.look().plan;
    match plan.home {
        Home::Heap if has_task => Box::new(stage.spawn(runtime).expect("the settings make sense")),
        Home::Heap => in_place_over(stage, runtime, Heap),
        Home::PollAll if plan.is_huge() => in_place_over(stage, runtime, Fixed::<HUGE_SLOTS>),
        Home::PollAll => in_place_over(stage, runtime, Fixed::<SLOTS>),
        Home::WakeTable if plan.is_huge() => in_place_over(stage, runtime, HUGE_TABLE.get()),
        Home::WakeTable => in_place_over(stage, runtime, TABLE.get()),
    }
}

thread_local! {
    // Used by one stage after the other, also by those of other schedules: so all wakers but the
    // latest stage's are stale.
    static TABLE: Cell<&'static WakeTable<SLOTS>> = Cell::new(forever());
    static HUGE_TABLE: Cell<&'static WakeTable<HUGE_SLOTS>> = Cell::new(forever());
}

/// One that stays, and is known to (a sanitizer asks who has lost what is never freed).
fn forever<T: Default + Any + Send + Sync>() -> &'static T {
    static KEPT: Mutex<Vec<&'static (dyn Any + Send + Sync)>> = Mutex::new(Vec::new());
    let kept: &'static T = Box::leak(Box::default());
    KEPT.lock().expect("nobody panics with it").push(kept);
    kept
}

fn in_place_over<J, S>(stage: StageBuilder<'_, J>, runtime: Virtual, storage: S) -> Box<dyn Subject>
where
    J: Job<Input = Record, Output = u32, Error = u32, Kind: Shaped> + 'static,
    S: StageStorage + 'static,
{
    let mut consumer = Consumer::new(&runtime);
    let is_run = runtime.watch.look().plan.mode.is_run();
    let stage = stage.in_place_over(runtime, storage).expect("the settings make sense");
    match is_run {
        true => {
            let run = stage.run(move |item| consumer.take(J::Kind::element(item)));
            Box::new(Running { run: Box::pin(run), end: None })
        }
        false => Box::new(Box::pin(stage)),
    }
}

/// A stage and its consumer, as one future, and how it ended.
struct Running<R> {
    run: Pin<Box<R>>,
    end: Option<Result<(), StageError<u32>>>,
}

impl<J, S, C> Subject for Running<Run<Stage<J, VirtualTimer, S>, C, Busy>>
where
    J: Job<Input = Record, Output = u32, Error = u32, Kind: Shaped>,
    S: StageStorage,
    C: FnMut(<J::Kind as StreamKind>::Item<Out>) -> Busy,
{
    /// The consumer has the elements: there is only the end to be told.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Element>> {
        if self.end.is_none() {
            self.end = Some(std::task::ready!(self.run.as_mut().poll(cx)));
        }
        Poll::Ready(None)
    }

    fn end(&self) -> Option<Result<(), StageError<u32>>> {
        self.end
    }

    fn metrics(&mut self) -> Metrics {
        Stage::metrics(&self.run.as_mut().stage())
    }

    fn window(&mut self) -> Option<Vec<CellState>> {
        Some(Stage::window(&self.run.as_mut().stage()).map(|cell| cell.state).collect())
    }

    fn change(&mut self, capacity: usize, running: usize) {
        self.run.as_mut().stage().set_capacity(capacity).expect("it makes sense");
        self.run.as_mut().stage().set_max_running(running).expect("it makes sense");
    }

    fn pause(&mut self) {
        self.run.as_mut().stage().pause();
    }

    fn resume(&mut self) {
        self.run.as_mut().stage().resume();
    }

    fn stop(&mut self, limit: Option<Duration>) {
        match limit {
            Some(limit) => self.run.as_mut().stage().stop_within(limit),
            None => self.run.as_mut().stage().stop(),
        }
    }
}

impl<J, S> Subject for Pin<Box<Stage<J, VirtualTimer, S>>>
where
    J: Job<Input = Record, Output = u32, Error = u32, Kind: Shaped>,
    S: StageStorage,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Element>> {
        self.as_mut().poll_next(cx).map(|item| item.map(J::Kind::element))
    }

    fn end(&self) -> Option<Result<(), StageError<u32>>> {
        Stage::end(self).map(|end| end.map_err(|error| *error))
    }

    fn metrics(&mut self) -> Metrics {
        Stage::metrics(self)
    }

    fn window(&mut self) -> Option<Vec<CellState>> {
        Some(Stage::window(self).map(|cell| cell.state).collect())
    }

    fn change(&mut self, capacity: usize, running: usize) {
        self.as_mut().set_capacity(capacity).expect("it makes sense");
        self.as_mut().set_max_running(running).expect("it makes sense");
    }

    fn pause(&mut self) {
        Stage::pause(self.as_mut());
    }

    fn resume(&mut self) {
        Stage::resume(self.as_mut());
    }

    fn stop(&mut self, limit: Option<Duration>) {
        match limit {
            Some(limit) => self.as_mut().stop_within(limit),
            None => Stage::stop(self.as_mut()),
        }
    }
}

impl<M, H> Subject for SpawnedStage<Out, u32, M, H>
where
    M: Shaped,
    H: Future<Output = Result<Result<(), StageError<u32>>, JoinError>> + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Element>> {
        Pin::new(self).poll_next(cx).map(|item| item.map(M::element))
    }

    fn end(&self) -> Option<Result<(), StageError<u32>>> {
        SpawnedStage::end(self).map(|end| end.map_err(|error| *error))
    }

    fn metrics(&mut self) -> Metrics {
        self.handle().metrics()
    }

    fn window(&mut self) -> Option<Vec<CellState>> {
        None
    }

    fn change(&mut self, capacity: usize, running: usize) {
        self.handle().set_capacity(capacity).expect("it makes sense");
        self.handle().set_max_running(running).expect("it makes sense");
    }

    fn pause(&mut self) {
        self.handle().pause();
    }

    fn resume(&mut self) {
        self.handle().resume();
    }

    fn stop(&mut self, limit: Option<Duration>) {
        match limit {
            Some(limit) => self.handle().stop_within(limit),
            None => self.handle().stop(),
        }
    }
}
