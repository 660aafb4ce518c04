//! A stage with batches (B1-B4), in every storage and on tasks of their own, on a virtual clock.
#![cfg(all(feature = "alloc", feature = "checkpoint"))]

#[allow(dead_code)]
#[path = "../../tests/stage_simulation/clock.rs"]
mod clock;
#[path = "../../tests/common/virtual_timer.rs"]
mod virtual_timer;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::pipeline::{MemorySink, MemorySource, Pipeline};
use inflight_core::*;

use crate::clock::Clock;
use crate::virtual_timer::VirtualTimer;

const MS: Duration = Duration::from_millis(1);
const SLOTS: usize = 40;

// ---- a runtime in virtual time ---------------------------------------------------------------

type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Clone)]
struct Virtual {
    clock: Rc<Clock>,
    tasks: Rc<RefCell<Vec<Task>>>,
}

impl Runtime for Virtual {
    type Timer = VirtualTimer;

    fn timer(&self) -> Result<VirtualTimer, NoRuntime> {
        Ok(VirtualTimer::new(&self.clock))
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
        Self { clock: Clock::new(0, 1), tasks: Rc::default() }
    }

    fn millis(&self) -> i64 {
        self.clock.now() / 1_000_000
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + use<> {
        let (clock, alarm) = (Rc::clone(&self.clock), self.clock.alarm());
        alarm.set(Some(clock.now() + time.as_nanos() as i64));
        poll_fn(move |cx| alarm.poll(&clock, cx))
    }

    /// Polls the future and all tasks when anything is woken, and moves the clock otherwise.
    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let (mut future, flag) = (pin!(future), Arc::new(Flag(AtomicBool::new(true))));
        let waker = Waker::from(Arc::clone(&flag));
        let cx = &mut Context::from_waker(&waker);
        loop {
            while flag.0.swap(false, Ordering::Relaxed) {
                if let Poll::Ready(done) = future.as_mut().poll(cx) {
                    return done;
                }
                let mut tasks = std::mem::take(&mut *self.tasks.borrow_mut());
                tasks.retain_mut(|task| task.as_mut().poll(cx).is_pending());
                let mut new = self.tasks.borrow_mut();
                if !new.is_empty() {
                    waker.wake_by_ref();
                }
                new.extend(tasks);
            }
            let at = self.clock.next_alarm().expect("it sleeps for ever");
            self.clock.advance_to(at);
        }
    }
}

/// The end of a task, and who waits for it.
type End<T> = Rc<RefCell<(Option<Result<T, JoinError>>, Option<Waker>)>>;

struct Handle<T>(End<T>);

impl<T> Future for Handle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut end = self.0.borrow_mut();
        end.1 = Some(cx.waker().clone());
        end.0.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<F: Future<Output: 'static> + 'static> Spawner<F> for Virtual {
    type Handle = Handle<F::Output>;

    fn spawn(&self, future: F) -> Self::Handle {
        let end: End<F::Output> = Rc::default();
        let (mut future, told) = (Box::pin(future), Rc::clone(&end));
        let task = poll_fn(move |cx| {
            // Nobody waits for it any more: it was cancelled.
            if Rc::strong_count(&told) == 1 {
                return Poll::Ready(());
            }
            let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
            let result = match polled {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(done)) => Ok(done),
                Err(_) => Err(JoinError::Panicked),
            };
            let mut end = told.borrow_mut();
            end.0 = Some(result);
            end.1.iter().for_each(Waker::wake_by_ref);
            Poll::Ready(())
        });
        self.tasks.borrow_mut().push(Box::pin(task));
        Handle(end)
    }
}

// ---- a source and a service ------------------------------------------------------------------

/// Items that come at their instants, in milliseconds.
struct Timed<T> {
    runtime: Virtual,
    items: std::vec::IntoIter<(i64, T)>,
    sleep: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl<T> Unpin for Timed<T> {}

impl<T> Stream for Timed<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let Some((at, _)) = self.items.as_slice().first() else { return Poll::Ready(None) };
        let left = *at - self.runtime.millis();
        if left > 0 {
            let runtime = self.runtime.clone();
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(runtime.sleep(MS * left as u32)));
            std::task::ready!(sleep.as_mut().poll(cx));
        }
        self.sleep = None;
        Poll::Ready(self.items.next().map(|(_, item)| item))
    }
}

impl Virtual {
    fn source<T>(&self, items: impl IntoIterator<Item = (i64, T)>) -> Timed<T> {
        let items = items.into_iter().collect::<Vec<_>>().into_iter();
        Timed { runtime: self.clone(), items, sleep: None }
    }
}

/// What the service was asked: at which millisecond, for which records, in which attempts.
type Asked = Rc<RefCell<Vec<(i64, Vec<(u32, u32)>)>>>;

type Answers = Result<Vec<Result<u32, &'static str>>, &'static str>;

/// Answers each batch after ten milliseconds, as `answer` says.
fn service(
    runtime: &Virtual,
    asked: &Asked,
    answer: fn(u32, u32) -> Result<u32, &'static str>,
) -> impl FnMut(Batch<'_, u32>) -> Pin<Box<dyn Future<Output = Answers>>> + use<> {
    let (runtime, asked) = (runtime.clone(), Rc::clone(asked));
    move |batch| {
        let records: Vec<_> = batch.iter().map(|one| (*one.input, one.info.number)).collect();
        asked.borrow_mut().push((runtime.millis(), records.clone()));
        let sleep = runtime.sleep(10 * MS);
        Box::pin(async move {
            sleep.await;
            Ok(records.into_iter().map(|(record, number)| answer(record, number)).collect())
        })
    }
}

fn tenfold(record: u32, _: u32) -> Result<u32, &'static str> {
    Ok(10 * record)
}

/// All outputs of a stage in place.
fn collect<St: Stream>(runtime: &Virtual, stage: St) -> Vec<St::Item> {
    let mut stage = pin!(stage);
    let mut seen = Vec::new();
    while let Some(item) = runtime.drive(poll_fn(|cx| stage.as_mut().poll_next(cx))) {
        seen.push(item);
    }
    seen
}

fn table() -> &'static WakeTable<SLOTS> {
    Box::leak(Box::default())
}

/// The sizes of the batches, each with the millisecond at which it was asked.
fn sizes(asked: &Asked) -> Vec<(i64, usize)> {
    asked.borrow().iter().map(|(at, records)| (*at, records.len())).collect()
}

// ---- the tests -------------------------------------------------------------------------------

#[test] // B1, B4, O1
fn a_batch_takes_what_the_source_has() {
    takes(Heap);
    takes(Fixed::<SLOTS>);
    takes(table());

    fn takes<S: StageStorage>(storage: S) {
        let (runtime, asked) = (Virtual::new(), Asked::default());
        let policy = AsyncWait::ordered(40).max_running(2).batch(BatchSize::records(8));
        // A few, and then many at once. Batches grow while as many run as may.
        let items = (0..43).map(|record| (if record < 3 { 0 } else { 5 }, record));
        let ask = service(&runtime, &asked, tenfold);
        let stage = runtime.source(items).async_wait_batch(policy, ask);
        let stage = stage.in_place_over(runtime.clone(), storage).expect("it makes sense");
        let seen = collect(&runtime, stage);
        assert!(seen.iter().map(|outcome| outcome.input).eq(0..43));
        assert!(seen.iter().all(|outcome| outcome.result == Ok(10 * outcome.input)));
        let expected = [(0, 3), (5, 8), (10, 8), (15, 8), (20, 8), (25, 8)];
        assert_eq!(sizes(&asked), expected);
    }
}

#[test] // B1, B2
fn a_batch_waits_for_a_time_and_not_for_the_end() {
    waits(Heap);
    waits(Fixed::<SLOTS>);
    waits(table());

    fn waits<S: StageStorage>(storage: S) {
        let (runtime, asked) = (Virtual::new(), Asked::default());
        let size = BatchSize::records(4).within(6 * MS);
        let items = [0, 2, 4, 20, 21, 22, 23, 40].into_iter().zip(0..);
        let ask = service(&runtime, &asked, tenfold);
        let stage = runtime.source(items).async_wait_batch(AsyncWait::ordered(20).batch(size), ask);
        let stage = stage.in_place_over(runtime.clone(), storage).expect("it makes sense");
        assert_eq!(collect(&runtime, stage).len(), 8);
        // After the time, when it is full, and at the end of the input.
        assert_eq!(sizes(&asked), [(6, 3), (23, 4), (40, 1)]);
    }
}

#[test] // B2, O2, O4
fn no_watermark_waits_for_a_batch_to_fill() {
    let (runtime, asked) = (Virtual::new(), Asked::default());
    let size = BatchSize::records(4).within(500 * MS);
    let watermark = || StreamElement::Watermark(Timestamp::from_millis(1));
    let items = [
        (0, StreamElement::value(0)),
        (1, watermark()),
        (1, StreamElement::value(1)), // there is more at the moment, and it comes along
        (2, StreamElement::value(2)),
        (30, watermark()),
    ];
    let policy = AsyncWait::unordered(20).batch(size);
    let ask = service(&runtime, &asked, tenfold);
    let source = runtime.source(items);
    let stage = source.async_wait_batch::<u32, _, _, _, _, _>(policy, ask);
    let seen = collect(&runtime, stage.in_place(runtime.clone()).expect("it makes sense"));
    let kinds: Vec<_> = seen.iter().map(StreamElement::is_record).collect();
    assert_eq!(kinds, [true, false, true, true, false]);
    assert_eq!(sizes(&asked), [(1, 2), (30, 1)]);
}

#[test] // B3, R6, F1
fn records_go_on_for_themselves_after_a_batch() {
    let (runtime, asked) = (Virtual::new(), Asked::default());
    let policy = AsyncWait::ordered(20).retry(FixedDelay::new(5 * MS).max_retries(1));
    let odd_once = |record, attempt| match (record % 2, attempt) {
        (1, 1) => Err("busy"),
        _ if record == 3 => Err("gone"),
        _ => Ok(record),
    };
    let ask = service(&runtime, &asked, odd_once);
    let items = (0..5).map(|record| (0, record));
    let policy = policy.batch(BatchSize::records(10));
    let stage = runtime.source(items).async_wait_batch(policy, ask);
    let seen = collect(&runtime, stage.in_place(runtime.clone()).expect("it makes sense"));
    let gone = Err(Failure::Error("gone"));
    let expected = [(Ok(0), 1), (Ok(1), 2), (Ok(2), 1), (gone, 2), (Ok(4), 1)];
    let seen: Vec<_> = seen.into_iter().map(|done| (done.result, done.attempts)).collect();
    assert_eq!(seen, expected);
    let asked = asked.borrow();
    assert_eq!(asked[1], (15, vec![(1, 2), (3, 2)]));
}

#[test] // B3, F2
fn a_batch_fails_as_a_whole_or_by_its_count() {
    let runtime = Virtual::new();
    let ask = |batch: Batch<'_, u32>| {
        let count = batch.len();
        async move {
            match count {
                2 => Err("gone"),
                count => Ok(vec![Ok(1_u32); count - 1]),
            }
        }
    };
    let items = (0..5).map(|record| (if record < 2 { 0 } else { 5 }, record));
    let policy = AsyncWait::ordered(20).batch(BatchSize::records(10));
    let stage = runtime.source(items).async_wait_batch(policy, ask);
    let seen = collect(&runtime, stage.in_place(runtime.clone()).expect("it makes sense"));
    let results: Vec<_> = seen.into_iter().map(|done| done.result).collect();
    let (gone, wrong) = (Err(Failure::Error("gone")), Err(Failure::WrongAnswers));
    assert_eq!(results, [gone, gone, wrong, wrong, wrong]);
}

/// A service that never answers a batch with record 9, and counts the requests under way.
struct Counting {
    runtime: Virtual,
    under_way: Rc<Cell<usize>>,
    diary: Rc<RefCell<Vec<&'static str>>>,
}

struct Guard(Rc<Cell<usize>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl AsyncBatchFunction<u32> for Counting {
    type Output = u32;
    type Error = &'static str;
    type Answers = Vec<Result<u32, &'static str>>;
    type Future = Pin<Box<dyn Future<Output = Answers>>>;

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.diary.borrow_mut().push("open");
        Poll::Ready(Ok(()))
    }

    fn invoke(&mut self, batch: Batch<'_, u32>) -> Self::Future {
        self.under_way.set(self.under_way.get() + 1);
        let (guard, records) = (Guard(Rc::clone(&self.under_way)), batch.inputs().copied());
        let (records, sleep) = (records.collect::<Vec<_>>(), self.runtime.sleep(10 * MS));
        Box::pin(async move {
            let _guard = guard;
            if records.contains(&9) {
                pending::<()>().await;
            }
            sleep.await;
            Ok(records.into_iter().map(Ok).collect())
        })
    }

    fn on_timeout(
        &mut self,
        call: TimedOutCall<'_, u32, u32, &'static str>,
    ) -> TimeoutAction<u32, &'static str> {
        match *call.input {
            9 => TimeoutAction::Output(90),
            _ => TimeoutAction::FailWith("slow"),
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        self.diary.borrow_mut().push("close");
        Poll::Ready(())
    }
}

#[test] // T3, T5, F5, L4, B1
fn a_request_is_cancelled_when_all_its_records_have_timed_out() {
    cancels(Heap);
    cancels(Fixed::<SLOTS>);
    cancels(table());

    fn cancels<S: StageStorage>(storage: S) {
        let runtime = Virtual::new();
        let (under_way, diary) = (Rc::new(Cell::new(0)), Rc::default());
        let function = Counting {
            runtime: runtime.clone(),
            under_way: Rc::clone(&under_way),
            diary: Rc::clone(&diary),
        };
        let patience = |record: &u32| Some(if *record == 1 { 4 * MS } else { *record * MS });
        let policy = AsyncWait::unordered(20).timeout_by(patience).batch(BatchSize::records(3));
        // The first batch answers after the timeout of its first record, the second one never.
        let items = [1, 20, 21, 8, 9, 7].map(|record| (0, record));
        let stage = runtime.source(items).async_wait_batch(policy, function);
        let stage = stage.in_place_over(runtime.clone(), storage).expect("it makes sense");
        let mut stage = pin!(stage);
        let mut seen = Vec::new();
        while let Some(done) = runtime.drive(poll_fn(|cx| stage.as_mut().poll_next(cx))) {
            seen.push((runtime.millis(), done.input, done.result, under_way.get()));
        }
        let slow = Err(Failure::Error("slow"));
        assert_eq!(
            seen,
            [
                (4, 1, slow, 2),
                (7, 7, slow, 2),
                (8, 8, slow, 2),
                (9, 9, Ok(90), 1),
                (10, 20, Ok(20), 0),
                (10, 21, Ok(21), 0),
            ]
        );
        assert_eq!(*diary.borrow(), ["open", "close"]);
        assert_eq!(stage.metrics().late_completions, 1);
    }
}

#[test] // F3, B3
fn a_panic_in_a_batch_is_the_failure_of_its_records() {
    let runtime = Virtual::new();
    let ask = |batch: Batch<'_, u32>| {
        let records: Vec<_> = batch.inputs().copied().collect();
        async move {
            assert!(!records.contains(&3), "a test panics on purpose");
            Ok::<_, ()>(records.into_iter().map(Ok::<u32, ()>).collect::<Vec<_>>())
        }
    };
    let items = (0..6).map(|record| (0, record));
    let policy = AsyncWait::ordered(20).batch(BatchSize::records(2));
    let stage = runtime.source(items).async_wait_batch(policy, ask).spawn_requests(runtime.clone());
    let seen = collect(&runtime, stage.in_place(runtime.clone()).expect("it makes sense"));
    let panicked = Err(Failure::Panicked);
    let results: Vec<_> = seen.into_iter().map(|done| done.result).collect();
    assert_eq!(results, [Ok(0), Ok(1), panicked, panicked, Ok(4), Ok(5)]);
}

#[test] // L1, B1
fn a_stage_on_a_task_has_batches_too() {
    let (runtime, asked) = (Virtual::new(), Asked::default());
    let policy = AsyncWait::ordered(20).timeout(100 * MS).batch(BatchSize::records(4));
    let items = (0..50).map(|record| (0, record));
    let ask = service(&runtime, &asked, tenfold);
    let stage = runtime.source(items).async_wait_batch(policy, ask);
    let stage = stage.spawn(runtime.clone()).expect("it makes sense");
    assert!(collect(&runtime, stage).iter().map(|done| done.input).eq(0..50));
    assert!(asked.borrow().len() <= 17, "{:?}", sizes(&asked));

    let (runtime, asked) = (Virtual::new(), Asked::default());
    let items = (0..50).map(|record| (0, record));
    let ask = service(&runtime, &asked, tenfold);
    let stage = runtime.source(items).async_wait_batch(policy, ask);
    let stage = stage.in_place(runtime.clone()).expect("it makes sense");
    let taken = Cell::new(0);
    let run = stage.run(|done| {
        assert_eq!(done.input, taken.get());
        taken.set(done.input + 1);
        runtime.sleep(MS) // batches go on meanwhile
    });
    assert_eq!((runtime.drive(run), taken.get()), (Ok(()), 50));
    assert!(runtime.millis() < 80, "{}", runtime.millis());
}

#[test] // K1, K5, B1
fn a_snapshot_in_the_middle_of_batches_loses_nothing() {
    survives(Heap);
    survives(Fixed::<SLOTS>);
    survives(table());

    fn survives<S: StageStorage + Copy>(storage: S) {
        let (runtime, asked) = (Virtual::new(), Asked::default());
        let policy = AsyncWait::ordered(10).batch(BatchSize::records(4));
        let barrier = Barrier::snapshot(Checkpoint::new(CheckpointId(1)));
        let mut items: Vec<_> = (0..6).map(|record| (0, StreamElement::value(record))).collect();
        items.push((5, StreamElement::Barrier(barrier)));
        items.push((1_000, StreamElement::value(7)));
        let ask = service(&runtime, &asked, tenfold);
        let stage = runtime.source(items).async_wait_batch::<u32, _, _, _, _, _>(policy, ask);
        let stage = stage.checkpointed("stage", 1);
        let mut stage =
            pin!(stage.in_place_over(runtime.clone(), storage).expect("it makes sense"));
        let first = runtime.drive(poll_fn(|cx| stage.as_mut().poll_next(cx)));
        let Some(StreamElement::Barrier(barrier)) = first else { panic!("{first:?}") };
        assert_eq!(sizes(&asked), [(0, 4), (0, 2)]);

        let (runtime, asked) = (Virtual::new(), Asked::default());
        let source = runtime.source([(3, StreamElement::value(6))]);
        let ask = service(&runtime, &asked, tenfold);
        let stage = source.async_wait_batch::<u32, _, _, _, _, _>(policy, ask);
        let stage = stage.checkpointed("stage", 1).restore(&barrier.checkpoint);
        // The wake table belongs to the first life still.
        let stage = stage.in_place(runtime.clone()).expect("it makes sense");
        let seen = collect(&runtime, stage);
        let inputs = seen.into_iter().filter_map(|element| match element {
            StreamElement::Record { value, .. } => Some((value.input, value.attempts)),
            _ => None,
        });
        let attempts = |record| if record < 6 { 2 } else { 1 };
        assert!(inputs.eq((0..7).map(|record| (record, attempts(record)))));
        assert_eq!(sizes(&asked), [(0, 4), (0, 2), (3, 1)]);
    }
}

#[test] // K14, B1
fn batches_know_the_positions_of_their_records() {
    let runtime = Virtual::new();
    let (mut sink, mut store) = (MemorySink::default(), MemoryStore::default());
    let ids = RefCell::new(Vec::new());
    let source = MemorySource::new(100..120_u32);
    let pipeline = Pipeline::new(source, &mut sink, &mut store).every_records(5);
    let run = pipeline.run_positions_only(runtime.clone(), |numbers, recovery| {
        let ask = |batch: Batch<'_, Tracked<u32>>| {
            let attempts = batch.iter().map(|one| (**one.input, one.info.request_id));
            ids.borrow_mut().extend(attempts);
            // Copies for the request do not count as copies of the record.
            let records: Vec<_> = batch.inputs().cloned().collect();
            let sleep = runtime.sleep(10 * MS);
            async move {
                sleep.await;
                Ok::<_, ()>(records.iter().map(|record| Ok(**record * 10)).collect::<Vec<_>>())
            }
        };
        let policy = AsyncWait::unordered(8).batch(BatchSize::records(3));
        let stage = numbers.async_wait_batch::<Tracked<u32>, _, _, _, _, _>(policy, ask);
        stage.positions_only(recovery).in_place(runtime.clone())
    });
    runtime.drive(run).expect("the pipeline ends");
    let ids = ids.into_inner();
    let first = ids[0].1;
    assert!(first > 0, "the ids of positions are those of no stage");
    assert!(ids.iter().copied().eq((100..120).zip(first..)));
    assert_eq!(sink.committed().len(), 20);
}
