//! Outputs and checkpoint in one atomic batch.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::Context;
use bytes::Bytes;
use inflight_core::pipeline::{Output, SinkHalf, StoreHalf, Transaction, one_transaction};
use inflight_core::{CheckpointId, Loaded};

use crate::batch::{MOST_MESSAGES, Message};
use crate::checkpoint::{Latest, Place};
use crate::error::{JetStreamError, WriteError};
use crate::server::is_wrong_sequence;

/// A job's place in a stream: the subject of its checkpoints. See the [crate's page](crate).
#[derive(Clone)]
pub struct JetStreamJob {
    context: Context,
    stream: String,
    checkpoint: String,
    limit: Duration,
}

impl JetStreamJob {
    /// A job, or a partition of one, with its outputs in the stream and its checkpoint under a subject of the stream that nothing else has.
    pub fn new(context: Context, stream: impl Into<String>, checkpoint: impl Into<String>) -> Self {
        let limit = Duration::from_secs(5);
        Self { context, stream: stream.into(), checkpoint: checkpoint.into(), limit }
    }

    /// The longest time to wait for an answer to a publication; 5 seconds without this call. A server abandons a batch after 10 seconds
    /// of silence.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Reads the latest checkpoint without claiming the job, so its owner goes on; `None` if none was saved.
    ///
    /// # Errors
    ///
    /// Those of a claim.
    pub async fn read_latest(&self) -> Result<Option<Loaded>, JetStreamError> {
        let place = Place::find(&self.context, &self.stream, &self.checkpoint).await?;
        Ok(place.read().await?.and_then(|latest| latest.loaded()))
    }

    /// The job's transaction. `write` makes the message of an output. If it returns an error, nothing is committed, and the next
    /// checkpoint's commit has the same outputs first.
    pub fn writing<T, W>(self, write: W) -> JetStreamTransaction<W>
    where
        W: FnMut(&Output<T>) -> Result<Message, WriteError>,
    {
        JetStreamTransaction { job: self, write, owner: None }
    }
}

impl fmt::Debug for JetStreamJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("JetStreamJob");
        shown.field("stream", &self.stream).field("checkpoint", &self.checkpoint);
        shown.field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Commits the outputs and the checkpoint of a job in one atomic batch, as its only owner. [`sink_and_store`](Self::sink_and_store) makes a
/// pipeline's sink and store from it.
///
/// # Cancellation
///
/// If the future of a commit is dropped, the commit takes place whole or not at all; [`is_committed`](Transaction::is_committed)
/// and a claim decide which.
pub struct JetStreamTransaction<W> {
    job: JetStreamJob,
    write: W,
    /// `None` before the claim.
    owner: Option<Owner>,
}

/// A claim, and the last message of it.
struct Owner {
    place: Place,
    token: String,
    sequence: u64,
}

impl<W> JetStreamTransaction<W> {
    /// The most outputs in one commit: a batch has at most 1,000 messages, and one is the checkpoint.
    pub const MOST_OUTPUTS: usize = MOST_MESSAGES - 1;

    /// A pipeline's sink and store. The sink is full at 500 outputs that are not committed, which leaves as many places for outputs that
    /// come before the next barrier: those that the stages have done, at most the capacity of the last stage.
    pub fn sink_and_store<T>(self) -> (SinkHalf<T>, StoreHalf<T, Self>)
    where
        W: FnMut(&Output<T>) -> Result<Message, WriteError>,
    {
        let (sink, store) = one_transaction(self);
        (sink.limit(Self::MOST_OUTPUTS.div_ceil(2)), store)
    }
}

impl<T, W> Transaction<T> for JetStreamTransaction<W>
where
    W: FnMut(&Output<T>) -> Result<Message, WriteError>,
{
    type Error = JetStreamError;

    /// # Errors
    ///
    /// [`TooOld`](JetStreamError::TooOld), [`Unsuitable`](JetStreamError::Unsuitable), [`Unreadable`](JetStreamError::Unreadable),
    /// [`Server`](JetStreamError::Server), [`Request`](JetStreamError::Request), [`NotConnected`](JetStreamError::NotConnected).
    async fn claim(&mut self) -> Result<Option<Loaded>, JetStreamError> {
        let job = &self.job;
        let place = Place::find(&job.context, &job.stream, &job.checkpoint).await?;
        let token = nuid::next().to_string();
        for attempt in 0..ATTEMPTS {
            let latest = place.read().await?;
            let after = latest.as_ref().map_or(0, |latest| latest.sequence);
            let checkpoint = latest.as_ref().and_then(|latest| latest.checkpoint.clone());
            let claim = vec![place.message(after, &token, checkpoint)];
            match place.publish(&job.context, job.limit, claim).await {
                Ok(sequence) => {
                    self.owner = Some(Owner { place, token, sequence });
                    return Ok(latest.and_then(|latest| latest.loaded()));
                }
                // Another owner commits, or claims, at the same time.
                Err(error) if is_wrong_sequence(&error) => pause(attempt).await,
                Err(error) => return Err(error),
            }
        }
        Err(place.behind())
    }

    /// # Errors
    ///
    /// Each [`JetStreamError`] of a transaction. After [`Request`](JetStreamError::Request) the commit may have taken place.
    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<T>],
    ) -> Result<(), JetStreamError> {
        let Self { job, write, owner } = self;
        let owner = owner.as_mut().ok_or(JetStreamError::NotClaimed)?;
        if outputs.len() > Self::MOST_OUTPUTS {
            let (outputs, limit) = (outputs.len(), Self::MOST_OUTPUTS);
            return Err(JetStreamError::TooManyOutputs { outputs, limit });
        }
        let mut batch = Vec::with_capacity(outputs.len() + 1);
        for output in outputs {
            let message = write(output).map_err(JetStreamError::Write)?;
            owner.place.check_output(&message)?;
            batch.push(message);
        }
        // The last one, so that the answer's sequence is the checkpoint's.
        let checkpoint = Some((id, Bytes::copy_from_slice(checkpoint)));
        batch.push(owner.place.message(owner.sequence, &owner.token, checkpoint));
        match owner.place.publish(&job.context, job.limit, batch).await {
            Ok(sequence) => owner.sequence = sequence,
            Err(error) => return Err(owner.why(error).await),
        }
        Ok(())
    }

    /// Whether the commit has taken place. If it has not, it is made impossible: a message with the checkpoint before it moves the fence.
    ///
    /// # Errors
    ///
    /// [`Fenced`](JetStreamError::Fenced), [`Behind`](JetStreamError::Behind), [`Server`](JetStreamError::Server),
    /// [`Request`](JetStreamError::Request), [`NotClaimed`](JetStreamError::NotClaimed).
    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, JetStreamError> {
        let Self { job, owner, .. } = self;
        let owner = owner.as_mut().ok_or(JetStreamError::NotClaimed)?;
        for attempt in 0..ATTEMPTS {
            let Some(latest) = owner.latest().await? else {
                pause(attempt).await;
                continue;
            };
            let is_committed = latest.checkpoint.as_ref().is_some_and(|(latest, _)| *latest == id);
            // The fence has moved: by the commit, or by an earlier answer that was lost.
            if is_committed || latest.sequence > owner.sequence {
                owner.sequence = latest.sequence;
                return Ok(is_committed);
            }
            let fence = owner.place.message(owner.sequence, &owner.token, latest.checkpoint);
            match owner.place.publish(&job.context, job.limit, vec![fence]).await {
                Ok(sequence) => {
                    owner.sequence = sequence;
                    return Ok(false);
                }
                // The commit is on its way just now.
                Err(error) if is_wrong_sequence(&error) => pause(attempt).await,
                Err(error) => return Err(error),
            }
        }
        Err(owner.place.behind())
    }

    /// [`JetStreamError::Fenced`], and [`JetStreamError::TooManyOutputs`], because no later commit of this life has fewer outputs.
    fn is_final(&self, error: &JetStreamError) -> bool {
        matches!(error, JetStreamError::Fenced { .. } | JetStreamError::TooManyOutputs { .. })
    }
}

impl Owner {
    /// The last message, which is this owner's; `None` if a server answered that is behind.
    async fn latest(&self) -> Result<Option<Latest>, JetStreamError> {
        let latest = self.place.read().await?.filter(|latest| latest.sequence >= self.sequence);
        match latest {
            Some(latest) if latest.owner != self.token => Err(self.place.fenced()),
            latest => Ok(latest),
        }
    }

    /// The reason why a commit was refused: the comparison has failed if another owner has moved the fence.
    async fn why(&self, error: JetStreamError) -> JetStreamError {
        if !is_wrong_sequence(&error) {
            return error;
        }
        match self.latest().await {
            Err(fenced @ JetStreamError::Fenced { .. }) => fenced,
            _ => error,
        }
    }
}

/// How often a comparison that failed is made again. Each time somebody else has moved the fence, or a server was behind.
const ATTEMPTS: u32 = 100;

async fn pause(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(10) * attempt.min(10)).await;
}

impl<W> fmt::Debug for JetStreamTransaction<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("JetStreamTransaction");
        shown.field("job", &self.job).field("is_claimed", &self.owner.is_some());
        shown.finish_non_exhaustive()
    }
}
