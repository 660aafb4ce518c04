//! Which shards this worker has, and when: an assignment for a job that runs in one process.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::Shard as Listed;
use inflight::envelope::FormatError;
use inflight::pipeline::{Ended, ended};
use inflight::{Checkpoint, FileStore, FileStoreError};
use inflight_partitions::{Assignment, Change};

use crate::graph::{self, Graph, Shard, ShardError};
use crate::patience::{self, CallError};

/// The time between two lists of the shards.
const PAUSE: Duration = Duration::from_secs(1);

type Listing = Pin<Box<dyn Future<Output = Result<Vec<Shard>, ShardsError>>>>;

/// All shards of a stream, each from the moment when its parents are finished.
///
/// There is one worker, so nothing is revoked. Several workers need leases in a database that compares and sets, as Amazon's client
/// library keeps them in DynamoDB; and with them this trait is all that changes.
pub struct Shards {
    client: Client,
    stream: String,
    /// The folder of the checkpoints: see [`folder`].
    state: PathBuf,
    graph: Graph,
    listing: Listing,
    /// Of the task that waits for a change.
    waker: Waker,
}

impl Shards {
    pub fn new(client: Client, stream: &str, state: &Path, graph: Graph) -> Self {
        let (stream, state) = (stream.to_owned(), state.to_owned());
        let listing: Listing = Box::pin(async { Ok(Vec::new()) });
        let mut shards =
            Self { client, stream, state, graph, listing, waker: Waker::noop().clone() };
        shards.list_after(Duration::ZERO);
        shards
    }

    fn list_after(&mut self, pause: Duration) {
        let (client, stream, state) =
            (self.client.clone(), self.stream.clone(), self.state.clone());
        let known: BTreeSet<String> = self.graph.ids().cloned().collect();
        self.listing = Box::pin(async move {
            tokio::time::sleep(pause).await;
            let mut shards = Vec::new();
            for listed in list(&client, &stream).await? {
                let id = listed.shard_id;
                let parents = [listed.parent_shard_id, listed.adjacent_parent_shard_id];
                let parents = parents.into_iter().flatten().collect();
                let is_finished = !known.contains(&id) && is_finished(&folder(&state, &id)).await?;
                shards.push(Shard { id, parents, is_finished });
            }
            Ok(shards)
        });
    }
}

/// The folder of a shard's checkpoints.
pub fn folder(state: &Path, shard: &str) -> PathBuf {
    state.join(shard)
}

/// All shards that the stream has. While Kinesis cannot be reached, it asks again.
async fn list(client: &Client, stream: &str) -> Result<Vec<Listed>, CallError> {
    let (mut shards, mut next) = (Vec::new(), None::<String>);
    loop {
        let request = || {
            let request = client.list_shards();
            // The token contains the stream's name.
            match &next {
                Some(next) => request.next_token(next).send(),
                None => request.stream_name(stream).send(),
            }
        };
        let page = patience::call(request).await;
        match page.map_err(|error| CallError::new("ListShards", error)) {
            Ok(page) => {
                shards.extend(page.shards.unwrap_or_default());
                next = page.next_token;
            }
            Err(error) if error.passes() => {
                eprintln!("{error}; asking again");
                continue;
            }
            Err(error) => return Err(error),
        }
        if next.is_none() {
            return Ok(shards);
        }
    }
}

/// Whether the last checkpoint in a shard's folder says that all of the shard is done.
async fn is_finished(folder: &Path) -> Result<bool, ShardsError> {
    if !folder.exists() {
        return Ok(false);
    }
    let latest = FileStore::read_latest(folder).await.map_err(ShardsError::Store)?;
    let Some(latest) = latest else { return Ok(false) };
    let checkpoint = Checkpoint::from_bytes(&latest.bytes).map_err(ShardsError::Checkpoint)?;
    Ok(ended(&checkpoint) == Some(Ended::Finished))
}

impl Assignment for Shards {
    type Partition = String;
    type Error = ShardsError;

    fn poll_change(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Change<String>, ShardsError>>> {
        loop {
            if let Some(shard) = self.graph.begin() {
                return Poll::Ready(Some(Ok(Change::Assigned(shard))));
            }
            self.waker.clone_from(cx.waker());
            let listed = ready!(self.listing.as_mut().poll(cx));
            self.list_after(PAUSE);
            if let Err(error) = listed.and_then(|shards| Ok(self.graph.update(shards)?)) {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    fn number(&self, shard: &String) -> u16 {
        graph::number(shard).unwrap_or_default() // the graph has refused other names
    }

    fn released(&mut self, _: &String) {}

    /// Its children can begin.
    fn finished(&mut self, shard: &String) {
        self.graph.finish(shard);
        self.list_after(Duration::ZERO);
        self.waker.wake_by_ref();
    }

    async fn leave(&mut self) -> Result<(), ShardsError> {
        Ok(())
    }
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("graph", &self.graph).finish_non_exhaustive()
    }
}

/// The shards cannot be told any more.
#[derive(Debug)]
pub enum ShardsError {
    /// Kinesis does not list them.
    Call(CallError),
    /// They are too many, or strange.
    Shard(ShardError),
    /// A shard's checkpoints cannot be read.
    Store(FileStoreError),
    /// A shard's last checkpoint is none.
    Checkpoint(FormatError),
}

impl From<CallError> for ShardsError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<ShardError> for ShardsError {
    fn from(error: ShardError) -> Self {
        Self::Shard(error)
    }
}

impl fmt::Display for ShardsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Shard(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Checkpoint(error) => error.fmt(f),
        }
    }
}

impl Error for ShardsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Call(_) | Self::Shard(_) => None,
            Self::Store(error) => error.source(),
            Self::Checkpoint(error) => error.source(),
        }
    }
}
