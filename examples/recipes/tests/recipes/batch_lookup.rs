//! One query for many records (batching, N+1 queries, `WHERE id = ANY($1)`): `sqlx`, with a stage's batches.
//!
//! Take it when the network or the server's work for a statement costs more than a row, as with nearly every lookup by
//! key: 50 records share one round trip. Pool, timeouts and retries are those of a single lookup (`database.rs`), and
//! each record keeps its own outcome, place in the order, attempts and timeout.
//!
//! * The server returns rows in any order, none for an id that it does not know, and one for an id that is asked for twice. So
//!   give each record its row **by its id**, never by its position.
//! * Without `within` a batch is what is there: without load no record waits for another, and under load the records
//!   that come while all connections are busy make the next batch.
//! * Capacity counts records, `max_running` counts queries. For full batches the capacity is at least the size of a batch times
//!   (`max_running` + 1).
//! * A failure of the query is that of each of its records, so the error has to be `Clone`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use inflight::prelude::*;
use sqlx::PgPool;

use crate::database::{CONNECTIONS, is_temporary};

/// The function of a stage: `move |batch: Batch<'_, i64>| names(pool.clone(), batch.inputs().copied().collect())`.
async fn names(
    pool: PgPool,
    articles: Vec<i64>,
) -> Result<Vec<Result<Option<String>, QueryError>>, QueryError> {
    let query = sqlx::query_as("SELECT id, name FROM articles WHERE id = ANY($1)").bind(&articles);
    let rows: Vec<(i64, String)> = query.fetch_all(&pool).await?;
    let names: HashMap<i64, String> = rows.into_iter().collect();
    Ok(articles.iter().map(|article| Ok(names.get(article).cloned())).collect())
}

/// `sqlx::Error` is not `Clone`.
type QueryError = Arc<sqlx::Error>;

fn policy() -> AsyncWait<impl RetryStrategy<i64, Option<String>, QueryError> + Send + 'static> {
    let retries = ExponentialBackoff::new(Duration::from_millis(100));
    AsyncWait::ordered(1_000)
        .max_running(CONNECTIONS as usize)
        .timeout(Duration::from_secs(30))
        .attempt_timeout(Duration::from_secs(5))
        .retry(retries.max_retries(5).when_error(|error: &QueryError| is_temporary(error)))
}

fn size() -> BatchSize {
    BatchSize::records(50)
}

mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use futures_util::stream::{self, Stream, StreamExt};
    use tokio::time::Instant;

    use super::*;
    use crate::clock::{by_hand, measured};
    use crate::database::tests::{articles, waiting};
    use crate::network::network_to;
    use crate::server::Server;

    /// Of 5,000 articles the last 500 have no row.
    const ROWS: i64 = 4_500;

    /// Ids all over the table, and each fifth one twice in a row.
    fn asked() -> impl Iterator<Item = i64> + Clone {
        (0..5_000)
            .map(|record| if record % 5 == 4 { record - 1 } else { record })
            .map(|n| n * 2_017 % 5_000)
    }

    /// Checks that each record has its own row, in order.
    async fn check(
        mut outcomes: impl Stream<Item = Outcome<i64, Option<String>, impl std::fmt::Debug>> + Unpin,
    ) {
        let mut expected = asked();
        while let Some(done) = StreamExt::next(&mut outcomes).await {
            assert_eq!(Some(done.input), expected.next());
            let row = (done.input < ROWS).then(|| format!("article {}", done.input));
            assert_eq!(done.result.expect("an answer"), row);
        }
        assert_eq!(expected.next(), None);
    }

    #[test]
    fn fifty_records_share_a_round_trip() {
        let Some(server) = Server::start() else { return };
        measured(async {
            let delay = Duration::from_millis(1);
            let pool = articles(network_to(server.port, delay).await, ROWS).await;

            let (start, client) = (Instant::now(), pool.clone());
            let one_by_one = stream::iter(asked())
                .async_wait(policy(), move |article| one_name(client.clone(), *article))
                .spawn(Tokio)
                .expect("a stage");
            check(one_by_one).await;
            let one_by_one = start.elapsed();

            let queries = Arc::new(AtomicU32::new(0));
            let (start, count) = (Instant::now(), queries.clone());
            let batched = stream::iter(asked())
                .async_wait_batch(policy().batch(size()), move |batch: Batch<'_, i64>| {
                    count.fetch_add(1, Relaxed);
                    names(pool.clone(), batch.inputs().copied().collect())
                })
                .spawn(Tokio)
                .expect("a stage");
            check(batched).await;
            let (batched, queries) = (start.elapsed(), queries.load(Relaxed));

            println!("{CONNECTIONS} connections, 1 ms to the server and 1 ms back:");
            for (how, time, queries) in
                [("one query each", one_by_one, 5_000), ("batches of 50", batched, queries)]
            {
                let (time, network) = (time.as_millis(), queries * 2 / CONNECTIONS);
                println!("{how:15} {time:5} ms, {queries:4} queries, network {network:4} ms");
            }
            assert!((100..=105).contains(&queries), "{queries} queries");
            assert!(batched * 4 < one_by_one, "{batched:?} and {one_by_one:?}");
        });
    }

    /// A lookup of one record, with the errors of a batch's.
    async fn one_name(pool: PgPool, article: i64) -> Result<Option<String>, QueryError> {
        let query = sqlx::query_scalar("SELECT name FROM articles WHERE id = $1").bind(article);
        Ok(query.fetch_optional(&pool).await?)
    }

    #[test]
    fn a_query_that_fails_is_another_attempt_of_each_of_its_records() {
        let Some(server) = Server::start() else { return };
        by_hand(async |clock| {
            let pool = articles(server.port, ROWS).await;
            let mut migration = pool.begin().await.expect("a transaction");
            let lock = sqlx::query("LOCK TABLE articles IN ACCESS EXCLUSIVE MODE");
            lock.execute(&mut *migration).await.expect("a lock");

            let stage = stream::iter(asked()).async_wait_batch(
                policy().max_running(2).batch(size()),
                move |batch: Batch<'_, i64>| names(pool.clone(), batch.inputs().copied().collect()),
            );
            let mut stage = stage.spawn(Tokio).expect("a stage");
            while waiting(&mut migration).await < 2 {}
            let terminate =
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted LIMIT 1";
            sqlx::query(terminate).execute(&mut *migration).await.expect("an administrator");
            let handle = stage.handle();
            clock.until("a query has failed", || handle.metrics().in_backoff == 50).await;
            migration.rollback().await.expect("the end of the migration");

            // In order the stage cannot go on for long before the first fifty, which are in backoff.
            clock.until("the window is done", || handle.metrics().done >= 850).await;
            clock.advance(Duration::from_millis(100)).await;
            let mut attempts = Vec::new();
            check(stage.by_ref().inspect(|done| attempts.push(done.attempts))).await;
            assert_eq!(attempts.iter().filter(|attempts| **attempts == 2).count(), 50);
            assert!(attempts.iter().all(|attempts| *attempts <= 2));
        });
    }
}
