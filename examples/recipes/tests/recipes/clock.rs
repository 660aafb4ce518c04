//! tokio's clock in the hands of the tests.

use std::future::Future;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Runs a test in simulated time, which passes by itself whenever everything waits for a timer.
pub fn simulated<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let limit = tokio::time::timeout(Duration::from_secs(3600), test);
        limit.await.expect("nothing hangs for an hour of simulated time")
    })
}

/// Runs a test in real time, for what it measures.
pub fn measured<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(5 * PATIENCE, test).await.expect("nothing hangs for minutes")
    })
}

/// Runs a test whose clock stands still until the test moves it, so no timer fires while a real network is slow.
pub fn by_hand<T>(test: impl AsyncFnOnce(Clock) -> T) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        // A paused clock moves by itself only while tokio knows of no thread that is busy: this one is.
        let (_end, ended) = channel::<()>();
        let still = tokio::task::spawn_blocking(move || ended.recv_timeout(PATIENCE));
        tokio::select! {
            result = test(Clock(())) => result,
            _ = still => panic!("the test hangs"),
        }
    })
}

/// Real time: long for what needs some milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A clock that stands still until [`advance`](Self::advance) moves it.
pub struct Clock(());

impl Clock {
    pub async fn advance(&self, time: Duration) {
        tokio::time::advance(time).await;
    }

    /// Lets everything run until something has happened.
    pub async fn until(&self, what: &str, mut has_happened: impl FnMut() -> bool) {
        let start = Instant::now();
        while !has_happened() {
            assert!(start.elapsed() < PATIENCE / 2, "this does not happen: {what}");
            tokio::task::yield_now().await;
        }
    }
}
