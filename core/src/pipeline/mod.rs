//! A pipeline that checkpoints itself: a source that can be replayed, stages, a sink that commits in two
//! phases, and a store.
//!
//! The source makes a barrier every now and then and puts its position in; every stage adds what it has
//! in flight; at the sink the checkpoint is complete. There, in this order:
//!
//! 1. the sink [pre-commits](TransactionalSink::pre_commit) what was written before the barrier;
//! 2. the store saves the checkpoint, and it is durable;
//! 3. the sink [commits](TransactionalSink::commit);
//! 4. the source is told that everything before is done with ([`Acknowledge`]).
//!
//! A crash anywhere in between is made good by the next run. It loads the latest checkpoint; the sink
//! commits what that describes (again, perhaps) and aborts what came later; the stages take up what was in
//! flight; the source goes to the position. So
//!
//! * the **state** (the source's position, what is in flight with its attempts and request ids) counts each
//!   record exactly once;
//! * the **calls** to the outside are made at least once: what was in flight is asked again, with the
//!   same [request id](crate::AttemptInfo::request_id), by which a service can tell;
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
//!                 async move { Ok::<_, ()>(n * n) } // ask somebody, really
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
//! and sinks of its own gets the same from that, from
//! [`checkpointed`](crate::StageBuilder::checkpointed) and [`restore`](crate::StageBuilder::restore), or from the
//! operator's [`snapshot`](crate::Operator::snapshot) and [`restore`](crate::Operator::restore).
//!
//! Adapters between stages (`map`, `filter`) must pass every barrier on and hold nothing back.

mod checkpointed_source;
mod committer;
mod error;
mod memory;
mod sections;
mod sink;
mod source;

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use futures_core::Stream;

use self::checkpointed_source::{CheckpointTrigger, Shared};
pub use self::checkpointed_source::{CheckpointedSource, StopHandle};
use self::committer::Committer;
pub use self::error::{PipelineError, Report};
pub use self::memory::{MemorySink, MemorySource};
use self::sections::SOURCE;
pub use self::sections::{Ended, ended, position, prepared};
pub use self::sink::TransactionalSink;
pub use self::source::{Acknowledge, ReplayableSource};
use crate::checkpoint::CheckpointStore;
use crate::checkpoint::{Checkpoint, CheckpointId};
use crate::element::{BarrierMode, StreamElement};
use crate::operator::holds_anything;
use crate::runtime::Runtime;
use crate::stage::StartError;

/// A source, a sink and a store, which together survive crashes: see the [module's page](self).
pub struct Pipeline<S, K, C, L = fn(Report<'_>)> {
    source: S,
    sink: K,
    store: C,
    when: CheckpointTrigger,
    listener: L,
    shared: Arc<Shared>,
}

impl<S, K, C> Pipeline<S, K, C> {
    /// A pipeline that takes a checkpoint at its beginning and its end. Say
    /// [`interval`](Self::interval) for those in between.
    pub fn new(source: S, sink: K, store: C) -> Self {
        let (when, shared) = (CheckpointTrigger::default(), Arc::default());
        Self { source, sink, store, when, listener: |_| {}, shared }
    }
}

impl<S, K, C, L> Pipeline<S, K, C, L> {
    /// Takes a checkpoint every `interval` of processing time, if there is anything that the one before
    /// does not cover. Outputs are committed as often. A stage without room does not take the barrier in
    /// before it has some.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.when.interval = Some(interval);
        self
    }

    /// Takes a checkpoint after every `records` records (at least one). With an interval as well,
    /// whichever is first.
    #[must_use]
    pub fn every_records(mut self, records: u64) -> Self {
        self.when.records = Some(records.max(1));
        self
    }

    /// Takes checkpoints without state: every stage finishes what is before the barrier, and there is
    /// nothing in flight to keep ([`BarrierMode::Drain`]). A stage that takes longer than `limit` fails
    /// that checkpoint, which is reported, and nothing else.
    #[must_use]
    pub fn draining(mut self, limit: Option<Duration>) -> Self {
        (self.when.mode, self.when.limit) = (BarrierMode::Drain, limit);
        self
    }

    /// Tells `listener` what happens to the checkpoints.
    #[must_use]
    pub fn on_report<M: FnMut(Report<'_>)>(self, listener: M) -> Pipeline<S, K, C, M> {
        let Self { source, sink, store, when, shared, .. } = self;
        Pipeline { source, sink, store, when, listener, shared }
    }

    /// Stops the pipeline, from anywhere.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.shared))
    }

    /// Runs the pipeline: from its last checkpoint, or from the start if there is none, to the end of
    /// the source or until somebody [stops](Self::stop_handle) it.
    ///
    /// `build` puts the stages together. It is given the source, with barriers in it, and the checkpoint
    /// that every stage has to [`restore`](crate::StageBuilder::restore) (`None`: nothing was in
    /// flight). What it returns is polled to its end, in place; so is the sink.
    ///
    /// The end is that all functions are closed. When everything is committed before that,
    /// [`Report::Complete`] says so: a function that never gets closed holds up the end, and hides nothing.
    ///
    /// # Errors
    ///
    /// [`PipelineError`]. Whatever it is, a later run goes on from the last checkpoint.
    ///
    /// # Panics
    ///
    /// If a stage panics (as its stream does). That too is as a crash.
    ///
    /// # Cancellation
    ///
    /// When the future is dropped, that is as a crash: the last checkpoint stands, and what was not
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
        let Self { mut source, sink, mut store, when, listener, shared } = self;
        let timer = runtime.timer().map_err(PipelineError::NoRuntime)?;
        let loaded = load(&mut store).await?;
        let (failing, failed) = rtrb::RingBuffer::new(1);
        let mut end =
            Committer { sink, acknowledger: source.acknowledger(), listener, shared, failed };
        let next = match &loaded {
            Some((checkpoint, damaged)) => end.recover(&mut source, checkpoint, *damaged).await?,
            None => {
                end.sink.abort(None).await.map_err(PipelineError::Sink)?;
                let mut first = Checkpoint::new(CheckpointId(0));
                let put = sections::put(&mut first, SOURCE, &source.position());
                put.map_err(PipelineError::Checkpoint)?;
                store = end.begin(first, store).await?;
                CheckpointId(1)
            }
        };
        let shared = Arc::clone(&end.shared);
        let elements = CheckpointedSource::new(source, timer, shared, failing, when, next);
        let in_flight = loaded.as_ref().map(|(checkpoint, _)| checkpoint);
        let stages = build(elements, in_flight.filter(|checkpoint| has_stages(checkpoint)));
        let stages = stages.map_err(PipelineError::Start)?;
        if let Some(stage) = in_flight.and_then(forgotten_stage) {
            return Err(PipelineError::NotRestored { stage });
        }
        end.shared.open();
        end.run(stages, store).await
    }
}

impl<S: ReplayableSource, K, L: FnMut(Report<'_>)> Committer<S, K, L> {
    /// Source and sink are as the checkpoint says. Returns the number of the next one.
    async fn recover<T, Store>(
        &mut self,
        source: &mut S,
        checkpoint: &Checkpoint,
        damaged: usize,
    ) -> Result<CheckpointId, PipelineError<S::Error, K::Error, Store>>
    where
        K: TransactionalSink<T>,
    {
        let id = checkpoint.id();
        let foreign = || PipelineError::Foreign { id };
        let position = position(checkpoint).ok_or_else(foreign)?;
        let prepared = prepared(checkpoint).ok_or_else(foreign)?;
        // Before anything of the output is touched.
        source.seek(position).await.map_err(PipelineError::Seek)?;
        self.sink.commit(id, &prepared).await.map_err(PipelineError::Sink)?;
        self.sink.abort(Some(&prepared)).await.map_err(PipelineError::Sink)?;
        (self.listener)(Report::Resumed { id, damaged });
        Ok(behind(id, damaged))
    }
}

/// A number behind `id` and behind those of the `damaged` ones that are newer. How many these are does not say how far
/// they go: a checkpoint that fails has a number as well, and nothing may be left of it. And what cannot be read today
/// may be tomorrow, and must not be the latest then. So there is room for each of them: more numbers than one life uses.
fn behind(id: CheckpointId, damaged: usize) -> CheckpointId {
    const A_LIFE: u64 = 1_000_000_000_000;
    CheckpointId(id.0.saturating_add((damaged as u64).saturating_mul(A_LIFE))).next()
}

/// The checkpoint to go on from, and how many damaged ones were passed over.
async fn load<Source, Sink, C: CheckpointStore>(
    store: &mut C,
) -> Result<Option<(Checkpoint, usize)>, PipelineError<Source, Sink, C::Error>> {
    let loaded = store.load_latest().await.map_err(PipelineError::Load)?;
    let Some(loaded) = loaded else { return Ok(None) };
    let mut checkpoint = Checkpoint::from_bytes(&loaded.bytes).map_err(PipelineError::Format)?;
    checkpoint.watch_restores();
    Ok(Some((checkpoint, loaded.damaged)))
}

/// The first checkpoint of all is made without the stages.
fn has_stages(checkpoint: &Checkpoint) -> bool {
    checkpoint.sections().any(|(name, _)| !name.starts_with("pipeline."))
}

/// A stage whose records in flight nobody goes on with.
fn forgotten_stage(checkpoint: &Checkpoint) -> Option<String> {
    let mut left = checkpoint.not_restored();
    left.find(|(_, section)| holds_anything(section)).map(|(name, _)| name.into())
}

impl<S, K, C, L> fmt::Debug for Pipeline<S, K, C, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("when", &self.when).finish_non_exhaustive()
    }
}
