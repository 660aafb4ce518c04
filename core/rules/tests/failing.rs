//! F6: a failure that ends the job comes out at once and last, and nothing goes on after it.

#![cfg(feature = "alloc")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::Unkeyed;
use inflight_core::pipeline::{MemorySink, MemorySource, Pipeline, PipelineError};
use inflight_core::*;

const MS: Duration = Duration::from_millis(1);

type Answer = Result<u32, &'static str>;
type Out = StreamElement<Outcome<u32, u32, &'static str>>;

const FATAL: Answer = Err("fatal");

fn is_fatal(failure: &Failure<&'static str>) -> bool {
    failure.error() == Some(&"fatal")
}

/// Prints an output in short: an outcome's output, a failure with its input, or another element.
fn short(out: &Out) -> String {
    match out {
        StreamElement::Record { value: Outcome { input, result, .. }, .. } => match result {
            Ok(output) => output.to_string(),
            Err(failure) => format!("{input}!{failure}"),
        },
        StreamElement::Watermark(at) => format!("W{}", at.as_millis()),
        other => format!("{other:?}"),
    }
}

// ---- the operator ----------------------------------------------------------------------------

type Op<R = NoRetry, K = Unkeyed> = Operator<(u32, u32, &'static str, R, K, ()), Heap>;

/// Makes an operator with these records pushed and all of them running.
fn operator<R, K>(policy: AsyncWait<R, K>, records: &[u32]) -> (Op<R, K>, BTreeMap<u32, AttemptId>)
where
    R: RetryStrategy<u32, u32, &'static str>,
    K: KeySelector<u32>,
{
    let mut op = policy.build_core().expect("it makes sense").fail_fast(is_fatal);
    let calls = start(&mut op, records);
    (op, calls)
}

fn start<R, K>(op: &mut Op<R, K>, records: &[u32]) -> BTreeMap<u32, AttemptId>
where
    R: RetryStrategy<u32, u32, &'static str>,
    K: KeySelector<u32>,
{
    for record in records {
        op.push(Instant::ZERO, StreamElement::value(*record)).expect("there is room");
    }
    let mut calls = BTreeMap::new();
    while let Some(call) = op.poll_attempt(Instant::ZERO) {
        calls.insert(*call.input, call.id);
    }
    calls
}

fn out<R: RetryStrategy<u32, u32, &'static str>, K>(op: &mut Op<R, K>) -> String {
    let told: Vec<_> = std::iter::from_fn(|| op.poll_output()).map(|out| short(&out)).collect();
    told.join(" ")
}

/// Asserts that the operator is empty, takes nothing in, starts nothing and has no deadline.
fn is_over<R, K>(op: &mut Op<R, K>)
where
    R: RetryStrategy<u32, u32, &'static str>,
    K: KeySelector<u32>,
{
    let late = Instant::ZERO + 1000 * MS;
    assert!(op.has_failed() && op.is_empty() && !op.has_output());
    assert_eq!((op.poll_deadline(), op.handle_deadline(late)), (None, None));
    assert!(op.push(late, StreamElement::value(9)).is_err());
    assert!(op.poll_attempt(late).is_none() && op.poll_output().is_none());
    let m = op.metrics(late);
    assert_eq!((m.in_flight, m.running, m.in_backoff, m.done, m.waiting()), (0, 0, 0, 0, 0));
    assert_eq!(m.records_in, m.emitted + m.dropped);
}

#[test] // F6, M1
fn a_fatal_failure_comes_at_once_in_every_order() {
    let by = |record: &u32| record / 10;
    let plain = AsyncWait::ordered(9).timeout(50 * MS).max_running(4);
    for (policy, first) in [
        (plain.with_key(by), ""),
        (AsyncWait::unordered(9).timeout(50 * MS).max_running(4).with_key(by), "20 "),
        (AsyncWait::ordered_by_key(9, by).overlapping().timeout(50 * MS).max_running(4), "20 "),
        (AsyncWait::ordered_by_key(9, by).timeout(50 * MS).max_running(4), "20 "),
    ] {
        // 11 and 21 wait where a key has one attempt at a time, and 51 for the limit of running attempts.
        let (mut op, mut calls) = operator(policy, &[10, 11, 20, 21, 30, 40, 51]);
        let now = Instant::ZERO;
        let _ = op.handle_completion(now, calls[&20], Ok(20));
        while let Some(call) = op.poll_attempt(now) {
            calls.insert(*call.input, call.id);
        }
        let last = if calls.contains_key(&30) { 30 } else { 11 };
        assert_eq!(
            op.handle_completion(now, calls[&last], FATAL.map_err(Failure::Error)),
            Completion::Final
        );
        assert!(op.poll_attempt(now).is_none(), "no more attempts");
        assert_eq!(op.handle_completion(now, calls[&10], Ok(10)), Completion::Late);
        assert_eq!((op.running(), op.metrics(now).failed), (0, 1));
        assert_eq!(out(&mut op), format!("{first}{last}!fatal"));
        let m = op.metrics(now);
        assert_eq!(m.emitted + m.dropped, 7);
        is_over(&mut op);
    }
}

#[test] // F6: also when it may leave anyway, and when later records are done
fn a_fatal_failure_is_the_last_output() {
    let (mut op, calls) = operator(AsyncWait::ordered(9), &[1, 2, 3]);
    let now = Instant::ZERO;
    op.push(now, StreamElement::Watermark(Timestamp::from_millis(5))).expect("there is room");
    for (record, answer) in [(3, Ok(3)), (1, Ok(1)), (2, FATAL)] {
        let _ = op.handle_completion(now, calls[&record], answer.map_err(Failure::Error));
    }
    assert_eq!(out(&mut op), "1 2!fatal");
    is_over(&mut op);
}

#[test] // F6, K3: a record before a barrier is not lost by a checkpoint, because the barrier does not leave
fn no_barrier_or_watermark_overtakes_lost_records() {
    let (mut op, calls) = operator(AsyncWait::unordered(9), &[1]);
    let now = Instant::ZERO;
    let barrier = Barrier::drain(Checkpoint::new(CheckpointId(1)));
    op.push(now, StreamElement::Barrier(barrier)).expect("there is room");
    op.push(now, StreamElement::Watermark(Timestamp::from_millis(5))).expect("there is room");
    let behind = start(&mut op, &[2]);
    let _ = op.handle_completion(now, behind[&2], FATAL.map_err(Failure::Error));
    assert_eq!(out(&mut op), "2!fatal");
    is_over(&mut op);
    assert_eq!(op.handle_completion(now, calls[&1], Ok(1)), Completion::Late);
}

#[test] // F6, T3, R1
fn a_timeout_is_fatal_unless_its_handler_gives_another_end() {
    for action in [
        TimeoutAction::Output(7),
        TimeoutAction::Drop,
        TimeoutAction::Fail,
        TimeoutAction::FailWith("slow"),
    ] {
        let op = AsyncWait::ordered(9).timeout(MS).build_core().expect("it makes sense");
        let mut op: Op = op.fail_fast(Failure::is_timeout);
        let _ = start(&mut op, &[1, 2, 3]);
        let late = Instant::ZERO + MS;
        let mut expired = 0;
        while let Some(call) = op.handle_deadline(late) {
            expired += 1;
            assert!(op.resolve_timeout(call.id(), |_| action));
        }
        match action {
            TimeoutAction::Output(_) => assert_eq!((expired, &*out(&mut op)), (3, "7 7 7")),
            TimeoutAction::Drop => assert_eq!((expired, &*out(&mut op)), (3, "")),
            TimeoutAction::Fail => {
                assert_eq!((expired, &*out(&mut op)), (1, "1!the call timed out"));
                is_over(&mut op);
            }
            TimeoutAction::FailWith(_) => {
                assert_eq!((expired, &*out(&mut op)), (3, "1!slow 2!slow 3!slow"));
            }
        }
    }
    // The handler's own error may be fatal, too (F5).
    let op = AsyncWait::ordered(9).timeout(MS).build_core().expect("it makes sense");
    let mut op: Op = op.fail_fast(|failure| failure.error() == Some(&"slow"));
    let _ = start(&mut op, &[1, 2]);
    let call = op.handle_deadline(Instant::ZERO + MS).expect("both are late");
    assert!(op.resolve_timeout(call.id(), |_| TimeoutAction::FailWith("slow")));
    assert!(op.has_failed());
    assert_eq!(out(&mut op), "1!slow");
    is_over(&mut op);
    // No handler gives another end, here for a record in backoff.
    let policy = AsyncWait::ordered(9).timeout(MS).retry(FixedDelay::new(MS * 9));
    let op = policy.build_core().expect("it makes sense");
    let mut op: Op<_> = op.fail_fast(Failure::is_timeout);
    let calls = start(&mut op, &[1, 2]);
    let _ = op.handle_completion(Instant::ZERO, calls[&2], Err(Failure::Error("no")));
    let late = Instant::ZERO + MS;
    assert!(matches!(op.handle_deadline(late), Some(Expired::Call(_))) && !op.has_failed());
    assert_eq!(op.handle_deadline(late), None);
    assert!(op.has_failed());
    let told = out(&mut op);
    assert!(["1!the call timed out", "2!the call timed out"].contains(&&*told), "{told}");
    is_over(&mut op);
}

#[test] // F6, R1: neither earlier attempts nor other failures end the job
fn other_failures_do_not_end_the_job() {
    let policy = AsyncWait::ordered(9).retry(FixedDelay::new(MS).max_retries(1));
    let (mut op, calls) = operator(policy, &[1, 2]);
    let no = Err(Failure::Error("no"));
    let fatal = FATAL.map_err(Failure::Error);
    assert_eq!(op.handle_completion(Instant::ZERO, calls[&2], fatal), Completion::Retry);
    assert_eq!(op.handle_completion(Instant::ZERO, calls[&1], no), Completion::Retry);
    let now = Instant::ZERO + MS;
    assert_eq!(op.handle_deadline(now), None);
    for _ in 0..2 {
        let Some(Attempt { id, input: &input, .. }) = op.poll_attempt(now) else { panic!() };
        let _ = op.handle_completion(
            now,
            id,
            Err(Failure::Error(if input == 1 { "no" } else { "never" })),
        );
    }
    assert_eq!(out(&mut op), "1!no 2!never");
    op.push(now, StreamElement::value(3)).expect("it goes on");
    assert!(op.poll_attempt(now).is_some() && !op.has_failed());
    op.shut_down(now);
    assert_eq!(out(&mut op), "3!the stage was shut down");
}

#[test] // F6, K2: a kept failure ends the restored job, also while other records wait for a slot
fn a_failure_that_was_kept_ends_the_job() {
    fn restored(
        capacity: usize,
        checkpoint: &Checkpoint,
    ) -> Operator<(u32, u32, String, NoRetry, Unkeyed, ()), Heap> {
        let op = AsyncWait::ordered(capacity).build_core().expect("it makes sense");
        let how = Checkpointing::new("stage", 1).keeping_results();
        let mut op = op.checkpointed_with(how).fail_fast(|failure| failure.error().is_some());
        op.restore(Instant::ZERO, checkpoint).expect("a restore");
        op
    }
    let op = AsyncWait::ordered(9).build_core().expect("it makes sense");
    let mut op: Operator<(u32, u32, String, NoRetry, Unkeyed, ()), Heap> =
        op.checkpointed_with(Checkpointing::new("stage", 1).keeping_results());
    let now = Instant::ZERO;
    for record in 1..=4 {
        op.push(now, StreamElement::value(record)).expect("there is room");
    }
    let mut calls = Vec::new();
    while let Some(call) = op.poll_attempt(now) {
        calls.push(call.id);
    }
    let _ = op.handle_completion(now, calls[0], Ok(1));
    let _ = op.handle_completion(now, calls[2], Err(Failure::Error("bad".into())));
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    op.snapshot(now, &mut checkpoint).expect("a snapshot");

    for capacity in [9, 3, 2] {
        let mut op = restored(capacity, &checkpoint);
        let mut inputs = Vec::new();
        while let Some(StreamElement::Record { value, .. }) = op.poll_output() {
            inputs.push(value.input);
        }
        assert_eq!(inputs, [1, 3], "with room for {capacity}");
        assert!(op.has_failed() && op.is_empty() && op.poll_attempt(now).is_none());
    }
}

// ---- stages ----------------------------------------------------------------------------------

/// A clock that is moved by hand.
#[derive(Clone, Default)]
struct ByHand(Rc<Hand>);

#[derive(Default)]
struct Hand {
    now: Cell<i64>,
    timer: Cell<Option<Waker>>,
}

impl ByHand {
    fn set(&self, now: Duration) {
        self.0.now.set(now.as_nanos() as i64);
        self.0.timer.take().into_iter().for_each(Waker::wake);
    }
}

struct TimerByHand(ByHand, Option<Instant>);

impl Runtime for ByHand {
    type Timer = TimerByHand;

    fn timer(&self) -> Result<TimerByHand, NoRuntime> {
        Ok(TimerByHand(self.clone(), None))
    }
}

impl Timer for TimerByHand {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.0.now.get())
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        self.1 = at;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.0.timer.set(Some(cx.waker().clone()));
        let now = self.now();
        self.1.take_if(|at| *at <= now).map_or(Poll::Pending, |_| Poll::Ready(()))
    }
}

/// The answers for requests, and the things that are alive.
#[derive(Default)]
struct Desk {
    answers: RefCell<BTreeMap<u32, Answer>>,
    wakers: RefCell<Vec<Waker>>,
    requests: Cell<usize>,
    asked: Cell<usize>,
    pulled: Cell<u32>,
    source_is_there: Cell<bool>,
    is_closed: Cell<bool>,
}

impl Desk {
    fn answer(&self, record: u32, answer: Answer) {
        self.answers.borrow_mut().insert(record, answer);
        self.wakers.take().into_iter().for_each(Waker::wake);
    }
}

struct Request(Rc<Desk>, u32);

impl Future for Request {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = self.0.answers.borrow_mut().remove(&self.1);
        if answer.is_none() {
            self.0.wakers.borrow_mut().push(cx.waker().clone());
        }
        answer.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
    }
}

struct Ask(Rc<Desk>);

impl AsyncFunction<u32> for Ask {
    type Output = u32;
    type Error = &'static str;
    type Future = Request;

    fn invoke(&mut self, record: &u32, _: AttemptInfo) -> Request {
        self.0.requests.set(self.0.requests.get() + 1);
        self.0.asked.set(self.0.asked.get() + 1);
        Request(Rc::clone(&self.0), *record)
    }

    fn on_timeout(
        &mut self,
        call: TimedOutCall<'_, u32, u32, Self::Error>,
    ) -> TimeoutAction<u32, Self::Error> {
        if *call.input == 1 { TimeoutAction::Output(7) } else { TimeoutAction::Fail }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        self.0.is_closed.set(true);
        Poll::Ready(())
    }
}

/// 1, 2, 3, ...
struct Numbers(Rc<Desk>);

impl Numbers {
    fn new(desk: &Rc<Desk>) -> Self {
        desk.source_is_there.set(true);
        Self(Rc::clone(desk))
    }
}

impl Stream for Numbers {
    type Item = u32;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        self.0.pulled.set(self.0.pulled.get() + 1);
        Poll::Ready(Some(self.0.pulled.get()))
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        self.0.source_is_there.set(false);
    }
}

type Done = Outcome<u32, u32, &'static str>;

/// Polls the stage until it ends or is pending; returns its outputs, and true if it has ended.
fn take<St: Stream<Item = Done>>(mut stage: Pin<&mut St>) -> (String, bool) {
    let (mut told, cx) = (Vec::new(), &mut Context::from_waker(Waker::noop()));
    for _ in 0..100 {
        match stage.as_mut().poll_next(cx) {
            Poll::Ready(Some(done)) => told.push(short(&StreamElement::value(done))),
            Poll::Ready(None) => return (told.join(" "), true),
            Poll::Pending => {}
        }
    }
    (told.join(" "), false)
}

#[track_caller]
fn assert_nothing_goes_on(desk: &Desk, pulled: u32) {
    assert_eq!(
        (desk.requests.get(), desk.pulled.get()),
        (0, pulled),
        "live requests, and records pulled"
    );
    assert!(!desk.source_is_there.get() && desk.is_closed.get());
}

macro_rules! in_place {
    ($policy:expr, $storage:expr, $told:expr) => {{
        let desk = Rc::new(Desk::default());
        let unstarted = Numbers::new(&desk).async_wait_with($policy, Ask(Rc::clone(&desk)));
        let stage = unstarted.fail_fast(is_fatal).in_place_over(ByHand::default(), $storage);
        let mut stage = pin!(stage.expect("it makes sense"));
        assert_eq!(take(stage.as_mut()), (String::new(), false));
        desk.answer(3, Err("passing"));
        let _ = take(stage.as_mut()); // depending on the order, its outcome waits for records before it
        let pulled = desk.pulled.get();
        desk.answer(2, FATAL);
        assert_eq!(take(stage.as_mut()), ($told.into(), true));
        assert_eq!(stage.end(), Some(Err(&StageError::Failed)));
        assert_nothing_goes_on(&desk, pulled);
        let m = stage.metrics();
        assert_eq!((m.in_flight, m.records_in), (0, u64::from(pulled)));
        assert_eq!(take(stage.as_mut()), (String::new(), true));
    }};
}

#[test] // F6, L2, L4
fn a_stage_in_place_ends_at_once() {
    static TABLE: WakeTable<4> = WakeTable::new();
    let key = |record: &u32| *record / 4;
    in_place!(AsyncWait::ordered(4), Heap, "2!fatal");
    in_place!(AsyncWait::unordered(4), Heap, "2!fatal");
    in_place!(AsyncWait::ordered_by_key(4, key).overlapping(), Heap, "2!fatal");
    in_place!(AsyncWait::ordered(4), Fixed::<4>, "2!fatal");
    in_place!(AsyncWait::unordered(4), Fixed::<4>, "2!fatal");
    in_place!(AsyncWait::ordered(4), &TABLE, "2!fatal");
}

#[test] // F6: all requests are ready at once, also those polled after the fatal one
fn of_several_fatal_failures_one_comes_out() {
    for capacity in [4, 200] {
        let desk = Rc::new(Desk::default());
        let ask = Ask(Rc::clone(&desk));
        let unstarted = Numbers::new(&desk).async_wait_with(AsyncWait::unordered(capacity), ask);
        let stage = unstarted.fail_fast(is_fatal).in_place(ByHand::default());
        let mut stage = pin!(stage.expect("it makes sense"));
        assert_eq!(take(stage.as_mut()), (String::new(), false));
        for record in 2..=capacity as u32 {
            desk.answers.borrow_mut().insert(record, FATAL);
        }
        desk.answer(1, Ok(1));
        let (told, ended) = take(stage.as_mut());
        assert!(told.matches("fatal").count() == 1 && told.ends_with("fatal") && ended, "{told}");
        assert_nothing_goes_on(&desk, capacity as u32);
    }
}

#[test] // F6, T3
fn a_timeout_with_a_fallback_is_no_failure() {
    let (desk, clock) = (Rc::new(Desk::default()), ByHand::default());
    let policy = AsyncWait::ordered(2).timeout(MS);
    let unstarted = Numbers::new(&desk).async_wait_with(policy, Ask(Rc::clone(&desk)));
    let stage = unstarted.fail_fast(Failure::is_timeout).in_place(clock.clone());
    let mut stage = pin!(stage.expect("it makes sense"));
    assert_eq!(take(stage.as_mut()), (String::new(), false));
    clock.set(MS);
    assert_eq!(take(stage.as_mut()), ("7 2!the call timed out".into(), true));
    assert_eq!(stage.end(), Some(Err(&StageError::Failed)));
    assert_nothing_goes_on(&desk, 2);
}

#[test] // F6: records that bypass the slots
fn a_fatal_failure_on_the_bypass_is_the_last_output() {
    let pulled = Cell::new(0);
    let numbers = futures_lite::stream::iter(1..).map_records_seen(&pulled);
    let ask = |record: &u32| ready(if *record == 40 { FATAL } else { Ok(*record) });
    let stage = numbers.async_wait(AsyncWait::ordered(4), ask);
    let mut stage = pin!(stage.fail_fast(is_fatal).in_place(ByHand::default()).unwrap());
    let (told, ended) = take(stage.as_mut());
    assert!(told.ends_with(" 39 40!fatal") && ended, "{told}");
    assert_eq!((pulled.get(), stage.end()), (40, Some(Err(&StageError::Failed))));
}

#[test] // F6: a record that could bypass the slots, while others are in flight
fn a_fatal_failure_among_records_in_flight_ends_the_job() {
    let desk = Rc::new(Desk::default());
    let policy = AsyncWait::unordered(4);
    let unstarted = Numbers::new(&desk).async_wait_with(policy, Ask(Rc::clone(&desk)));
    let stage = unstarted.fail_fast(is_fatal).in_place(ByHand::default());
    let mut stage = pin!(stage.expect("it makes sense"));
    desk.answer(1, Ok(1));
    desk.answer(3, FATAL); // 2 is in flight then
    desk.answer(4, Ok(4));
    let cx = &mut Context::from_waker(Waker::noop());
    let mut next = || loop {
        if let Poll::Ready(done) = stage.as_mut().poll_next(cx) {
            break done.expect("an outcome");
        }
    };
    assert_eq!(next().input, 1);
    let fatal = next();
    assert!(fatal.input == 3 && fatal.result.is_err());
    assert_eq!(desk.requests.get(), 0, "the request of 2 is cancelled at once");
    assert_eq!(take(stage.as_mut()), (String::new(), true));
    assert_eq!(stage.end(), Some(Err(&StageError::Failed)));
    assert_nothing_goes_on(&desk, 3);
    assert_eq!((stage.metrics().in_flight, stage.metrics().failed), (0, 1));
}

/// Counts the records that are pulled.
trait Seen: Stream<Item = u32> + Sized {
    fn map_records_seen(self, pulled: &Cell<u32>) -> impl Stream<Item = u32> {
        futures_lite::StreamExt::inspect(self, |_| pulled.set(pulled.get() + 1))
    }
}

impl<St: Stream<Item = u32>> Seen for St {}

/// True after a wake-up.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

#[test] // F6: while the consumer is busy, a request fails after a wake-up, or as soon as it is started
fn a_stage_that_is_run_ends_at_once() {
    for last in [3, 5] {
        let desk = Rc::new(Desk::default());
        let ask = Ask(Rc::clone(&desk));
        let unstarted = Numbers::new(&desk).async_wait_with(AsyncWait::ordered(4), ask);
        let stage = unstarted.fail_fast(is_fatal).in_place(ByHand::default()).unwrap();
        let (told, is_free) = (RefCell::new(Vec::new()), Cell::new(false));
        let mut run = pin!(stage.run(|done: Done| {
            told.borrow_mut().push(done.input);
            std::future::poll_fn(|_| if is_free.get() { Poll::Ready(()) } else { Poll::Pending })
        }));
        let woken = Arc::new(Woken::default());
        let (waker, mut polled) = (Waker::from(Arc::clone(&woken)), Poll::Pending);
        let mut poll = || {
            let cx = &mut Context::from_waker(&waker);
            while polled.is_pending() && woken.0.swap(false, Relaxed) {
                polled = run.as_mut().poll(cx);
            }
            polled
        };
        waker.wake_by_ref();
        assert_eq!(poll(), Poll::Pending);
        if last == 5 {
            desk.answer(last, FATAL);
        }
        desk.answer(1, Ok(1));
        assert_eq!((poll(), told.borrow().len()), (Poll::Pending, 1));
        if last == 3 {
            desk.answer(last, FATAL);
        }
        assert_eq!((poll(), desk.requests.get()), (Poll::Pending, 0), "all are cancelled at once");
        is_free.set(true);
        waker.wake_by_ref();
        assert_eq!(poll(), Poll::Ready(Err(StageError::Failed)));
        assert_eq!(*told.borrow(), [1, last]);
        assert_nothing_goes_on(&desk, 5);
    }
}

#[test] // F6, L4: a kept failure ends the stage before the function is open
fn a_restored_failure_ends_a_stage_before_it_is_open() {
    struct NeverOpen(Rc<Cell<bool>>);
    impl AsyncFunction<u32> for NeverOpen {
        type Output = u32;
        type Error = String;
        type Future = std::future::Ready<Result<u32, String>>;
        fn invoke(&mut self, _: &u32, _: AttemptInfo) -> Self::Future {
            panic!("it is not open");
        }
        fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<(), String>> {
            Poll::Pending
        }
        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
            self.0.set(true);
            Poll::Ready(())
        }
    }
    let how = || Checkpointing::new("stage", 1).keeping_results();
    let op = AsyncWait::ordered(9).build_core().expect("it makes sense");
    let mut op: Operator<(u32, u32, String, NoRetry, Unkeyed, ()), Heap> =
        op.checkpointed_with(how());
    let now = Instant::ZERO;
    for record in [1, 2] {
        op.push(now, StreamElement::value(record)).expect("there is room");
    }
    let _head = op.poll_attempt(now).map(|call| call.id);
    let second = op.poll_attempt(now).map(|call| call.id).expect("the second");
    let _ = op.handle_completion(now, second, Err(Failure::Error("bad".into())));
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    op.snapshot(now, &mut checkpoint).expect("a snapshot");

    let is_closed = Rc::new(Cell::new(false));
    let stage = futures_lite::stream::pending::<u32>()
        .async_wait_with(AsyncWait::ordered(9), NeverOpen(Rc::clone(&is_closed)))
        .checkpointed_with(how())
        .restore(Some(&checkpoint))
        .fail_fast(|failure| failure.error().is_some())
        .in_place(ByHand::default());
    let mut stage = pin!(stage.expect("it makes sense"));
    let cx = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(Some(done)) = stage.as_mut().poll_next(cx) else { panic!("it comes at once") };
    assert_eq!(done.input, 2);
    assert!((0..9).any(|_| matches!(stage.as_mut().poll_next(cx), Poll::Ready(None))));
    assert_eq!((stage.end(), is_closed.get()), (Some(Err(&StageError::Failed)), true));
}

// ---- a pipeline ------------------------------------------------------------------------------

#[test] // F6, K6: the end of the job has the effect of a crash
fn a_pipeline_requests_the_record_again_in_its_next_run() {
    fn run_to_end<T>(future: impl Future<Output = T>) -> T {
        let (mut future, cx) = (pin!(future), &mut Context::from_waker(Waker::noop()));
        for _ in 0..10_000 {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return done;
            }
        }
        panic!("it does not end");
    }
    let mut store = MemoryStore::new();
    let mut sink = MemorySink::<Done>::new();
    let asked = Cell::new(0);
    for password_is_right in [false, false, true] {
        let pipeline = Pipeline::new(MemorySource::new(1..=30_u32), &mut sink, &mut store);
        let run = pipeline.every_records(4).run(ByHand::default(), |numbers, checkpoint| {
            let ask = |record: &u32| {
                let answer = match *record {
                    17 if !password_is_right => FATAL,
                    record => Ok(record),
                };
                // The first record is answered only after the other one.
                let is_stalled = *record == 15 && !password_is_right;
                asked.set(asked.get() + 1);
                async move {
                    if is_stalled {
                        std::future::pending::<()>().await;
                    }
                    answer
                }
            };
            numbers
                .async_wait(AsyncWait::ordered(6), ask)
                .checkpointed("numbers", 1)
                .restore(checkpoint)
                .fail_fast(is_fatal)
                .in_place(ByHand::default())
        });
        match run_to_end(run) {
            Ok(_) => assert!(password_is_right),
            Err(error) => assert!(matches!(error, PipelineError::EndedEarly), "{error}"),
        }
        let inputs: Vec<_> = sink.committed().iter().map(|done| done.input).collect();
        if password_is_right {
            assert_eq!(inputs, Vec::from_iter(1..=30), "each once");
            assert!(sink.committed().iter().all(|done| done.result == Ok(done.input)));
        } else {
            assert!(inputs.len() < 15 && inputs.iter().copied().eq(1..=inputs.len() as u32));
        }
    }
    assert!(asked.get() > 30, "records without an outcome are requested again");
}
