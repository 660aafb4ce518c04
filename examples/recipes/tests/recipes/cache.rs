//! A cache in front of a service, whose equal lookups join (request coalescing, single flight, no thundering herd): `moka`.
//!
//! Take it when many records ask the same question. The cache stands inside the function, so every record keeps its own
//! outcome, order, timeout and retries; only the requests become fewer. Records in flight at the same time join too, which
//! a cache alone (look, ask, store) does not do: with 100 in flight it would ask 100 times for a new key.
//!
//! An error is not stored. All records that have joined the request get it, in an `Arc`; each is retried by the stage, and
//! their next attempts join again. If the record that asks times out, another one that waits asks in its place. Bound the
//! cache (`max_capacity`), and give answers that change a `time_to_live`.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures_util::stream;
use inflight::prelude::*;
use moka::future::Cache;
use tokio::time::{Instant, sleep_until};

use crate::clock::simulated;

/// The function of a stage: asks the cache, which asks `ask` once for all records with this key.
async fn cached<Ask>(
    cache: Cache<u32, String>,
    key: u32,
    ask: Ask,
) -> Result<String, Arc<ServiceError>>
where
    Ask: Future<Output = Result<String, ServiceError>>,
{
    cache.try_get_with(key, ask).await
}

#[derive(Debug)]
struct ServiceError;

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
fn a_thousand_records_over_ten_keys_make_ten_requests() {
    simulated(async {
        let (cache, service) = (Cache::new(1_000), Service::default());
        let asked = service.asked.clone();
        let mut names = stream::iter(0..1_000_u32)
            .async_wait(AsyncWait::ordered(100), move |record| {
                let key = *record % 10;
                cached(cache.clone(), key, service.clone().name(key))
            })
            .spawn(Tokio)
            .expect("a stage");

        let mut expected = 0..1_000;
        while let Some(done) = names.next().await {
            assert_eq!(Some(done.input), expected.next(), "each record has its own outcome");
            assert_eq!(done.result.expect("a name"), format!("name {}", done.input % 10));
        }
        assert_eq!(expected.len(), 0);
        assert_eq!(asked.load(Relaxed), 10);
    });
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
