//! The sink's end: writes, and commits what a durable checkpoint covers.

use alloc::sync::Arc;
use core::error::Error;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::Poll;

use futures_core::Stream;

use super::checkpointed_source::Shared;
use super::error::{PipelineError, Report};
use super::sections::{self, Ended, SINK, SOURCE};
use super::sink::TransactionalSink;
use super::source::{Acknowledge, ReplayableSource};
use crate::checkpoint::CheckpointStore;
use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointId};
use crate::element::{Barrier, StreamElement};

pub(super) struct Committer<S: ReplayableSource, K, L> {
    pub(super) sink: K,
    pub(super) acknowledger: S::Acknowledger,
    pub(super) listener: L,
    pub(super) shared: Arc<Shared>,
    pub(super) failed: rtrb::Consumer<S::Error>,
}

/// A checkpoint that the sink has pre-committed.
pub(super) struct Prepared<D, P> {
    pub(super) checkpoint: Checkpoint,
    pub(super) prepared: D,
    pub(super) position: P,
    pub(super) end: Option<Ended>,
}

/// What came of a save. The store comes back from it.
pub(super) struct Saved<D, P, C: CheckpointStore> {
    store: C,
    of: Prepared<D, P>,
    result: Result<usize, Reason<C::Error>>,
}

pub(super) enum Reason<E> {
    Store(E),
    Checkpoint(CheckpointError),
}

type ErrorOf<S, K, C, T> = PipelineError<
    <S as ReplayableSource>::Error,
    <K as TransactionalSink<T>>::Error,
    <C as CheckpointStore>::Error,
>;

/// Saves a checkpoint; when this is ready it is durable, or it has failed.
pub(super) async fn save<D, P, C: CheckpointStore>(
    mut store: C,
    mut of: Prepared<D, P>,
) -> Saved<D, P, C> {
    let id = of.checkpoint.id();
    let result = match of.checkpoint.bytes() {
        Ok(bytes) => store.save(id, bytes).await.map(|()| bytes.len()).map_err(Reason::Store),
        Err(reason) => Err(Reason::Checkpoint(reason)),
    };
    Saved { store, of, result }
}

/// What happens first.
enum Next<T, X> {
    Element(Option<StreamElement<T>>),
    Saved(X),
}

async fn next<St: Stream<Item = StreamElement<T>>, T, F: Future>(
    mut stages: Pin<&mut St>,
    mut saving: Pin<&mut Option<F>>,
) -> Next<T, F::Output> {
    poll_fn(|cx| {
        if let Some(saving) = saving.as_mut().as_pin_mut()
            && let Poll::Ready(saved) = saving.poll(cx)
        {
            return Poll::Ready(Next::Saved(saved));
        }
        stages.as_mut().poll_next(cx).map(Next::Element)
    })
    .await
}

impl<S: ReplayableSource, K, L: FnMut(Report<'_>)> Committer<S, K, L> {
    /// Writes what comes out of `stages`, and saves and commits at the barriers, until the last one.
    /// Writing goes on while a checkpoint is being saved; the next one waits for that.
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
        let mut idle = Some(store);
        let (id, ended) = loop {
            match next(stages.as_mut(), saving.as_mut()).await {
                Next::Saved(saved) => {
                    saving.set(None);
                    idle = Some(self.conclude(saved).await?);
                }
                Next::Element(None) => return Err(PipelineError::EndedEarly),
                Next::Element(Some(StreamElement::Barrier(barrier))) => {
                    if let Some(saved) = finish(saving.as_mut()).await {
                        idle = Some(self.conclude(saved).await?);
                    }
                    let Some(of) = self.prepare(barrier).await? else { continue };
                    let end = of.end.map(|end| (of.checkpoint.id(), end));
                    let Some(store) = idle.take() else { unreachable!("nothing is being saved") };
                    saving.set(Some(save(store, of)));
                    if let Some(end) = end {
                        break end;
                    }
                }
                Next::Element(Some(element)) => self.write(element).await?,
            }
        };
        if let Some(saved) = finish(saving).await {
            self.conclude(saved).await?;
        }
        (self.listener)(Report::Complete { id, ended });
        // The stages have nothing left, but functions to close, which may take for ever.
        while poll_fn(|cx| stages.as_mut().poll_next(cx)).await.is_some() {}
        match self.failed.pop() {
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
                self.shared.note_uncommitted();
            }
            StreamElement::Watermark(watermark) => self.sink.watermark(watermark),
            StreamElement::Status(_) | StreamElement::Barrier(_) => {}
        }
        Ok(())
    }

    /// Gets the sink ready to commit, and completes the checkpoint. `None` when it has failed on its way.
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
        let complete = match checkpoint.failure() {
            Ok(()) => complete::<S, K, T>(&mut self.sink, checkpoint, end).await,
            Err(reason) => Ok(Err(reason)),
        };
        match complete.map_err(PipelineError::Sink)? {
            Ok(prepared) => Ok(Some(prepared)),
            Err(reason) if end.is_some() => Err(PipelineError::Checkpoint(reason)),
            Err(reason) => {
                self.report_failure(id, &reason);
                Ok(None)
            }
        }
    }

    /// Commits what was saved, and only then acknowledges it. Gives the store back.
    async fn conclude<T, C: CheckpointStore>(
        &mut self,
        saved: Saved<K::Prepared, S::Position, C>,
    ) -> Result<C, ErrorOf<S, K, C, T>>
    where
        K: TransactionalSink<T>,
    {
        let Saved { store, of, result } = saved;
        let id = of.checkpoint.id();
        match result {
            Ok(bytes) => {
                self.sink.commit(id, &of.prepared).await.map_err(PipelineError::Sink)?;
                if let Err(reason) = self.acknowledger.acknowledge(of.position).await {
                    (self.listener)(Report::Unacknowledged { id, reason: &reason });
                }
                (self.listener)(Report::Saved { id, bytes });
            }
            Err(reason) if of.end.is_some() => return Err(reason.into()),
            Err(Reason::Store(reason)) => self.report_failure(id, &reason),
            Err(Reason::Checkpoint(reason)) => self.report_failure(id, &reason),
        }
        Ok(store)
    }

    /// The next checkpoint has to cover this one, even if nothing more comes.
    fn report_failure(&mut self, id: CheckpointId, reason: &(dyn Error + 'static)) {
        (self.listener)(Report::Failed { id, reason });
        self.shared.note_uncommitted();
    }

    /// The checkpoint that a new job begins with: from here on it is known whose the output is.
    pub(super) async fn begin<T, C>(
        &mut self,
        checkpoint: Checkpoint,
        store: C,
    ) -> Result<C, ErrorOf<S, K, C, T>>
    where
        K: TransactionalSink<T>,
        C: CheckpointStore,
    {
        let complete = complete::<S, K, T>(&mut self.sink, checkpoint, None).await;
        let of = complete.map_err(PipelineError::Sink)?.map_err(PipelineError::Checkpoint)?;
        let saved = save(store, of).await;
        match saved.result {
            Err(reason) => Err(reason.into()),
            Ok(_) => self.conclude(saved).await,
        }
    }
}

async fn complete<S, K, T>(
    sink: &mut K,
    mut checkpoint: Checkpoint,
    end: Option<Ended>,
) -> Result<Result<Prepared<K::Prepared, S::Position>, CheckpointError>, K::Error>
where
    S: ReplayableSource,
    K: TransactionalSink<T>,
{
    let prepared = sink.pre_commit(checkpoint.id()).await?;
    if let Err(reason) = sections::put(&mut checkpoint, SINK, &prepared) {
        return Ok(Err(reason));
    }
    Ok(match sections::read(&checkpoint, SOURCE) {
        Some(position) => Ok(Prepared { checkpoint, prepared, position, end }),
        None => Err(CheckpointError::Serialize),
    })
}

async fn finish<F: Future>(mut saving: Pin<&mut Option<F>>) -> Option<F::Output> {
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
