//! A stage that runs with its consumer as one future goes on after every record that leaves it, also one without an
//! outcome, in every storage.

#![cfg(feature = "alloc")]

#[allow(dead_code)] // used by the stage's simulation only
#[path = "../../tests/stage_simulation/clock.rs"]
mod clock;
#[path = "../../tests/common/virtual_timer.rs"]
mod virtual_timer;

use std::cell::{Cell, RefCell};
use std::future::{Future, Ready, pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncFunction, AsyncWait, AsyncWaitExt, AttemptInfo, Barrier, Checkpoint, CheckpointError,
    CheckpointId, Checkpointing, Completion, Fixed, Heap, Instant, NoRuntime, Runtime,
    StageStorage, StreamElement, TimeoutAction, WakeTable, with_timeout_action,
};

use crate::clock::Clock;
use crate::virtual_timer::VirtualTimer;

const MS: Duration = Duration::from_millis(1);

/// The capacity of every storage in place.
const SLOTS: usize = 30;

#[derive(Clone)]
struct Virtual(Rc<Clock>);

impl Runtime for Virtual {
    type Timer = VirtualTimer;

    fn timer(&self) -> Result<VirtualTimer, NoRuntime> {
        Ok(VirtualTimer::new(&self.0))
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Virtual {
    fn new() -> Self {
        Self(Clock::new(0, 1))
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + use<> {
        let (clock, alarm) = (Rc::clone(&self.0), self.0.alarm());
        alarm.set(Some(clock.now() + time.as_nanos() as i64));
        poll_fn(move |cx| alarm.poll(&clock, cx))
    }

    /// Polls the future when it is woken, and moves the clock otherwise.
    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let (mut future, flag) = (pin!(future), Arc::new(Flag(AtomicBool::new(true))));
        let waker = Waker::from(Arc::clone(&flag));
        loop {
            while flag.0.swap(false, Ordering::Relaxed) {
                if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return done;
                }
            }
            let at = self.0.next_alarm().expect("it sleeps for ever");
            self.0.advance_to(at);
        }
    }
}

/// A stream of an iterator's items.
struct Iter<I>(I);

impl<I: Iterator + Unpin> Stream for Iter<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<I::Item>> {
        Poll::Ready(self.0.next())
    }
}

fn table() -> &'static WakeTable<SLOTS> {
    Box::leak(Box::default())
}

#[test] // L1, E2, T3
fn a_stage_survives_an_outage_while_its_consumer_is_busy() {
    for capacity in [1, 2, 10] {
        lives_through_an_outage(capacity, Heap);
        lives_through_an_outage(capacity, Fixed::<SLOTS>);
        lives_through_an_outage(capacity, table());
    }
}

fn lives_through_an_outage<S: StageStorage + Copy>(capacity: usize, storage: S) {
    for records in [2, 10, 50] {
        for policy in [AsyncWait::ordered(capacity), AsyncWait::unordered(capacity)] {
            let runtime = Virtual::new();
            let is_there = |number: &u32| {
                let is_there = number.is_multiple_of(10);
                async move {
                    if !is_there {
                        pending::<()>().await;
                    }
                    Ok::<_, ()>(())
                }
            };
            let ask = with_timeout_action(is_there, |_| TimeoutAction::Drop);
            let stage = Iter(0..records).async_wait_with(policy.timeout(20 * MS), ask);
            let stage = stage.in_place_over(runtime.clone(), storage).expect("it makes sense");
            let taken = Cell::new(0);
            let mut run = pin!(stage.run(|_| {
                taken.set(taken.get() + 1);
                runtime.sleep(60 * MS)
            }));
            assert_eq!(runtime.drive(run.as_mut()), Ok(()));
            assert_eq!(taken.get(), records.div_ceil(10), "{records} records, {capacity} slots");
            let dropped = run.as_mut().stage().metrics().dropped;
            assert_eq!(dropped, u64::from(records - records.div_ceil(10)));
        }
    }
}

/// A checkpoint of a larger stage: one record is done, twenty were dropped, and two wait.
fn with_dropped_records() -> Checkpoint {
    let at = |millis: u32| Instant::ZERO + millis * MS;
    let policy = AsyncWait::ordered(80).timeout(10 * MS);
    let op = policy.build_core::<u32, u32, ()>().expect("it makes sense");
    let mut op = op.checkpointed_with(Checkpointing::new("stage", 1).keeping_results());
    let mut push = |at, values: std::ops::Range<u32>| {
        values.for_each(|value| op.push(at, StreamElement::value(value)).expect("room"));
        std::iter::from_fn(|| op.poll_attempt(at).map(|call| call.id)).collect::<Vec<_>>()
    };
    let first = push(at(0), 0..21);
    push(at(5), 21..23);
    assert_eq!(op.handle_completion(at(1), first[0], Ok(0)), Completion::Outcome);
    while let Some(expired) = op.handle_deadline(at(10)) {
        assert!(op.resolve_timeout(expired.id(), |_| TimeoutAction::Drop));
    }
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    op.snapshot(at(10), &mut checkpoint).expect("a snapshot");
    checkpoint
}

#[test] // L6, T3, K5
fn restored_dropped_records_do_not_block_a_stage() {
    for capacity in [1, 2, 5, SLOTS] {
        goes_on_behind_dropped_records(capacity, Heap);
    }
    // Storage in place must have room for all of a snapshot.
    goes_on_behind_dropped_records(SLOTS, Fixed::<SLOTS>);
    goes_on_behind_dropped_records(SLOTS, table());
}

fn goes_on_behind_dropped_records<S: StageStorage>(capacity: usize, storage: S) {
    let (runtime, checkpoint) = (Virtual::new(), with_dropped_records());
    let stage = Iter([23_u32, 24].into_iter())
        .async_wait(AsyncWait::ordered(capacity), |number| ready(Ok::<_, ()>(*number)))
        .checkpointed_with(Checkpointing::new("stage", 1).keeping_results())
        .restore(Some(&checkpoint))
        .in_place_over(runtime.clone(), storage)
        .expect("it makes sense");
    let taken = RefCell::new(Vec::new());
    let run = stage.run(|done| {
        taken.borrow_mut().push(done.input);
        runtime.sleep(7 * MS)
    });
    assert_eq!(runtime.drive(run), Ok(()));
    assert_eq!(*taken.borrow(), [0, 21, 22, 23, 24], "{capacity} slots");
}

#[test] // K3, L6
fn a_failed_drain_does_not_block_a_stage() {
    ends_behind_a_failed_drain(Heap);
    ends_behind_a_failed_drain(Fixed::<SLOTS>);
    ends_behind_a_failed_drain(table());
}

fn ends_behind_a_failed_drain<S: StageStorage>(storage: S) {
    let runtime = Virtual::new();
    let barrier = Barrier::drain(Checkpoint::new(CheckpointId(1))).within(10 * MS);
    let elements = [StreamElement::value(1_u32), StreamElement::Barrier(barrier)];
    let ask = |_: &u32| {
        let request = runtime.sleep(100 * MS);
        async move {
            request.await;
            Ok::<_, ()>(())
        }
    };
    let stage = Iter(elements.into_iter()).async_wait(AsyncWait::ordered(4), ask);
    let stage = stage.in_place_over(runtime.clone(), storage).expect("it makes sense");
    let taken = RefCell::new(Vec::new());
    let run = stage.run(|element| {
        taken.borrow_mut().push(match element {
            StreamElement::Barrier(barrier) => barrier.checkpoint.failure().err(),
            _ => None,
        });
        runtime.sleep(7 * MS)
    });
    assert_eq!(runtime.drive(run), Ok(()));
    assert_eq!(*taken.borrow(), [Some(CheckpointError::DrainTimedOut), None]);
}

/// A function that opens slowly and is never invoked.
struct Opens<Fut>(Fut);

impl<Fut: Future<Output = ()> + Unpin> AsyncFunction<u32> for Opens<Fut> {
    type Output = u32;
    type Error = ();
    type Future = Ready<Result<u32, ()>>;

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Pin::new(&mut self.0).poll(cx).map(Ok)
    }

    fn invoke(&mut self, _: &u32, _: AttemptInfo) -> Self::Future {
        unreachable!("all that was restored is done")
    }
}

#[test] // K2, O4: records with a kept result need no open function, also if few of them have a slot at first
fn records_restored_with_their_results_leave_before_the_function_is_open() {
    let policy = AsyncWait::ordered(3);
    let op = policy.build_core::<u32, u32, ()>().expect("it makes sense");
    let mut op = op.checkpointed_with(Checkpointing::new("stage", 1).keeping_results());
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    for number in 0..3 {
        op.push(Instant::ZERO, StreamElement::value(number)).expect("room");
        let call = op.poll_attempt(Instant::ZERO).map(|call| call.id).expect("it may start");
        assert_eq!(op.handle_completion(Instant::ZERO, call, Ok(number)), Completion::Outcome);
    }
    op.snapshot(Instant::ZERO, &mut checkpoint).expect("a snapshot");

    let runtime = Virtual::new();
    let opens = Opens(Box::pin(runtime.sleep(100 * MS)));
    let stage = Iter(std::iter::empty::<u32>())
        .async_wait_with(AsyncWait::ordered(1), opens)
        .checkpointed_with(Checkpointing::new("stage", 1).keeping_results())
        .restore(Some(&checkpoint))
        .in_place(runtime.clone())
        .expect("it makes sense");
    let taken = RefCell::new(Vec::new());
    let run = stage.run(|done| {
        taken.borrow_mut().push((done.input, runtime.0.now() / 1_000_000));
        runtime.sleep(7 * MS)
    });
    assert_eq!(runtime.drive(run), Ok(()));
    assert_eq!(*taken.borrow(), [(0, 0), (1, 7), (2, 14)]);
}
