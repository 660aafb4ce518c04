//! A pipeline's sink whose rows are in SQLite.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use inflight::pipeline::TransactionalSink;
use inflight::{CheckpointId, Timestamp};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A sink with one transaction a checkpoint. `row` makes a row of each outcome, and `insert` puts it into a table.
///
/// * A checkpoint is as large as the rows between two of them. If there are many, the sink asks for a checkpoint early.
/// * The last process that has opened the job owns it. An earlier one that was frozen and goes on gets an error.
/// * A transaction blocks the thread of the pipeline for some milliseconds. Keep stages that cannot wait so long on other threads.
pub struct SqliteSink<F, R> {
    database: Connection,
    row: F,
    insert: Insert<R>,
    /// Rows that are in no committed checkpoint.
    rows: Vec<R>,
    /// The number of this life of the job, once it has begun.
    life: Option<i64>,
}

type Insert<R> = fn(&Transaction<'_>, &R) -> rusqlite::Result<()>;

/// What a checkpoint keeps: its number, and all rows that are not committed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prepared<R> {
    number: Number,
    rows: Vec<R>,
}

/// The number of a checkpoint, behind that of the life of the job that took it. If the latest checkpoints are damaged, a later life goes on
/// from an older one; its own are newer all the same.
type Number = (i64, i64);

/// With more rows than this a checkpoint is due.
const MANY: usize = 10_000;

/// One row: the life of the job that owns the output, and the last checkpoint whose rows are in the tables.
const JOB: &str = "
    CREATE TABLE IF NOT EXISTS job (owner INTEGER, life INTEGER, checkpoint INTEGER);
    INSERT INTO job SELECT 0, 0, 0 WHERE NOT EXISTS (SELECT * FROM job);";

impl<F, R> SqliteSink<F, R> {
    /// Opens or creates the database in the file at `path`. `schema` creates the tables that are missing.
    ///
    /// # Errors
    ///
    /// [`SqliteError::Sqlite`].
    pub fn open(path: &Path, schema: &str, row: F, insert: Insert<R>) -> Result<Self, SqliteError> {
        let mut database = Connection::open(path)?;
        database.busy_timeout(Duration::from_secs(5))?;
        // With a write-ahead log readers and the writer do not wait for each other. FULL makes each commit durable.
        database.pragma_update(None, "journal_mode", "WAL")?;
        database.pragma_update(None, "synchronous", "FULL")?;
        let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(JOB)?;
        transaction.execute_batch(schema)?;
        transaction.commit()?;
        Ok(Self { database, row, insert, rows: Vec::new(), life: None })
    }

    fn begin(&mut self) -> Result<(Transaction<'_>, Job), SqliteError> {
        let transaction =
            self.database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let job = transaction.query_row("SELECT owner, life, checkpoint FROM job", [], |row| {
            Ok(Job { owner: row.get(0)?, committed: (row.get(1)?, row.get(2)?) })
        })?;
        Ok((transaction, job))
    }
}

struct Job {
    owner: i64,
    committed: Number,
}

impl<T, F, R> TransactionalSink<T> for SqliteSink<F, R>
where
    F: FnMut(T) -> R,
    R: Clone + Serialize + DeserializeOwned,
{
    type Prepared = Prepared<R>;
    type Error = SqliteError;

    async fn write(&mut self, record: T, _: Option<Timestamp>) -> Result<(), SqliteError> {
        let row = (self.row)(record);
        self.rows.push(row);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= MANY
    }

    async fn pre_commit(&mut self, id: CheckpointId) -> Result<Prepared<R>, SqliteError> {
        let life = self.life.ok_or(SqliteError::NotOwner)?;
        // SQLite has signed numbers. Checkpoints are counted and do not get that far.
        let number = (life, i64::try_from(id.0).unwrap_or(i64::MAX));
        Ok(Prepared { number, rows: self.rows.clone() })
    }

    async fn commit(&mut self, _: CheckpointId, prepared: &Prepared<R>) -> Result<(), SqliteError> {
        let (insert, life) = (self.insert, self.life);
        let (transaction, job) = self.begin()?;
        if life.is_some_and(|life| life != job.owner) {
            return Err(SqliteError::NotOwner);
        }
        if prepared.number <= job.committed {
            return Ok(()); // it was committed before
        }
        for row in &prepared.rows {
            insert(&transaction, row)?;
        }
        transaction.execute("UPDATE job SET life = ?1, checkpoint = ?2", prepared.number)?;
        transaction.commit()?;
        // At the beginning of a life the rows are an earlier life's, and there are no others.
        self.rows.drain(..prepared.rows.len().min(self.rows.len()));
        Ok(())
    }

    /// Begins a life of the job. Rows that were not committed were in memory, so there is nothing to undo.
    async fn abort(&mut self, kept: Option<&Prepared<R>>) -> Result<(), SqliteError> {
        self.rows.clear();
        let (transaction, job) = self.begin()?;
        if kept.is_none() && job.committed != (0, 0) {
            return Err(SqliteError::OtherJob); // this job is new, and the output is not its own
        }
        let life = job.owner + 1;
        transaction.execute("UPDATE job SET owner = ?1", [life])?;
        transaction.commit()?;
        self.life = Some(life);
        Ok(())
    }
}

/// The reason why the output could not be written.
#[derive(Debug)]
pub enum SqliteError {
    Sqlite(rusqlite::Error),
    /// Another process has begun a life of this job.
    NotOwner,
    /// The job is new, and the database has the output of another one.
    OtherJob,
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(error) => write!(f, "SQLite: {error}"),
            Self::NotOwner => f.write_str("another process has gone on with this job"),
            Self::OtherJob => f.write_str("the database has the output of another job"),
        }
    }
}

impl Error for SqliteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Sqlite(error) => Some(error),
            _ => None,
        }
    }
}
