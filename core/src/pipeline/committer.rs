//! The sink's end of a pipeline: it writes records, saves checkpoints and commits.
//!
//! The order is what K10 rests on: pre-commit, save, commit, acknowledge. A crash between two steps is repaired by the next
//! run, which finds the checkpoint or does not.

use alloc::sync::Arc;
use core::error::Error;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::Poll;

use futures_core::Stream;

use super::error::{PipelineError, Report};
use super::sections::{self, Ended, SINK, SOURCE};
use super::signals::Signals;
use super::sink::TransactionalSink;
use super::source::{Acknowledge, ReplayableSource};
use crate::checkpoint::CheckpointStore;
use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointId};
use crate::element::{Barrier, StreamElement};

pub(super) struct Committer<S: ReplayableSource, K, L> {
    pub(super) sink: K,
    pub(super) acknowledger: S::Acknowledger,
    pub(super) listener: L,
    pub(super) signals: Arc<Signals>,
    pub(super) source_error: rtrb::Consumer<S::Error>,
}

/// A checkpoint that the sink has pre-committed.
pub(super) struct Prepared<D, P> {
    pub(super) checkpoint: Checkpoint,
    /// The sink's description of its output.
    pub(super) description: D,
    /// The source's position in it.
    pub(super) position: P,
    /// The reason of the pipeline's end, in its last checkpoint.
    pub(super) end: Option<Ended>,
}

/// The result of a save: the number of bytes, or the reason of its failure. It returns the store, which the save's future
/// owned.
pub(super) struct Saved<D, P, C: CheckpointStore> {
    store: C,
    prepared: Prepared<D, P>,
    result: Result<usize, Reason<C::Error>>,
}

/// The reason why a save failed.
pub(super) enum Reason<E> {
    Store(E),
    Checkpoint(CheckpointError),
}

type ErrorOf<S, K, C, T> = PipelineError<
    <S as ReplayableSource>::Error,
    <K as TransactionalSink<T>>::Error,
    <C as CheckpointStore>::Error,
>;

/// Saves a checkpoint. When the future is ready, the checkpoint is durable or has failed.
pub(super) async fn save<D, P, C: CheckpointStore>(
    mut store: C,
    mut prepared: Prepared<D, P>,
) -> Saved<D, P, C> {
    let id = prepared.checkpoint.id();
    // K9: the store makes this atomic. After a crash there is this checkpoint or the one before it.
    let result = match prepared.checkpoint.bytes() {
        Ok(bytes) => store.save(id, bytes).await.map(|()| bytes.len()).map_err(Reason::Store),
        Err(reason) => Err(Reason::Checkpoint(reason)),
    };
    Saved { store, prepared, result }
}

/// The next thing that happens at the sink's end: an element arrives, or a save ends.
enum Event<T, X> {
    Element(Option<StreamElement<T>>),
    Saved(X),
}

async fn next_event<St: Stream<Item = StreamElement<T>>, T, F: Future>(
    mut stages: Pin<&mut St>,
    mut saving: Pin<&mut Option<F>>,
) -> Event<T, F::Output> {
    poll_fn(|cx| {
        // The save first: a source that is always ready must not hold up a commit.
        if let Some(saving) = saving.as_mut().as_pin_mut()
            && let Poll::Ready(saved) = saving.poll(cx)
        {
            return Poll::Ready(Event::Saved(saved));
        }
        stages.as_mut().poll_next(cx).map(Event::Element)
    })
    .await
}

impl<S: ReplayableSource, K, L: FnMut(Report<'_>)> Committer<S, K, L> {
    /// Writes the outcomes of `stages`, and saves and commits at every barrier, until the last one. Writing goes
    /// on while a checkpoint is being saved; the next barrier waits for the save.
    pub(super) async fn run<St, T, C>(
        mut self,
        stages: St,
        store: C,
    ) -> Result<Ended, ErrorOf<S, K, C, T>>
    where
        St: Stream<Item = StreamElement<T>>,
        K: TransactionalSink<T>,
        C: CheckpointStore,
    {
        let mut stages = pin!(stages);
        let mut saving = pin!(None);
        let mut idle = Some(store); // `None` while a save has it
        let (id, ended) = loop {
            match next_event(stages.as_mut(), saving.as_mut()).await {
                Event::Saved(saved) => {
                    saving.set(None);
                    idle = Some(self.commit(saved).await?);
                }
                // Without its last barrier the stream has not ended but broken off.
                Event::Element(None) => return Err(PipelineError::EndedEarly),
                Event::Element(Some(StreamElement::Barrier(barrier))) => {
                    // K10: one checkpoint after the other, so that commits and acknowledgements keep their order.
                    if let Some(saved) = wait_for_save(saving.as_mut()).await {
                        idle = Some(self.commit(saved).await?);
                    }
                    let Some(prepared) = self.prepare(barrier).await? else { continue };
                    let end = prepared.end.map(|end| (prepared.checkpoint.id(), end));
                    // The save that had the store was waited for above.
                    let Some(store) = idle.take() else { unreachable!("nothing is being saved") };
                    saving.set(Some(save(store, prepared)));
                    if let Some(end) = end {
                        break end;
                    }
                }
                Event::Element(Some(element)) => self.write(element).await?,
            }
        };
        if let Some(saved) = wait_for_save(saving).await {
            self.commit(saved).await?;
        }
        (self.listener)(Report::Complete { id, ended });
        // The stages are empty and only close their functions (L4), which may take forever. So the report comes first.
        while poll_fn(|cx| stages.as_mut().poll_next(cx)).await.is_some() {}
        match self.source_error.pop() {
            Ok(error) => Err(PipelineError::Source(error)),
            Err(_) => Ok(ended),
        }
    }

    async fn write<T, Store>(
        &mut self,
        element: StreamElement<T>,
    ) -> Result<(), PipelineError<S::Error, K::Error, Store>>
    where
        K: TransactionalSink<T>,
    {
        match element {
            StreamElement::Record { value, timestamp } => {
                self.sink.write(value, timestamp).await.map_err(PipelineError::Sink)?;
                self.signals.note_uncommitted(); // only a checkpoint commits it
            }
            StreamElement::Watermark(watermark) => self.sink.watermark(watermark),
            StreamElement::Status(status) => self.sink.status(status),
            StreamElement::Barrier(_) => {} // does not come here
        }
        Ok(())
    }

    /// Pre-commits the sink and completes the checkpoint. `None` if the checkpoint has failed, which is reported.
    async fn prepare<T, Store>(
        &mut self,
        barrier: Barrier,
    ) -> Result<Option<Prepared<K::Prepared, S::Position>>, PipelineError<S::Error, K::Error, Store>>
    where
        K: TransactionalSink<T>,
    {
        let checkpoint = barrier.checkpoint;
        let end = sections::ended(&checkpoint);
        let id = checkpoint.id();
        // K3: a stage on the way may have failed the checkpoint, for instance by a drain that took too long.
        let complete = match checkpoint.failure() {
            Ok(()) => complete_checkpoint::<S, K, T>(&mut self.sink, checkpoint, end).await,
            Err(reason) => Ok(Err(reason)),
        };
        match complete.map_err(PipelineError::Sink)? {
            Ok(prepared) => Ok(Some(prepared)),
            // No checkpoint follows the last one, so its failure is the pipeline's.
            Err(reason) if end.is_some() => Err(PipelineError::Checkpoint(reason)),
            Err(reason) => {
                self.report_failure(id, &reason);
                Ok(None)
            }
        }
    }

    /// Commits a checkpoint that is durable, and only then acknowledges it (K10). Returns the store.
    async fn commit<T, C: CheckpointStore>(
        &mut self,
        saved: Saved<K::Prepared, S::Position, C>,
    ) -> Result<C, ErrorOf<S, K, C, T>>
    where
        K: TransactionalSink<T>,
    {
        let Saved { store, prepared, result } = saved;
        let id = prepared.checkpoint.id();
        match result {
            Ok(bytes) => {
                self.sink.commit(id, &prepared.description).await.map_err(PipelineError::Sink)?;
                // After the commit: a source that deletes acknowledged records could not replay them. A failure is reported
                // only, because the next acknowledgement covers it.
                if let Err(reason) = self.acknowledger.acknowledge(prepared.position).await {
                    (self.listener)(Report::Unacknowledged { id, reason: &reason });
                }
                (self.listener)(Report::Saved { id, bytes });
            }
            // Nothing is committed. No checkpoint follows the last one, so its failure is the pipeline's.
            Err(reason) if prepared.end.is_some() => return Err(reason.into()),
            Err(Reason::Store(reason)) => self.report_failure(id, &reason),
            Err(Reason::Checkpoint(reason)) => self.report_failure(id, &reason),
        }
        Ok(store)
    }

    /// Reports a failed checkpoint, and asks for another one that covers it, even if no more records come (K10).
    fn report_failure(&mut self, id: CheckpointId, reason: &(dyn Error + 'static)) {
        (self.listener)(Report::Failed { id, reason });
        self.signals.note_uncommitted();
    }

    /// Saves the first checkpoint of a new job. If the job dies early, its next run finds the checkpoint, and so knows that
    /// the output is its own.
    pub(super) async fn save_first<T, C>(
        &mut self,
        checkpoint: Checkpoint,
        store: C,
    ) -> Result<C, ErrorOf<S, K, C, T>>
    where
        K: TransactionalSink<T>,
        C: CheckpointStore,
    {
        let complete = complete_checkpoint::<S, K, T>(&mut self.sink, checkpoint, None).await;
        let prepared = complete.map_err(PipelineError::Sink)?.map_err(PipelineError::Checkpoint)?;
        let saved = save(store, prepared).await;
        match saved.result {
            Err(reason) => Err(reason.into()),
            Ok(_) => self.commit(saved).await,
        }
    }
}

/// Pre-commits the sink and adds its description to the checkpoint.
async fn complete_checkpoint<S, K, T>(
    sink: &mut K,
    mut checkpoint: Checkpoint,
    end: Option<Ended>,
) -> Result<Result<Prepared<K::Prepared, S::Position>, CheckpointError>, K::Error>
where
    S: ReplayableSource,
    K: TransactionalSink<T>,
{
    // The description covers everything that is not committed, also the output of checkpoints that have failed.
    let description = sink.pre_commit(checkpoint.id()).await?;
    if let Err(reason) = sections::put(&mut checkpoint, SINK, &description) {
        return Ok(Err(reason));
    }
    Ok(match sections::read(&checkpoint, SOURCE) {
        Some(position) => Ok(Prepared { checkpoint, description, position, end }),
        None => Err(CheckpointError::Serialize),
    })
}

/// Waits for the save that is under way, if there is one.
async fn wait_for_save<F: Future>(mut saving: Pin<&mut Option<F>>) -> Option<F::Output> {
    let saved = match saving.as_mut().as_pin_mut() {
        Some(saving) => Some(saving.await),
        None => None,
    };
    saving.set(None);
    saved
}

impl<Source, Sink, Store> From<Reason<Store>> for PipelineError<Source, Sink, Store> {
    fn from(reason: Reason<Store>) -> Self {
        match reason {
            Reason::Store(error) => Self::Save(error),
            Reason::Checkpoint(error) => Self::Checkpoint(error),
        }
    }
}
