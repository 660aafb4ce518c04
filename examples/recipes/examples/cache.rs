//! A cache in front of a service, whose equal lookups join (memoization, request coalescing, single flight, no thundering herd): `moka`.
//!
//! ```text
//! cargo run -p inflight-recipes --example cache
//! ```
//!
//! Take it when many records ask the same question. The cache stands inside the function, so every record keeps its own
//! outcome, order, timeout and retries; only the requests become fewer. Records in flight at the same time join too, which
//! a cache alone (look, ask, store) does not do: with 100 in flight it would ask 100 times for a new key.
//!
//! An error is not stored. All records that have joined the request get it, in an `Arc`; each is retried by the stage, and
//! their next attempts join again. If the record that asks times out, another one that waits asks in its place. Bound the
//! cache (`max_capacity`), and give answers that change a `time_to_live`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures_util::stream;
use inflight::prelude::*;
use moka::future::Cache;

#[derive(Debug)]
pub(crate) struct ServiceError;

/// The function of a stage: asks the cache, which asks `ask` once for all records with this key.
pub(crate) async fn cached<Ask>(
    cache: Cache<u32, String>,
    key: u32,
    ask: Ask,
) -> Result<String, Arc<ServiceError>>
where
    Ask: Future<Output = Result<String, ServiceError>>,
{
    cache.try_get_with(key, ask).await
}

/// Stands for a service that has a name for each key. It counts its requests.
async fn name(asked: Arc<AtomicU32>, key: u32) -> Result<String, ServiceError> {
    asked.fetch_add(1, Relaxed);
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(format!("name {key}"))
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), StartError> {
    let cache =
        Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(300)).build();
    let requests = Arc::new(AtomicU32::new(0));
    let asked = Arc::clone(&requests);
    let mut names = stream::iter(0..1_000_u32)
        .async_wait(AsyncWait::ordered(100), move |record| {
            let key = *record % 10;
            cached(cache.clone(), key, name(Arc::clone(&asked), key))
        })
        .spawn(Tokio)?;

    let mut expected = 0..1_000;
    while let Some(done) = names.next().await {
        assert_eq!(Some(done.input), expected.next(), "each record has its own outcome");
        assert_eq!(done.ok(), Some(format!("name {}", (999 - expected.len()) % 10)));
    }
    assert_eq!((expected.len(), requests.load(Relaxed)), (0, 10));
    println!("cache: PASS, 1000 records over 10 keys made 10 requests");
    Ok(())
}
