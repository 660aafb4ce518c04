//! T6: a request whose answer had come before its deadline is not timed out because its thread was busy. The runtime delivers
//! the answer after the gap, and the deadline is judged after that.

#![cfg(feature = "alloc")]

mod thread;

use std::cell::Cell;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, Barrier, Checkpoint, CheckpointId, Elements, Failure, FixedDelay,
    Outcome, RetryStrategy, Spawner, StreamElement, Unkeyed,
};

use crate::thread::{Millis, Thread};

const RECORDS: u32 = 16;

/// The way in which a stage and its requests run.
#[derive(Clone, Copy, Debug)]
enum Way {
    InPlace,
    Run,
    SpawnedStage,
    RequestsSpawned,
    BothSpawned,
}

const WAYS: [Way; 5] =
    [Way::InPlace, Way::Run, Way::SpawnedStage, Way::RequestsSpawned, Way::BothSpawned];

/// Returns the outcomes of a stage whose requests are `ask`. The consumer computes after each outcome.
fn outcomes<R, Fut>(
    way: Way,
    policy: AsyncWait<R, Unkeyed>,
    computes: Millis,
    ask: fn(Thread, u32) -> Fut,
) -> Vec<Outcome<u32, (), ()>>
where
    R: RetryStrategy<u32, (), ()> + 'static,
    Fut: Future<Output = Result<(), ()>> + 'static,
{
    let thread = Thread::default();
    let (for_requests, runtime) = (thread.clone(), thread.clone());
    let asks = move |number: &u32| ask(for_requests.clone(), *number);
    let stage = Items((0..RECORDS).collect()).async_wait(policy, asks);
    thread.run(async move {
        let seen = Rc::new(Cell::new(Vec::new()));
        let take = |outcome| {
            let mut all = seen.take();
            all.push(outcome);
            seen.set(all);
            runtime.compute(computes);
        };
        match way {
            Way::InPlace => each(stage.in_place(&runtime).unwrap(), take).await,
            Way::SpawnedStage => each(stage.spawn(runtime.clone()).unwrap(), take).await,
            Way::RequestsSpawned => {
                let stage = stage.spawn_requests(runtime.clone());
                each(stage.in_place(&runtime).unwrap(), take).await;
            }
            Way::BothSpawned => {
                let stage = stage.spawn_requests(runtime.clone());
                each(stage.spawn(runtime.clone()).unwrap(), take).await;
            }
            Way::Run => {
                let take = |outcome| {
                    take(outcome);
                    std::future::ready(())
                };
                stage.in_place(&runtime).unwrap().run(take).await.unwrap();
            }
        }
        seen.take()
    })
}

async fn each<S: Stream>(stream: S, mut take: impl FnMut(S::Item)) {
    let mut stream = pin!(stream);
    while let Some(item) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        take(item);
    }
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Answers after 1 or 250 ms.
async fn slow(thread: Thread, number: u32) -> Result<(), ()> {
    thread.sleep(if number.is_multiple_of(4) { 1 } else { 250 }).await;
    Ok(())
}

// T6
#[test]
fn a_busy_consumer_causes_no_timeout() {
    for way in WAYS {
        let outcomes = outcomes(way, AsyncWait::unordered(4).timeout(millis(300)), 400, slow);
        assert_eq!(outcomes.len(), RECORDS as usize);
        assert!(outcomes.iter().all(|done| done.result.is_ok()), "{way:?}: {outcomes:?}");
    }
}

// T6, T2
#[test]
fn a_busy_consumer_costs_no_attempt() {
    for way in WAYS {
        let policy = AsyncWait::unordered(4).attempt_timeout(millis(300));
        let policy = policy.retry(FixedDelay::new(millis(1)).max_retries(3));
        let outcomes = outcomes(way, policy, 400, slow);
        assert!(outcomes.iter().all(|done| done.attempts == 1), "{way:?}: {outcomes:?}");
    }
}

// T6: the neighbours of a request that blocks its thread.
#[test]
fn a_request_that_computes_times_out_no_neighbour() {
    async fn ask(thread: Thread, number: u32) -> Result<(), ()> {
        match number {
            8 => thread.compute(400),
            _ => thread.sleep(250).await,
        }
        Ok(())
    }
    for way in WAYS {
        let outcomes = outcomes(way, AsyncWait::unordered(9).timeout(millis(300)), 0, ask);
        assert!(outcomes.iter().all(|done| done.result.is_ok()), "{way:?}: {outcomes:?}");
    }
}

// T1, T6: a late request times out, next to a busy consumer as next to an idle one.
#[test]
fn a_request_without_an_answer_by_its_deadline_times_out() {
    async fn ask(thread: Thread, number: u32) -> Result<(), ()> {
        match number % 4 {
            0 => thread.sleep(299).await,
            1 => thread.sleep(3000).await,
            _ => pending().await,
        }
        Ok(())
    }
    for (way, computes) in WAYS.into_iter().flat_map(|way| [(way, 0), (way, 400)]) {
        let outcomes = outcomes(way, AsyncWait::unordered(4).timeout(millis(300)), computes, ask);
        assert_eq!(outcomes.len(), RECORDS as usize);
        for done in &outcomes {
            let expected =
                if done.input.is_multiple_of(4) { Ok(()) } else { Err(Failure::TimedOut) };
            assert_eq!(done.result, expected, "{way:?}, {computes}: {done:?}");
        }
    }
}

// T6, R3: no answer could come before the end of a backoff, so it is judged by the clock alone.
#[test]
fn a_backoff_ends_although_nothing_was_delivered() {
    let thread = Thread::default();
    let (clock, runtime) = (thread.clone(), thread.clone());
    let asked = Rc::new(Cell::new(0));
    let counts = Rc::clone(&asked);
    let ask = move |_: &u32| {
        counts.set(counts.get() + 1);
        std::future::ready(Err::<(), ()>(()))
    };
    let policy = AsyncWait::ordered(1).retry(FixedDelay::new(millis(10)).max_retries(1));
    let mut stage = Box::pin(Items(vec![0]).async_wait(policy, ask).in_place(&runtime).unwrap());
    thread.run(std::future::poll_fn(move |cx: &mut Context<'_>| {
        for _ in 0..3 {
            assert!(stage.as_mut().poll_next(cx).is_pending());
        }
        clock.compute(10);
        assert!(stage.as_mut().poll_next(cx).is_ready());
        Poll::Ready(())
    }));
    assert_eq!(asked.get(), 2);
}

// T6, K3: the same for the limit of a drain: the records before the barrier had their answers.
#[test]
fn a_busy_consumer_fails_no_drain() {
    let thread = Thread::default();
    let runtime = thread.clone();
    let drain = Barrier::drain(Checkpoint::new(CheckpointId(1))).within(millis(300));
    let items =
        vec![StreamElement::value(0), StreamElement::value(1), StreamElement::Barrier(drain)];
    let ask = {
        let thread = thread.clone();
        move |number: &u32| slow(thread.clone(), *number)
    };
    let stage = Items::<StreamElement<u32>>(items)
        .async_wait::<_, Elements, _, _, _, _, _, _, _>(AsyncWait::ordered(4), ask);
    thread.clone().run(async move {
        let mut drained = false;
        each(stage.in_place(&runtime).unwrap(), |element| match element {
            StreamElement::Barrier(barrier) => drained = barrier.checkpoint.failure().is_ok(),
            _ => thread.compute(400),
        })
        .await;
        assert!(drained, "the drain has failed");
    });
}

// T6, L3: the same for the limit of a stop.
#[test]
fn a_busy_consumer_shuts_no_record_down() {
    let thread = Thread::default();
    let runtime = thread.clone();
    let ask = {
        let thread = thread.clone();
        move |number: &u32| slow(thread.clone(), *number)
    };
    let stage = Items(vec![0, 1, 2]).async_wait(AsyncWait::ordered(4), ask);
    thread.clone().run(async move {
        let mut stage = pin!(stage.in_place(&runtime).unwrap());
        let first = stage.as_mut().next_pinned().await;
        assert_eq!(first.map(|done| done.result), Some(Ok(())));
        stage.as_mut().stop_within(millis(300));
        std::future::poll_fn(|cx| {
            assert!(stage.as_mut().poll_next(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        thread.compute(400);
        each(stage, |done| assert_eq!(done.result, Ok(()))).await;
    });
}

// T1, T7: many deadlines cost a bounded number of passes of the executor, also next to neighbours that compute.
#[test]
fn many_deadlines_beside_a_slow_neighbour_are_not_judged_later_and_later() {
    const PASS: Millis = 20;
    let thread = Thread::default();
    let runtime = thread.clone();
    let ask = |_: &u32| pending::<Result<(), ()>>();
    let policy = AsyncWait::unordered(500).timeout(millis(1000));
    let stage = Slowly { thread: thread.clone(), left: 500, nap: None }.async_wait(policy, ask);
    let neighbour = {
        let thread = thread.clone();
        async move {
            thread.clone().sleep(990).await; // when all requests have been made, one after the other
            loop {
                thread.compute(PASS);
                thread.clone().sleep(0).await;
            }
        }
    };
    let latest = thread.clone().run(async move {
        let _neighbour = Spawner::<_>::spawn(&thread, neighbour);
        let mut latest = Duration::ZERO;
        let stage = stage.spawn(runtime).unwrap();
        each(stage, |done| latest = latest.max(done.elapsed)).await;
        latest
    });
    assert!(latest < millis(1000 + 25 * PASS as u64), "{latest:?}");
}

/// A record every millisecond.
struct Slowly {
    thread: Thread,
    left: u32,
    nap: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Stream for Slowly {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let thread = self.thread.clone();
        let nap = self.nap.get_or_insert_with(|| Box::pin(thread.sleep(1)));
        if nap.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.nap = None;
        self.left -= 1;
        Poll::Ready(Some(self.left))
    }
}

/// A source of these items.
struct Items<T>(Vec<T>);

impl<T> Unpin for Items<T> {}

impl<T> Stream for Items<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
        Poll::Ready((!self.0.is_empty()).then(|| self.0.remove(0)))
    }
}
