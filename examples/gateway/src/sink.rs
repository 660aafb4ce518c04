//! The stream as a pipeline's sink.
//!
//! The sink keeps outputs in the checkpoint, and publishes them when the checkpoint is durable, so that a
//! crash cannot lead to another output than the one in the stream already. After a failure it publishes them
//! again. JetStream recognises the ids of recent messages (its duplicate window). For older ones, after a
//! crash or a failure, the sink first reads the outputs that are in the stream after the sequence number that
//! the stream had before.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use inflight::pipeline::TransactionalSink;
use inflight::{CheckpointId, Outcome, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::devices::{Device, EnrichError};
use crate::message::Message;
use crate::output::{Output, dead_letters, render};
use crate::status::{Server, Status};
use crate::stream::Outlet;

const BEFORE_RETRY: Duration = Duration::from_millis(500);

/// Publishes outcomes to a stream. It never fails: without the stream, it waits.
#[derive(Debug)]
pub struct StreamSink {
    outlet: Outlet,
    name: String,
    /// Outputs that were written, and may not be in the stream.
    pending: Vec<Output>,
    /// The latest known sequence number of the stream.
    reached: u64,
    /// True if the outputs of the next commit were never published.
    is_first_try: bool,
    status: Arc<Status>,
}

/// The outputs for the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    outputs: Vec<Output>,
    /// All of them have a higher sequence number than this in the stream.
    behind: u64,
}

impl StreamSink {
    pub fn new(outlet: Outlet, name: &str, status: Arc<Status>) -> Self {
        let (pending, name) = (Vec::new(), name.to_owned());
        Self { outlet, name, pending, reached: 0, is_first_try: false, status }
    }

    async fn publish(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let there = match self.is_first_try {
            true => HashSet::new(),
            false => self.outlet.ids_behind(batch.behind).await?,
        };
        self.is_first_try = false;
        let missing = batch.outputs.iter().filter(|output| !there.contains(&output.id));
        let latest = self.outlet.publish(missing).await?;
        self.reached = self.reached.max(batch.behind).max(latest);
        self.is_first_try = true;
        Ok(())
    }

    fn count(&self, batch: &Batch) {
        let dead_letters = dead_letters(&self.name);
        let dead = batch.outputs.iter().filter(|output| output.subject == dead_letters).count();
        self.status.dead_lettered.add(dead as u64);
        self.status.enriched.add((batch.outputs.len() - dead) as u64);
    }
}

impl TransactionalSink<Outcome<Message, Device, EnrichError>> for StreamSink {
    type Prepared = Batch;
    type Error = Infallible;

    async fn write(
        &mut self,
        done: Outcome<Message, Device, EnrichError>,
        _: Option<Timestamp>,
    ) -> Result<(), Infallible> {
        self.pending.push(render(&self.name, done));
        Ok(())
    }

    async fn pre_commit(&mut self, _: CheckpointId) -> Result<Batch, Infallible> {
        Ok(Batch { outputs: self.pending.clone(), behind: self.reached })
    }

    async fn commit(&mut self, _: CheckpointId, batch: &Batch) -> Result<(), Infallible> {
        if batch.outputs.is_empty() {
            self.reached = self.reached.max(batch.behind);
            return Ok(());
        }
        while let Err(error) = self.publish(batch).await {
            self.status.down(Server::Nats, &error);
            sleep(BEFORE_RETRY).await;
        }
        self.status.up(Server::Nats);
        self.count(batch);
        // They are not pending if they come from an earlier life, or were committed already.
        if self.pending.starts_with(&batch.outputs) {
            self.pending.drain(..batch.outputs.len());
        }
        Ok(())
    }

    /// Every published output is described by a checkpoint.
    async fn abort(&mut self, _: Option<&Batch>) -> Result<(), Infallible> {
        Ok(())
    }
}
