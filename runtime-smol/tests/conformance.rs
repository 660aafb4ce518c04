//! smol passes the suite for runtimes, on the system's time.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use async_executor::{Executor, LocalExecutor};
use futures_lite::future::block_on;
use inflight_conformance::Harness;
use inflight_core::{Runtime, Timer};
use inflight_smol::{Smol, SmolLocal};

struct Threads(Instant);

impl Harness for Threads {
    type Runtime = Smol<&'static Executor<'static>>;

    /// On an executor that two threads run.
    fn run(&self, test: impl AsyncFnOnce(Smol<&'static Executor<'static>>)) {
        let executor: &'static Executor<'static> = Box::leak(Box::new(Executor::new()));
        let (stop, stopped) = async_channel::bounded::<()>(1);
        let other = std::thread::spawn(move || block_on(executor.run(stopped.recv())));
        block_on(executor.run(test(Smol(executor))));
        drop(stop);
        let _ = other.join().expect("it runs tasks, and their panics are caught");
    }

    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn resolution(&self) -> Option<Duration> {
        None
    }
}

/// On an executor that only the test's thread runs.
struct OneThread(Instant);

impl Harness for OneThread {
    type Runtime = Smol<&'static Executor<'static>>;

    fn run(&self, test: impl AsyncFnOnce(Smol<&'static Executor<'static>>)) {
        let executor: &'static Executor<'static> = Box::leak(Box::new(Executor::new()));
        block_on(executor.run(test(Smol(executor))));
    }

    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn resolution(&self) -> Option<Duration> {
        None
    }

    fn is_one_thread(&self) -> bool {
        true
    }
}

struct Local(Instant);

impl Harness for Local {
    type Runtime = SmolLocal<&'static LocalExecutor<'static>>;

    fn run(&self, test: impl AsyncFnOnce(SmolLocal<&'static LocalExecutor<'static>>)) {
        let executor: &'static LocalExecutor<'static> = Box::leak(Box::new(LocalExecutor::new()));
        block_on(executor.run(test(SmolLocal(executor))));
    }

    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn resolution(&self) -> Option<Duration> {
        None
    }
}

#[test]
fn smol_is_a_runtime() {
    let harness = Threads(Instant::now());
    inflight_conformance::runtime(&harness);
    inflight_conformance::spawner(&harness);
}

#[test]
fn smol_is_a_runtime_on_one_thread() {
    let harness = OneThread(Instant::now());
    inflight_conformance::runtime(&harness);
    inflight_conformance::spawner(&harness);
}

#[test]
fn smol_is_a_runtime_for_local_futures() {
    inflight_conformance::runtime(&Local(Instant::now()));
}

// T6, rule 6 of timers: other events are only delivered when the reactor has run.
#[test]
fn a_timer_is_ready_when_the_reactor_has_come_to_it() {
    let executor = Executor::new();
    let mut timer = pin!(Smol(&executor).timer().expect("everywhere"));
    for at in [timer.now(), inflight_core::Instant::ZERO] {
        timer.as_mut().arm(Some(at));
        let first = timer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(first.is_pending(), "ready by the clock");
        block_on(poll_fn(|cx| timer.as_mut().poll(cx)));
    }
}
