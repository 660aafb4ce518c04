//! The parts of the tests, independent of the runtime.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{Runtime, Timer};

use crate::Harness;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// The capacity of every storage in place.
pub(crate) const SLOTS: usize = 12;

/// Runs tests in every storage: `with_any_waker` in those that poll each request with a waker of its own, and
/// `with_the_tasks_waker` in the one that polls every request with the task's waker.
macro_rules! in_every_storage {
    ($($test:ident),+) => {
        pub(crate) fn with_any_waker(harness: &crate::erased::AnyHarness<'_, true>) {
            $(crate::kit::run(harness, stringify!($test), async |runtime| {
                $test(harness, runtime, inflight_core::Heap).await;
            });)+
            $(crate::kit::run(harness, stringify!($test), async |runtime| {
                let table = Box::leak(Box::<inflight_core::WakeTable<{ crate::kit::SLOTS }>>::default());
                $test(harness, runtime, &*table).await;
            });)+
        }

        pub(crate) fn with_the_tasks_waker(harness: &crate::erased::AnyHarness<'_, false>) {
            $(crate::kit::run(harness, stringify!($test), async |runtime| {
                $test(harness, runtime, inflight_core::Fixed::<{ crate::kit::SLOTS }>).await;
            });)+
        }
    };
}
pub(crate) use in_every_storage;

/// The errors of the tests' requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refused;

/// The numbers from 1 to `count`.
pub(crate) fn numbers(most: u32) -> Numbers {
    Numbers { next: 1, most }
}

#[derive(Clone, Debug)]
pub struct Numbers {
    next: u32,
    most: u32,
}

impl Stream for Numbers {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        let number = self.next;
        if number > self.most {
            return Poll::Ready(None);
        }
        self.next += 1;
        Poll::Ready(Some(number))
    }
}

/// A counter that wakes the tasks waiting for a count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<Mutex<(usize, Vec<Waker>)>>);

impl Counter {
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn up(&self) {
        let wakers = {
            let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            inner.0 += 1;
            std::mem::take(&mut inner.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until the counter has reached `count`.
    pub(crate) fn reaches(&self, count: usize) -> impl Future<Output = ()> + Send + use<> {
        let this = self.clone();
        poll_fn(move |cx| {
            let mut inner = this.0.lock().unwrap_or_else(PoisonError::into_inner);
            if inner.0 >= count {
                return Poll::Ready(());
            }
            inner.1.push(cx.waker().clone());
            Poll::Pending
        })
    }

    /// Increments a counter when it is dropped.
    pub(crate) fn guard(&self) -> UpOnDrop {
        UpOnDrop(self.clone())
    }
}

pub(crate) struct UpOnDrop(Counter);

impl Drop for UpOnDrop {
    fn drop(&mut self) {
        self.0.up();
    }
}

/// The current number of guards, and the largest number so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    pub(crate) fn enter(&self) -> LeaveOnDrop {
        let now = 1 + self.0.0.fetch_add(1, Ordering::SeqCst);
        self.0.1.fetch_max(now, Ordering::SeqCst);
        LeaveOnDrop(self.clone())
    }

    /// The largest number since the last call.
    pub(crate) fn take_most(&self) -> usize {
        self.0.1.swap(self.0.0.load(Ordering::SeqCst), Ordering::SeqCst)
    }
}

pub(crate) struct LeaveOnDrop(Gauge);

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits with one of the runtime's timers.
pub(crate) async fn sleep<T: Timer>(timer: T, time: Duration) {
    let mut timer = pin!(timer);
    let at = timer.now() + time;
    timer.as_mut().arm(Some(at));
    poll_fn(|cx| timer.as_mut().poll(cx)).await;
}

pub(crate) fn timer<Rt: Runtime>(runtime: &Rt) -> Rt::Timer {
    runtime.timer().expect("the harness runs the test inside the runtime")
}

/// Runs a test to its end, and panics if it hangs.
pub(crate) fn run<H: Harness>(harness: &H, what: &str, test: impl AsyncFnOnce(H::Runtime)) {
    harness.run(async |runtime: H::Runtime| {
        let mut stuck = pin!(sleep(timer(&runtime), Duration::from_secs(30)));
        let mut test = pin!(test(runtime));
        poll_fn(|cx| {
            if test.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            assert!(stuck.as_mut().poll(cx).is_pending(), "stuck: {what}");
            Poll::Pending
        })
        .await;
    });
}

/// True if an operation took `time` by the harness's clock: never less, and where time is virtual not more
/// than its resolution allows. (Time may pass while a task yields, as before a deadline is judged.)
#[track_caller]
pub(crate) fn assert_took<H: Harness>(harness: &H, start: Duration, time: Duration, what: &str) {
    let took = harness.now() - start;
    assert!(took >= time, "{what}: took {took:?}, which is early for {time:?}");
    if let Some(resolution) = harness.resolution() {
        assert!(took < time + 3 * resolution, "{what}: took {took:?}, which is late for {time:?}");
    }
}

/// A waker that counts.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
