//! Stages that are polled in place, in every storage.

use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_core::Stream;
use inflight_core::{AsyncWait, AsyncWaitExt, Failure, FixedDelay, Outcome, StageStorage};

use crate::Harness;
use crate::kit::{
    Counter, Gauge, MS, Refused, SLOTS, assert_took, in_every_storage, numbers, sleep, timer,
};

in_every_storage!(
    outcomes_keep_their_order,
    calls_and_attempts_time_out,
    retries_wait,
    dropping_cancels,
    stopping_drains,
    stopping_has_a_limit,
    a_panic_comes_out,
    the_capacity_changes
);

type Result<T = u32> = std::result::Result<T, Refused>;
type Outcomes = Vec<Outcome<u32, u32, Refused>>;

async fn collect<St>(stage: St) -> Vec<St::Item>
where
    St: Stream,
{
    let mut stage = pin!(stage);
    let mut items = Vec::new();
    while let Some(item) = next(stage.as_mut()).await {
        items.push(item);
    }
    items
}

async fn next<St: Stream>(mut stage: Pin<&mut St>) -> Option<St::Item> {
    poll_fn(|cx| stage.as_mut().poll_next(cx)).await
}

/// Poll once: the first record may have bypassed the slots before another was pulled, but now the window is
/// full.
async fn waits<St: Stream>(mut stage: Pin<&mut St>) -> bool {
    poll_fn(|cx| Poll::Ready(stage.as_mut().poll_next(cx).is_pending())).await
}

fn inputs(outcomes: &Outcomes) -> Vec<u32> {
    outcomes.iter().map(|outcome| outcome.input).collect()
}

/// O1, O2, O3: each request completes after the one behind it, so the last one completes first.
async fn outcomes_keep_their_order<H: Harness, S>(_: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage + Copy,
{
    macro_rules! outcomes {
        ($policy:expr) => {{
            let done = Counter::default();
            let ask = |number: &u32| {
                let (number, done) = (*number, done.clone());
                async move {
                    done.reaches(SLOTS - number as usize).await;
                    done.up();
                    Ok::<_, Refused>(number * 2)
                }
            };
            let stage = numbers(SLOTS as u32).async_wait($policy, ask);
            collect(stage.in_place_over(&runtime, storage).expect("it makes sense")).await
        }};
    }
    let up: Vec<u32> = (1..=SLOTS as u32).collect();
    let ordered: Outcomes = outcomes!(AsyncWait::ordered(SLOTS));
    assert_eq!(inputs(&ordered), up, "in the order of the inputs (O1)");
    assert!(ordered.iter().all(|outcome| outcome.result == Ok(outcome.input * 2)));

    let unordered: Outcomes = outcomes!(AsyncWait::unordered(SLOTS));
    let down: Vec<u32> = up.iter().rev().copied().collect();
    assert_eq!(inputs(&unordered), down, "in the order of the completions (O2)");

    let policy = AsyncWait::ordered_by_key(SLOTS, |number: &u32| number % 3).overlapping();
    let by_key: Outcomes = outcomes!(policy);
    for key in 0..3 {
        let of_key = |numbers: &[u32]| -> Vec<u32> {
            numbers.iter().copied().filter(|number| number % 3 == key).collect()
        };
        assert_eq!(of_key(&inputs(&by_key)), of_key(&up), "in the order of each key (O3)");
    }
}

/// T1, T2, T8
async fn calls_and_attempts_time_out<H: Harness, S>(harness: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage + Copy,
{
    let time = 20 * MS + std::time::Duration::from_nanos(1);
    let total = AsyncWait::ordered(4).timeout(time);
    let each = AsyncWait::ordered(4).attempt_timeout(time);
    for (policy, failure) in [(total, Failure::TimedOut), (each, Failure::AttemptTimedOut)] {
        let start = harness.now();
        let stage = numbers(4).async_wait(policy, |_| pending::<Result>());
        let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
        for outcome in collect(stage).await {
            assert_eq!(outcome.result, Err(failure));
            assert!(outcome.elapsed >= time, "{:?} is early (T8)", outcome.elapsed);
        }
        assert_took(harness, start, time, "a timeout (T8)");
    }
}

/// R1, T8
async fn retries_wait<H: Harness, S>(harness: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage,
{
    let policy = AsyncWait::ordered(1).retry(FixedDelay::new(3 * MS).max_retries(2));
    let start = harness.now();
    let ask = |_: &u32| {
        let request = sleep(timer(&runtime), 5 * MS);
        async move {
            request.await;
            Err::<u32, _>(Refused)
        }
    };
    let stage = numbers(1).async_wait(policy, ask).in_place_over(&runtime, storage);
    let outcomes = collect(stage.expect("it makes sense")).await;
    assert_eq!((outcomes.len(), outcomes[0].attempts), (1, 3));
    let took = 3 * 5 * MS + 2 * 3 * MS;
    assert!(harness.now() - start >= took, "three attempts and two delays were early (T8)");
    // Each of the five waits may be late by the clock's resolution.
    if let Some(resolution) = harness.resolution() {
        assert!(harness.now() - start < took + 10 * resolution, "they were late");
    }
}

/// L2
async fn dropping_cancels<H: Harness, S>(_: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage,
{
    let (started, dropped) = (Counter::default(), Counter::default());
    let ask = |number: &u32| {
        let (number, guard) = (*number, dropped.guard());
        started.up();
        async move {
            let _guard = guard;
            if number > 1 {
                pending::<()>().await;
            }
            Ok::<u32, Refused>(number)
        }
    };
    let stage = numbers(100).async_wait(AsyncWait::ordered(8), ask);
    {
        let mut stage = pin!(stage.in_place_over(&runtime, storage).expect("it makes sense"));
        assert!(next(stage.as_mut()).await.is_some());
        assert!(waits(stage.as_mut()).await, "nothing else is ready");
        assert!(dropped.count() >= 1 && started.count() > dropped.count());
    }
    assert_eq!(started.count(), dropped.count(), "a request outlives its stage (L2)");
}

/// L3
async fn stopping_drains<H: Harness, S>(_: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage,
{
    let ask = |number: &u32| {
        let (number, request) = (*number, sleep(timer(&runtime), MS));
        async move {
            request.await;
            Ok::<u32, Refused>(number)
        }
    };
    let stage = numbers(u32::MAX).async_wait(AsyncWait::ordered(8), ask);
    let mut stage = pin!(stage.in_place_over(&runtime, storage).expect("it makes sense"));
    let mut inputs = vec![next(stage.as_mut()).await.expect("an outcome").input];
    stage.as_mut().stop();
    while let Some(outcome) = next(stage.as_mut()).await {
        assert_eq!(outcome.result, Ok(outcome.input), "what is in flight finishes (L3)");
        inputs.push(outcome.input);
    }
    assert!(inputs.len() <= 16, "it takes more input after it was stopped (L3)");
    assert!(inputs.iter().copied().eq(1..=inputs.len() as u32), "{inputs:?}");
}

/// L3
async fn stopping_has_a_limit<H: Harness, S>(harness: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage,
{
    let ask = |number: &u32| {
        let number = *number;
        async move {
            if number > 1 {
                pending::<()>().await;
            }
            Ok::<u32, Refused>(number)
        }
    };
    let stage = numbers(u32::MAX).async_wait(AsyncWait::ordered(4), ask);
    let mut stage = pin!(stage.in_place_over(&runtime, storage).expect("it makes sense"));
    assert_eq!(next(stage.as_mut()).await.expect("an outcome").result, Ok(1));
    assert!(waits(stage.as_mut()).await, "nothing else is ready");
    let start = harness.now();
    stage.as_mut().stop_within(10 * MS);
    let mut left = 0;
    while let Some(outcome) = next(stage.as_mut()).await {
        assert_eq!(outcome.result, Err(Failure::ShutDown), "(F2, L3)");
        left += 1;
    }
    assert!((3..=4).contains(&left), "{left} were in flight");
    assert_took(harness, start, 10 * MS, "the time to stop in (L3)");
}

/// F3
async fn a_panic_comes_out<H: Harness, S>(_: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage,
{
    let ask = |number: &u32| {
        let (number, request) = (*number, sleep(timer(&runtime), MS));
        async move {
            request.await;
            assert!(number < 3, "as planned");
            Ok::<u32, Refused>(number)
        }
    };
    let stage = numbers(4).async_wait(AsyncWait::ordered(1), ask);
    let mut stage = pin!(stage.in_place_over(&runtime, storage).expect("it makes sense"));
    let mut poll = |cx: &mut Context<'_>| {
        let polled = catch_unwind(AssertUnwindSafe(|| stage.as_mut().poll_next(cx)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(item)) => Poll::Ready(Ok(item)),
            Err(_) => Poll::Ready(Err(())),
        }
    };
    for number in [1, 2] {
        let outcome = poll_fn(&mut poll).await.expect("no panic yet").expect("an outcome");
        assert_eq!(outcome.result, Ok(number));
    }
    assert!(poll_fn(&mut poll).await.is_err(), "the panic does not come out (F3)");
    assert!(poll_fn(&mut poll).await.is_err(), "the panic looks like the end (F3)");
}

/// C8
async fn the_capacity_changes<H: Harness, S>(harness: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage,
{
    let gauge = Gauge::default();
    let ask = |_: &u32| {
        let (inside, request) = (gauge.enter(), sleep(timer(&runtime), MS));
        async move {
            let _inside = inside;
            request.await;
            Ok::<u32, Refused>(1)
        }
    };
    let policy = AsyncWait::unordered(2).max_capacity(9);
    let stage = numbers(u32::MAX).async_wait(policy, ask);
    let mut stage = pin!(stage.in_place_over(&runtime, storage).expect("it makes sense"));
    for (capacity, rest) in [(2, 20), (9, 40), (3, 40)] {
        stage.as_mut().set_capacity(capacity).expect("it makes sense");
        // The records in flight under the earlier capacity leave.
        for _ in 0..rest {
            next(stage.as_mut()).await.expect("an outcome");
        }
        gauge.take_most();
        for _ in 0..rest {
            next(stage.as_mut()).await.expect("an outcome");
        }
        // Outcomes that are done and not taken count, too; where time passes by itself, a test can hardly
        // observe that.
        let (most, is_virtual) = (gauge.take_most(), harness.resolution().is_some());
        let least = if is_virtual { capacity } else { capacity / 4 };
        assert!((least..=capacity).contains(&most), "{most} in flight for {capacity} (C8)");
    }
    assert!(stage.as_mut().set_capacity(10).is_err(), "more than the policy allows (C8)");
}
