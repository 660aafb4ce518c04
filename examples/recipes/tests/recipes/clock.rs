//! tokio's clock in the hands of the tests.

use std::future::Future;
use std::sync::mpsc::{Sender, channel};
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

/// Runs a test whose clock stands still until the test moves it, so no timer fires while a real network is slow.
pub fn by_hand<T>(test: impl AsyncFnOnce(Clock) -> T) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async { test(Clock::stand_still()).await })
}

/// A clock that stands still until [`advance`](Self::advance) moves it.
pub struct Clock {
    _still: Sender<()>,
}

impl Clock {
    /// A paused clock moves by itself only while nothing blocks a thread, so a thread blocks until this is dropped.
    fn stand_still() -> Self {
        let (still, dropped) = channel::<()>();
        tokio::task::spawn_blocking(move || dropped.recv());
        Self { _still: still }
    }

    pub async fn advance(&self, time: Duration) {
        tokio::time::advance(time).await;
    }

    /// Lets everything run until something has happened.
    pub async fn until(&self, what: &str, mut has_happened: impl FnMut() -> bool) {
        let start = Instant::now();
        while !has_happened() {
            assert!(start.elapsed() < Duration::from_secs(60), "this does not happen: {what}");
            tokio::task::yield_now().await;
        }
    }
}
