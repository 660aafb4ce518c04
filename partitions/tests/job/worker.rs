//! A worker whose partitions are numbers, with a service that takes its time, and one transaction each.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use inflight_core::pipeline::{
    Ended, MemoryTransaction, PipelineError, ReplayableSource, SinkHalfError, StopHandle,
    StoreHalfError, one_transaction,
};
use inflight_core::{
    AsyncWait, AsyncWaitExt, AttemptInfo, Outcome, Permits, StreamElement, Timestamp, with_attempt,
};
use inflight_partitions::{Event, JobError, JobHandle, Partition, Partitions};
use inflight_tokio::Tokio;

use crate::engine::{Engine, Gone};

/// The numbers from 0, of which so many are there; nothing follows until they have ended.
pub(crate) struct Numbers {
    pub(crate) next: u64,
    pub(crate) there: u64,
    /// Nothing ever follows.
    pub(crate) ends: bool,
    pub(crate) fails: bool,
    mark: bool,
}

#[derive(Debug)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

impl ReplayableSource for Numbers {
    type Record = u64;
    type Position = u64;
    type Error = Broken;
    type Acknowledger = ();

    async fn open(&mut self, position: Option<u64>) -> Result<(), Broken> {
        self.next = position.unwrap_or(0);
        if self.fails { Err(Broken) } else { Ok(()) }
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<u64>, Broken>>> {
        // After each record its watermark: the number in milliseconds.
        if std::mem::take(&mut self.mark) {
            let mark = Timestamp::from_millis(self.next as i64 - 1);
            return Poll::Ready(Some(Ok(StreamElement::Watermark(mark))));
        }
        if self.next == self.there {
            return if self.ends { Poll::Ready(None) } else { Poll::Pending };
        }
        (self.next, self.mark) = (self.next + 1, true);
        Poll::Ready(Some(Ok(StreamElement::value(self.next - 1))))
    }

    fn position(&self) -> u64 {
        self.next
    }

    fn lag(&self) -> Option<u64> {
        Some(self.there - self.next)
    }

    fn acknowledger(&mut self) {}
}

pub(crate) type Answer = Outcome<u64, u64, ()>;
pub(crate) type Failed =
    PipelineError<Broken, SinkHalfError, StoreHalfError<inflight_core::pipeline::Fenced>>;

/// What the test decides, and what it sees.
pub(crate) struct Worker {
    pub(crate) engine: Engine,
    databases: RefCell<BTreeMap<u16, MemoryTransaction<Answer>>>,
    pub(crate) there: Cell<u64>,
    pub(crate) ends: Cell<bool>,
    pub(crate) fails: Cell<bool>,
    /// The time of a call.
    pub(crate) latency: Cell<Duration>,
    /// The pipeline is made after this time.
    pub(crate) prepares_for: Cell<Duration>,
    /// What a life does when its pipeline has ended.
    pub(crate) lingers: Cell<bool>,
    pub(crate) permits: Permits,
    pub(crate) running: Cell<usize>,
    pub(crate) most_running: Cell<usize>,
    pub(crate) ids: RefCell<Vec<(u16, u64)>>,
    pub(crate) stop: RefCell<Option<StopHandle>>,
}

/// Notes that the future which holds it was dropped.
struct Alive(Engine, u16);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.note(format!("gone {}", self.1));
    }
}

impl Worker {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            engine: Engine::default(),
            databases: RefCell::default(),
            there: Cell::new(10),
            ends: Cell::new(false),
            fails: Cell::new(false),
            latency: Cell::new(Duration::from_millis(1)),
            prepares_for: Cell::new(Duration::ZERO),
            lingers: Cell::new(false),
            permits: Permits::new(1_000).expect("it makes sense"),
            running: Cell::new(0),
            most_running: Cell::new(0),
            ids: RefCell::default(),
            stop: RefCell::default(),
        })
    }

    /// Another owner of the partition's transaction.
    pub(crate) fn database(&self, partition: u16) -> MemoryTransaction<Answer> {
        self.databases.borrow_mut().entry(partition).or_default().another_owner()
    }

    /// The inputs of the outputs that are committed.
    pub(crate) fn committed(&self, partition: u16) -> Vec<u64> {
        let outputs = self.database(partition).committed();
        outputs.into_iter().map(|output| output.value.input).collect()
    }

    pub(crate) fn job(&self) -> Partitions<Engine> {
        Partitions::new(self.engine.clone())
    }

    /// One life of a partition.
    pub(crate) async fn live(&self, partition: Partition<u16>) -> Result<Ended, Failed> {
        let id = *partition.id();
        let _alive = Alive(self.engine.clone(), id);
        if !self.prepares_for.get().is_zero() {
            tokio::time::sleep(self.prepares_for.get()).await;
        }
        let (sink, store) = one_transaction(self.database(id));
        let source = Numbers {
            next: 0,
            there: self.there.get(),
            ends: self.ends.get(),
            fails: self.fails.get(),
            mark: false,
        };
        let pipeline = partition.pipeline(source, sink, store).interval(Duration::from_millis(10));
        *self.stop.borrow_mut() = Some(pipeline.stop_handle());
        let ended = pipeline
            .run(Tokio, |numbers, recovery| {
                let ask = with_attempt(|n: &u64, attempt: AttemptInfo| {
                    self.ids.borrow_mut().push((id, attempt.request_id));
                    self.ask(*n)
                });
                numbers
                    .async_wait_with(AsyncWait::ordered(10), ask)
                    .permits(&self.permits)
                    .checkpointed("ask", 1)
                    .restore(recovery)
                    .in_place(Tokio)
            })
            .await;
        if self.lingers.get() {
            std::future::pending::<()>().await;
        }
        ended
    }

    async fn ask(&self, n: u64) -> Result<u64, ()> {
        self.running.set(self.running.get() + 1);
        self.most_running.set(self.most_running.get().max(self.running.get()));
        tokio::time::sleep(self.latency.get()).await;
        self.running.set(self.running.get() - 1);
        Ok(n * n)
    }

    /// Notes the events, with the milliseconds until a partition starts again.
    pub(crate) fn note(&self, event: Event<'_, u16>) {
        let millis = |delay: Option<Duration>| match delay {
            Some(delay) => format!("again in {}", delay.as_millis()),
            None => "not again".into(),
        };
        self.engine.note(match event {
            Event::Started { partition, life } => format!("started {partition}: life {life}"),
            Event::HandedOver { partition } => format!("handed over {partition}"),
            Event::HandOverTimedOut { partition } => format!("timed out {partition}"),
            Event::Finished { partition } => format!("all of {partition}"),
            Event::Failed { partition, error, retry_in } => {
                format!("failed {partition}: {error}: {}", millis(retry_in))
            }
            Event::Fenced { partition, retry_in, .. } => {
                format!("fenced {partition}: {}", millis(retry_in))
            }
            Event::Stopped { partition, retry_in } => {
                format!("stopped {partition}: {}", millis(Some(retry_in)))
            }
            Event::Lost { partition } => format!("lost {partition}"),
            _ => "unknown".into(),
        });
    }

    /// Runs a job beside the test's script.
    pub(crate) async fn run(
        self: &Rc<Self>,
        script: impl AsyncFnOnce(JobHandle<u16>),
    ) -> Result<(), JobError<Gone>> {
        self.run_with(|job| job, script).await
    }

    pub(crate) async fn run_with(
        self: &Rc<Self>,
        settings: impl FnOnce(Partitions<Engine>) -> Partitions<Engine>,
        script: impl AsyncFnOnce(JobHandle<u16>),
    ) -> Result<(), JobError<Gone>> {
        let job = settings(self.job()).on_event(|event| self.note(event));
        let handle = job.handle();
        let run = job.run(Tokio, async |partition| self.live(partition).await);
        let (ended, ()) = tokio::join!(run, script(handle));
        ended
    }
}

/// Lets virtual time pass.
pub(crate) async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
