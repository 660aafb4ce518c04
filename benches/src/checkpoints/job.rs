//! A job on virtual time: a source, one stage or two, a sink and a store.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{Stream, StreamExt};
use inflight::AsyncWaitExt;
use inflight::pipeline::{Ended, Pipeline, PipelineError, Report};
use inflight::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ends::{Sink, Source, Store};
use super::observed::Observed;
use crate::virtual_time::VirtualTime;

/// A record, which knows its number.
pub(super) trait Record: Clone + Serialize + DeserializeOwned + 'static {
    /// Its number.
    fn number(&self) -> u64;
}

impl Record for u64 {
    fn number(&self) -> u64 {
        *self
    }
}

/// Where the stages run.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stages {
    /// One, which the sink's end polls.
    InPlace,
    /// One, on a task of its own.
    OnTask,
    /// Two. The first answers at once and has a task of its own, the second is in place: the first one's outcomes pile up
    /// between the two.
    Chain,
}

/// What its checkpoints hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Keeps {
    /// The records in flight.
    Records,
    /// Positions of the source.
    Positions,
}

/// The plan of a job.
pub(super) struct Job<V> {
    pub(super) records: u64,
    /// When a record is there.
    pub(super) since: fn(u64) -> Duration,
    pub(super) record: fn(u64) -> StreamElement<V>,
    pub(super) stages: Stages,
    pub(super) keeps: Keeps,
    pub(super) policy: AsyncWait,
    /// How long the request for a record takes.
    pub(super) service: fn(u64) -> Duration,
    pub(super) interval: Duration,
    /// How long the store saves a checkpoint.
    pub(super) save: Duration,
}

type Numbers = Pin<Box<dyn Stream<Item = StreamElement<u64>>>>;
pub(super) type Ends = Result<Ended, PipelineError<Infallible, Infallible, Infallible>>;

impl<V: Record> Job<V> {
    /// Runs the job to its end and checks that it has done its work.
    pub(super) fn run(&self) -> Result<Observed> {
        let observed = Observed::new(self.records);
        self.run_noting(&observed)?;
        let observed = observed.take();
        observed.check_all(self.records)?;
        Ok(observed)
    }

    /// Runs the job to its end.
    pub(super) fn run_noting(&self, observed: &Rc<RefCell<Observed>>) -> Result<()> {
        let clock = VirtualTime::new();
        let ended = match self.keeps {
            Keeps::Records => clock.run(self.with_snapshots(&clock, observed)),
            Keeps::Positions => clock.run(self.with_positions(&clock, observed)),
        }??;
        ensure!(ended == Ended::Finished, "the job ended early: {ended:?}");
        Ok(())
    }

    /// The job in the mode whose checkpoints hold the records in flight.
    fn with_snapshots(
        &self,
        clock: &VirtualTime,
        observed: &Rc<RefCell<Observed>>,
    ) -> impl Future<Output = Ends> + use<V> {
        let Self { stages, policy, service, .. } = *self;
        let (pipeline, clock) = (self.pipeline(clock, observed), clock.clone());
        pipeline.run(clock.clone(), move |records, recovery| match stages {
            Stages::InPlace => in_place(records, "one", policy, service, &clock, recovery),
            Stages::OnTask => on_task(records, "one", policy, service, &clock, recovery),
            Stages::Chain => {
                let at_once = |_| Duration::ZERO;
                let first = on_task(records, "one", policy, at_once, &clock, recovery)?;
                in_place(first, "two", policy, service, &clock, recovery)
            }
        })
    }

    /// The ends of the job, with everything but stages.
    pub(super) fn pipeline(
        &self,
        clock: &VirtualTime,
        observed: &Rc<RefCell<Observed>>,
    ) -> Pipeline<Source<V>, Sink, Store, impl FnMut(Report<'_>) + use<V>> {
        let Self { records: end, since, record, save, keeps, .. } = *self;
        let (here, seen) = (|| clock.clone(), || Rc::clone(observed));
        let source =
            Source { next: 0, end, since, record, clock: here(), wait: None, observed: seen() };
        let sink = Sink { clock: here(), observed: seen() };
        let (now, observed) = (here(), seen());
        let note = move |report: Report<'_>| {
            if let Report::Saved { bytes, .. } = report {
                observed.borrow_mut().note_saved(now.now(), keeps, bytes);
            }
        };
        let store = Store { clock: here(), save };
        Pipeline::new(source, sink, store).interval(self.interval).on_report(note)
    }
}

fn in_place<V: Record>(
    records: impl Stream<Item = StreamElement<V>> + 'static,
    name: &'static str,
    policy: AsyncWait,
    service: fn(u64) -> Duration,
    clock: &VirtualTime,
    recovery: &Recovery,
) -> Result<Numbers, StartError> {
    let stage = records.async_wait(policy, ask::<V>(service, clock.clone()));
    let stage = stage.checkpointed(name, 1).restore(recovery).in_place(clock.clone())?;
    Ok(Box::pin(stage.map(number)))
}

fn on_task<V: Record>(
    records: impl Stream<Item = StreamElement<V>> + 'static,
    name: &'static str,
    policy: AsyncWait,
    service: fn(u64) -> Duration,
    clock: &VirtualTime,
    recovery: &Recovery,
) -> Result<Numbers, StartError> {
    let stage = records.async_wait(policy, ask::<V>(service, clock.clone()));
    let stage = stage.checkpointed(name, 1).restore(recovery).spawn(clock.clone())?;
    Ok(Box::pin(stage.map(number)))
}

pub(super) type Answer = Pin<Box<dyn Future<Output = Result<u64, Infallible>>>>;

/// Answers with the record's number.
pub(super) fn ask<V: Record>(
    service: fn(u64) -> Duration,
    clock: VirtualTime,
) -> impl FnMut(&V) -> Answer {
    move |record: &V| {
        let (number, clock) = (record.number(), clock.clone());
        Box::pin(async move {
            clock.sleep(service(number)).await;
            Ok(number)
        })
    }
}

/// The answer, without its record. A failed call has no number, which the check at the end notices.
fn number<V>(element: StreamElement<Outcome<V, u64, Infallible>>) -> StreamElement<u64> {
    element.map(|outcome| outcome.result.unwrap_or(u64::MAX))
}
