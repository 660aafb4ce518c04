//! One query for many records (batch lookup, bulk API, N+1 queries, `WHERE id = ANY($1)`, data loader).
//!
//! ```text
//! cargo run --example batch_lookup
//! ```
//!
//! Where the round trip costs more than the row, a batch shares it. Each record stays a record of its own: with its outcome, its
//! place in the order and its retries.
//!
//! * Give each record its row by its id. A database has an order of its own, leaves out unknown ids, and returns one row
//!   for an id that was asked twice.
//! * The outer `Result` is the query's: its error is a failure of each of its records, so it has to be `Clone`. The inner one is
//!   the record's own.
//!
//! With a real database, `sqlx` and PostgreSQL: `examples/recipes/tests/recipes/batch_lookup.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures::stream;
use inflight::prelude::*;
use tokio::time::{Instant, sleep};

/// Stands for a database: 5 ms for the network, and 50 microseconds a row. It loses its third query.
#[derive(Default)]
struct Database {
    queries: AtomicU32,
}

#[derive(Clone, Debug, PartialEq)]
struct ConnectionLost;

impl Database {
    /// `SELECT id, name FROM articles WHERE id = ANY($1)`
    async fn select(&self, ids: &[u64]) -> Result<HashMap<u64, String>, ConnectionLost> {
        let number = self.queries.fetch_add(1, Relaxed);
        sleep(Duration::from_millis(5) + Duration::from_micros(50) * ids.len() as u32).await;
        if number == 2 {
            return Err(ConnectionLost);
        }
        let known = ids.iter().filter(|id| **id != 404);
        Ok(known.map(|id| (*id, format!("article {id}"))).collect())
    }
}

/// The function of a stage: as many results as there are ids, in their order. A row that is missing is an answer, not a failure.
async fn names(
    database: Arc<Database>,
    ids: Vec<u64>,
) -> Result<Vec<Result<Option<String>, ConnectionLost>>, ConnectionLost> {
    let rows = database.select(&ids).await?;
    Ok(ids.iter().map(|id| Ok(rows.get(id).cloned())).collect())
}

/// The time and the number of queries for a thousand records.
async fn run(batch: usize) -> Result<(Duration, u32), StartError> {
    let (start, database) = (Instant::now(), Arc::new(Database::default()));
    let policy = AsyncWait::ordered(400)
        .max_running(8) // connections
        .retry(FixedDelay::new(Duration::from_millis(10)).max_retries(2))
        .batch(BatchSize::records(batch));
    let connection = Arc::clone(&database);
    let mut articles = stream::iter(0..1_000_u64)
        .async_wait_batch(policy, move |batch: Batch<'_, u64>| {
            names(Arc::clone(&connection), batch.inputs().copied().collect())
        })
        .spawn(Tokio)?;

    let mut expected = 0..1_000;
    while let Some(done) = articles.next().await {
        assert_eq!(Some(done.input), expected.next(), "in order");
        let name = (done.input != 404).then(|| format!("article {}", done.input));
        assert_eq!(done.result, Ok(name));
    }
    assert_eq!(expected.next(), None);
    Ok((start.elapsed(), database.queries.load(Relaxed)))
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), StartError> {
    let (one_by_one, queries) = run(1).await?;
    println!("one query each: {:4} ms, {queries:4} queries", one_by_one.as_millis());
    assert_eq!(queries, 1_001, "one was lost");

    let (batched, queries) = run(50).await?;
    println!("batches of 50:  {:4} ms, {queries:4} queries", batched.as_millis());
    assert!(queries <= 22 && batched * 8 < one_by_one, "{batched:?} and {one_by_one:?}");
    println!("batch_lookup: PASS");
    Ok(())
}
