//! The start of a pipeline: its state is loaded, and its ends go there.

use alloc::string::String;
use alloc::sync::Arc;

use super::checkpointed_source::CheckpointedSource;
use super::committer::Committer;
use super::done::Done;
use super::error::{PipelineError, Report};
use super::sections::{self, DONE, NUMBER, STAGES};
use super::signals::Signals;
use super::sink::TransactionalSink;
use super::source::ReplayableSource;
use super::{Pipeline, position, prepared};
use crate::checkpoint::{Checkpoint, CheckpointId, CheckpointStore};
use crate::operator::{RequestIdRange, holds_anything};
use crate::runtime::Runtime;
use crate::stage::{Keeps, Recovery};

/// A pipeline whose ends are in the state of the last checkpoint, and whose stages are to be built.
pub(super) struct Start<S: ReplayableSource, K, C, L, Tm> {
    pub(super) elements: CheckpointedSource<S>,
    pub(super) recovery: Recovery,
    pub(super) committer: Committer<S, K, L>,
    pub(super) store: C,
    pub(super) timer: Tm,
    pub(super) signals: Arc<Signals>,
    pub(super) ids: RequestIdRange,
}

impl<S: ReplayableSource, K, C: CheckpointStore, L: FnMut(Report<'_>)> Pipeline<S, K, C, L> {
    /// Loads the last checkpoint, opens the source at its position, and brings the sink into its state.
    pub(super) async fn start<Rt: Runtime, T>(
        self,
        runtime: Rt,
        keeps: Keeps,
    ) -> Result<Start<S, K, C, L, Rt::Timer>, PipelineError<S::Error, K::Error, C::Error>>
    where
        K: TransactionalSink<T>,
    {
        let Self { mut source, sink, mut store, trigger, partition, listener, signals } = self;
        let trigger = trigger.or_default_interval();
        let ids = RequestIdRange { partition };
        if partition >= RequestIdRange::PARTITIONS {
            return Err(PipelineError::Partition { number: partition });
        }
        let timer = runtime.timer().map_err(PipelineError::NoRuntime)?;
        let loaded = load(&mut store).await?;
        let last =
            loaded.as_ref().map(|(checkpoint, damaged)| LastLife::read(checkpoint, *damaged));
        let last = last.transpose()?;
        // Before the sink: if the source cannot open, the output is untouched.
        let (position, last) =
            last.map_or((None, None), |(position, last)| (Some(position), Some(last)));
        source.open(position).await.map_err(PipelineError::Open)?;

        let shared = Arc::clone(&signals.0);
        let (error_sender, source_error) = rtrb::RingBuffer::new(1); // a source fails only once
        let acknowledger = source.acknowledger();
        let mut committer =
            Committer::new(sink, acknowledger, listener, signals, source_error, trigger, &timer);
        let described = last.as_ref().map(|last| (last.id, last.damaged, &last.prepared));
        committer.recover(described).await?;

        let mut stages_so_far = last.as_ref().map_or(0, |last| last.stages);
        if keeps == Keeps::Positions {
            stages_so_far = stages_so_far.max(1);
        }
        let next = last.as_ref().map_or(CheckpointId(0), |last| next_id(last.id, last.damaged));
        let damaged = last.as_ref().map_or(0, |last| last.damaged);
        let records = last.map_or((0, Done::default()), |last| (last.number, last.done));
        let elements = CheckpointedSource::new(
            source,
            Arc::clone(&shared),
            error_sender,
            trigger,
            next,
            keeps == Keeps::Records,
            records,
        );
        // A checkpoint without sections of stages has nothing to restore.
        let checkpoint = loaded.map(|(checkpoint, _)| checkpoint).filter(has_stages);
        let barriers = shared.barriers.clone();
        barriers.hold(); // until the first checkpoint is committed
        let recovery = Recovery::new(checkpoint, barriers, keeps, ids, stages_so_far, damaged);
        Ok(Start { elements, recovery, committer, store, timer, signals: shared, ids })
    }
}

/// The last checkpoint, but for its position and the sections of its stages.
struct LastLife<D> {
    id: CheckpointId,
    damaged: usize,
    prepared: D,
    stages: u16,
    number: u64,
    done: Done,
}

impl<D: serde::de::DeserializeOwned> LastLife<D> {
    fn read<P: serde::de::DeserializeOwned, Source, Sink, Store>(
        checkpoint: &Checkpoint,
        damaged: usize,
    ) -> Result<(P, Self), PipelineError<Source, Sink, Store>> {
        let id = checkpoint.id();
        let foreign = || PipelineError::Foreign { id };
        let position = position(checkpoint).ok_or_else(foreign)?;
        let prepared = prepared(checkpoint).ok_or_else(foreign)?;
        // Checkpoints of earlier versions have no such sections. Their stages count from the first id on.
        let stages = u16::try_from(stages(checkpoint).count()).unwrap_or(u16::MAX);
        let stages = sections::read(checkpoint, STAGES).unwrap_or(stages);
        let number = sections::read(checkpoint, NUMBER).unwrap_or(0);
        let done = match checkpoint.section(DONE) {
            Some(_) => sections::read(checkpoint, DONE).ok_or_else(foreign)?,
            None => Done::default(),
        };
        Ok((position, Self { id, damaged, prepared, stages, number, done }))
    }
}

/// The number of the next checkpoint: higher than `id` and higher than the numbers of the `damaged` ones, which may be newer.
///
/// Those numbers are unknown, and their count does not bound them, because a failed checkpoint uses up a number and leaves
/// nothing behind. A checkpoint that cannot be read today may be readable tomorrow, and must not be the latest then. So the
/// number skips, for each damaged checkpoint, more numbers than one life of a pipeline can use.
fn next_id(id: CheckpointId, damaged: usize) -> CheckpointId {
    const ONE_LIFE: u64 = 1_000_000_000_000;
    CheckpointId(id.0.saturating_add((damaged as u64).saturating_mul(ONE_LIFE))).next()
}

/// Loads the latest checkpoint, with the number of damaged ones that were skipped.
async fn load<Source, Sink, C: CheckpointStore>(
    store: &mut C,
) -> Result<Option<(Checkpoint, usize)>, PipelineError<Source, Sink, C::Error>> {
    let loaded = store.load_latest().await.map_err(PipelineError::Load)?;
    let Some(loaded) = loaded else { return Ok(None) };
    let mut checkpoint = Checkpoint::from_bytes(&loaded.bytes).map_err(PipelineError::Format)?;
    checkpoint.watch_restores(); // for `check_restored`
    Ok(Some((checkpoint, loaded.damaged)))
}

/// The names and sections of stages in a checkpoint.
fn stages(checkpoint: &Checkpoint) -> impl Iterator<Item = (&str, &[u8])> {
    checkpoint.sections().filter(|(name, _)| !name.starts_with("pipeline."))
}

fn has_stages(checkpoint: &Checkpoint) -> bool {
    stages(checkpoint).next().is_some()
}

/// Refuses to go on when a stage was not restored that has records in flight: they would be lost silently (K10).
pub(super) fn check_restored<Source, Sink, Store>(
    recovery: &Recovery,
) -> Result<(), PipelineError<Source, Sink, Store>> {
    let mut left = recovery.checkpoint().into_iter().flat_map(Checkpoint::not_restored);
    match left.find(|(_, section)| holds_anything(section)) {
        Some((name, _)) => Err(PipelineError::NotRestored { stage: String::from(name) }),
        None => Ok(()),
    }
}

/// Refuses to go on when a stage takes snapshots without the pipeline's recovery: it would begin with request ids that an earlier life
/// has given out, and be in the way of barriers (K17).
pub(super) fn check_connected<Source, Sink, Store>(
    recovery: &Recovery,
    first: &Checkpoint,
) -> Result<(), PipelineError<Source, Sink, Store>> {
    match stages(first).find(|(name, _)| !recovery.knows(name)) {
        Some((name, _)) => Err(PipelineError::NotConnected { stage: String::from(name) }),
        None => Ok(()),
    }
}
