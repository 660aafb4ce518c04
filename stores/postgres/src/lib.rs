//! [`PostgresTransaction`] commits the output of an inflight pipeline and its checkpoint in one transaction of PostgreSQL: each
//! outcome is in the table exactly once, also for readers in between, whatever is killed, frozen or cut off.
//!
//! ```no_run
//! use inflight_core::Outcome;
//! use inflight_core::pipeline::{MemorySource, Output, Pipeline, one_transaction};
//! use inflight_core::{AsyncWait, AsyncWaitExt};
//! use inflight_store_postgres::PostgresJob;
//! use inflight_tokio::Tokio;
//! use std::time::Duration;
//! use tokio_postgres::{Config, NoTls, Transaction};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! type Square = Outcome<i64, i64, String>;
//!
//! let config: Config = "host=localhost user=squares dbname=squares".parse()?;
//! let transaction = PostgresJob::new(config, NoTls, "squares").writing(
//!     async |transaction: &Transaction<'_>, outputs: &[Output<Square>]| {
//!         let insert = transaction.prepare("INSERT INTO squares (n, square) VALUES ($1, $2)").await?;
//!         for Output { value, .. } in outputs {
//!             let square = value.result.as_ref().ok(); // NULL if the call has failed
//!             transaction.execute(&insert, &[&value.input, &square]).await?;
//!         }
//!         Ok(())
//!     },
//! );
//! let (sink, store) = one_transaction(transaction);
//! Pipeline::new(MemorySource::new(1..=1000_i64), sink, store)
//!     .interval(Duration::from_secs(1))
//!     .run(Tokio, |numbers, recovery| {
//!         numbers
//!             .async_wait(AsyncWait::ordered(100), |n: &i64| {
//!                 let n = *n;
//!                 async move { Ok::<_, String>(n * n) } // a real one asks a service
//!             })
//!             .checkpointed("squares", 1)
//!             .restore(recovery)
//!             .spawn(Tokio)
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The job's row
//!
//! A table ([`inflight_jobs`](PostgresJob::table), created by the first claim if it is missing) has a row for each job:
//!
//! ```sql
//! CREATE TABLE inflight_jobs (
//!     job text PRIMARY KEY,
//!     owner bigserial NOT NULL,   -- the number of the latest claim
//!     checkpoint_id bigint,
//!     checkpoint bytea
//! )
//! ```
//!
//! * A **claim** writes a new number into `owner`, from a sequence, so that no number comes twice, also after a row was deleted.
//! * A **commit** is one transaction: it locks the row, which must still have this owner's number; the user's function writes the
//!   outputs; the row gets the checkpoint. An owner whose number is not there any more commits nothing and gets
//!   [`PostgresError::Fenced`], however long it was frozen.
//! * **After a lost answer** a new transaction locks the row and compares the checkpoint's id. The lost commit held the row's lock
//!   since before its first output, and the server releases that lock when the commit is decided. So the new transaction waits
//!   for the decision, and nothing can be decided later.
//! * The row has the **latest** checkpoint only. An older one would not fit the output, which is further.
//!
//! All transactions of this crate are READ COMMITTED, whatever the server's default: after the wait for a lock they must see the
//! row as it is then. To start a job from the beginning, delete its row, and its output.
//!
//! # Waiting
//!
//! A process that is frozen in the middle of a commit, or that the network has cut off, still holds the row's lock, and its successor's
//! claim waits for that. So the server ends a transaction whose client is silent, and a statement that runs, for longer than a
//! [limit](PostgresJob::limit) of 30 seconds. A claim waits for up to three times the limit. It is also the time after which a
//! connection over a dead network fails, unless the `Config` has its own.
//!
//! A connection that was lost is opened again by the next call.
//!
//! # Assumptions
//!
//! * The function that writes does not end the transaction itself (by the SQL commands `COMMIT` or `ROLLBACK`).
//! * There is one server that takes writes. A failover to a replica that lacks the latest transactions takes output and checkpoint
//!   back together, but a source that has deleted acknowledged records cannot repeat them.
//! * `fsync` is on. If the session has `synchronous_commit = off`, commits of this crate turn it on for themselves.
//!
//! The crate needs tokio: the connection is driven by a task.
#![forbid(unsafe_code)]

mod connection;
mod error;
mod row;

use std::fmt;
use std::time::Duration;

use inflight_core::pipeline::{Output, Transaction};
use inflight_core::{CheckpointId, Loaded};
use tokio_postgres::Config;

pub use connection::Tls;
use connection::{Connection, Waiting};
pub use error::{PostgresError, WriteError};
use row::{Owner, Row};

/// A job in a database: its connection, its name and its table. See the [crate's page](crate).
pub struct PostgresJob<C> {
    connection: Connection<C>,
    row: Row,
}

impl<C: Tls> PostgresJob<C> {
    /// A job in the database of `config`, which may name several hosts. It connects when it is first used. `tls` is
    /// [`NoTls`](tokio_postgres::NoTls) or a connector of `postgres-native-tls`, `postgres-openssl` or the like.
    pub fn new(config: Config, tls: C, job: impl Into<String>) -> Self {
        Self { connection: Connection::new(config, tls), row: Row::new(job.into()) }
    }

    /// The name of the table of jobs, `inflight_jobs` without this call. A dot separates a schema from the name. The name is
    /// quoted, so upper case counts.
    #[must_use]
    pub fn table(mut self, name: &str) -> Self {
        self.row.set_table(name);
        self
    }

    /// The longest time for which the server lets a transaction wait for its client, and a statement run; 30 seconds without this
    /// call, at least a millisecond. It bounds how long a frozen owner holds up its successor.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.connection.limit = limit;
        self
    }

    /// Reads the job's latest checkpoint without claiming the job, so its owner goes on; `None` if none was saved.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Database`], [`PostgresError::NoRuntime`].
    pub async fn read_latest(&mut self) -> Result<Option<Loaded>, PostgresError> {
        let client = self.connection.client().await?;
        let latest = self.row.read(&client).await?;
        self.connection.put_back(client);
        Ok(latest)
    }

    /// The job's transaction. `write` writes a checkpoint's outputs in the transaction that it gets, in any way: an `INSERT` for
    /// each, one for all, `COPY`. It must not end the transaction. If it returns an error, nothing is committed, and the next
    /// checkpoint's call has the same outputs first. It is not called for a checkpoint without outputs.
    pub fn writing<T, W>(self, write: W) -> PostgresTransaction<C, W>
    where
        W: AsyncFnMut(&tokio_postgres::Transaction<'_>, &[Output<T>]) -> Result<(), WriteError>,
    {
        PostgresTransaction { job: self, write, owner: None }
    }
}

impl<C> fmt::Debug for PostgresJob<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PostgresJob");
        shown.field("row", &self.row).field("limit", &self.connection.limit);
        shown.finish_non_exhaustive()
    }
}

/// Commits output and checkpoint of a job in one transaction, as its only owner:
/// [`one_transaction`](inflight_core::pipeline::one_transaction) makes a pipeline's sink and store from it.
///
/// # Cancellation
///
/// If the future of a commit is dropped, the commit takes place whole or not at all; [`is_committed`](Transaction::is_committed)
/// and a claim wait until that is decided.
pub struct PostgresTransaction<C, W> {
    job: PostgresJob<C>,
    write: W,
    /// `None` before the claim.
    owner: Option<Owner>,
}

impl<T, C, W> Transaction<T> for PostgresTransaction<C, W>
where
    C: Tls,
    W: AsyncFnMut(&tokio_postgres::Transaction<'_>, &[Output<T>]) -> Result<(), WriteError>,
{
    type Error = PostgresError;

    /// # Errors
    ///
    /// [`PostgresError::Database`], [`PostgresError::NoRuntime`].
    async fn claim(&mut self) -> Result<Option<Loaded>, PostgresError> {
        let PostgresJob { connection, row } = &mut self.job;
        let mut client = connection.client().await?;
        let transaction = connection.begin(&mut client, Waiting::ForOthers).await?;
        // A table that has vanished since is an error, and not a new job.
        if self.owner.is_none() {
            row.create_table(&transaction).await?;
        }
        let (owner, latest) = row.claim(&transaction).await?;
        transaction.commit().await?;
        connection.put_back(client);
        self.owner = Some(owner);
        Ok(latest)
    }

    /// # Errors
    ///
    /// Each [`PostgresError`]. After [`Database`](PostgresError::Database) the commit may have taken place.
    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<T>],
    ) -> Result<(), PostgresError> {
        let owner = self.owner.ok_or(PostgresError::NotClaimed)?;
        let PostgresJob { connection, row } = &mut self.job;
        let mut client = connection.client().await?;
        let transaction = connection.begin(&mut client, Waiting::Limited).await?;
        // K15: from here to the decision nobody else claims the job.
        row.lock(&transaction, owner).await?;
        if !outputs.is_empty() {
            (self.write)(&transaction, outputs).await.map_err(PostgresError::Write)?;
        }
        // The last statement: the server would answer a COMMIT of a transaction in which a statement has failed, and whose error
        // the function has swallowed, by a rollback, and not by an error.
        row.save(&transaction, owner, id, checkpoint).await?;
        transaction.commit().await?;
        connection.put_back(client);
        Ok(())
    }

    /// # Errors
    ///
    /// [`PostgresError::Fenced`], [`PostgresError::Database`], [`PostgresError::NotClaimed`], [`PostgresError::NoRuntime`].
    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, PostgresError> {
        let owner = self.owner.ok_or(PostgresError::NotClaimed)?;
        let PostgresJob { connection, row } = &mut self.job;
        let mut client = connection.client().await?;
        let transaction = connection.begin(&mut client, Waiting::ForOthers).await?;
        let latest = row.lock(&transaction, owner).await?;
        transaction.rollback().await?;
        connection.put_back(client);
        Ok(latest == Some(id))
    }

    /// Only [`PostgresError::Fenced`] is final.
    fn is_final(&self, error: &PostgresError) -> bool {
        matches!(error, PostgresError::Fenced { .. })
    }
}

impl<C, W> fmt::Debug for PostgresTransaction<C, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PostgresTransaction");
        shown.field("job", &self.job).field("owner", &self.owner).finish_non_exhaustive()
    }
}
