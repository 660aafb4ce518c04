//! Records that pass through a stage without a place in it, because nothing is in flight and their requests are ready
//! when they are first polled: they count for everything that others count for.

#![cfg(feature = "alloc")]

use std::cell::Cell;
use std::future::ready;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, Attempt, FixedDelay, Instant, NoRuntime, RetryBudget, Runtime, Timer,
    with_attempt,
};

/// A clock that stands still; nothing is ever due.
struct Still;

impl Runtime for Still {
    type Timer = Self;

    fn timer(&self) -> Result<Self, NoRuntime> {
        Ok(Self)
    }
}

impl Timer for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// Counts down to 1.
struct Down(u32);

impl Stream for Down {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        let number = (self.0 > 0).then_some(self.0);
        self.0 = self.0.saturating_sub(1);
        Poll::Ready(number)
    }
}

/// Everything that comes out.
fn all<St: Stream>(mut stage: Pin<&mut St>) -> Vec<St::Item> {
    let mut items = Vec::new();
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        match stage.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => items.push(item),
            Poll::Ready(None) => return items,
            Poll::Pending => {}
        }
    }
    panic!("it does not end");
}

#[test] // M1
fn what_passes_is_in_all_numbers() {
    let ask = |number: &u32| ready(if number.is_multiple_of(10) { Err(()) } else { Ok(*number) });
    let stage = Down(100).async_wait(AsyncWait::ordered(8), ask).in_place(Still);
    let mut stage = pin!(stage.expect("it makes sense"));
    assert_eq!(all(stage.as_mut()).len(), 100);
    let metrics = stage.metrics();
    let counts = [metrics.records_in, metrics.emitted, metrics.failed, metrics.attempts];
    assert_eq!(counts, [100, 100, 10, 100]);
    assert_eq!((metrics.call_time.count(), metrics.turn_wait.count()), (100, 100));
}

#[test] // R1, R2: successes that pass fill the budget for retries, and the strategy is asked once about an attempt
fn what_passes_fills_the_budget_for_retries() {
    for (successes, is_retried) in [(1, false), (2, true)] {
        let asked = Cell::new(0);
        let (first, last) = (successes + 2, 1);
        let ask = |number: &u32, attempt: Attempt| {
            let fails = [first, last].contains(number) && attempt.number == 1;
            ready(if fails { Err(()) } else { Ok(()) })
        };
        let retry = FixedDelay::new(Duration::ZERO).when_error(|(): &()| {
            asked.set(asked.get() + 1);
            true
        });
        // One token, which the first retry takes, and a third of one for each success, also for that retry.
        let policy = AsyncWait::unordered(1).retry(retry).retry_budget(RetryBudget::new(1, 0.34));
        let stage = Down(first).async_wait_with(policy, with_attempt(ask)).in_place(Still);
        let outcomes = all(pin!(stage.expect("it makes sense")));
        let attempts: Vec<u32> = outcomes.iter().map(|outcome| outcome.attempts).collect();
        assert_eq!(attempts[0], 2);
        assert_eq!(attempts.last(), Some(if is_retried { &2 } else { &1 }), "{successes}");
        assert_eq!(outcomes.last().map(|outcome| outcome.result.is_ok()), Some(is_retried));
        assert_eq!(asked.get(), 2);
    }
}
