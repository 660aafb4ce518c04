//! A rate limit and a circuit breaker from the tower family, under a stage that times out and retries.
//!
//! ```text
//! cargo run --example tower
//! ```
//!
//! A service takes 500 requests a second and is down for a while. The rate limit keeps to what it takes. When
//! five requests in a row have failed, the breaker opens: nothing is asked for 200 ms, then one request finds out whether
//! the service is back. Meanwhile attempts stand in line, the stage is full, and its source waits; the
//! attempts that had failed are retried by the stage. Nothing is lost, and a service in trouble is left alone.

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

/// What is asked: squares, except during the outage.
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
        .backpressure() // who asks an open breaker waits; without it, is refused
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
