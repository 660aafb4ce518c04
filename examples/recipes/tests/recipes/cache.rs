//! What the program `cache` promises of errors and timeouts.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures_util::stream;
use inflight::prelude::*;
use moka::future::Cache;
use tokio::time::{Instant, sleep_until};

use self::program::{ServiceError, cached};
use crate::clock::simulated;

#[path = "../../examples/cache.rs"]
#[allow(dead_code, reason = "it is a program")]
mod program;

/// Has a name for each key, after 20 ms.
#[derive(Clone, Default)]
struct Service {
    asked: Arc<AtomicU32>,
    fail_first: u32,
    hang_first: u32,
}

impl Service {
    async fn name(self, key: u32) -> Result<String, ServiceError> {
        let number = self.asked.fetch_add(1, Relaxed);
        if number < self.hang_first {
            pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        if number < self.fail_first { Err(ServiceError) } else { Ok(format!("name {key}")) }
    }
}

#[test]
fn an_error_reaches_all_that_have_joined_and_is_not_kept() {
    simulated(async {
        // The first request for each of the ten keys fails.
        let (cache, service) =
            (Cache::new(1_000), Service { fail_first: 10, ..Service::default() });
        let asked = service.asked.clone();
        let retry = FixedDelay::new(Duration::from_millis(10)).max_retries(1);
        let mut names = stream::iter(0..1_000_u32)
            .async_wait(AsyncWait::unordered(100).retry(retry), move |record| {
                let key = *record % 10;
                cached(cache.clone(), key, service.clone().name(key))
            })
            .spawn(Tokio)
            .expect("a stage");

        let mut retried = 0;
        while let Some(done) = names.next().await {
            done.result.expect("the second request has an answer");
            retried += u32::from(done.attempts == 2);
        }
        assert_eq!(asked.load(Relaxed), 20, "the second attempts have joined too");
        assert_eq!(retried, 100, "those that were in flight at first");
    });
}

#[test]
fn if_the_record_that_asks_times_out_another_one_asks() {
    simulated(async {
        let start = Instant::now();
        let (cache, service) = (Cache::new(1_000), Service { hang_first: 1, ..Service::default() });
        let asked = service.asked.clone();
        // The second record comes half a second after the first.
        let records = stream::unfold(0_u32, move |record| async move {
            sleep_until(start + Duration::from_millis(500) * record).await;
            (record < 2).then_some((record, record + 1))
        });
        let policy = AsyncWait::unordered(10).timeout(Duration::from_secs(1));
        let mut names = Box::pin(records)
            .async_wait(policy, move |_| cached(cache.clone(), 7, service.clone().name(7)))
            .spawn(Tokio)
            .expect("a stage");

        let first = names.next().await.expect("two outcomes");
        assert_eq!((first.input, first.result.is_err()), (0, true));
        let second = names.next().await.expect("two outcomes");
        assert_eq!((second.input, second.result.expect("a name").as_str()), (1, "name 7"));
        assert_eq!(start.elapsed(), Duration::from_millis(1_020));
        assert_eq!(asked.load(Relaxed), 2);
    });
}
