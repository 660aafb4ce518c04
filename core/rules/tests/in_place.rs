//! A stage without an allocator, from its source to a checkpoint and back. These tests also run without the feature
//! `alloc`, and then no code in the library can allocate.
#![cfg(feature = "checkpoint")]

use std::cell::Cell;
use std::future::{Future, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncFunction, AsyncWait, AsyncWaitExt, AttemptInfo, Barrier, Checkpoint, CheckpointError,
    CheckpointId, ConfigError, Elements, Failure, Fixed, FixedDelay, Instant, KeyBy, KeySelector,
    NoRetry, NoRuntime, RestoreError, Runtime, StageStorage, StartError, StreamElement, Timer,
    Timestamp, WakeTable, with_attempt,
};

const MS: Duration = Duration::from_millis(1);

/// A clock that the test moves. The test polls everything after each move, so no timer needs to wake.
#[derive(Clone, Default)]
struct Clock(Rc<Cell<i64>>);

impl Runtime for Clock {
    type Timer = Alarm;

    fn timer(&self) -> Result<Alarm, NoRuntime> {
        Ok(Alarm { clock: self.clone(), at: None })
    }
}

struct Alarm {
    clock: Clock,
    at: Option<Instant>,
}

impl Timer for Alarm {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.0.get())
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        self.at = at;
    }

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let now = self.now();
        match self.at.take_if(|at| *at <= now) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}

/// Readings from `next` on, with a watermark after the fourth and a barrier after the sixth.
struct Readings {
    next: u32,
    most: u32,
    watermark: bool,
    barrier: Option<&'static mut [u8]>,
}

impl Stream for Readings {
    type Item = StreamElement<u32>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.next == 4 && std::mem::take(&mut self.watermark) {
            return Poll::Ready(Some(StreamElement::Watermark(Timestamp::from_millis(3))));
        }
        if self.next == 6
            && let Some(buffer) = self.barrier.take()
        {
            let mut checkpoint = Checkpoint::in_buffer(CheckpointId(1), buffer);
            if let Err(reason) = checkpoint.put("source", &[6]) {
                checkpoint.fail(reason);
            }
            return Poll::Ready(Some(StreamElement::Barrier(Barrier::snapshot(checkpoint))));
        }
        if self.next == self.most {
            return Poll::Ready(None);
        }
        self.next += 1;
        let number = self.next - 1;
        let time = Timestamp::from_millis(number.into());
        Poll::Ready(Some(StreamElement::record(number, time)))
    }
}

/// The outputs: readings with their answers, and `None` for a watermark.
type Seen = Vec<Option<(u32, Result<u32, Failure<()>>)>>;

type Policy = AsyncWait<NoRetry, KeyBy<fn(&u32) -> u32>>;

/// A reading's key is its remainder modulo four.
const KEY: fn(&u32) -> u32 = |number| number % 4;

fn by_key() -> Policy {
    AsyncWait::ordered_by_key(8, KEY)
}

/// Runs one life over a storage, ordered by key. With `dies` it ends at the barrier and returns its checkpoint.
fn life<S: StageStorage>(
    storage: S,
    source: Readings,
    from: Option<&Checkpoint>,
    dies: bool,
) -> Result<(Seen, Option<Checkpoint>), StartError> {
    life_under(by_key(), storage, source, from, dies)
}

/// Runs one life under any policy. The service refuses reading 5 at first and never answers reading 2.
fn life_under<K: KeySelector<u32>, S: StageStorage>(
    policy: AsyncWait<NoRetry, K>,
    storage: S,
    source: Readings,
    from: Option<&Checkpoint>,
    dies: bool,
) -> Result<(Seen, Option<Checkpoint>), StartError> {
    let clock = Clock::default();
    let policy = policy.timeout(10 * MS).retry(FixedDelay::new(2 * MS).max_retries(1));
    let ask = with_attempt(|number: &u32, attempt: inflight_core::AttemptInfo| {
        let (number, first) = (*number, attempt.number == 1);
        async move {
            match number {
                2 => pending().await,
                5 if first => Err(()),
                _ => ready(Ok(10 * number)).await,
            }
        }
    });
    let stage = source.async_wait_with::<u32, Elements, _, _, _, _>(policy, ask);
    let stage = stage.checkpointed("readings", 1).restore(from);
    let mut stage = pin!(stage.in_place_over(clock.clone(), storage)?);
    let (mut seen, mut cx) = (Seen::new(), Context::from_waker(Waker::noop()));
    loop {
        match stage.as_mut().poll_next(&mut cx) {
            Poll::Ready(Some(StreamElement::Record { value, timestamp })) => {
                assert_eq!(timestamp, Some(Timestamp::from_millis(value.input.into())));
                seen.push(Some((value.input, value.result)));
            }
            Poll::Ready(Some(StreamElement::Watermark(_))) => seen.push(None),
            Poll::Ready(Some(StreamElement::Barrier(barrier))) => {
                if dies {
                    return Ok((seen, Some(barrier.checkpoint)));
                }
            }
            Poll::Ready(Some(StreamElement::Status(_))) => unreachable!("none goes in"),
            Poll::Ready(None) => return Ok((seen, None)),
            Poll::Pending => clock.0.set(clock.0.get() + 1_000_000),
        }
    }
}

fn source(next: u32, buffer: Option<&'static mut [u8]>) -> Readings {
    Readings { next, most: 12, watermark: next < 4, barrier: buffer }
}

fn buffer(size: usize) -> &'static mut [u8] {
    vec![0; size].leak()
}

/// Asserts that two lives together output every reading once, in the order of its key, and none across the watermark.
fn exactly_once<S: StageStorage + Copy>(storage: S) {
    let (mut seen, checkpoint) = life(storage, source(0, Some(buffer(400))), None, true).unwrap();
    let mut checkpoint = checkpoint.expect("it has a barrier");
    let length = checkpoint.bytes().expect("the buffer is large enough").len();

    // The crash loses the RAM and keeps the flash.
    let flash = checkpoint.into_buffer().expect("it is the caller's");
    let loaded = Checkpoint::from_buffer(flash).expect("it is whole");
    assert_eq!((loaded.id(), loaded.section("source")), (CheckpointId(1), Some(&[6][..])));
    let (rest, _) = life(storage, source(6, None), Some(&loaded), false).unwrap();
    assert!(!rest.is_empty() && length < 400);
    seen.extend(rest);

    let watermark = seen.iter().position(Option::is_none).expect("it comes out");
    assert!(seen[..watermark].iter().flatten().all(|(number, _)| *number < 4), "{seen:?}");
    assert_eq!(watermark, 4, "{seen:?}");
    let outcomes: Vec<_> = seen.iter().flatten().copied().collect();
    for key in 0..4 {
        let of_key = outcomes.iter().filter(|(number, _)| number % 4 == key);
        assert!(of_key.map(|(number, _)| *number).eq((key..12).step_by(4)), "{outcomes:?}");
    }
    for (number, result) in outcomes {
        let expected = if number == 2 { Err(Failure::TimedOut) } else { Ok(10 * number) };
        assert_eq!(result, expected, "{number}");
    }
}

#[test] // O3, K5: restored records have keys, also if they were saved under another order
fn the_order_can_change_to_one_by_key_between_two_lives() {
    becomes_by_key(AsyncWait::ordered(8));
    becomes_by_key(AsyncWait::ordered(8).with_key(KEY));
    becomes_by_key(by_key());
}

fn becomes_by_key<K: KeySelector<u32>>(before: AsyncWait<NoRetry, K>) {
    let (mut seen, checkpoint) =
        life_under(before, Fixed::<8>, source(0, Some(buffer(400))), None, true).unwrap();
    for after in [by_key(), by_key().overlapping()] {
        let rest = source(6, None);
        let (rest, _) = life_under(after, Fixed::<8>, rest, checkpoint.as_ref(), false).unwrap();
        let before = seen.len();
        seen.extend(rest);
        for key in 0..4 {
            let of_key = seen.iter().flatten().filter(|(number, _)| number % 4 == key);
            assert!(of_key.map(|(number, _)| *number).eq((key..12).step_by(4)), "{seen:?}");
        }
        seen.truncate(before);
    }
}

static WAKES: WakeTable<8> = WakeTable::new();

#[test] // K1, K5, O3, O5, T1, R1 in storage in place
fn a_stage_lives_dies_and_goes_on() {
    exactly_once(Fixed::<8>);
    exactly_once(&WAKES);
}

#[test] // K1; a stream of plain values outputs no watermark, so it does not restore one either
fn a_stage_of_plain_values_restores_a_snapshot_with_a_watermark() {
    without_a_watermark(Fixed::<8>);
    #[cfg(feature = "alloc")]
    without_a_watermark(inflight_core::Heap);
}

fn without_a_watermark<S: StageStorage>(storage: S) {
    let (before, checkpoint) = life(Fixed::<8>, source(0, Some(buffer(400))), None, true).unwrap();
    assert!(!before.contains(&None), "the watermark is in the checkpoint");
    let clock = Clock::default();
    let stage = NoMore
        .async_wait(AsyncWait::ordered(8), |number: &u32| ready(Ok::<_, ()>(*number)))
        .checkpointed("readings", 1)
        .restore(checkpoint.as_ref())
        .in_place_over(clock.clone(), storage);
    let mut stage = pin!(stage.expect("it is taken up"));
    let (mut seen, mut cx) = (Vec::new(), Context::from_waker(Waker::noop()));
    while clock.0.get() < 100_000_000 {
        match stage.as_mut().poll_next(&mut cx) {
            Poll::Ready(Some(outcome)) => seen.push(outcome.input),
            Poll::Ready(None) => break,
            Poll::Pending => clock.0.set(clock.0.get() + 1_000_000),
        }
    }
    assert!(clock.0.get() < 100_000_000, "it ends");
    seen.extend(before.into_iter().flatten().map(|(number, _)| number));
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
}

#[test] // L1: the consumer handles the last element as well
fn a_stage_that_has_ended_waits_for_its_consumer() {
    let (finished, allowed) = (Cell::new(0), Cell::new(false));
    let ask = |number: &u32| ready(Ok::<_, ()>(*number));
    let stage = source(10, None)
        .async_wait::<u32, Elements, _, _, _, _, _, _, _>(AsyncWait::ordered(4), ask);
    let stage = stage.in_place_over(Clock::default(), Fixed::<4>).expect("it makes sense");
    let mut run = pin!(stage.run(|element| {
        let is_last = matches!(element, StreamElement::Record { value, .. } if value.input == 11);
        let (finished, allowed) = (&finished, &allowed);
        std::future::poll_fn(move |_| {
            if is_last && !allowed.get() {
                return Poll::Pending;
            }
            finished.set(finished.get() + 1);
            Poll::Ready(())
        })
    }));
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..20 {
        assert!(run.as_mut().poll(&mut cx).is_pending(), "the consumer is busy with the last one");
    }
    assert_eq!(finished.get(), 1);
    assert!(run.as_mut().stage().end().is_some(), "the stage has ended");
    allowed.set(true);
    assert_eq!(run.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(finished.get(), 2);
}

#[cfg(feature = "alloc")]
#[test] // T6: also if more requests are ready than a turn polls
fn ready_requests_do_not_time_out_however_many_there_are() {
    let (is_ready, wakers) = (Cell::new(false), std::cell::RefCell::new(Vec::<Waker>::new()));
    let ask = |number: &u32| {
        let (number, is_ready, wakers) = (*number, &is_ready, &wakers);
        std::future::poll_fn(move |cx| {
            if is_ready.get() {
                return Poll::Ready(Ok::<_, ()>(number));
            }
            wakers.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
    };
    let clock = Clock::default();
    let numbers = Readings { next: 10, most: 1010, watermark: false, barrier: None };
    let policy = AsyncWait::unordered(1000).timeout(10 * MS);
    let stage = numbers.async_wait::<u32, Elements, _, _, _, _, _, _, _>(policy, ask);
    let mut stage = pin!(stage.in_place(clock.clone()).expect("it makes sense"));
    let mut cx = Context::from_waker(Waker::noop());
    while wakers.borrow().len() < 1000 {
        assert!(stage.as_mut().poll_next(&mut cx).is_pending());
    }
    clock.0.set(20_000_000);
    is_ready.set(true);
    wakers.take().into_iter().for_each(Waker::wake);
    let mut seen = 0;
    loop {
        match stage.as_mut().poll_next(&mut cx) {
            Poll::Ready(Some(StreamElement::Record { value, .. })) => {
                assert_eq!(value.result, Ok(value.input), "after {seen}");
                seen += 1;
            }
            Poll::Ready(Some(element)) => panic!("{element:?}"),
            Poll::Ready(None) => break,
            Poll::Pending => {}
        }
    }
    assert_eq!(seen, 1000);
}

#[test] // L5: also if there is always an outcome to hand out
fn a_stage_with_endless_work_yields() {
    gives_way(Fixed::<8>, 8 * 2);
    #[cfg(feature = "alloc")]
    gives_way(inflight_core::Heap, 8 * 32); // records bypass the slots, 32 at a time
}

/// Asserts that the stage yields after `outcomes` outcomes.
fn gives_way<S: StageStorage>(storage: S, outcomes: usize) {
    let numbers = Readings { next: 10, most: u32::MAX, watermark: false, barrier: None };
    let ask = |number: &u32| ready(Ok::<_, ()>(*number));
    let policy = AsyncWait::ordered(8);
    let stage = numbers.async_wait::<u32, Elements, _, _, _, _, _, _, _>(policy, ask);
    let mut stage = pin!(stage.in_place_over(Clock::default(), storage).expect("it makes sense"));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let (mut times, mut most, mut ready) = (0, 0, 0);
    for _ in 0..1000 {
        if stage.as_mut().poll_next(&mut Context::from_waker(&waker)).is_ready() {
            ready += 1;
            most = most.max(ready);
        } else {
            times += 1;
            ready = 0;
            assert_eq!(wakes.0.load(Ordering::SeqCst), times, "and asks for another turn");
        }
    }
    assert_eq!(most, outcomes);
}

/// A request that is never ready.
struct NeverOpens;

impl AsyncFunction<u32> for NeverOpens {
    type Output = u32;
    type Error = ();
    type Future = std::future::Ready<Result<u32, ()>>;

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Pending
    }

    fn invoke(&mut self, _: &u32, _: AttemptInfo) -> Self::Future {
        unreachable!("it is not open")
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test] // L6, K5: restored deadlines do not wake the stage before the function is open
fn a_stage_that_opens_is_not_kept_busy_by_restored_records() {
    stays_asleep(Fixed::<8>);
    static WAKES: WakeTable<8> = WakeTable::new();
    stays_asleep(&WAKES);
    #[cfg(feature = "alloc")]
    stays_asleep(inflight_core::Heap);
}

fn stays_asleep<S: StageStorage>(storage: S) {
    let (_, checkpoint) = life(Fixed::<8>, source(0, Some(buffer(400))), None, true).unwrap();
    let clock = Clock::default();
    let policy = by_key().timeout(10 * MS).retry(FixedDelay::new(2 * MS).max_retries(1));
    let stage = NoMore
        .async_wait_with(policy, NeverOpens)
        .checkpointed("readings", 1)
        .restore(checkpoint.as_ref())
        .in_place_over(clock.clone(), storage);
    let mut stage = pin!(stage.expect("it is taken up"));
    assert_eq!(stage.metrics().in_backoff, 1, "reading 5");
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    for _ in 0..5 {
        assert!(stage.as_mut().poll_next(&mut Context::from_waker(&waker)).is_pending());
        clock.0.set(clock.0.get() + 4_000_000);
    }
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    assert_eq!(stage.metrics().in_backoff, 1);
}

#[test] // F3: a panic never looks like the end of the stream, also if outcomes were ready before it
fn a_stage_whose_request_has_panicked_does_not_end() {
    let (done, panicked) = (Some(Poll::Ready(true)), None);
    // Outcomes of the same turn, from before the panic, come out after it.
    let in_a_turn = [panicked, done, done, panicked, panicked, panicked];
    has_no_end(Fixed::<8>, in_a_turn);
    static WAKES: WakeTable<8> = WakeTable::new();
    has_no_end(&WAKES, in_a_turn);
    #[cfg(feature = "alloc")]
    has_no_end(inflight_core::Heap, [done, done, panicked, panicked, panicked, panicked]);
}

fn has_no_end<S: StageStorage>(storage: S, polls: [Option<Poll<bool>>; 6]) {
    let ask = |number: &u32| {
        let number = *number;
        async move {
            assert!(number != 2, "as planned");
            Ok::<_, ()>(number)
        }
    };
    let stage = source(0, None)
        .async_wait::<u32, Elements, _, _, _, _, _, _, _>(AsyncWait::ordered(8), ask);
    let mut stage = pin!(stage.in_place_over(Clock::default(), storage).expect("it makes sense"));
    let mut poll = || {
        let mut cx = Context::from_waker(Waker::noop());
        let mut stage = AssertUnwindSafe(stage.as_mut());
        catch_unwind(move || stage.as_mut().poll_next(&mut cx).map(|item| item.is_some())).ok()
    };
    assert_eq!(poll(), Some(Poll::Pending), "it opens first");
    assert_eq!([(); 6].map(|()| poll()), polls);
}

struct NoMore;

impl Stream for NoMore {
    type Item = u32;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        Poll::Ready(None)
    }
}

#[test]
fn a_buffer_too_small_for_a_snapshot_names_the_size_needed() {
    let checkpoint = |size| {
        let (_, checkpoint) = life(Fixed::<8>, source(0, Some(buffer(size))), None, true).unwrap();
        checkpoint.expect("it has a barrier")
    };
    let Err(CheckpointError::BufferFull { needed }) = checkpoint(60).failure() else {
        panic!("60 bytes are too few");
    };
    assert!(needed > 60);
    let just_enough = checkpoint(needed);
    assert_eq!(just_enough.failure(), Ok(()));
    assert!(checkpoint(needed - 1).failure().is_err());
}

#[test]
fn invalid_settings_are_refused_at_the_start() {
    static TABLE: WakeTable<4> = WakeTable::new();
    let numbers = || source(0, None);
    let ask = |number: &u32| ready(Ok::<_, ()>(*number));
    let start = |capacity| {
        let stage = numbers()
            .async_wait::<u32, Elements, _, _, _, _, _, _, _>(AsyncWait::ordered(capacity), ask);
        stage.in_place_over(Clock::default(), &TABLE)
    };
    let too_large = ConfigError::CapacityTooLarge { capacity: 5, maximum: 4 };
    assert_eq!(start(5).map(drop), Err(StartError::Config(too_large)));
    let stage = start(4).expect("it makes sense");
    assert_eq!(start(4).map(drop), Err(StartError::WakeTableInUse));
    drop(stage);
    drop(start(4).expect("the table is free again"));

    // The snapshot holds more records than there is room for.
    let (_, checkpoint) = life(Fixed::<8>, source(0, Some(buffer(400))), None, true).unwrap();
    let stage =
        numbers().async_wait::<u32, Elements, _, _, _, _, _, _, _>(AsyncWait::ordered(1), ask);
    let stage = stage.checkpointed("readings", 1).restore(checkpoint.as_ref());
    let refused = stage.in_place_over(Clock::default(), Fixed::<1>).map(drop);
    let is_refused = matches!(refused, Err(StartError::Restore(RestoreError::TooMany { .. })));
    assert!(is_refused, "{refused:?}");
}

#[test] // L1, L5: one task drives the stage and its consumer
fn a_stage_runs_while_its_consumer_is_busy() {
    let (started, allowed, taken) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let ask = |number: &u32| {
        started.set(started.get() + 1);
        ready(Ok::<_, ()>(*number))
    };
    let stage = source(0, None)
        .async_wait::<u32, Elements, _, _, _, _, _, _, _>(AsyncWait::ordered(4), ask);
    let stage = stage.in_place_over(Clock::default(), Fixed::<4>).expect("it makes sense");
    let mut run = pin!(stage.run(|_| std::future::poll_fn(|_| {
        if taken.get() == allowed.get() {
            return Poll::Pending;
        }
        taken.set(taken.get() + 1);
        Poll::Ready(())
    })));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(run.as_mut().poll(&mut cx).is_pending());
    assert_eq!(started.get(), 5, "the consumer holds one, and four more are done meanwhile");
    assert!(run.as_mut().stage().set_capacity(2).is_ok());
    allowed.set(1);
    assert!(run.as_mut().poll(&mut cx).is_pending());
    assert_eq!((taken.get(), started.get()), (1, 5), "fewer have room now");
    allowed.set(usize::MAX);
    while run.as_mut().poll(&mut cx).is_pending() {}
    assert_eq!((taken.get(), started.get()), (13, 12), "twelve readings and a watermark");
}
