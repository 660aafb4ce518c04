//! embassy for inflight: [`Embassy`], a clock and a timer without `std` and without an allocator.
//!
//! A stage is part of one of your tasks, which lies in a `static` as all of embassy's tasks do. Its records
//! and requests are in storage in place ([`Fixed`](inflight_core::Fixed)), and nothing is spawned: the task
//! polls the stage, or awaits [`Stage::run`](inflight_core::Stage::run), which drives the stage while it
//! waits for the consumer.
//!
//! ```
//! use core::time::Duration;
//!
//! use embassy_time::Timer;
//! use inflight_core::{AsyncWait, AsyncWaitExt, Fixed};
//! use inflight_embassy::Embassy;
//! # use core::pin::pin;
//!
//! # fn readings() -> impl futures_core::Stream<Item = u32> { futures_lite::stream::iter(1..=20) }
//! // With embassy-executor this is a task: `#[embassy_executor::task]`.
//! async fn calibrate() {
//!     let policy = AsyncWait::ordered(16).timeout(Duration::from_millis(200));
//!     let stage = readings()
//!         .async_wait(policy, |raw| {
//!             let raw = *raw;
//!             async move {
//!                 Timer::after_millis(5).await; // ask the bus
//!                 Ok::<u32, ()>(raw * 2)
//!             }
//!         })
//!         .in_place_over(Embassy, Fixed::<16>)
//!         .expect("the settings make sense");
//!     let run = stage.run(|outcome| async move {
//!         assert_eq!(outcome.result, Ok(outcome.input * 2)); // or send it into a channel
//!     });
//!     run.await.expect("there is nothing to open that could fail");
//! }
//! # // Host tests have a clock that is moved by hand.
//! # let mut task = pin!(calibrate());
//! # let waker = core::task::Waker::noop();
//! # while task.as_mut().poll(&mut core::task::Context::from_waker(waker)).is_pending() {
//! #     embassy_time::MockDriver::get().advance(embassy_time::Duration::from_millis(1));
//! # }
//! ```
//!
//! # Wakers
//!
//! embassy's timers accept only the wakers of its own tasks, unless the program turns on one of the features
//! `generic-queue-*` of `embassy-time-queue-utils`. A stage over `Fixed` uses only the waker of its task. On
//! the heap, or over a [`WakeTable`](inflight_core::WakeTable), each request has a waker of its own, and the
//! first of embassy's timers would panic; so that does not compile:
//!
//! ```compile_fail
//! # use inflight_core::{AsyncWait, AsyncWaitExt, WakeTable};
//! # use inflight_embassy::Embassy;
//! # let readings = futures_lite::stream::iter(1..=20);
//! static WAKES: WakeTable<16> = WakeTable::new();
//! let stage = readings.async_wait(AsyncWait::ordered(16), |raw: &u32| std::future::ready(Ok::<u32, ()>(*raw)));
//! let stage = stage.in_place_over(Embassy, &WAKES);
//! ```
//!
//! With [`EmbassyAnyWaker`] it compiles; by that type the program states that it has turned on the feature:
//!
//! ```
//! # use inflight_core::{AsyncWait, AsyncWaitExt, WakeTable};
//! # use inflight_embassy::EmbassyAnyWaker;
//! # let readings = futures_lite::stream::iter(1..=20);
//! static WAKES: WakeTable<16> = WakeTable::new();
//! let stage = readings.async_wait(AsyncWait::ordered(16), |raw: &u32| std::future::ready(Ok::<u32, ()>(*raw)));
//! let stage = stage.in_place_over(EmbassyAnyWaker, &WAKES);
//! ```
//!
//! The program, not this crate, chooses the time driver and its timer queue, as always with
//! `embassy-time`.
#![no_std]
#![forbid(unsafe_code)]

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use embassy_time::TICK_HZ;
use inflight_core::{Instant, NoRuntime, Runtime, Timer};

/// embassy's time, with any timer queue. Its stages are in place, and their owner polls them:
/// [`in_place_over(Embassy, Fixed::<N>)`](inflight_core::StageBuilder::in_place_over). With any other storage
/// they do not compile (see [Wakers](crate#wakers)):
///
/// ```compile_fail
/// # use inflight_core::{AsyncWait, AsyncWaitExt};
/// # use inflight_embassy::Embassy;
/// # let readings = futures_lite::stream::iter(1..=20);
/// let stage = readings.async_wait(AsyncWait::ordered(16), |raw: &u32| std::future::ready(Ok::<u32, ()>(*raw)));
/// let stage = stage.in_place(Embassy);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Embassy;

impl Runtime for Embassy {
    type Timer = EmbassyTimer;

    const ANY_WAKER: bool = false;

    fn timer(&self) -> Result<EmbassyTimer, NoRuntime> {
        Ok(EmbassyTimer { armed: None })
    }
}

/// embassy's time in programs whose timers accept any waker: they turn on one of the features
/// `generic-queue-*` of `embassy-time-queue-utils`, or have a time driver with such a queue of its own.
/// Stages can use every storage. (A stage over a `WakeTable` also works with other timer queues if no request
/// waits for one of embassy's timers, because everything else in the stage is polled with the waker of its
/// task.)
///
/// # Panics
///
/// If the timers do not accept any waker, embassy panics when a stage on the heap first waits for a deadline,
/// or a request for a timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbassyAnyWaker;

impl Runtime for EmbassyAnyWaker {
    type Timer = EmbassyTimer;

    fn timer(&self) -> Result<EmbassyTimer, NoRuntime> {
        Embassy.timer()
    }
}

/// embassy's clock, counted from the start of the system, and one of its timers.
///
/// Instants are the clock's ticks. For a deadline between two ticks the timer fires at the later one.
#[derive(Debug)]
pub struct EmbassyTimer {
    armed: Option<(embassy_time::Instant, embassy_time::Timer)>,
}

impl Timer for EmbassyTimer {
    fn now(&self) -> Instant {
        Instant::from_nanos(nanos(embassy_time::Instant::now().as_ticks(), TICK_HZ))
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        self.armed = at.map(|at| {
            let ticks = ticks_rounded_up(at.as_nanos(), TICK_HZ);
            let at = embassy_time::Instant::from_ticks(ticks);
            (at, embassy_time::Timer::at(at))
        });
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some((at, timer)) = &mut self.armed else { return Poll::Pending };
        // embassy's timers are never ready at their first poll.
        let is_due = *at <= embassy_time::Instant::now();
        if !is_due && Pin::new(timer).poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.armed = None;
        Poll::Ready(())
    }
}

const NANOS: u64 = 1_000_000_000;

/// The start of a tick, at most 292 years.
const fn nanos(ticks: u64, hz: u64) -> i64 {
    if NANOS.is_multiple_of(hz) {
        // The usual case, without the code for a division.
        let nanos = ticks.saturating_mul(NANOS / hz);
        return if nanos > i64::MAX as u64 { i64::MAX } else { nanos as i64 };
    }
    let (seconds, rest) = (ticks / hz, ticks % hz);
    // The rest is less than a second, so its product is less than 2^64 up to 18 GHz.
    let nanos = seconds.saturating_mul(NANOS).saturating_add(rest * NANOS / hz);
    if nanos > i64::MAX as u64 { i64::MAX } else { nanos as i64 }
}

/// The first tick at or after an instant.
const fn ticks_rounded_up(nanos: i64, hz: u64) -> u64 {
    if nanos <= 0 {
        return 0;
    }
    if NANOS.is_multiple_of(hz) {
        return (nanos as u64).div_ceil(NANOS / hz);
    }
    let (seconds, rest) = (nanos as u64 / NANOS, nanos as u64 % NANOS);
    seconds.saturating_mul(hz).saturating_add((rest * hz).div_ceil(NANOS))
}

#[cfg(test)]
mod tests {
    use super::*;

    // T8: never early, less than a tick late, and `now` at the tick has reached the deadline.
    #[test]
    fn a_deadline_between_two_ticks_is_met_at_the_later_one() {
        for hz in [1, 10, 1_000, 32_768, 1_000_000, 72_000_000, 1_000_000_000, 5_242_880_000] {
            let tick = (NANOS / hz).max(1) as i64;
            for at in [0, 1, 2, 999, 30_517, 30_518, 1_000_001, 999_999_999, 86_400_000_000_007] {
                let ticks = ticks_rounded_up(at, hz);
                let met = nanos(ticks, hz);
                assert!(met >= at && met - at <= tick, "{at} ns at {hz} Hz: met at {met}");
                assert!(ticks == 0 || nanos(ticks - 1, hz) < at, "{at} ns at {hz} Hz: late");
            }
        }
    }

    #[test]
    fn what_is_far_off_stays_far_off() {
        assert_eq!(ticks_rounded_up(-5, 1_000), 0);
        assert_eq!(ticks_rounded_up(i64::MAX, 10_000_000_000), u64::MAX);
        assert_eq!(nanos(u64::MAX, 1), i64::MAX);
        assert!(nanos(ticks_rounded_up(i64::MAX, 32_768), 32_768) >= i64::MAX - 30_518);
    }
}
