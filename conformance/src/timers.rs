//! The rules of `Timer`, one by one.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use inflight_core::Timer;

use crate::Harness;
use crate::erased::AnyHarness;
use crate::kit::{MS, Wakes, assert_took, run, sleep, timer};

pub(crate) fn with_any_waker(harness: &AnyHarness<'_, true>) {
    the_latest_waker_is_woken(harness);
}

pub(crate) fn with_the_tasks_waker(harness: &AnyHarness<'_, false>) {
    the_clock_goes_on(harness);
    it_is_never_early(harness);
    what_has_passed_is_ready(harness);
    arming_anew_forgets(harness);
    it_fires_once(harness);
}

/// Rule 1.
fn the_clock_goes_on<H: Harness>(harness: &H) {
    run(harness, "the clock goes on", async |runtime: H::Runtime| {
        let clock = timer(&runtime);
        let (start, reference) = (clock.now(), harness.now());
        let mut before = start;
        for _ in 0..20 {
            sleep(timer(&runtime), MS / 2).await;
            let now = clock.now();
            assert!(now >= before, "the clock goes back: {now:?} after {before:?} (rule 1)");
            before = now;
        }
        let (told, real) = (before - start, harness.now() - reference);
        assert!(told >= 10 * MS, "the clock is slow: {told:?} in {real:?} (rule 1)");
        if let Some(resolution) = harness.resolution() {
            let off = told.abs_diff(real);
            assert!(off <= resolution, "the clock tells {told:?} for {real:?} (rule 1)");
        }
    });
}

/// Rule 2, also for instants between two ticks of a coarse clock.
fn it_is_never_early<H: Harness>(harness: &H) {
    run(harness, "a timer", async |runtime: H::Runtime| {
        for nanos in [1, 999, 1_000, 1_001, 1_500_000, 2_000_001, 7_999_999, 15_625_000] {
            let time = Duration::from_nanos(nanos);
            let mut timer = pin!(timer(&runtime));
            let start = harness.now();
            let at = timer.now() + time;
            timer.as_mut().arm(Some(at));
            poll_fn(|cx| timer.as_mut().poll(cx)).await;
            assert!(timer.now() >= at, "fired at {:?}, before {at:?} (rule 2)", timer.now());
            assert_took(harness, start, time, "a timer (rule 2)");
        }
    });
}

/// Rules 3 and 4.
fn what_has_passed_is_ready<H: Harness>(harness: &H) {
    run(harness, "an instant that has passed", async |runtime: H::Runtime| {
        let mut late = pin!(timer(&runtime));
        let at = late.now() + MS;
        late.as_mut().arm(Some(at));
        sleep(timer(&runtime), 3 * MS).await;
        // The time between arming and readiness, which comes at once or after a wake.
        poll_fn(|cx| late.as_mut().poll(cx)).await;
        late.as_mut().arm(Some(at));
        poll_fn(|cx| late.as_mut().poll(cx)).await;
        let now = late.now();
        late.as_mut().arm(Some(now));
        poll_fn(|cx| late.as_mut().poll(cx)).await;
    });
}

/// Rule 5.
fn arming_anew_forgets<H: Harness>(harness: &H) {
    run(harness, "a timer that is armed anew", async |runtime: H::Runtime| {
        for (first, then) in [(2, 9), (9, 2)] {
            let mut timer = pin!(timer(&runtime));
            let start = harness.now();
            let now = timer.now();
            timer.as_mut().arm(Some(now + first * MS));
            let first = polled(timer.as_mut()).await;
            // Where time passes by itself, the instant may have passed by now.
            let is_virtual = harness.resolution().is_some();
            assert!(!is_virtual || first.is_pending(), "ready before its time (rule 3)");
            timer.as_mut().arm(Some(now + then * MS));
            poll_fn(|cx| timer.as_mut().poll(cx)).await;
            assert_took(harness, start, then * MS, "a timer that was armed anew (rule 5)");
        }
        let mut disarmed = pin!(timer(&runtime));
        let now = disarmed.now();
        disarmed.as_mut().arm(Some(now + MS));
        let _ = polled(disarmed.as_mut()).await;
        disarmed.as_mut().arm(None);
        sleep(timer(&runtime), 3 * MS).await;
        assert!(polled(disarmed.as_mut()).await.is_pending(), "fired when disarmed (rules 3, 5)");
    });
}

/// Rules 3 and 5.
fn it_fires_once<H: Harness>(harness: &H) {
    run(harness, "a timer that has fired", async |runtime: H::Runtime| {
        let mut once = pin!(timer(&runtime));
        assert!(polled(once.as_mut()).await.is_pending(), "ready although never armed (rule 3)");
        let now = once.now();
        once.as_mut().arm(Some(now + MS));
        poll_fn(|cx| once.as_mut().poll(cx)).await;
        assert!(polled(once.as_mut()).await.is_pending(), "fired twice (rule 5)");
        sleep(timer(&runtime), 2 * MS).await;
        assert!(polled(once.as_mut()).await.is_pending(), "fired twice (rule 5)");
    });
}

/// Rule 4.
fn the_latest_waker_is_woken<H: Harness>(harness: &H) {
    run(harness, "a timer that changes hands", async |runtime: H::Runtime| {
        let mut timer = pin!(timer(&runtime));
        let now = timer.now();
        timer.as_mut().arm(Some(now + 50 * MS));
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let _ = timer.as_mut().poll(&mut Context::from_waker(&waker));
        timer.as_mut().arm(Some(now + 51 * MS));
        // The task's own waker is the latest: unless the timer wakes it, this hangs.
        poll_fn(|cx| timer.as_mut().poll(cx)).await;

        let now = timer.now();
        timer.as_mut().arm(Some(now + MS));
        let _ = polled(timer.as_mut()).await;
        let before = wakes.count();
        if timer.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            return; // so late already
        }
        sleep(crate::kit::timer(&runtime), 2 * MS).await;
        for _ in 0..100 {
            if wakes.count() > before {
                return;
            }
            // Where time passes by itself, the wake may be a little later.
            sleep(crate::kit::timer(&runtime), MS).await;
        }
        panic!("the waker of the latest poll was not woken (rule 4)");
    });
}

/// One poll of a timer.
async fn polled<T: Timer>(mut timer: std::pin::Pin<&mut T>) -> Poll<()> {
    poll_fn(|cx| Poll::Ready(timer.as_mut().poll(cx))).await
}
