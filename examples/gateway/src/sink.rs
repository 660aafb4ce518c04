//! The stream as a pipeline's sink.
//!
//! The sink keeps outputs in the checkpoint, and publishes them when the checkpoint is durable, so that a
//! crash cannot lead to another output than the one in the stream already.
//!
//! It publishes each message only behind the last one that it knows of: the stream refuses it if there is another one.
//! After a failure or a crash it reads the outputs that are in the stream after the sequence number that the stream had before, and
//! publishes the others. A new owner claims the stream with a message of its own. From then on the earlier owner publishes
//! nothing, because it does not know that message; and when it reads it, it knows that it was replaced.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
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

/// Publishes outcomes to a stream. Without the stream, it waits.
#[derive(Debug)]
pub struct StreamSink {
    outlet: Outlet,
    name: String,
    /// Outputs that were written, and may not be in the stream.
    pending: Vec<Output>,
    /// The sequence number of this owner's claim.
    claim: Option<u64>,
    /// The latest known sequence number of the stream.
    reached: u64,
    /// True if the stream may have messages after that one.
    is_uncertain: bool,
    status: Arc<Status>,
}

/// The outputs for the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    outputs: Vec<Output>,
    /// All of them have a higher sequence number than this in the stream.
    behind: u64,
}

/// The reason why the gateway ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkError {
    /// Another gateway of the same name has claimed the stream.
    Fenced,
    /// There is no checkpoint, and the stream has outputs.
    Foreign,
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fenced => "another gateway of this name has taken over its stream",
            Self::Foreign => {
                "the stream of this name has messages, and no checkpoint describes them: put the checkpoints back, or choose another \
                 name"
            }
        })
    }
}

impl Error for SinkError {}

/// The reason why a request to the stream failed.
enum Trouble {
    /// Another try may succeed.
    Passing(anyhow::Error),
    Final(SinkError),
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Passing(error)
    }
}

impl StreamSink {
    pub fn new(outlet: Outlet, name: &str, status: Arc<Status>) -> Self {
        let (pending, name) = (Vec::new(), name.to_owned());
        Self { outlet, name, pending, claim: None, reached: 0, is_uncertain: true, status }
    }

    /// Tries again until the stream has answered.
    async fn until_answered(
        &mut self,
        mut request: impl AsyncFnMut(&mut Self) -> Result<(), Trouble>,
    ) -> Result<(), SinkError> {
        loop {
            match request(self).await {
                Ok(()) => {
                    self.status.up(Server::Nats);
                    return Ok(());
                }
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(error)) => {
                    self.status.down(Server::Nats, &error);
                    sleep(BEFORE_RETRY).await;
                }
            }
        }
    }

    /// Publishes the outputs that are not in the stream.
    async fn publish(&mut self, batch: &Batch) -> Result<(), Trouble> {
        let mut there = HashSet::new();
        // After a pre-commit nothing is published before its commit, unless that comes again.
        if self.is_uncertain || self.reached != batch.behind {
            let since = self.outlet.since(batch.behind).await?;
            if self.claim.is_some_and(|claim| since.claim > claim) {
                return Err(Trouble::Final(SinkError::Fenced));
            }
            (there, self.reached) = (since.ids, since.last);
        }
        self.is_uncertain = true;
        let missing = batch.outputs.iter().filter(|output| !there.contains(&output.id));
        self.reached = self.outlet.publish(missing, self.reached).await?;
        self.is_uncertain = false;
        Ok(())
    }

    /// Makes this the owner of the stream, which refuses messages of earlier owners from then on.
    async fn claim(&mut self, is_new: bool) -> Result<(), Trouble> {
        let since = self.outlet.since(if is_new { 0 } else { self.reached }).await?;
        if is_new && !since.ids.is_empty() {
            return Err(Trouble::Final(SinkError::Foreign));
        }
        let claim = self.outlet.claim(since.last).await?;
        (self.claim, self.reached, self.is_uncertain) = (Some(claim), claim, false);
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
    type Error = SinkError;

    async fn write(
        &mut self,
        done: Outcome<Message, Device, EnrichError>,
        _: Option<Timestamp>,
    ) -> Result<(), SinkError> {
        self.pending.push(render(&self.name, done));
        Ok(())
    }

    async fn pre_commit(&mut self, _: CheckpointId) -> Result<Batch, SinkError> {
        Ok(Batch { outputs: self.pending.clone(), behind: self.reached })
    }

    async fn commit(&mut self, _: CheckpointId, batch: &Batch) -> Result<(), SinkError> {
        if batch.outputs.is_empty() {
            self.reached = self.reached.max(batch.behind);
            return Ok(());
        }
        self.until_answered(async |sink| sink.publish(batch).await).await?;
        self.count(batch);
        // They are not pending if they come from an earlier life, or were committed already.
        if self.pending.starts_with(&batch.outputs) {
            self.pending.drain(..batch.outputs.len());
        }
        Ok(())
    }

    /// Every published output is described by a checkpoint, so there is nothing to undo.
    async fn abort(&mut self, kept: Option<&Batch>) -> Result<(), SinkError> {
        self.pending.clear();
        self.until_answered(async |sink| sink.claim(kept.is_none()).await).await
    }
}
