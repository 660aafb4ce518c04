//! The job in the mode whose checkpoints hold positions only.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use inflight::prelude::*;
use inflight::{AsyncWaitExt, IntoTracked};

use super::job::{Answer, Ends, Job, Record, Stages, ask};
use super::observed::Observed;
use crate::virtual_time::VirtualTime;

type Numbers = Pin<Box<dyn Stream<Item = StreamElement<Tracked<u64>>>>>;

impl<V: Record> Job<V> {
    /// The same stages as with snapshots.
    pub(super) fn with_positions(
        &self,
        clock: &VirtualTime,
        observed: &Rc<RefCell<Observed>>,
    ) -> impl Future<Output = Ends> + use<V> {
        let Self { stages, policy, service, .. } = *self;
        let (pipeline, clock) = (self.pipeline(clock, observed), clock.clone());
        pipeline.run_positions_only(clock.clone(), move |records, recovery| match stages {
            Stages::InPlace => in_place(records, policy, service, &clock, recovery),
            Stages::OnTask => on_task(records, policy, service, &clock, recovery),
            Stages::Chain => {
                let first = on_task(records, policy, |_| Duration::ZERO, &clock, recovery)?;
                in_place(first, policy, service, &clock, recovery)
            }
        })
    }
}

fn in_place<V: Record>(
    records: impl Stream<Item = StreamElement<Tracked<V>>> + 'static,
    policy: AsyncWait,
    service: fn(u64) -> Duration,
    clock: &VirtualTime,
    recovery: &Recovery,
) -> Result<Numbers, StartError> {
    let stage = records.async_wait(policy, ask_tracked::<V>(service, clock.clone()));
    let stage = stage.positions_only(recovery).in_place(clock.clone())?;
    Ok(Box::pin(stage.map(number)))
}

fn on_task<V: Record>(
    records: impl Stream<Item = StreamElement<Tracked<V>>> + 'static,
    policy: AsyncWait,
    service: fn(u64) -> Duration,
    clock: &VirtualTime,
    recovery: &Recovery,
) -> Result<Numbers, StartError> {
    let stage = records.async_wait(policy, ask_tracked::<V>(service, clock.clone()));
    let stage = stage.positions_only(recovery).spawn(clock.clone())?;
    Ok(Box::pin(stage.map(number)))
}

fn ask_tracked<V: Record>(
    service: fn(u64) -> Duration,
    clock: VirtualTime,
) -> impl FnMut(&Tracked<V>) -> Answer {
    let mut ask = ask::<V>(service, clock);
    move |record: &Tracked<V>| ask(record)
}

/// The answer, with the record's mark.
fn number<V>(
    element: StreamElement<Outcome<Tracked<V>, u64, Infallible>>,
) -> StreamElement<Tracked<u64>> {
    element.map(|outcome| {
        Tracked::map(outcome.into_tracked(), |outcome| outcome.result.unwrap_or(u64::MAX))
    })
}
