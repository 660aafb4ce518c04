//! The rules of a runtime for inflight, as tests that run on any runtime.
//!
//! Implement [`Harness`] for a runtime and call [`runtime`]; if it also spawns, call [`spawner`]. Both panic
//! at the first violation. inflight's own runtimes run the same tests.
//!
//! ```
//! # use std::{cell::RefCell, collections::BTreeMap, pin::{Pin, pin}, rc::Rc, task::{Context, Poll, Waker}, time::Duration};
//! # use inflight_core::{Instant, NoRuntime, Runtime, Timer};
//! use inflight_conformance::Harness;
//!
//! # #[derive(Clone, Default)]
//! # struct Virtual(Rc<RefCell<Time>>);
//! # #[derive(Default)]
//! # struct Time { now: i64, timers: u32, waiting: BTreeMap<u32, (i64, Waker)> }
//! # impl Virtual {
//! #     fn due(&self) -> Option<Waker> {
//! #         let Time { now, waiting, .. } = &mut *self.0.borrow_mut();
//! #         let timer = *waiting.iter().find(|(_, (at, _))| at <= now)?.0;
//! #         waiting.remove(&timer).map(|(_, waker)| waker)
//! #     }
//! # }
//! # struct VirtualTimer(Virtual, u32, Option<i64>);
//! # impl Runtime for Virtual {
//! #     type Timer = VirtualTimer;
//! #     fn timer(&self) -> Result<VirtualTimer, NoRuntime> {
//! #         self.0.borrow_mut().timers += 1;
//! #         Ok(VirtualTimer(self.clone(), self.0.borrow().timers, None))
//! #     }
//! # }
//! # impl Timer for VirtualTimer {
//! #     fn now(&self) -> Instant { Instant::from_nanos(self.0.0.borrow().now) }
//! #     fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) { self.2 = at.map(Instant::as_nanos); }
//! #     fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
//! #         let Some(at) = self.2 else { return Poll::Pending };
//! #         if at <= self.0.0.borrow().now { self.2 = None; return Poll::Ready(()); }
//! #         self.0.0.borrow_mut().waiting.insert(self.1, (at, cx.waker().clone()));
//! #         Poll::Pending
//! #     }
//! # }
//! struct OnVirtualTime(Virtual);
//!
//! impl Harness for OnVirtualTime {
//!     type Runtime = Virtual;
//!
//!     fn run(&self, test: impl AsyncFnOnce(Virtual)) {
//!         let mut test = pin!(test(self.0.clone()));
//!         let mut cx = Context::from_waker(Waker::noop());
//!         while test.as_mut().poll(&mut cx).is_pending() {
//!             // Polled for nothing, and time passes: rough, but it gets there.
//!             self.0.0.borrow_mut().now += 1_000;
//! #           while let Some(waker) = self.0.due() { waker.wake() }
//!         }
//!     }
//!
//!     fn now(&self) -> Duration {
//!         Duration::from_nanos(self.0.0.borrow().now as u64)
//!     }
//!
//!     fn resolution(&self) -> Option<Duration> {
//!         Some(Duration::from_micros(1))
//!     }
//! }
//!
//! inflight_conformance::runtime(&OnVirtualTime(Virtual::default()));
//! ```
#![forbid(unsafe_code)]

mod busy;
mod erased;
mod in_place;
mod kit;
mod run;
mod spawned;
mod starts;
mod timers;

use std::time::Duration;

use inflight_core::Runtime;

use self::erased::AnyHarness;
pub use self::spawned::{Ask, Job, Lookup, Request, Spawns, StageOf, StageWithTasksOf, spawner};

/// Runs tests on a runtime.
pub trait Harness {
    /// The runtime to test.
    type Runtime: Runtime + Clone + 'static;

    /// Runs a test to its end. Where time is virtual, it passes while the test waits.
    ///
    /// A panic in the test must propagate out of this method.
    fn run(&self, test: impl AsyncFnOnce(Self::Runtime));

    /// The time by another clock than the runtime's own timers, counted from any moment; not called before
    /// the first [`run`](Self::run) has begun.
    fn now(&self) -> Duration;

    /// Where time is virtual, the most that a timer may be late: its clock's resolution. `None` where time
    /// passes by itself: then no timer is too late.
    fn resolution(&self) -> Option<Duration>;

    /// True if one thread runs the test and all tasks, in the order in which they were woken. Then an answer
    /// that arrives in time by way of a request's own task, while that thread is busy, is not late (T6), and
    /// the suite checks that where time passes by itself.
    fn is_one_thread(&self) -> bool {
        false
    }
}

/// Checks a runtime: its timers, stages that are polled in place, and stages that are run with their
/// consumer, in every storage. This does not compile for a runtime that accepts only the wakers of its own
/// tasks ([`Runtime::ANY_WAKER`]):
///
/// ```compile_fail,E0080
/// # use std::{pin::Pin, task::{Context, Poll}, time::Duration};
/// # use inflight_core::{Instant, NoRuntime, Runtime, Timer};
/// # use inflight_conformance::Harness;
/// #[derive(Clone)]
/// struct OwnWakers;
///
/// impl Runtime for OwnWakers {
///     type Timer = Never;
///     const ANY_WAKER: bool = false;
///     // ..
/// #   fn timer(&self) -> Result<Never, NoRuntime> { Err(NoRuntime) }
/// }
/// # struct Never;
/// # impl Timer for Never {
/// #     fn now(&self) -> Instant { Instant::ZERO }
/// #     fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}
/// #     fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
/// # }
/// # struct OnOwnWakers;
/// # impl Harness for OnOwnWakers {
/// #     type Runtime = OwnWakers;
/// #     fn run(&self, _: impl AsyncFnOnce(OwnWakers)) {}
/// #     fn now(&self) -> Duration { Duration::ZERO }
/// #     fn resolution(&self) -> Option<Duration> { None }
/// # }
///
/// inflight_conformance::runtime(&OnOwnWakers);
/// ```
///
/// # Panics
///
/// If the runtime violates a rule.
pub fn runtime<H: Harness>(harness: &H) {
    with_the_tasks_waker(&AnyHarness::of(harness));
    with_any_waker(&AnyHarness::of(harness));
}

/// The same for a runtime that accepts only the wakers of its own tasks: its stages use no others.
///
/// # Panics
///
/// If the runtime violates a rule.
pub fn runtime_with_own_wakers<H: Harness>(harness: &H) {
    with_the_tasks_waker(&AnyHarness::of(harness));
}

fn with_the_tasks_waker(harness: &AnyHarness<'_, false>) {
    timers::with_the_tasks_waker(harness);
    in_place::with_the_tasks_waker(harness);
    run::with_the_tasks_waker(harness);
    starts::with_the_tasks_waker(harness);
    busy::with_the_tasks_waker(harness);
}

fn with_any_waker(harness: &AnyHarness<'_, true>) {
    timers::with_any_waker(harness);
    in_place::with_any_waker(harness);
    run::with_any_waker(harness);
    starts::with_any_waker(harness);
    busy::with_any_waker(harness);
}
