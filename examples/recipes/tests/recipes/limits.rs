//! Limits that a stage shares with others (rate limit, concurrency limit or bulkhead, load shedding): `tower::limit` and
//! `tower::load_shed`.
//!
//! Take them when the limit belongs to a client that code outside of stages uses too, or that comes as a tower service. For
//! stages alone their policy is enough. A tower service lets an attempt wait that has started already, so that the wait counts
//! against the stage's timeouts; a record that waits for the policy's own limits has not started.
//!
//! * **Rate limit**: set `max_running` to the number of requests in a period. Then no attempt waits for longer than one period.
//! * **Shared concurrency limit**: `releasing` gives back the permit of an attempt that was dropped while it waited.
//! * **Load shedding** turns the wait into an error, which the stage retries later. No attempt waits inside the service.

use std::sync::Arc;
use std::time::Duration;

use inflight::from_service;
use inflight::prelude::*;
use tokio::sync::Semaphore;
use tower::limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer, RateLimit};
use tower::load_shed::{LoadShed, error::Overloaded};
use tower::{BoxError, ServiceBuilder};

const SECOND: Duration = Duration::from_secs(1);

fn ten_a_second<S>(client: S) -> RateLimit<S> {
    ServiceBuilder::new().rate_limit(10, SECOND).service(client)
}

/// At most as many requests at once as `permits` has, over all that share it.
fn sharing<S>(permits: &Arc<Semaphore>, client: S) -> ConcurrencyLimit<S> {
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(permits.clone());
    ServiceBuilder::new().layer(limit).service(client)
}

/// The same, but refuses a request beyond the limit at once, with the error `Overloaded`.
fn shedding<S>(permits: &Arc<Semaphore>, client: S) -> LoadShed<ConcurrencyLimit<S>> {
    ServiceBuilder::new().load_shed().service(sharing(permits, client))
}

mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use futures_util::{StreamExt, future, stream};
    use tokio::time::Instant;
    use tower::service_fn;

    use super::*;
    use crate::clock::simulated;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_rate_limit_uses_up_no_timeout() {
        simulated(async {
            let start = Instant::now();
            let client = service_fn(|n: u32| async move { Ok::<_, BoxError>(n) });
            let policy = AsyncWait::ordered(100).max_running(10).timeout(2 * SECOND);
            let mut answers = stream::iter(0..50)
                .async_wait_with(policy, from_service(ten_a_second(client), |n: &u32, _| *n))
                .spawn(Tokio)
                .expect("a stage");

            let mut expected = 0..50;
            while let Some(done) = answers.next().await {
                assert_eq!(done.result.expect("within two seconds"), expected.next().unwrap());
            }
            assert_eq!(expected.len(), 0);
            assert_eq!(start.elapsed(), 4 * SECOND);
        });
    }

    #[test]
    fn two_stages_share_a_limit() {
        simulated(async {
            let permits = Arc::new(Semaphore::new(4));
            let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let stage = || {
                let (running, most) = (running.clone(), most.clone());
                let client = service_fn(move |n: u32| {
                    let (running, most) = (running.clone(), most.clone());
                    async move {
                        most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
                        tokio::time::sleep(10 * MS).await;
                        running.fetch_sub(1, Relaxed);
                        Ok::<_, BoxError>(n)
                    }
                });
                let function = from_service(sharing(&permits, client), |n: &u32, _| *n).releasing();
                let stage = stream::iter(0..100).async_wait_with(AsyncWait::ordered(20), function);
                stage.spawn(Tokio).expect("a stage")
            };

            let start = Instant::now();
            let (first, second) =
                future::join(stage().collect::<Vec<_>>(), stage().collect::<Vec<_>>()).await;
            assert_eq!((first.len(), second.len()), (100, 100));
            assert!(first.iter().chain(&second).all(|done| done.result.is_ok()));
            assert_eq!(most.load(Relaxed), 4);
            assert_eq!(start.elapsed(), 500 * MS, "all permits are in use all the time");
        });
    }

    #[test]
    fn a_refused_request_is_retried_when_others_are_done() {
        simulated(async {
            let permits = Arc::new(Semaphore::new(1));
            let start = Instant::now();
            let others = permits.clone().acquire_owned().await.expect("a permit");
            tokio::spawn(async move {
                tokio::time::sleep(SECOND).await;
                drop(others);
            });

            let client = service_fn(|n: u32| async move { Ok::<_, BoxError>(n) });
            let retry = FixedDelay::new(300 * MS)
                .max_retries(10)
                .when_error(|error: &BoxError| error.is::<Overloaded>());
            let policy = AsyncWait::ordered(10).attempt_timeout(10 * MS).retry(retry);
            let mut answers = stream::iter(0..3)
                .async_wait_with(policy, from_service(shedding(&permits, client), |n: &u32, _| *n))
                .spawn(Tokio)
                .expect("a stage");

            for expected in 0..3 {
                let done = answers.next().await.expect("three outcomes");
                assert_eq!(done.result.expect("an answer"), expected);
                assert_eq!(done.attempts, 5, "refused at 0, 300, 600 and 900 ms");
            }
            assert_eq!(start.elapsed(), 1_200 * MS);
        });
    }
}
