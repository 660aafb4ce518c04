//! A pipeline that checkpoints itself: a source that can be replayed, stages, a sink that commits in two
//! phases, and a store.
//!
//! The source inserts a barrier from time to time and puts its position into it; every stage adds a snapshot
//! of its records in flight; at the sink the checkpoint is complete. There, in this order:
//!
//! 1. the sink [pre-commits](TransactionalSink::pre_commit) everything that was written before the barrier;
//! 2. the store saves the checkpoint, which is durable from then on;
//! 3. the sink [commits](TransactionalSink::commit);
//! 4. the source learns that everything before its position is committed ([`Acknowledge`]).
//!
//! A crash between any two of these steps is repaired by the next run. It loads the latest checkpoint; the
//! source goes to the position in it; the sink commits everything that it describes (perhaps again) and
//! aborts everything written later; the stages restore the records that were in flight. So (K10)
//!
//! * the **state** (the source's position, the records in flight with their attempts and request ids) counts
//!   each record exactly once;
//! * the **calls** to the outside are made at least once: records that were in flight are requested again,
//!   with the same [request id](crate::AttemptInfo::request_id), by which a service can recognise them;
//! * the **output** holds each record's outcome exactly once, if the sink is transactional or idempotent.
//!
//! ```
//! use inflight_core::pipeline::{Ended, MemorySink, MemorySource, Pipeline};
//! use inflight_core::{AsyncWait, AsyncWaitExt, MemoryStore};
//! # use inflight_core::{Instant, NoRuntime, Runtime, Timer};
//! # use std::{pin::Pin, task::{Context, Poll, Waker}, time::Duration};
//! # #[derive(Clone, Copy)] struct Still;
//! # impl Runtime for Still { type Timer = Self; fn timer(&self) -> Result<Self, NoRuntime> { Ok(Self) } }
//! # impl Timer for Still {
//! #     fn now(&self) -> Instant { Instant::ZERO }
//! #     fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}
//! #     fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
//! # }
//! # let runtime = Still;
//!
//! # let example = async {
//! let mut sink = MemorySink::new();
//! let ended = Pipeline::new(MemorySource::new(1..=100_u64), &mut sink, MemoryStore::new())
//!     .interval(Duration::from_secs(1))
//!     .run(runtime, |numbers, checkpoint| {
//!         numbers
//!             .async_wait(AsyncWait::ordered(10), |n: &u64| {
//!                 let n = *n;
//!                 async move { Ok::<_, ()>(n * n) } // a real one asks a service
//!             })
//!             .checkpointed("squares", 1)
//!             .restore(checkpoint)
//!             .in_place(runtime) // or `.spawn(..)`
//!     })
//!     .await?;
//! assert_eq!(ended, Ended::Finished);
//! assert_eq!(sink.committed()[9].result, Ok(100));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # };
//! # let mut example = std::pin::pin!(example);
//! # for _ in 0..1000 {
//! #     if let Poll::Ready(done) = example.as_mut().poll(&mut Context::from_waker(Waker::noop())) { done.unwrap(); return; }
//! # }
//! # panic!("it does not end");
//! ```
//!
//! There is no coordinator: the [`Barrier`](crate::Barrier) carries the checkpoint. An engine with sources
//! and sinks of its own gets the same guarantees from barriers, with
//! [`checkpointed`](crate::StageBuilder::checkpointed) and [`restore`](crate::StageBuilder::restore) of its stages, or
//! from the operator's [`snapshot`](crate::Operator::snapshot) and [`restore`](crate::Operator::restore).
//!
//! Adapters between stages (`map`, `filter`) must pass every barrier on and must not buffer records.

mod checkpointed_source;
mod committer;
mod error;
mod memory;
mod memory_transaction;
mod sections;
mod signals;
mod sink;
mod source;
mod transaction;

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use futures_core::Stream;

use self::checkpointed_source::CheckpointTrigger;
pub use self::checkpointed_source::CheckpointedSource;
use self::committer::Committer;
pub use self::error::{PipelineError, Report};
pub use self::memory::{MemorySink, MemorySource};
pub use self::memory_transaction::{Fenced, MemoryTransaction};
use self::sections::SOURCE;
pub use self::sections::{Ended, ended, position, prepared};
use self::signals::Signals;
pub use self::signals::StopHandle;
pub use self::sink::TransactionalSink;
pub use self::source::{Acknowledge, ReplayableSource};
pub use self::transaction::{
    Output, SinkHalf, SinkHalfError, StoreHalf, StoreHalfError, Transaction, one_transaction,
};
use crate::checkpoint::CheckpointStore;
use crate::checkpoint::{Checkpoint, CheckpointId};
use crate::element::{BarrierMode, StreamElement};
use crate::operator::holds_anything;
use crate::runtime::Runtime;
use crate::stage::StartError;

/// A source, a sink and a store that survive crashes together: see the [module's page](self).
pub struct Pipeline<S, K, C, L = fn(Report<'_>)> {
    source: S,
    sink: K,
    store: C,
    trigger: CheckpointTrigger,
    listener: L,
    signals: Arc<Signals>,
}

impl<S, K, C> Pipeline<S, K, C> {
    /// Makes a pipeline that takes a checkpoint at its beginning and its end. Set an
    /// [`interval`](Self::interval) for checkpoints in between.
    pub fn new(source: S, sink: K, store: C) -> Self {
        let (trigger, signals) = (CheckpointTrigger::default(), Arc::default());
        Self { source, sink, store, trigger, listener: |_| {}, signals }
    }
}

impl<S, K, C, L> Pipeline<S, K, C, L> {
    /// Takes a checkpoint every `interval` of processing time, if there is anything that the previous one does
    /// not cover. Outputs are committed at each checkpoint. A full stage does not take the barrier in before
    /// it has room.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.trigger.interval = Some(interval);
        self
    }

    /// Takes a checkpoint after every `records` records (at least one). With an interval as well, the first of
    /// the two conditions decides.
    #[must_use]
    pub fn every_records(mut self, records: u64) -> Self {
        self.trigger.records = Some(records.max(1));
        self
    }

    /// Takes checkpoints without records in flight: every stage finishes the records before the barrier
    /// ([`BarrierMode::Drain`]). A stage that takes longer than `limit` fails that checkpoint, which is
    /// reported, and nothing else (K3).
    #[must_use]
    pub fn draining(mut self, limit: Option<Duration>) -> Self {
        (self.trigger.mode, self.trigger.limit) = (BarrierMode::Drain, limit);
        self
    }

    /// Calls `listener` with a report on each checkpoint.
    #[must_use]
    pub fn on_report<M: FnMut(Report<'_>)>(self, listener: M) -> Pipeline<S, K, C, M> {
        let Self { source, sink, store, trigger, signals, .. } = self;
        Pipeline { source, sink, store, trigger, listener, signals }
    }

    /// Returns a handle that stops the pipeline, from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.signals))
    }

    /// Runs the pipeline: from its last checkpoint, or from the start if there is none, to the end of the
    /// source or until a [stop handle](Self::stop_handle) stops it.
    ///
    /// `build` connects the stages. Its arguments are the source, with barriers in it, and the checkpoint that
    /// every stage has to [`restore`](crate::StageBuilder::restore) (`None` if nothing was in flight). This
    /// future polls the stream that `build` returns to its end, in place, and the sink as well.
    ///
    /// The pipeline ends when all functions are closed. [`Report::Complete`] comes earlier, when everything is
    /// committed: a function that never closes delays the end but does not hide that the work is done.
    ///
    /// # Errors
    ///
    /// [`PipelineError`]. After any of them, a later run goes on from the last checkpoint.
    ///
    /// # Panics
    ///
    /// If a stage panics (as its stream does). The effect is that of a crash.
    ///
    /// # Cancellation
    ///
    /// Dropping the future has the effect of a crash: the last checkpoint stays valid, and everything that was not
    /// committed is done again.
    pub async fn run<Rt, B, St, T>(
        self,
        runtime: Rt,
        build: B,
    ) -> Result<Ended, PipelineError<S::Error, K::Error, C::Error>>
    where
        S: ReplayableSource,
        K: TransactionalSink<T>,
        C: CheckpointStore,
        L: FnMut(Report<'_>),
        Rt: Runtime,
        B: FnOnce(CheckpointedSource<S, Rt::Timer>, Option<&Checkpoint>) -> Result<St, StartError>,
        St: Stream<Item = StreamElement<T>>,
    {
        let Self { mut source, sink, mut store, trigger, listener, signals } = self;
        let timer = runtime.timer().map_err(PipelineError::NoRuntime)?;
        let loaded = load(&mut store).await?;
        let (error_sender, source_error) = rtrb::RingBuffer::new(1); // a source fails only once
        let position = loaded.as_ref().map(|(checkpoint, _)| {
            let foreign = PipelineError::Foreign { id: checkpoint.id() };
            position(checkpoint).ok_or(foreign)
        });
        // Before the sink: if the source cannot open, the output is untouched.
        source.open(position.transpose()?).await.map_err(PipelineError::Open)?;
        let mut committer: Committer<S, _, _> = Committer {
            sink,
            acknowledger: source.acknowledger(),
            listener,
            signals,
            source_error,
        };
        let next = match &loaded {
            Some((checkpoint, damaged)) => committer.recover(checkpoint, *damaged).await?,
            None => {
                // A new job: the sink refuses output that is not its own, before anything is saved.
                committer.sink.abort(None).await.map_err(PipelineError::Sink)?;
                let mut first = Checkpoint::new(CheckpointId(0));
                let put = sections::put(&mut first, SOURCE, &source.position());
                put.map_err(PipelineError::Checkpoint)?;
                store = committer.save_first(first, store).await?;
                CheckpointId(1)
            }
        };
        let signals = Arc::clone(&committer.signals);
        let elements = CheckpointedSource::new(source, timer, signals, error_sender, trigger, next);
        // `build` pulls nothing from the source: it is closed until `open`, also for stages that it spawns.
        let in_flight = loaded.as_ref().map(|(checkpoint, _)| checkpoint);
        // The first checkpoint has no sections of stages, and a stage would refuse to restore from it.
        let stages = build(elements, in_flight.filter(|checkpoint| has_stages(checkpoint)));
        let stages = stages.map_err(PipelineError::Start)?;
        // K10: a stage that was not restored would lose its records in flight silently.
        if let Some(stage) = in_flight.and_then(forgotten_stage) {
            return Err(PipelineError::NotRestored { stage });
        }
        committer.signals.open(); // from here on records flow
        committer.run(stages, store).await
    }
}

impl<S: ReplayableSource, K, L: FnMut(Report<'_>)> Committer<S, K, L> {
    /// Brings the source and the sink to the state in the checkpoint. Returns the number of the next checkpoint.
    async fn recover<T, Store>(
        &mut self,
        checkpoint: &Checkpoint,
        damaged: usize,
    ) -> Result<CheckpointId, PipelineError<S::Error, K::Error, Store>>
    where
        K: TransactionalSink<T>,
    {
        let id = checkpoint.id();
        let prepared = prepared(checkpoint).ok_or(PipelineError::Foreign { id })?;
        // K10: commits again if the last life died after its commit; the sink tolerates that.
        self.sink.commit(id, &prepared).await.map_err(PipelineError::Sink)?;
        self.sink.abort(Some(&prepared)).await.map_err(PipelineError::Sink)?;
        (self.listener)(Report::Resumed { id, damaged });
        Ok(next_id(id, damaged))
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
    checkpoint.watch_restores(); // for `forgotten_stage`
    Ok(Some((checkpoint, loaded.damaged)))
}

/// Returns false for the first checkpoint of a job, which is made before the stages are built.
fn has_stages(checkpoint: &Checkpoint) -> bool {
    checkpoint.sections().any(|(name, _)| !name.starts_with("pipeline."))
}

/// The name of a stage that has records in flight in the checkpoint and that was not restored.
fn forgotten_stage(checkpoint: &Checkpoint) -> Option<String> {
    let mut left = checkpoint.not_restored();
    left.find(|(_, section)| holds_anything(section)).map(|(name, _)| name.into())
}

impl<S, K, C, L> fmt::Debug for Pipeline<S, K, C, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("trigger", &self.trigger).finish_non_exhaustive()
    }
}
