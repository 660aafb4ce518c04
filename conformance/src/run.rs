//! Stages that are run with their consumer as one future, in every storage.

use std::cell::{Cell, RefCell};
use std::future::{Future, Ready, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use inflight_core::{
    AsyncFunction, AsyncWait, AsyncWaitExt, AttemptInfo, Failure, FixedDelay, StageError,
    StageStorage, TimedOutCall, TimeoutAction, with_timeout_action,
};

use crate::Harness;
use crate::kit::{
    Counter, Gauge, MS, Refused, SLOTS, assert_took, in_every_storage, numbers, sleep, timer,
};

in_every_storage!(
    outcomes_keep_their_order,
    requests_progress_while_the_consumer_is_busy,
    calls_time_out_while_the_consumer_is_busy,
    what_is_ready_waits_for_the_consumer_and_is_not_late,
    a_dropped_record_makes_room,
    retries_go_on_while_the_consumer_is_busy,
    dropping_cancels,
    stopping_drains,
    stopping_has_a_limit,
    a_panic_in_a_request_comes_out,
    a_panic_in_the_consumer_comes_out,
    the_capacity_changes,
    a_function_that_cannot_be_opened_ends_it
);

/// Polls once; returns true if the future is pending.
async fn waits<Fut: Future>(mut run: Pin<&mut Fut>) -> bool {
    poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_pending())).await
}

/// Returns the output, or `None` after a panic.
async fn caught<Fut: Future>(mut run: Pin<&mut Fut>) -> Option<Fut::Output> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// O1, O2, E2: each request completes after the one behind it, and the consumer is slow with each outcome.
async fn outcomes_keep_their_order<H: Harness, S>(_: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage + Copy,
{
    let up: Vec<u32> = (1..=SLOTS as u32).collect();
    let down: Vec<u32> = up.iter().rev().copied().collect();
    for (policy, order) in [(AsyncWait::ordered(SLOTS), up), (AsyncWait::unordered(SLOTS), down)] {
        let done = Counter::default();
        let ask = |number: &u32| {
            let (number, done) = (*number, done.clone());
            async move {
                done.reaches(SLOTS - number as usize).await;
                done.up();
                Ok::<_, Refused>(number * 2)
            }
        };
        let stage = numbers(SLOTS as u32).async_wait(policy, ask);
        let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
        let taken = RefCell::new(Vec::new());
        let run = stage.run(|outcome| {
            assert_eq!(outcome.result, Ok(outcome.input * 2));
            taken.borrow_mut().push(outcome.input);
            sleep(timer(&runtime), MS)
        });
        assert_eq!(run.await, Ok(()));
        assert_eq!(*taken.borrow(), order, "(O1, O2)");
    }
}

/// L1: the consumer is busy until all requests are done.
async fn requests_progress_while_the_consumer_is_busy<H: Harness, S>(
    _: &H,
    runtime: H::Runtime,
    storage: S,
) where
    S: StageStorage,
{
    let (done, taken) = (Counter::default(), Counter::default());
    let ask = |number: &u32| {
        let (request, done) = (sleep(timer(&runtime), *number * MS / 2), done.clone());
        async move {
            request.await;
            done.up();
            Ok::<u32, Refused>(1)
        }
    };
    let stage = numbers(8).async_wait(AsyncWait::ordered(8), ask);
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    let consumer = |_| {
        let (all_done, taken) = (done.reaches(8), taken.clone());
        async move {
            all_done.await;
            taken.up();
        }
    };
    assert_eq!(stage.run(consumer).await, Ok(()));
    assert_eq!(taken.count(), 8);
}

/// T1, T8
async fn calls_time_out_while_the_consumer_is_busy<H: Harness, S>(
    harness: &H,
    runtime: H::Runtime,
    storage: S,
) where
    S: StageStorage,
{
    let time = 20 * MS + std::time::Duration::from_nanos(1);
    let cancelled = Counter::default();
    let ask = |number: &u32| {
        let (number, guard) = (*number, cancelled.guard());
        async move {
            let _guard = guard;
            if number > 1 {
                pending::<()>().await;
            }
            Ok::<u32, Refused>(number)
        }
    };
    let start = harness.now();
    let stage = numbers(4).async_wait(AsyncWait::ordered(4).timeout(time), ask);
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    // The first outcome keeps the consumer busy until the requests of the other records have been cancelled.
    let run = stage.run(|outcome| {
        if outcome.input > 1 {
            assert_eq!(outcome.result, Err(Failure::TimedOut));
            assert!(outcome.elapsed >= time, "{:?} is early (T8)", outcome.elapsed);
        }
        cancelled.reaches(4)
    });
    assert_eq!(run.await, Ok(()));
    assert_took(harness, start, time, "a timeout (T8)");
}

/// T6, C2: a result that is done in time and not taken for long is not a failure.
async fn what_is_ready_waits_for_the_consumer_and_is_not_late<H: Harness, S>(
    harness: &H,
    runtime: H::Runtime,
    storage: S,
) where
    S: StageStorage,
{
    // Where time passes by itself, the requests get more time, because it is no part of the test.
    let time = if harness.resolution().is_some() { 5 * MS } else { 10_000 * MS };
    let ask = |number: &u32| {
        let (number, request) = (*number, sleep(timer(&runtime), MS));
        async move {
            request.await;
            Ok::<u32, Refused>(number)
        }
    };
    let stage = numbers(6).async_wait(AsyncWait::ordered(2).timeout(time), ask);
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    let taken = Cell::new(0);
    let run = stage.run(|outcome| {
        assert_eq!(outcome.result, Ok(outcome.input), "(T6)");
        taken.set(taken.get() + 1);
        sleep(timer(&runtime), 20 * MS)
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!(taken.get(), 6);
}

/// L1, E2, T3: a dropped record has no outcome, and the consumer was busy when its deadline passed.
async fn a_dropped_record_makes_room<H: Harness, S>(_: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage + Copy,
{
    for capacity in [1, 4] {
        let ask = |number: &u32| {
            let is_answered = number % 5 == 1;
            async move {
                if !is_answered {
                    pending::<()>().await;
                }
                Ok::<_, Refused>(())
            }
        };
        let ask =
            with_timeout_action(ask, |_: TimedOutCall<'_, u32, (), Refused>| TimeoutAction::Drop);
        let policy = AsyncWait::ordered(capacity).timeout(2 * MS);
        let stage = numbers(12).async_wait_with(policy, ask);
        let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
        let taken = RefCell::new(Vec::new());
        let run = stage.run(|outcome| {
            taken.borrow_mut().push(outcome.input);
            sleep(timer(&runtime), 7 * MS)
        });
        assert_eq!(run.await, Ok(()));
        assert_eq!(*taken.borrow(), [1, 6, 11], "{capacity} places");
    }
}

/// R1, L1
async fn retries_go_on_while_the_consumer_is_busy<H: Harness, S>(
    _: &H,
    runtime: H::Runtime,
    storage: S,
) where
    S: StageStorage,
{
    let tried = Counter::default();
    let ask = |number: &u32| {
        let is_refused = *number > 1;
        if is_refused {
            tried.up();
        }
        ready(if is_refused { Err(Refused) } else { Ok(()) })
    };
    let policy = AsyncWait::ordered(2).retry(FixedDelay::new(3 * MS).max_retries(2));
    let stage = numbers(2).async_wait(policy, ask).in_place_over(&runtime, storage);
    // The first outcome keeps the consumer busy until all attempts of the second have been made.
    let run = stage.expect("it makes sense").run(|outcome| {
        assert_eq!(outcome.attempts, if outcome.input > 1 { 3 } else { 1 });
        tried.reaches(3)
    });
    assert_eq!(run.await, Ok(()));
}

/// L2: the consumer is cancelled as well, with its element.
async fn dropping_cancels<H: Harness, S>(_: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage,
{
    let (started, dropped, consumer) = (Counter::default(), Counter::default(), Counter::default());
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
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    {
        let mut run = pin!(stage.run(|outcome| {
            let guard = consumer.guard();
            async move {
                let _guard = (guard, outcome);
                pending::<()>().await;
            }
        }));
        assert!(waits(run.as_mut()).await, "nothing else is ready");
        assert_eq!((started.count(), dropped.count(), consumer.count()), (9, 1, 0), "(C2, L1)");
    }
    assert_eq!(dropped.count(), 9, "a request outlives its stage (L2)");
    assert_eq!(consumer.count(), 1, "the consumer outlives its stage (L2)");
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
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    let inputs = RefCell::new(Vec::new());
    let mut run = pin!(stage.run(|outcome| {
        assert_eq!(outcome.result, Ok(outcome.input), "what is in flight finishes (L3)");
        inputs.borrow_mut().push(outcome.input);
        sleep(timer(&runtime), 2 * MS)
    }));
    poll_fn(|cx| {
        assert!(run.as_mut().poll(cx).is_pending(), "there is more to come");
        if inputs.borrow().is_empty() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    let before = inputs.borrow().len();
    run.as_mut().stage().stop();
    assert_eq!(run.await, Ok(()));
    let inputs = inputs.into_inner();
    assert!(inputs.len() <= before + 8, "it takes more input after it was stopped (L3)");
    assert!(inputs.iter().copied().eq(1..=inputs.len() as u32), "{inputs:?}");
}

/// L3
async fn stopping_has_a_limit<H: Harness, S>(harness: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage,
{
    let ended = Counter::default();
    let ask = |number: &u32| {
        let (number, guard) = (*number, ended.guard());
        async move {
            let _guard = guard;
            if number > 1 {
                pending::<()>().await;
            }
            Ok::<u32, Refused>(number)
        }
    };
    let stage = numbers(u32::MAX).async_wait(AsyncWait::ordered(4), ask);
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    let results = RefCell::new(Vec::new());
    // The first outcome keeps the consumer busy until everything has been cancelled.
    let mut run = pin!(stage.run(|outcome| {
        results.borrow_mut().push(outcome.result);
        ended.reaches(5)
    }));
    assert!(waits(run.as_mut()).await, "nothing else is ready");
    let start = harness.now();
    run.as_mut().stage().stop_within(10 * MS);
    assert_eq!(run.await, Ok(()));
    assert_took(harness, start, 10 * MS, "the time to stop in (L3)");
    let shut_down = Err(Failure::ShutDown);
    assert_eq!(*results.borrow(), [Ok(1), shut_down, shut_down, shut_down, shut_down], "(F2, L3)");
}

/// F3
async fn a_panic_in_a_request_comes_out<H: Harness, S>(_: &H, runtime: H::Runtime, storage: S)
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
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    let taken = Cell::new(0);
    let mut run = pin!(stage.run(|_| {
        taken.set(taken.get() + 1);
        ready(())
    }));
    assert!(caught(run.as_mut()).await.is_none(), "the panic does not come out (F3)");
    assert_eq!(taken.get(), 2, "what was done before comes out");
    assert!(caught(run.as_mut()).await.is_none(), "the panic looks like the end (F3)");
}

/// F3: after a panic, another poll never looks like the end and hands nothing out, even if there was no
/// future yet.
async fn a_panic_in_the_consumer_comes_out<H: Harness, S>(_: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage + Copy,
{
    for is_before_the_future in [false, true] {
        let ask = |number: &u32| ready(Ok::<u32, Refused>(*number));
        let stage = numbers(4).async_wait(AsyncWait::ordered(1), ask);
        let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
        let taken = Cell::new(0);
        let mut run = pin!(stage.run(|outcome| {
            taken.set(taken.get() + 1);
            let is_last = outcome.input == 3;
            assert!(!(is_last && is_before_the_future), "as planned");
            poll_fn(move |_| {
                assert!(!is_last, "as planned");
                Poll::Ready(())
            })
        }));
        assert!(caught(run.as_mut()).await.is_none(), "the panic does not come out (F3)");
        assert_eq!(taken.get(), 3);
        assert!(caught(run.as_mut()).await.is_none(), "the panic looks like the end (F3)");
        assert_eq!(taken.get(), 3, "it goes on after a panic");
    }
}

/// C8
async fn the_capacity_changes<H: Harness, S>(_: &H, runtime: H::Runtime, storage: S)
where
    S: StageStorage,
{
    let gauge = Gauge::default();
    let ask = |_: &u32| {
        let inside = gauge.enter();
        async move {
            let _inside = inside;
            pending::<std::result::Result<u32, Refused>>().await
        }
    };
    let policy = AsyncWait::unordered(2).max_capacity(9).timeout(2 * MS);
    let stage = numbers(u32::MAX).async_wait(policy, ask);
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    let taken = Counter::default();
    let mut run = pin!(stage.run(|_| {
        taken.up();
        ready(())
    }));
    for capacity in [2, 9, 3] {
        run.as_mut().stage().set_capacity(capacity).expect("it makes sense");
        // The records in flight under the earlier capacity leave.
        for is_before in [true, false] {
            gauge.take_most();
            let mut enough = pin!(taken.reaches(taken.count() + 40));
            poll_fn(|cx| {
                assert!(run.as_mut().poll(cx).is_pending(), "there is more to come");
                enough.as_mut().poll(cx)
            })
            .await;
            let most = gauge.take_most();
            assert!(is_before || most == capacity, "{most} in flight for {capacity} (C8)");
        }
    }
    assert!(run.as_mut().stage().set_capacity(10).is_err(), "more than the policy allows (C8)");
}

/// A function that cannot be opened.
struct Closed;

impl AsyncFunction<u32> for Closed {
    type Output = u32;
    type Error = Refused;
    type Future = Ready<std::result::Result<u32, Refused>>;

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Refused>> {
        Poll::Ready(Err(Refused))
    }

    fn invoke(&mut self, _: &u32, _: AttemptInfo) -> Self::Future {
        unreachable!("it was not opened")
    }
}

/// L4
async fn a_function_that_cannot_be_opened_ends_it<H: Harness, S>(
    _: &H,
    runtime: H::Runtime,
    storage: S,
) where
    S: StageStorage,
{
    let stage = numbers(4).async_wait_with(AsyncWait::ordered(4), Closed);
    let stage = stage.in_place_over(&runtime, storage).expect("it makes sense");
    let run = stage.run(|_| async { unreachable!("nothing comes out") });
    assert_eq!(run.await, Err(StageError::Open(Refused)), "(L4)");
}
