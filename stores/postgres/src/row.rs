//! The row of a job: the statements over it.

use inflight_core::{CheckpointId, Loaded};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row as Columns, Transaction};

use crate::error::PostgresError;

/// The number of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(i64);

/// Where the row of a job is.
#[derive(Debug)]
pub(crate) struct Row {
    job: String,
    /// The table's name, quoted.
    table: String,
}

impl Row {
    pub(crate) fn new(job: String) -> Self {
        let mut row = Self { job, table: String::new() };
        row.set_table("inflight_jobs");
        row
    }

    pub(crate) fn set_table(&mut self, name: &str) {
        let quoted = name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\"")));
        self.table = quoted.collect::<Vec<_>>().join(".");
    }

    /// The latest checkpoint, without a lock; `None` also without a table.
    pub(crate) async fn read(&self, client: &Client) -> Result<Option<Loaded>, PostgresError> {
        let found = client.query_typed_one(TABLE_EXISTS, &[(&self.table, Type::TEXT)]).await?;
        if !found.try_get::<_, bool>(0)? {
            return Ok(None);
        }
        let select = format!("SELECT checkpoint_id, checkpoint FROM {} WHERE job = $1", self.table);
        let found = client.query_typed_opt(&select, &[(&self.job, Type::TEXT)]).await?;
        found.map_or(Ok(None), |columns| loaded(&columns))
    }

    /// Creates the table if it is missing. `IF NOT EXISTS` alone would ask for the right to create one also where it exists,
    /// and two sessions that create it at the same time would collide.
    pub(crate) async fn create_table(
        &self,
        transaction: &Transaction<'_>,
    ) -> Result<(), PostgresError> {
        let found = transaction.query_typed_one(TABLE_EXISTS, &[(&self.table, Type::TEXT)]).await?;
        if found.try_get::<_, bool>(0)? {
            return Ok(());
        }
        let create = format!(
            "SELECT pg_advisory_xact_lock(hashtext('inflight'), hashtext('jobs'));
             CREATE TABLE IF NOT EXISTS {} (
                 job text PRIMARY KEY,
                 owner bigserial NOT NULL,
                 checkpoint_id bigint,
                 checkpoint bytea
             )",
            self.table
        );
        Ok(transaction.batch_execute(&create).await?)
    }

    /// Takes the job from its owner, after waiting for the owner's transaction if there is one.
    pub(crate) async fn claim(
        &self,
        transaction: &Transaction<'_>,
    ) -> Result<(Owner, Option<Loaded>), PostgresError> {
        // The default of the column `owner` is the next number of its sequence.
        let claim = format!(
            "INSERT INTO {} (job) VALUES ($1) ON CONFLICT (job) DO UPDATE SET owner = DEFAULT
             RETURNING checkpoint_id, checkpoint, owner",
            self.table
        );
        let row = transaction.query_typed_one(&claim, &[(&self.job, Type::TEXT)]).await?;
        Ok((Owner(row.try_get(2)?), loaded(&row)?))
    }

    /// Locks the row, after waiting for a transaction of this owner that is not decided. Returns the id of the latest checkpoint.
    pub(crate) async fn lock(
        &self,
        transaction: &Transaction<'_>,
        owner: Owner,
    ) -> Result<Option<CheckpointId>, PostgresError> {
        let lock = format!(
            "SELECT checkpoint_id FROM {} WHERE job = $1 AND owner = $2 FOR UPDATE",
            self.table
        );
        let (job, owner) = ((&self.job as _, Type::TEXT), (&owner.0 as _, Type::INT8));
        let row = transaction.query_typed_opt(&lock, &[job, owner]).await?;
        let id: Option<i64> = row.ok_or_else(|| self.fenced())?.try_get(0)?;
        Ok(id.map(checkpoint_id))
    }

    /// Writes a checkpoint, as the owner.
    pub(crate) async fn save(
        &self,
        transaction: &Transaction<'_>,
        owner: Owner,
        id: CheckpointId,
        checkpoint: &[u8],
    ) -> Result<(), PostgresError> {
        let update = format!(
            "UPDATE {} SET checkpoint_id = $3, checkpoint = $4 WHERE job = $1 AND owner = $2",
            self.table
        );
        let id = id.0.cast_signed(); // the same bits: only equality counts
        let (job, owner) = ((&self.job as _, Type::TEXT), (&owner.0 as _, Type::INT8));
        let (id, checkpoint) = ((&id as _, Type::INT8), (&checkpoint as _, Type::BYTEA));
        match transaction.execute_typed(&update, &[job, owner, id, checkpoint]).await? {
            1 => Ok(()),
            _ => Err(self.fenced()),
        }
    }

    fn fenced(&self) -> PostgresError {
        PostgresError::Fenced { job: self.job.clone() }
    }
}

const TABLE_EXISTS: &str = "SELECT to_regclass($1) IS NOT NULL";

/// The checkpoint in the first two columns, if there is one.
fn loaded(columns: &Columns) -> Result<Option<Loaded>, PostgresError> {
    let id: Option<i64> = columns.try_get(0)?;
    let bytes: Option<Vec<u8>> = columns.try_get(1)?;
    Ok(id.zip(bytes).map(|(id, bytes)| Loaded { id: checkpoint_id(id), bytes, damaged: 0 }))
}

fn checkpoint_id(id: i64) -> CheckpointId {
    CheckpointId(id.cast_unsigned())
}
