//! A partition's transaction.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use inflight_core::pipeline::{Output, Transaction};
use inflight_core::{CheckpointId, Loaded};

use crate::blocking;
use crate::error::{KafkaJobError, WriteError};
use crate::metadata::Commit;
use crate::record::Message;
use crate::writer::Writer;

/// Commits output, offset and checkpoint of a partition in one transaction, as its only owner:
/// [`KafkaClient::transaction`](crate::KafkaClient::transaction) makes it, and
/// [`one_transaction`](inflight_core::pipeline::one_transaction) makes a pipeline's sink and store from it.
///
/// # Cancellation
///
/// If the future of a commit is dropped, the commit goes on on its thread, and takes place whole or not at all; or it does not begin.
/// [`is_committed`](Transaction::is_committed) and a claim wait until that is decided, for up to the job's limit for each call.
pub struct KafkaTransaction<W> {
    writer: Arc<Mutex<Writer>>,
    write: W,
    metadata_limit: usize,
    calls: u64,
}

impl<W> KafkaTransaction<W> {
    pub(crate) fn new(writer: Writer, metadata_limit: usize, write: W) -> Self {
        Self { writer: Arc::new(Mutex::new(writer)), write, metadata_limit, calls: 0 }
    }

    /// Makes a call after the calls before, and in place of one that has not begun.
    async fn call<R: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut Writer) -> Result<R, KafkaJobError> + Send + 'static,
    ) -> Result<R, KafkaJobError> {
        self.calls += 1;
        let (writer, number) = (Arc::clone(&self.writer), self.calls);
        let call = move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.enter(number)?;
            call(&mut writer)
        };
        blocking::call(call).await
    }
}

impl<T, W, I> Transaction<T> for KafkaTransaction<W>
where
    W: FnMut(&Output<T>) -> Result<I, WriteError>,
    I: IntoIterator<Item = Message>,
{
    type Error = KafkaJobError;

    /// # Errors
    ///
    /// [`KafkaJobError::ForeignOffset`], [`KafkaJobError::Client`], [`KafkaJobError::NoRuntime`].
    async fn claim(&mut self) -> Result<Option<Loaded>, KafkaJobError> {
        self.call(Writer::claim).await
    }

    /// # Errors
    ///
    /// Each of [`KafkaJobError`]. After [`Client`](KafkaJobError::Client) the commit may have taken place.
    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<T>],
    ) -> Result<(), KafkaJobError> {
        let commit = Commit::new(id, checkpoint, self.metadata_limit)?;
        let mut messages = Vec::with_capacity(outputs.len());
        for output in outputs {
            messages.extend((self.write)(output).map_err(KafkaJobError::Write)?);
        }
        self.call(move |writer| writer.commit(&commit, &messages)).await
    }

    /// # Errors
    ///
    /// [`KafkaJobError::Fenced`], [`KafkaJobError::ProducerEnded`], [`KafkaJobError::Client`], [`KafkaJobError::NotClaimed`],
    /// [`KafkaJobError::NoRuntime`].
    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, KafkaJobError> {
        self.call(move |writer| writer.is_committed(id)).await
    }

    /// [`KafkaJobError::Fenced`] and [`KafkaJobError::ProducerEnded`] are final.
    fn is_final(&self, error: &KafkaJobError) -> bool {
        error.is_final()
    }
}

impl<W> fmt::Debug for KafkaTransaction<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaTransaction").field("calls", &self.calls).finish_non_exhaustive()
    }
}
