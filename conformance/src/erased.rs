//! A harness without the type of its runtime, so that each test is compiled once, with this crate, and not once for every
//! runtime.
//!
//! A stage knows of a runtime what the traits [`Runtime`] and [`Timer`] say, and all of that is passed on here.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use inflight_core::{Instant, NoRuntime, Runtime, Timer};

use crate::Harness;

/// Any harness. Over a runtime that accepts any waker, both values of `ANY_WAKER` say something true.
pub(crate) struct AnyHarness<'a, const ANY_WAKER: bool>(&'a dyn ErasedHarness);

impl<'a, const ANY_WAKER: bool> AnyHarness<'a, ANY_WAKER> {
    pub(crate) fn of<H: Harness>(harness: &'a H) -> Self {
        const {
            assert!(
                <H::Runtime as Runtime>::ANY_WAKER || !ANY_WAKER,
                "this runtime accepts no wakers but its own tasks': check it with `runtime_with_own_wakers`"
            );
        }
        Self(harness)
    }
}

impl<const ANY_WAKER: bool> Harness for AnyHarness<'_, ANY_WAKER> {
    type Runtime = AnyRuntime<ANY_WAKER>;

    fn run(&self, test: impl AsyncFnOnce(Self::Runtime)) {
        self.0.run(Box::new(|timers| Box::pin(test(AnyRuntime(timers)))));
    }

    fn now(&self) -> Duration {
        self.0.now()
    }

    fn resolution(&self) -> Option<Duration> {
        self.0.resolution()
    }

    fn is_one_thread(&self) -> bool {
        self.0.is_one_thread()
    }
}

type Timers = Rc<dyn Fn() -> Result<AnyTimer, NoRuntime>>;

type Test<'a> = Box<dyn FnOnce(Timers) -> Pin<Box<dyn Future<Output = ()> + 'a>> + 'a>;

trait ErasedHarness {
    fn run(&self, test: Test<'_>);
    fn now(&self) -> Duration;
    fn resolution(&self) -> Option<Duration>;
    fn is_one_thread(&self) -> bool;
}

impl<H: Harness> ErasedHarness for H {
    fn run(&self, test: Test<'_>) {
        Harness::run(self, async |runtime: H::Runtime| {
            // A harness cannot send a test's future to another thread, because it may be one that is not `Send`.
            TURNS.set(Some(Turns::of::<<H::Runtime as Runtime>::Timer>()));
            let timer = move || runtime.timer().map(|timer| AnyTimer(Box::pin(timer)));
            test(Rc::new(timer)).await;
        });
    }

    fn now(&self) -> Duration {
        Harness::now(self)
    }

    fn resolution(&self) -> Option<Duration> {
        Harness::resolution(self)
    }

    fn is_one_thread(&self) -> bool {
        Harness::is_one_thread(self)
    }
}

/// The runtime of any harness.
#[derive(Clone)]
pub(crate) struct AnyRuntime<const ANY_WAKER: bool>(Timers);

impl<const ANY_WAKER: bool> Runtime for AnyRuntime<ANY_WAKER> {
    type Timer = AnyTimer;

    const ANY_WAKER: bool = ANY_WAKER;

    fn timer(&self) -> Result<AnyTimer, NoRuntime> {
        (self.0)()
    }
}

/// The timer of any runtime.
pub(crate) struct AnyTimer(Pin<Box<dyn ErasedTimer>>);

impl Timer for AnyTimer {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        self.0.as_mut().arm(at);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }

    fn turn<T>(cx: &mut Context<'_>, turn: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let (mut turn, mut done) = (Some(turn), None);
        (Turns::of_this_thread().turn)(cx, &mut |cx| done = turn.take().map(|turn| turn(cx)));
        done.expect("a runtime has no other way to return from a turn than to run it")
    }

    fn is_budget_spent() -> bool {
        (Turns::of_this_thread().is_budget_spent)()
    }
}

trait ErasedTimer {
    fn now(&self) -> Instant;
    fn arm(self: Pin<&mut Self>, at: Option<Instant>);
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

impl<T: Timer> ErasedTimer for T {
    fn now(&self) -> Instant {
        Timer::now(self)
    }

    fn arm(self: Pin<&mut Self>, at: Option<Instant>) {
        Timer::arm(self, at);
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Timer::poll(self, cx)
    }
}

/// The functions of a timer's type, which need no value of it.
#[derive(Clone, Copy)]
struct Turns {
    turn: fn(&mut Context<'_>, &mut dyn FnMut(&mut Context<'_>)),
    is_budget_spent: fn() -> bool,
}

thread_local! {
    /// Those of the runtime whose test this thread runs.
    static TURNS: Cell<Option<Turns>> = const { Cell::new(None) };
}

impl Turns {
    fn of<T: Timer>() -> Self {
        Self { turn: |cx, turn| T::turn(cx, turn), is_budget_spent: T::is_budget_spent }
    }

    fn of_this_thread() -> Self {
        TURNS.get().expect("a test polls its stages on the thread that runs it")
    }
}
