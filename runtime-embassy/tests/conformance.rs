//! embassy's clock and timer pass the suite for runtimes, on time that the test advances.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use embassy_time::MockDriver;
use inflight_conformance::Harness;
use inflight_core::Runtime;
use inflight_embassy::{Embassy, EmbassyAnyWaker};

/// There is one clock in the process.
static CLOCK: Mutex<()> = Mutex::new(());

const TICK: embassy_time::Duration = embassy_time::Duration::from_ticks(1);

struct ByHand<Rt>(Rt);

impl<Rt: Runtime + Copy + 'static> Harness for ByHand<Rt> {
    type Runtime = Rt;

    fn run(&self, test: impl AsyncFnOnce(Rt)) {
        let _alone = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
        MockDriver::get().reset();
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&flag));
        let mut test = pin!(test(self.0));
        while test.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            while !flag.0.swap(false, Ordering::Relaxed) {
                MockDriver::get().advance(TICK);
            }
        }
    }

    fn now(&self) -> Duration {
        Duration::from_micros(embassy_time::Instant::now().as_micros())
    }

    fn resolution(&self) -> Option<Duration> {
        Some(Duration::from_micros(1))
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn embassy_is_a_runtime() {
    inflight_conformance::runtime_with_own_wakers(&ByHand(Embassy));
}

#[test] // the queue of these tests is one that accepts any waker
fn embassy_is_a_runtime_in_every_storage() {
    inflight_conformance::runtime(&ByHand(EmbassyAnyWaker));
}
