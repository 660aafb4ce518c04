//! A pipeline in virtual time that crashes right after a step of a checkpoint, and goes on in a second life.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use futures::future::{Either, select};
use inflight::pipeline::{
    Acknowledge, MemorySink, MemorySource, Pipeline, ReplayableSource, Report, TransactionalSink,
};
use inflight::prelude::*;
use inflight::{LoadError, LoadedInto};

use crate::virtual_time::VirtualTime;

/// So many records, of which each takes a millisecond, one after the other: two checkpoints are due before they end.
const RECORDS: u32 = 30;
const INTERVAL: Duration = Duration::from_millis(10);

type Output = Outcome<u32, u32, ()>;

/// Crashes after step number `step`, which counts from 0, of the second checkpoint. Returns true if the second life resumes from that
/// checkpoint, and false if it resumes from the one before.
pub(super) fn resumes_from_this(step: usize) -> Result<bool> {
    let clock = VirtualTime::new();
    let here = clock.clone();
    clock.run(async move {
        let (mut sink, mut store) = (MemorySink::new(), MemoryStore::new());
        let crash = Crash::after(Some(step));
        let first = life(&here, &mut sink, &mut store, &crash).await?;
        ensure!(first.is_none(), "a new job resumes from nothing");
        ensure!(crash.has_come.get(), "the first life ended without a crash");
        let this = crash.checkpoint.get().context("no checkpoint has begun")?;

        let none = Crash::after(None);
        let resumed = life(&here, &mut sink, &mut store, &none).await?.context("it began anew")?;
        let inputs = sink.committed().iter().map(|done: &Output| done.input);
        ensure!(inputs.eq(0..RECORDS), "each outcome is in the output once, in order");
        ensure!(resumed <= this, "a checkpoint from the future");
        Ok(resumed == this)
    })?
}

/// The checkpoint from which it resumes. Ends with the pipeline, or when it crashes.
async fn life(
    clock: &VirtualTime,
    sink: &mut MemorySink<Output>,
    store: &mut MemoryStore,
    crash: &Crash,
) -> Result<Option<CheckpointId>> {
    let (resumed, now) = (Cell::new(None), clock.clone());
    let source = Watched { inner: MemorySource::new(0..RECORDS), crash: crash.clone() };
    let sink = Watched { inner: sink, crash: crash.clone() };
    let store = Watched { inner: store, crash: crash.clone() };
    let pipeline = Pipeline::new(source, sink, store).interval(INTERVAL).on_report(|report| {
        if let Report::Resumed { id, .. } = report {
            resumed.set(Some(id));
        }
    });
    let run = pipeline.run(clock.clone(), |records, recovery| {
        let ask = move |record: &u32| {
            let (record, clock) = (*record, now.clone());
            async move {
                clock.sleep(Duration::from_millis(1)).await;
                Ok(record)
            }
        };
        let policy = AsyncWait::ordered(4).max_running(1);
        records
            .async_wait(policy, ask)
            .checkpointed("ask", 1)
            .restore(recovery)
            .spawn(clock.clone())
    });
    let crashed = pin!(crash.has_come(clock));
    match select(pin!(run), crashed).await {
        Either::Left((ended, _)) => _ = ended.map_err(|error| anyhow!("{error}"))?,
        Either::Right(_) => {}
    }
    Ok(resumed.get())
}

/// When a life ends. The two ends of the pipeline and its store have a clone each.
#[derive(Clone)]
struct Crash {
    step: Option<usize>,
    /// How often the step was taken.
    taken: Rc<Cell<u32>>,
    /// The latest checkpoint that has begun.
    checkpoint: Rc<Cell<Option<CheckpointId>>>,
    has_come: Rc<Cell<bool>>,
}

impl Crash {
    fn after(step: Option<usize>) -> Self {
        Self { step, taken: Rc::default(), checkpoint: Rc::default(), has_come: Rc::default() }
    }

    /// A step was taken. If this is the one, nothing happens any more.
    async fn took(&self, step: usize) {
        if self.step == Some(step) {
            self.taken.set(self.taken.get() + 1);
            if self.taken.get() == 2 {
                self.has_come.set(true);
                pending::<()>().await;
            }
        }
    }

    async fn has_come(&self, clock: &VirtualTime) {
        while !self.has_come.get() {
            clock.sleep(Duration::from_millis(1)).await;
        }
    }
}

/// An end of the pipeline, or its store, that tells of each step.
struct Watched<T> {
    inner: T,
    crash: Crash,
}

impl TransactionalSink<Output> for Watched<&mut MemorySink<Output>> {
    type Prepared = u64;
    type Error = <MemorySink<Output> as TransactionalSink<Output>>::Error;

    async fn write(&mut self, done: Output, at: Option<Timestamp>) -> Result<(), Self::Error> {
        self.inner.write(done, at).await
    }

    async fn pre_commit(&mut self, id: CheckpointId) -> Result<u64, Self::Error> {
        self.crash.checkpoint.set(Some(id));
        self.crash.took(0).await; // the barrier has arrived
        let prepared = self.inner.pre_commit(id).await?;
        self.crash.took(1).await;
        Ok(prepared)
    }

    async fn commit(&mut self, id: CheckpointId, of: &u64) -> Result<(), Self::Error> {
        self.inner.commit(id, of).await?;
        self.crash.took(3).await;
        Ok(())
    }

    async fn abort(&mut self, kept: Option<&u64>) -> Result<(), Self::Error> {
        self.inner.abort(kept).await
    }
}

impl CheckpointStore for Watched<&mut MemoryStore> {
    type Error = <MemoryStore as CheckpointStore>::Error;

    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), Self::Error> {
        self.inner.save(id, bytes).await?;
        self.crash.took(2).await;
        Ok(())
    }

    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<Self::Error>> {
        self.inner.load_latest_into(buffer).await
    }
}

impl ReplayableSource for Watched<MemorySource<u32>> {
    type Record = u32;
    type Position = <MemorySource<u32> as ReplayableSource>::Position;
    type Error = <MemorySource<u32> as ReplayableSource>::Error;
    type Acknowledger = Acknowledged;

    async fn open(&mut self, position: Option<Self::Position>) -> Result<(), Self::Error> {
        self.inner.open(position).await
    }

    fn poll_next(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<StreamElement<u32>, Self::Error>>> {
        self.inner.poll_next(cx)
    }

    fn position(&self) -> Self::Position {
        self.inner.position()
    }

    fn acknowledger(&mut self) -> Acknowledged {
        Acknowledged(self.crash.clone())
    }
}

struct Acknowledged(Crash);

impl<P> Acknowledge<P> for Acknowledged {
    type Error = Infallible;

    async fn acknowledge(&mut self, _: P) -> Result<(), Infallible> {
        self.0.took(4).await;
        Ok(())
    }
}
