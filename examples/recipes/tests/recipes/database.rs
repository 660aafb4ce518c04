//! A lookup in PostgreSQL for every record (database, connection pool): `sqlx`.
//!
//! Take it with any pool. Two numbers have to agree: `max_running` is the number of the pool's connections, so that records wait for
//! a connection in the stage, where that uses up no timeout. The capacity may be far larger: in order, it is what a slow
//! query may hold up.
//!
//! * A query that times out goes on in the server, and keeps its connection until it ends. Give the server a
//!   `statement_timeout` that is a little shorter than the stage's `attempt_timeout`.
//! * Connections that broke and servers that restart are worth another attempt; a wrong statement is not.
//! * A row that is missing is an answer (`Option`), and not a failure.

use std::time::Duration;

use inflight::prelude::*;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

pub const CONNECTIONS: u32 = 8;

/// `statement_timeout` is "4500ms" for the policy below.
async fn pool(server: PgConnectOptions, statement_timeout: &str) -> Result<PgPool, sqlx::Error> {
    let server = server.options([("statement_timeout", statement_timeout)]);
    PgPoolOptions::new().max_connections(CONNECTIONS).connect_with(server).await
}

/// The function of a stage: `move |article| name(pool.clone(), *article)`.
async fn name(pool: PgPool, article: i64) -> Result<Option<String>, sqlx::Error> {
    let query = sqlx::query_scalar("SELECT name FROM articles WHERE id = $1").bind(article);
    query.fetch_optional(&pool).await
}

fn policy() -> AsyncWait<impl RetryStrategy<i64, Option<String>, sqlx::Error> + Send + 'static> {
    let retries = ExponentialBackoff::new(Duration::from_millis(100));
    AsyncWait::unordered(100)
        .max_running(CONNECTIONS as usize)
        .timeout(Duration::from_secs(30))
        .attempt_timeout(Duration::from_secs(5))
        .retry(retries.max_retries(5).when_error(is_temporary))
}

pub fn is_temporary(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        // 08: the connection broke; 40: a conflict or deadlock; 53: too many connections; 57: cancelled, or the server stops.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

pub mod tests {
    use futures_util::stream;
    use sqlx::PgConnection;
    use sqlx::postgres::PgSslMode;

    use super::*;
    use crate::clock::{Clock, by_hand};
    use crate::server::Server;

    /// A pool for the server at `port`, with a table of the articles from 0 on. The server's real time must not disturb a clock that
    /// stands still.
    pub async fn articles(port: u16, count: i64) -> PgPool {
        let server = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port);
        let server = server.username("postgres").database("postgres").ssl_mode(PgSslMode::Disable);
        let pool = pool(server, "1h").await.expect("a connection");
        let table = "CREATE TABLE articles (id bigint PRIMARY KEY, name text NOT NULL)";
        sqlx::query(table).execute(&pool).await.expect("a table");
        let rows =
            "INSERT INTO articles SELECT n, 'article ' || n FROM generate_series(0, $1 - 1) n";
        sqlx::query(rows).bind(count).execute(&pool).await.expect("rows");
        pool
    }

    /// Locks the table, lets the stage fill the pool with queries that wait for it, ends their attempts with `disturb`, and
    /// unlocks it. Checks that each record has its answer, and returns the number of second attempts.
    async fn disturbed(
        server: &Server,
        clock: &Clock,
        disturb: impl AsyncFnOnce(&mut PgConnection),
    ) -> u64 {
        let pool = articles(server.port, 90).await;
        let mut migration = pool.begin().await.expect("a transaction");
        let lock = sqlx::query("LOCK TABLE articles IN ACCESS EXCLUSIVE MODE");
        lock.execute(&mut *migration).await.expect("a lock");

        let client = pool.clone();
        let mut names = stream::iter(0..100)
            .async_wait(policy(), move |article| name(client.clone(), *article))
            .spawn(Tokio)
            .expect("a stage");
        // One of the connections has the lock.
        while waiting(&mut migration).await < i64::from(CONNECTIONS) - 1 {}
        assert_eq!(pool.size(), CONNECTIONS);
        disturb(&mut migration).await;
        let handle = names.handle();
        clock.until("the attempts have ended", || handle.metrics().in_backoff >= 7).await;
        migration.rollback().await.expect("the end of the migration");

        let mut answered = Vec::new();
        let in_backoff = handle.metrics().in_backoff as usize;
        while let Some(done) = names.next().await {
            let expected = (done.input < 90).then(|| format!("article {}", done.input));
            assert_eq!(done.result.expect("an answer"), expected);
            answered.push(done.input);
            if answered.len() + in_backoff == 100 {
                clock.advance(Duration::from_millis(100)).await; // the rest is in backoff
            }
        }
        answered.sort();
        assert_eq!(answered, Vec::from_iter(0..100));
        handle.metrics().retried
    }

    /// The number of queries that wait for a lock.
    pub async fn waiting(connection: &mut PgConnection) -> i64 {
        let count = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        sqlx::query_scalar(count).fetch_one(connection).await.expect("a number")
    }

    #[test]
    fn a_locked_table_delays_records_and_loses_none() {
        let Some(server) = Server::start() else { return };
        by_hand(async |clock| {
            // Of eight attempts one waits for a connection.
            let retried =
                disturbed(&server, &clock, async |_| clock.advance(Duration::from_secs(5)).await)
                    .await;
            assert_eq!(retried, 8);
        });
    }

    #[test]
    fn a_broken_connection_is_replaced() {
        let Some(server) = Server::start() else { return };
        by_hand(async |clock| {
            let disturb = async |connection: &mut PgConnection| {
                let terminate = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted";
                sqlx::query(terminate).execute(connection).await.expect("an administrator");
            };
            assert_eq!(disturbed(&server, &clock, disturb).await, 7);
        });
    }

    #[test]
    fn a_wrong_statement_is_not_retried() {
        let Some(server) = Server::start() else { return };
        by_hand(async |_clock| {
            let pool = articles(server.port, 90).await;
            sqlx::query("DROP TABLE articles").execute(&pool).await.expect("no table");
            let limit: String = sqlx::query_scalar("SHOW statement_timeout")
                .fetch_one(&pool)
                .await
                .expect("a limit");
            assert_eq!(limit, "1h");
            let mut names = stream::iter([1])
                .async_wait(policy(), move |article| name(pool.clone(), *article))
                .spawn(Tokio)
                .expect("a stage");
            let done = names.next().await.expect("an outcome");
            assert_eq!((done.result.is_err(), done.attempts), (true, 1));
        });
    }
}
