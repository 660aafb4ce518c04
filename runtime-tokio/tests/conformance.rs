//! tokio passes the suite for runtimes: on one thread with its paused clock, on one and on several threads
//! with the system's.

use std::cell::Cell;
use std::time::Duration;

use inflight_conformance::Harness;
use inflight_tokio::{Tokio, TokioLocal};
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::Instant;

/// One thread, and time that passes when no task is ready.
#[derive(Default)]
struct CurrentThread;

impl Harness for CurrentThread {
    type Runtime = Tokio;

    fn run(&self, test: impl AsyncFnOnce(Tokio)) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            start();
            test(Tokio).await;
        });
    }

    fn now(&self) -> Duration {
        since_start()
    }

    fn resolution(&self) -> Option<Duration> {
        RESOLUTION
    }
}

/// The same, for futures that are not `Send`.
struct Local;

impl Harness for Local {
    type Runtime = TokioLocal;

    fn run(&self, test: impl AsyncFnOnce(TokioLocal)) {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        LocalSet::new().block_on(&runtime.expect("a runtime"), async {
            start();
            test(TokioLocal).await;
        });
    }

    fn now(&self) -> Duration {
        since_start()
    }

    fn resolution(&self) -> Option<Duration> {
        RESOLUTION
    }
}

/// One thread, and the system's time.
struct RealTime;

impl Harness for RealTime {
    type Runtime = Tokio;

    fn run(&self, test: impl AsyncFnOnce(Tokio)) {
        let runtime = Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            start();
            test(Tokio).await;
        });
    }

    fn now(&self) -> Duration {
        since_start()
    }

    fn resolution(&self) -> Option<Duration> {
        None
    }

    fn is_one_thread(&self) -> bool {
        true
    }
}

/// Several threads, and the system's time.
struct MultiThread;

impl Harness for MultiThread {
    type Runtime = Tokio;

    fn run(&self, test: impl AsyncFnOnce(Tokio)) {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build();
        runtime.expect("a runtime").block_on(async {
            start();
            test(Tokio).await;
        });
    }

    fn now(&self) -> Duration {
        since_start()
    }

    fn resolution(&self) -> Option<Duration> {
        None
    }
}

/// tokio's timers fire at milliseconds.
const RESOLUTION: Option<Duration> = Some(Duration::from_millis(1));

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn start() {
    START.set(Some(Instant::now()));
}

/// By the runtime's clock, paused or not.
fn since_start() -> Duration {
    START.get().expect("a test has begun").elapsed()
}

#[test]
fn tokio_is_a_runtime_on_one_thread() {
    inflight_conformance::runtime(&CurrentThread);
    inflight_conformance::spawner(&CurrentThread);
}

#[test]
fn tokio_is_a_runtime_on_one_thread_in_real_time() {
    inflight_conformance::runtime(&RealTime);
    inflight_conformance::spawner(&RealTime);
}

#[test]
fn tokio_is_a_runtime_in_a_local_set() {
    inflight_conformance::runtime(&Local);
    inflight_conformance::spawner(&Local);
}

#[test]
fn tokio_is_a_runtime_on_several_threads() {
    inflight_conformance::runtime(&MultiThread);
    inflight_conformance::spawner(&MultiThread);
}
