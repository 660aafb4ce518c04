//! A pipeline that checkpoints itself: a source that can be replayed, stages, a sink that commits in two
//! phases, and a store.
//!
//! When a checkpoint is due, the source hands out a barrier with its position in it; every stage adds a snapshot
//! of its records in flight, also a stage that is full; at the sink the checkpoint is complete. There, in this order:
//!
//! 1. the sink [pre-commits](TransactionalSink::pre_commit) everything that was written before the barrier;
//! 2. the store saves the checkpoint, which is durable from then on;
//! 3. the sink [commits](TransactionalSink::commit);
//! 4. the source learns that everything before its position is committed ([`Acknowledge`]).
//!
//! A crash between any two of these steps is repaired by the next run. It loads the latest checkpoint; the
//! source opens at the position in it; the sink commits everything that it describes (perhaps again) and
//! aborts everything written later; the stages restore the records that were in flight. So (K10)
//!
//! * the **state** (the source's position, the records in flight with their attempts and request ids) counts
//!   each record exactly once;
//! * the **calls** to the outside are made at least once: records that were in flight are requested again,
//!   with the same [request id](crate::AttemptInfo::request_id), by which a service can recognise them;
//! * the **output** holds each record's outcome exactly once, if the sink is transactional or idempotent.
//!
//! A checkpoint waits for no request (K11), and no record waits for a checkpoint (K12): one is under way at a time, the sink is given
//! the next outputs meanwhile, and a slow store only makes checkpoints rarer.
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
//!     .run(runtime, |numbers, recovery| {
//!         numbers
//!             .async_wait(AsyncWait::ordered(10), |n: &u64| {
//!                 let n = *n;
//!                 async move { Ok::<_, ()>(n * n) } // a real one asks a service
//!             })
//!             .checkpointed("squares", 1)
//!             .restore(recovery)
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
//! Each life begins with a checkpoint that goes through the stages before any record does. So it shows at the start, and not at the
//! end, if a stage takes no snapshots or two have one name (K17).
//!
//! [`run_positions_only`](Pipeline::run_positions_only) keeps no records at all.
//!
//! An engine with sources and sinks of its own gets the same guarantees from [`Barrier`](crate::Barrier)s and a
//! [`BarrierSignal`](crate::BarrierSignal), with [`checkpointed`](crate::StageBuilder::checkpointed) and
//! [`restore`](crate::StageBuilder::restore) of its stages, or
//! from the operator's [`snapshot`](crate::Operator::snapshot) and [`restore`](crate::Operator::restore).
//!
//! Adapters between stages (`map`, `filter`) must pass every barrier on and must not buffer records.

mod checkpointed_source;
mod committer;
mod done;
mod error;
mod memory;
mod memory_transaction;
mod outputs;
mod positions;
mod save;
mod sections;
mod signals;
mod sink;
mod source;
mod start;
mod transaction;
mod trigger;

use alloc::sync::Arc;
use core::fmt;
use core::pin::pin;
use core::time::Duration;

use futures_core::Stream;

pub use self::checkpointed_source::CheckpointedSource;
pub use self::error::{PipelineError, Report};
pub use self::memory::{MemorySink, MemorySinkError, MemorySource, MemorySourceError};
pub use self::memory_transaction::{Fenced, MemoryTransaction};
use self::outputs::Plain;
use self::positions::TrackedOutputs;
pub use self::positions::TrackedSource;
pub use self::sections::{Ended, ended, position, prepared};
use self::signals::Owner;
pub use self::signals::{CheckpointNow, NoCheckpoint, StopHandle};
pub use self::sink::TransactionalSink;
pub use self::source::{Acknowledge, ReplayableSource};
pub use self::transaction::{
    Output, SinkHalf, SinkHalfError, StoreHalf, StoreHalfError, Transaction, one_transaction,
};
use self::trigger::Trigger;
use crate::checkpoint::CheckpointStore;
use crate::element::{BarrierMode, StreamElement};
use crate::runtime::Runtime;
use crate::stage::{Keeps, Recovery, StartError};
use crate::tracked::IntoTracked;
#[cfg(doc)]
use crate::tracked::Tracked;

/// A source, a sink and a store that survive crashes together: see the [module's page](self).
pub struct Pipeline<S, K, C, L = fn(Report<'_>)> {
    source: S,
    sink: K,
    store: C,
    trigger: Trigger,
    partition: u16,
    listener: L,
    signals: Owner,
}

impl<S, K, C> Pipeline<S, K, C> {
    /// Makes a pipeline that takes a checkpoint at its beginning, every second, and at its end: see [`interval`](Self::interval) and
    /// [`every_records`](Self::every_records).
    pub fn new(source: S, sink: K, store: C) -> Self {
        let (trigger, signals) = (Trigger::default(), Owner::default());
        Self { source, sink, store, trigger, partition: 0, listener: |_| {}, signals }
    }
}

impl<S, K, C, L> Pipeline<S, K, C, L> {
    /// Takes a checkpoint every `interval` of processing time, if anything has changed that a restore would lose: a record was taken
    /// in, an attempt was made, an outcome was written (K13). Outputs are committed at each checkpoint. When a checkpoint
    /// takes longer than the interval, the next one begins when it has ended (K12).
    ///
    /// A second unless this or [`every_records`](Self::every_records) says otherwise; `every_records(u64::MAX)` leaves the
    /// checkpoints at the beginning and the end, and those that [`StopHandle::checkpoint_now`] asks for.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.trigger.interval = Some(interval);
        self
    }

    /// The least time from the end of a checkpoint to the beginning of the next one; none by default. With a slow store it leaves
    /// the store, and the network to it, some of their time.
    #[must_use]
    pub fn min_pause(mut self, pause: Duration) -> Self {
        self.trigger.pause = pause;
        self
    }

    /// Takes a checkpoint after every `records` records of the source (at least one). With an interval as well, the first of
    /// the two conditions decides; alone, it is the only one.
    #[must_use]
    pub fn every_records(mut self, records: u64) -> Self {
        self.trigger.records = Some(records.max(1));
        self
    }

    /// Takes checkpoints without records in flight: every stage finishes the records before the barrier
    /// ([`BarrierMode::Drain`]), so these checkpoints do wait for requests. A stage that takes longer than `limit` fails that
    /// checkpoint, which is reported, and nothing else (K3).
    ///
    /// Where the source can be read again, [`run_positions_only`](Self::run_positions_only) gives checkpoints without records that wait
    /// for nothing.
    #[must_use]
    pub fn draining(mut self, limit: Option<Duration>) -> Self {
        (self.trigger.mode, self.trigger.limit) = (BarrierMode::Drain, limit);
        self
    }

    /// Says that this is one of several pipelines of one job, each with a source, a sink and checkpoints of its own. Their request ids
    /// do not clash if each has another number, below 1,024. By default the number is 0.
    #[must_use]
    pub fn partition(mut self, number: u16) -> Self {
        self.partition = number;
        self
    }

    /// Calls `listener` with a report on each checkpoint.
    #[must_use]
    pub fn on_report<M: FnMut(Report<'_>)>(self, listener: M) -> Pipeline<S, K, C, M> {
        let Self { source, sink, store, trigger, partition, signals, .. } = self;
        Pipeline { source, sink, store, trigger, partition, listener, signals }
    }

    /// Returns a handle that stops the pipeline, or makes it take a checkpoint, from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(Arc::clone(&self.signals.0))
    }

    /// Runs the pipeline: from its last checkpoint, or from the start if there is none, to the end of the
    /// source or until a [stop handle](Self::stop_handle) ends it.
    ///
    /// `build` connects the stages. Its arguments are the source, with barriers in it, and the state that
    /// every stage has to [`restore`](crate::StageBuilder::restore). This
    /// future polls the stream that `build` returns to its end, in place, and the sink as well.
    ///
    /// A stage that the checkpoint does not know is new, and starts empty. A stage that is left out must have nothing in flight: run the
    /// program with it once more, and drain it.
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
        B: FnOnce(CheckpointedSource<S>, &Recovery) -> Result<St, StartError>,
        St: Stream<Item = StreamElement<T>>,
    {
        let start = self.start(runtime, Keeps::Records).await?;
        let recovery = start.recovery;
        // `build` pulls nothing from the source: it is closed until the first checkpoint is committed, also for stages that it spawns.
        let stages = build(start.elements, &recovery).map_err(PipelineError::Start)?;
        start::check_restored(&recovery)?;
        start.signals.set_stages(recovery.stages_so_far());
        let check = |first: &_| start::check_connected(&recovery, first);
        let (outputs, timer) = (pin!(Plain { stages }), pin!(start.timer));
        start.committer.run(outputs, start.store, timer, check).await
    }

    /// Runs the pipeline with checkpoints that keep no records (K14): which positions of the source are done, and which are not. After a
    /// crash the source hands out again exactly those that are not.
    ///
    /// Records need no serde, no name and no schema version, so their type may change freely between two lives; nothing is drained;
    /// and a record in flight costs a few bits of a checkpoint. In an ordered pipeline it is one position. The price: attempts,
    /// backoffs and finished results are not kept, so what was in flight at a crash begins anew. The request ids are
    /// the same as before, because they come from the positions.
    ///
    /// `build` gets records that carry their position ([`Tracked`], which dereferences to the record). Every stage says
    /// [`positions_only`](crate::StageBuilder::positions_only).
    ///
    /// ```
    /// use inflight_core::pipeline::{Ended, MemorySink, MemorySource, Pipeline};
    /// use inflight_core::{AsyncWait, AsyncWaitExt, MemoryStore, Tracked};
    /// # use inflight_core::{Instant, NoRuntime, Runtime, Timer};
    /// # use std::{pin::Pin, task::{Context, Poll, Waker}, time::Duration};
    /// # #[derive(Clone, Copy)] struct Still;
    /// # impl Runtime for Still { type Timer = Self; fn timer(&self) -> Result<Self, NoRuntime> { Ok(Self) } }
    /// # impl Timer for Still {
    /// #     fn now(&self) -> Instant { Instant::ZERO }
    /// #     fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}
    /// #     fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
    /// # }
    /// # let runtime = Still;
    ///
    /// # let example = async {
    /// let mut sink = MemorySink::new();
    /// let ended = Pipeline::new(MemorySource::new(1..=100_u64), &mut sink, MemoryStore::new())
    ///     .interval(Duration::from_secs(1))
    ///     .run_positions_only(runtime, |numbers, recovery| {
    ///         numbers
    ///             .async_wait(AsyncWait::unordered(10), |n: &Tracked<u64>| {
    ///                 let n = **n;
    ///                 async move { Ok::<_, ()>(n * n) } // a real one asks a service
    ///             })
    ///             .positions_only(recovery)
    ///             .in_place(runtime)
    ///     })
    ///     .await?;
    /// assert_eq!(ended, Ended::Finished);
    /// assert_eq!(sink.committed()[9].result, Ok(100)); // outcomes of plain records
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// # };
    /// # let mut example = std::pin::pin!(example);
    /// # for _ in 0..1000 {
    /// #     if let Poll::Ready(done) = example.as_mut().poll(&mut Context::from_waker(Waker::noop())) { done.unwrap(); return; }
    /// # }
    /// # panic!("it does not end");
    /// ```
    ///
    /// Errors, panics and cancellation are as for [`run`](Self::run). A job may change between the two from one life to the next: from
    /// this way to the other at any time, and back when nothing is in flight, after a [drain](StopHandle::drain).
    ///
    /// # Errors
    ///
    /// [`PipelineError`]. After any of them, a later run goes on from the last checkpoint.
    pub async fn run_positions_only<Rt, B, St, U>(
        self,
        runtime: Rt,
        build: B,
    ) -> Result<Ended, PipelineError<S::Error, K::Error, C::Error>>
    where
        S: ReplayableSource,
        S::Position: Clone,
        U: IntoTracked,
        K: TransactionalSink<U::Value>,
        C: CheckpointStore,
        L: FnMut(Report<'_>),
        Rt: Runtime,
        B: FnOnce(TrackedSource<S>, &Recovery) -> Result<St, StartError>,
        St: Stream<Item = StreamElement<U>>,
    {
        let start = self.start(runtime, Keeps::Positions).await?;
        let recovery = start.recovery;
        let (elements, book) =
            positions::track(start.elements, start.ids, start.signals.barriers.clone());
        let stages = build(elements, &recovery).map_err(PipelineError::Start)?;
        start::check_restored(&recovery)?;
        start.signals.set_stages(recovery.stages_so_far());
        let (outputs, timer) = (pin!(TrackedOutputs::new(stages, book)), pin!(start.timer));
        start.committer.run(outputs, start.store, timer, |_| Ok(())).await
    }
}

impl<S, K, C, L> fmt::Debug for Pipeline<S, K, C, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("trigger", &self.trigger).finish_non_exhaustive()
    }
}
