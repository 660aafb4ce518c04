//! Transactions around the real one, and in its place: some freeze their process, others are wrong.

use std::process;

use inflight_core::pipeline::{Output, Transaction};
use inflight_core::{CheckpointId, Loaded};
use inflight_store_postgres::PostgresError;
use tokio_postgres::{Client, Config};

use crate::owner::{Done, Freeze, signal_to, write};
use crate::postgres;

/// Freezes its process before or after its third commit.
pub(crate) struct Freezing<X> {
    pub(crate) transaction: X,
    pub(crate) freeze: Freeze,
    pub(crate) commits: u32,
}

impl<X> Freezing<X> {
    fn freeze_at(&self, at: Freeze) {
        if self.commits == 3 && self.freeze == at {
            signal_to(process::id(), "-STOP");
        }
    }
}

impl<X: Transaction<Done, Error = PostgresError>> Transaction<Done> for Freezing<X> {
    type Error = PostgresError;

    async fn claim(&mut self) -> Result<Option<Loaded>, PostgresError> {
        self.transaction.claim().await
    }

    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<Done>],
    ) -> Result<(), PostgresError> {
        self.commits += 1;
        self.freeze_at(Freeze::BeforeCommit);
        self.transaction.commit(id, checkpoint, outputs).await?;
        self.freeze_at(Freeze::AfterCommit);
        Ok(())
    }

    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, PostgresError> {
        self.transaction.is_committed(id).await
    }

    fn is_final(&self, error: &PostgresError) -> bool {
        self.transaction.is_final(error)
    }
}

/// A negative control, if it is forgetful: it says no when it is asked whether a commit has taken place.
pub(crate) struct Forgetful<X> {
    pub(crate) transaction: X,
    pub(crate) is_forgetful: bool,
}

impl<X: Transaction<Done, Error = PostgresError>> Transaction<Done> for Forgetful<X> {
    type Error = PostgresError;

    async fn claim(&mut self) -> Result<Option<Loaded>, PostgresError> {
        self.transaction.claim().await
    }

    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<Done>],
    ) -> Result<(), PostgresError> {
        self.transaction.commit(id, checkpoint, outputs).await
    }

    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, PostgresError> {
        Ok(!self.is_forgetful && self.transaction.is_committed(id).await?)
    }

    fn is_final(&self, error: &PostgresError) -> bool {
        self.transaction.is_final(error)
    }
}

/// A negative control: one transaction for output and checkpoint, over a row without an owner.
pub(crate) struct Unfenced {
    config: Config,
    job: String,
    client: Option<Client>,
}

impl Unfenced {
    pub(crate) fn new(config: Config, job: &str) -> Self {
        Self { config, job: job.to_owned(), client: None }
    }
}

impl Transaction<Done> for Unfenced {
    type Error = PostgresError;

    async fn claim(&mut self) -> Result<Option<Loaded>, PostgresError> {
        let client = self.client.insert(postgres::connect(&self.config).await);
        client
            .batch_execute(
                "CREATE TABLE IF NOT EXISTS unfenced (job text PRIMARY KEY, id bigint, bytes bytea)",
            )
            .await?;
        let select = "SELECT id, bytes FROM unfenced WHERE job = $1";
        let found = client.query_opt(select, &[&self.job]).await?;
        let loaded = |id: i64, bytes| Loaded { id: CheckpointId(id as u64), bytes, damaged: 0 };
        Ok(found.map(|row| loaded(row.get(0), row.get(1))))
    }

    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<Done>],
    ) -> Result<(), PostgresError> {
        let client = self.client.as_mut().expect("a claim");
        let transaction = client.transaction().await?;
        let insert = format!("INSERT INTO out_{} (n) VALUES ($1)", self.job);
        write(&transaction, &insert, outputs).await.map_err(PostgresError::Write)?;
        let upsert = "INSERT INTO unfenced VALUES ($1, $2, $3)
                      ON CONFLICT (job) DO UPDATE SET id = $2, bytes = $3";
        transaction.execute(upsert, &[&self.job, &(id.0 as i64), &checkpoint]).await?;
        Ok(transaction.commit().await?)
    }

    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, PostgresError> {
        let client = self.client.as_mut().expect("a claim");
        let select = "SELECT id FROM unfenced WHERE job = $1";
        let found = client.query_opt(select, &[&self.job]).await?;
        Ok(found.is_some_and(|row| row.get::<_, i64>(0) == id.0 as i64))
    }

    fn is_final(&self, _: &PostgresError) -> bool {
        false
    }
}
