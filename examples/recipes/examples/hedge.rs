//! Hedged requests (backup requests, speculative retries) against a slow tail: `tower::hedge`.
//!
//! ```text
//! cargo run -p inflight-recipes --example hedge
//! ```
//!
//! Take it when most answers of a service are fast, and a few take far longer for a reason that a second request does not
//! meet (another replica, another connection). A request that takes longer than 95 of 100 is made a second time; the first
//! answer counts, and the other request is dropped. It pays most in an ordered stage, where every record waits for the
//! slowest one before it.
//!
//! Only for requests that may be made twice. The stage sees one attempt, with one place in `max_running` and one attempt
//! timeout around both requests. Hedges begin when the latencies of one `period` are known. If the service becomes
//! slow altogether, nearly every request would be made twice: the budget bounds the hedges to one for ten requests.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream;
use inflight::from_service;
use inflight::prelude::*;
use tower::hedge::{Hedge, Policy};
use tower::retry::budget::{Budget, TpsBudget};
use tower::{BoxError, Service, service_fn};

/// The service of a stage (`from_service(hedged(client, ..), ..)`), with one hedge for ten requests at most.
fn hedged<S, Request>(service: S, period: Duration) -> Hedge<S, OneInTen>
where
    S: Service<Request> + Clone,
    S::Error: Into<BoxError>,
    Request: Clone,
{
    let (min_data_points, percentile) = (100, 0.95);
    Hedge::new(service, OneInTen::new(), min_data_points, percentile, period)
}

#[derive(Clone)]
struct OneInTen(Arc<TpsBudget>);

impl OneInTen {
    fn new() -> Self {
        Self(Arc::new(TpsBudget::new(Duration::from_secs(10), 1, 0.1)))
    }
}

impl<Request: Clone> Policy<Request> for OneInTen {
    /// Called for each request.
    fn clone_request(&self, request: &Request) -> Option<Request> {
        self.0.deposit();
        Some(request.clone())
    }

    /// Called for each request that has become slow.
    fn can_retry(&self, _: &Request) -> bool {
        self.0.withdraw()
    }
}

pub(crate) const RECORDS: u32 = 5_000;
/// The records before it fill the histogram with latencies of 10 to 29 ms, and take a little longer than its period.
const FIRST_SLOW: u32 = 3_300;

/// The milliseconds of a request that is slow, from its record and whether it is the second one.
type Slow = fn(u32, bool) -> Option<u32>;

/// Stands for a service of several replicas.
#[derive(Default)]
struct Replicas {
    requests: AtomicU32,
    asked_before: Mutex<HashSet<u32>>,
}

impl Replicas {
    async fn ask(self: Arc<Self>, record: u32, slow: Slow) -> Result<u32, BoxError> {
        self.requests.fetch_add(1, Relaxed);
        let is_second = !self.asked_before.lock().expect("no panic").insert(record);
        let slow = slow(record, is_second).filter(|_| record >= FIRST_SLOW);
        let millis = slow.unwrap_or(10 + record % 20);
        tokio::time::sleep(Duration::from_millis(millis.into())).await;
        Ok(record)
    }
}

/// The longest call among those that may be slow, and the number of requests for all records.
pub(crate) async fn longest_call(slow: Slow) -> Result<(Duration, u32), StartError> {
    let replicas = Arc::new(Replicas::default());
    let asked = Arc::clone(&replicas);
    let client = service_fn(move |record| Arc::clone(&asked).ask(record, slow));
    let service = hedged(client, Duration::from_secs(1));
    let mut answers = stream::iter(0..RECORDS)
        .async_wait_with(AsyncWait::unordered(60), from_service(service, |record: &u32, _| *record))
        .spawn(Tokio)?;

    let mut longest = Duration::ZERO;
    while let Some(done) = answers.next().await {
        assert_eq!((done.result.expect("an answer"), done.attempts), (done.input, 1));
        longest = longest.max(if done.input < FIRST_SLOW { Duration::ZERO } else { done.elapsed });
    }
    assert_eq!(answers.metrics().emitted, u64::from(RECORDS));
    Ok((longest, replicas.requests.load(Relaxed)))
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), StartError> {
    // One replica takes a second for every fiftieth record.
    let slow =
        |record: u32, is_second: bool| (record.is_multiple_of(50) && !is_second).then_some(1_000);
    let (longest, requests) = longest_call(slow).await?;
    println!("longest call {longest:?}, {requests} requests for {RECORDS} records");
    assert!(longest < Duration::from_millis(65), "without hedges it is a second");
    assert!(requests < RECORDS * 11 / 10);
    println!("hedge: PASS");
    Ok(())
}
