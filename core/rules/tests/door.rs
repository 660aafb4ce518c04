//! The operator's and the stage's edges, as a caller meets them who does not do what a stage does.
#![cfg(all(feature = "alloc", feature = "checkpoint"))]

#[allow(dead_code)]
#[path = "../../tests/stage_simulation/clock.rs"]
mod clock;
#[path = "../../tests/common/virtual_timer.rs"]
mod virtual_timer;

use std::cell::{Cell, RefCell};
use std::future::{Future, Ready, pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use inflight_core::*;

use crate::clock::Clock;
use crate::virtual_timer::VirtualTimer;

const SECOND: i64 = 1_000_000_000;

/// An operator with room for `capacity` that has restored `records` records.
fn restored(records: u32, capacity: usize) -> Operator<(u32, u32, (), NoRetry, Unkeyed, ()), Heap> {
    let operator = |capacity| {
        let op = AsyncWait::ordered(capacity).build_core::<u32, u32, ()>();
        op.expect("the settings make sense").checkpointed("stage", 1)
    };
    let mut op = operator(records as usize);
    for record in 0..records {
        op.push(Instant::ZERO, StreamElement::value(record)).expect("there is room");
    }
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    op.snapshot(Instant::ZERO, &mut checkpoint).expect("a snapshot");
    let mut op = operator(capacity);
    op.restore(Instant::ZERO, &checkpoint).expect("it can be restored");
    op
}

#[test] // F4, K5: any number of undelivered records
fn no_number_of_undelivered_records_makes_room() {
    let mut op = restored(4, 2);
    assert!(op.has_backlog());
    op.set_undelivered(usize::MAX);
    assert_eq!((op.room(Instant::ZERO), op.in_flight()), (0, 2));
}

#[test] // K5: a slot that is free belongs to a restored record first
fn room_gives_restored_records_their_slots() {
    let mut op = restored(4, 1);
    let attempt = op.poll_attempt(Instant::ZERO).map(|attempt| attempt.id).expect("an attempt");
    let _ = op.handle_completion(Instant::ZERO, attempt, Ok(1));
    assert!(op.poll_output().is_some() && op.has_backlog());
    let refused = op.push_start(Instant::ZERO, StreamElement::value(9)).map(|_| ());
    assert_eq!(refused, Err(PushError::Full(StreamElement::value(9))));
    assert_eq!(op.room(Instant::ZERO), 0);
    assert!(op.has_attempt());
}

#[derive(Clone)]
struct Virtual(Rc<Clock>);

impl Virtual {
    fn new() -> Self {
        Self(Clock::new(0, 1))
    }
}

impl Runtime for Virtual {
    type Timer = VirtualTimer;

    fn timer(&self) -> Result<VirtualTimer, NoRuntime> {
        Ok(VirtualTimer::new(&self.0))
    }
}

/// A spawner whose one task the test polls.
#[derive(Clone)]
struct Local {
    runtime: Virtual,
    task: Rc<RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>>,
}

impl Runtime for Local {
    type Timer = VirtualTimer;

    fn timer(&self) -> Result<VirtualTimer, NoRuntime> {
        self.runtime.timer()
    }
}

struct Joined<T>(Rc<RefCell<Option<T>>>);

impl<T> Future for Joined<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.borrow_mut().take().map_or(Poll::Pending, |end| Poll::Ready(Ok(end)))
    }
}

impl<F: Future<Output: 'static> + 'static> Spawner<F> for Local {
    type Handle = Joined<F::Output>;

    fn spawn(&self, future: F) -> Joined<F::Output> {
        let joined = Rc::new(RefCell::new(None));
        let end = Rc::clone(&joined);
        let task = async move { *end.borrow_mut() = Some(future.await) };
        *self.task.borrow_mut() = Some(Box::pin(task));
        Joined(joined)
    }
}

impl Local {
    fn new() -> Self {
        Self { runtime: Virtual::new(), task: Rc::default() }
    }

    fn poll(&self, waker: &Waker) {
        let mut task = self.task.borrow_mut();
        let task = task.as_mut().expect("it was spawned").as_mut();
        let _ = task.poll(&mut Context::from_waker(waker));
    }
}

/// A stream over an iterator.
struct Iter<I>(I);

impl<I: Iterator + Unpin> Stream for Iter<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

#[test] // M1: the time without room ends when a command makes room, and not a turn earlier
fn blocked_is_exact_when_the_capacity_is_raised() {
    let local = Local::new();
    let policy = AsyncWait::ordered(1).max_capacity(10);
    let ask = |_: &u32| pending::<Result<u32, ()>>();
    let stage = Iter(0..2).async_wait(policy, ask).spawn(local.clone()).expect("a stage");
    local.poll(Waker::noop());
    local.runtime.0.advance_to(10 * SECOND);
    stage.handle().set_capacity(10).expect("it makes sense");
    local.poll(Waker::noop());
    assert_eq!(stage.metrics().blocked.as_secs(), 10);
}

#[test] // M2, L6: asking wakes the stage, and the turn that follows shows what it does
fn a_handle_sees_the_window_of_the_turn_after_it_has_asked() {
    let local = Local::new();
    let ask = |_: &u32| pending::<Result<u32, ()>>();
    let policy = AsyncWait::ordered(4).max_running(2);
    let stage = Iter(0..3).async_wait(policy, ask).spawn(local.clone()).expect("a stage");
    let (handle, woken) = (stage.handle(), Arc::new(Flag(AtomicBool::new(false))));
    let waker = Waker::from(Arc::clone(&woken));
    let states = || handle.window().cells.iter().map(|cell| cell.state).collect::<Vec<_>>();
    local.poll(&waker);
    while woken.0.swap(false, Relaxed) {
        local.poll(&waker);
    }
    assert_eq!((states(), handle.window().omitted()), (vec![], 0)); // nobody had asked
    assert!(woken.0.load(Relaxed), "asking wakes the stage");
    local.runtime.0.advance_to(SECOND);
    local.poll(&waker);
    let running = CellState::Running;
    assert_eq!(states(), [running, running, CellState::Waiting]);
    assert_eq!(handle.window().cells[0].age.as_nanos(), SECOND as u128);
}

#[test] // M2: a handle knows of the end, also of one that no turn has seen
fn a_handle_knows_that_its_stage_has_ended() {
    let local = Local::new();
    let ask = |value: &u32| ready(Ok::<u32, ()>(*value));
    let stage = Iter(0..1).async_wait(AsyncWait::ordered(4), ask).spawn(local.clone());
    let handle = stage.expect("a stage").handle();
    assert!(!handle.has_ended());
    local.poll(Waker::noop()); // the consumer is gone
    assert!(handle.has_ended());

    let local = Local::new();
    let ask = |_: &u32| pending::<Result<u32, ()>>();
    let stage = Iter(0..1).async_wait(AsyncWait::ordered(4), ask).spawn(local.clone());
    let handle = stage.as_ref().expect("a stage").handle();
    let _ = handle.window();
    local.poll(Waker::noop());
    assert_eq!((handle.window().cells.len(), handle.has_ended()), (1, false));
    local.task.take(); // cancelled
    assert_eq!((handle.window().cells.len(), handle.has_ended()), (0, true));
}

/// A function that is never open.
struct Never;

impl AsyncFunction<u32> for Never {
    type Output = u32;
    type Error = ();
    type Future = Ready<Result<u32, ()>>;

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn invoke(&mut self, value: &u32, _: AttemptInfo) -> Self::Future {
        ready(Ok(*value))
    }
}

#[test] // M1: restored records grow older while the function opens
fn the_numbers_go_on_while_the_function_opens() {
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    restored(1, 1).snapshot(Instant::ZERO, &mut checkpoint).expect("a snapshot");
    let local = Local::new();
    let stage = Iter(0..2).async_wait_with(AsyncWait::ordered(1), Never).checkpointed("stage", 1);
    let stage = stage.restore(Some(&checkpoint)).spawn(local.clone()).expect("a stage");
    for second in 1..6 {
        local.runtime.0.advance_to(second * SECOND);
        local.poll(Waker::noop());
    }
    let metrics = stage.metrics();
    assert_eq!((metrics.blocked.as_secs(), metrics.oldest.map(|age| age.as_secs())), (5, Some(5)));
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

#[test] // L5, L6: it waits for its consumer and for nothing else
fn a_stage_that_has_ended_does_not_wake_itself() {
    let ask = |value: &u32| ready(Ok::<u32, ()>(*value));
    let stage = Iter(0..1).async_wait(AsyncWait::ordered(4), ask).in_place(Virtual::new());
    let is_free = Cell::new(false);
    let consumer = |_| poll_fn(|_| if is_free.get() { Poll::Ready(()) } else { Poll::Pending });
    let mut run = pin!(stage.expect("a stage").run(consumer));
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&flag));
    let cx = &mut Context::from_waker(&waker);
    for _ in 0..5 {
        assert!(run.as_mut().poll(cx).is_pending());
    }
    flag.0.store(false, Relaxed);
    for _ in 0..40 {
        assert!(run.as_mut().poll(cx).is_pending());
        assert!(!flag.0.load(Relaxed), "nothing has happened");
    }
    is_free.set(true);
    assert!(run.as_mut().poll(cx).is_ready());
}
