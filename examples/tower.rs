//! A rate limit and a circuit breaker from the tower family, under a stage that times out and retries.
//!
//! ```text
//! cargo run --example tower
//! ```
//!
//! A service accepts 500 requests a second and is down for a while. The rate limit keeps below that. After
//! five failures in a row the breaker opens: it lets no request through for 200 ms, and then one request to
//! test whether the service is back. Meanwhile attempts wait in a queue, the stage is full, and its source
//! waits; the stage retries the attempts that had failed. No record is lost, and the service gets no load
//! while it is down.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::stream;
use inflight::from_service;
use inflight::prelude::*;
use tower::ServiceBuilder;
use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer};

const RECORDS: u32 = 400;
const OUTAGE: std::ops::Range<Duration> = Duration::from_millis(150)..Duration::from_millis(500);

#[derive(Debug)]
struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service is down")
    }
}

impl std::error::Error for Down {}

/// The service: it returns squares, except during the outage.
#[derive(Default)]
struct Squares {
    asked: AtomicU32,
    failed: AtomicU32,
}

impl Squares {
    async fn ask(&self, started: Instant, n: u32) -> Result<u32, Down> {
        self.asked.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
        if OUTAGE.contains(&started.elapsed()) {
            self.failed.fetch_add(1, Relaxed);
            return Err(Down);
        }
        Ok(n * n)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (started, squares) = (Instant::now(), Arc::new(Squares::default()));
    let breaker = CircuitBreakerLayer::builder()
        .consecutive_failures(5)
        .wait_duration_in_open(Duration::from_millis(200))
        .backpressure() // with this a request to an open breaker waits; without it, it is refused
        .on_state_transition(move |from, to| {
            println!("{:>5} ms: breaker {from:?} -> {to:?}", started.elapsed().as_millis());
        })
        .build()?;
    let asked = squares.clone();
    let service = ServiceBuilder::new()
        .rate_limit(5, Duration::from_millis(10))
        .layer(breaker)
        .service_fn(move |n: u32| {
            let squares = asked.clone();
            async move { squares.ask(started, n).await }
        });

    let policy = AsyncWait::ordered(20)
        .timeout(Duration::from_secs(10)) // the wait for the service counts
        .retry(ExponentialBackoff::new(Duration::from_millis(50)).max_retries(10).when_error(
            |error: &CircuitBreakerError<Down>| {
                matches!(error, CircuitBreakerError::Inner(Down) | CircuitBreakerError::OpenCircuit)
            },
        ));
    let mut answers = stream::iter(0..RECORDS)
        .async_wait_with(policy, from_service(service, |n: &u32, _| *n))
        .spawn(Tokio)?;

    let mut expected = 0..RECORDS;
    while let Some(done) = answers.next().await {
        assert_eq!(Some(done.input), expected.next(), "in order, each once");
        assert_eq!(done.result?, done.input * done.input);
    }
    let (asked, failed) = (squares.asked.load(Relaxed), squares.failed.load(Relaxed));
    println!(
        "{:>5} ms: {RECORDS} records answered in order, with {asked} requests, of which {failed} failed",
        started.elapsed().as_millis()
    );
    assert_eq!(expected.len(), 0);
    Ok(())
}
