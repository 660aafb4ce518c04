//! The controls: two transactions that break a promise on purpose. The check has to find out.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::PublishError;
use inflight::pipeline::{Output, Transaction};
use inflight::{CheckpointId, Loaded};
use inflight_jetstream::JetStreamError;

use crate::worker::{Outcome, message};

/// BROKEN: it commits although another owner has claimed the partition, as a log without a fence would let it.
#[derive(Debug)]
pub struct NoFence<X>(pub X);

impl<X: Transaction<Outcome>> Transaction<Outcome> for NoFence<X> {
    type Error = X::Error;

    async fn claim(&mut self) -> Result<Option<Loaded>, X::Error> {
        self.0.claim().await
    }

    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<Outcome>],
    ) -> Result<(), X::Error> {
        loop {
            match self.0.commit(id, checkpoint, outputs).await {
                // With a claim of its own it is let through, and what the other owner has committed is ignored.
                Err(error) if self.0.is_final(&error) => _ = self.0.claim().await?,
                result => return result,
            }
        }
    }

    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, X::Error> {
        match self.0.is_committed(id).await {
            Err(error) if self.0.is_final(&error) => {
                Ok(self.0.claim().await?.is_some_and(|latest| latest.id == id))
            }
            result => result,
        }
    }

    fn is_final(&self, _: &X::Error) -> bool {
        false
    }
}

/// BROKEN: it publishes the outputs first, and the checkpoint 50 ms later. A worker that dies in between publishes them again.
#[derive(Debug)]
pub struct OutputsFirst<X> {
    pub transaction: X,
    pub context: Context,
    pub partition: String,
}

/// Without it the window is so short that kills rarely hit it, and the control would prove nothing.
const WINDOW: Duration = Duration::from_millis(50);

impl<X> Transaction<Outcome> for OutputsFirst<X>
where
    X: Transaction<Outcome, Error = JetStreamError>,
{
    type Error = JetStreamError;

    async fn claim(&mut self) -> Result<Option<Loaded>, JetStreamError> {
        self.transaction.claim().await
    }

    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<Outcome>],
    ) -> Result<(), JetStreamError> {
        let request = |error: PublishError| JetStreamError::Request(error.into());
        let mut under_way = Vec::with_capacity(outputs.len());
        for output in outputs {
            let message = message(&self.partition, &output.value).map_err(JetStreamError::Write)?;
            let sent = self.context.publish(message.subject, message.payload).await;
            under_way.push(sent.map_err(request)?);
        }
        for acknowledgement in under_way {
            acknowledgement.await.map_err(request)?;
        }
        tokio::time::sleep(WINDOW).await;
        self.transaction.commit(id, checkpoint, &[]).await
    }

    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, JetStreamError> {
        self.transaction.is_committed(id).await
    }

    fn is_final(&self, error: &JetStreamError) -> bool {
        self.transaction.is_final(error)
    }
}
