//! When attempts start that a rate, a pause or a batch holds back, in every storage: a stage needs nothing for it but its timer.

use std::cell::RefCell;
use std::future::{pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, Batch, BatchSize, Failure, FixedDelay, Rate, StageStorage,
};

use crate::Harness;
use crate::kit::{MS, Numbers, Refused, assert_took, in_every_storage, numbers, sleep, timer};

in_every_storage!(
    a_rate_starts_attempts_at_its_instants,
    a_pause_ends_when_it_is_ended,
    an_error_asks_for_a_pause,
    a_batch_goes_out_by_its_time,
    a_batch_times_out_record_by_record
);

/// A2, T7: two at once, and then one each 10 ms.
async fn a_rate_starts_attempts_at_its_instants<H: Harness, S>(
    harness: &H,
    runtime: H::Runtime,
    storage: S,
) where
    S: StageStorage + Copy,
{
    let starts = RefCell::new(Vec::new());
    let ask = |number: &u32| {
        starts.borrow_mut().push(harness.now());
        ready(Ok::<_, Refused>(*number))
    };
    let policy = AsyncWait::ordered(4).rate(Rate::per(10 * MS, 1).burst(2));
    let start = harness.now();
    let stage = numbers(5).async_wait(policy, ask);
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    assert_eq!(count(stage).await, 5);
    // On a clock of its own, a runtime starts the first one a little after `start`; the rate counts from there.
    for (at, millis) in starts.borrow().iter().zip([0, 0, 10, 20, 30]) {
        started(harness, *at, start, millis * MS, "an attempt of a rate (A2)");
    }
}

/// A2: no attempt starts before a resume.
async fn a_pause_ends_when_it_is_ended<H: Harness, S>(harness: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage + Copy,
{
    let starts = RefCell::new(Vec::new());
    let ask = |number: &u32| {
        starts.borrow_mut().push(harness.now());
        ready(Ok::<_, Refused>(*number))
    };
    let stage = numbers(3).async_wait(AsyncWait::ordered(4), ask);
    let mut stage = pin!(stage.in_place_over(&runtime, storage).expect("it makes sense"));
    let start = harness.now();
    stage.as_mut().pause();
    let mut resumed = pin!(sleep(timer(&runtime), 7 * MS));
    poll_fn(|cx| {
        assert!(stage.as_mut().poll_next(cx).is_pending(), "an outcome in a pause (A2)");
        resumed.as_mut().poll(cx)
    })
    .await;
    assert!(starts.borrow().is_empty(), "an attempt in a pause (A2)");
    stage.as_mut().resume();
    assert_eq!(count(stage).await, 3);
    for at in starts.borrow().iter() {
        started(harness, *at, start, 7 * MS, "an attempt after a pause (A2)");
    }
}

/// A2: as with `Retry-After`; the retry waits for the longer of the backoff and the pause.
async fn an_error_asks_for_a_pause<H: Harness, S>(harness: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage + Copy,
{
    let starts = RefCell::new(Vec::new());
    let ask = |number: &u32| {
        starts.borrow_mut().push(harness.now());
        let is_first = starts.borrow().len() == 1;
        ready(if is_first { Err(Refused) } else { Ok(*number) })
    };
    let policy = AsyncWait::ordered(4)
        .max_running(1)
        .retry(FixedDelay::new(2 * MS).max_retries(1))
        .pause_on(|failure: &Failure<Refused>| failure.error().map(|_| 15 * MS));
    let start = harness.now();
    let stage = numbers(3).async_wait(policy, ask);
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    assert_eq!(count(stage).await, 3);
    for (at, millis) in starts.borrow().iter().zip([0, 15, 15, 15]) {
        started(harness, *at, start, millis * MS, "an attempt after an error's pause (A2)");
    }
}

/// B1, B2: three records wait for others for 7 ms, though the source has nothing more; and the last one waits for nobody.
async fn a_batch_goes_out_by_its_time<H: Harness, S>(harness: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage + Copy,
{
    let batches = RefCell::new(Vec::new());
    let ask = |batch: Batch<'_, u32>| {
        batches.borrow_mut().push((harness.now(), batch.inputs().copied().collect::<Vec<_>>()));
        let answers: Vec<_> = batch.inputs().map(|number| Ok(number * 2)).collect();
        ready(Ok::<_, Refused>(answers))
    };
    let quiet = Box::pin(sleep(timer(&runtime), 20 * MS));
    let source = InTwo { first: numbers(3), quiet: Some(quiet), then: Some(4) };
    let policy = AsyncWait::ordered(8).batch(BatchSize::records(5).within(7 * MS));
    let start = harness.now();
    let stage = source.async_wait_batch::<u32, _, _, _, _, _>(policy, ask);
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    assert_eq!(count(stage).await, 4);
    let batches = batches.borrow();
    let inputs: Vec<_> = batches.iter().map(|(_, inputs)| &inputs[..]).collect();
    assert_eq!(inputs, [&[1, 2, 3][..], &[4]], "the records of the batches (B1)");
    started(harness, batches[0].0, start, 7 * MS, "a batch that its time sends (B1)");
    started(harness, batches[1].0, start, 20 * MS, "the last batch (B2)");
}

/// B3, T1, T3: each record has its own timeout, and the request is dropped with the last of them.
async fn a_batch_times_out_record_by_record<H: Harness, S>(
    harness: &H,
    runtime: H::Runtime,
    storage: S,
) where
    S: StageStorage + Copy,
{
    let policy = AsyncWait::unordered(4)
        .timeout_by(|number: &u32| Some(*number * 5 * MS))
        .batch(BatchSize::records(3));
    let ask = |_: Batch<'_, u32>| pending::<Result<Vec<Result<u32, Refused>>, Refused>>();
    let start = harness.now();
    let stage = numbers(3).async_wait_batch(policy, ask);
    let mut stage = pin!(stage.in_place_over(&runtime, storage).expect("it makes sense"));
    for number in 1..=3 {
        let outcome = poll_fn(|cx| stage.as_mut().poll_next(cx)).await.expect("there are three");
        assert_eq!((outcome.input, outcome.result), (number, Err(Failure::TimedOut)));
        assert_took(harness, start, number * 5 * MS, "a record of a batch (T1)");
    }
}

/// Whether something started so long after `start`: never earlier, and where time is virtual not later than its resolution allows.
#[track_caller]
fn started<H: Harness>(harness: &H, at: Duration, start: Duration, after: Duration, what: &str) {
    let took = at - start;
    assert!(took >= after, "{what}: started after {took:?}, which is early for {after:?}");
    if let Some(resolution) = harness.resolution() {
        // A rate whose instants fall between two ticks may lose one at each of them.
        assert!(
            took < after + 4 * resolution,
            "{what}: started after {took:?}, late for {after:?}"
        );
    }
}

async fn count<St: Stream>(stage: St) -> usize {
    let mut stage = pin!(stage);
    let mut count = 0;
    while poll_fn(|cx| stage.as_mut().poll_next(cx)).await.is_some() {
        count += 1;
    }
    count
}

/// Some numbers, a time without any, and one number more.
struct InTwo<F> {
    first: Numbers,
    quiet: Option<Pin<Box<F>>>,
    then: Option<u32>,
}

impl<F: Future<Output = ()>> Stream for InTwo<F> {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        if let Poll::Ready(Some(number)) = Pin::new(&mut self.first).poll_next(cx) {
            return Poll::Ready(Some(number));
        }
        if let Some(quiet) = &mut self.quiet {
            std::task::ready!(quiet.as_mut().poll(cx));
            self.quiet = None;
        }
        Poll::Ready(self.then.take())
    }
}
