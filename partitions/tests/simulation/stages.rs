//! The stage of a partition, and the service that it asks.

use std::pin::Pin;
use std::rc::Rc;

use futures_util::Stream;
use inflight_core::pipeline::{CheckpointedSource, TrackedSource};
use inflight_core::{
    AsyncFunction, AsyncWait, AsyncWaitExt, AttemptInfo, Outcome, Recovery, StartError,
    StreamElement, Tracked, with_attempt,
};
use inflight_partitions::Watched;

use crate::log::{LogSource, answer, key_of};
use crate::worker::{Counted, Worker};

type Outcomes<V> = Pin<Box<dyn Stream<Item = StreamElement<Outcome<V, u32, ()>>>>>;

/// A record on its way, with or without the mark of its position.
trait Record: 'static {
    fn value(&self) -> u32;
}

impl Record for u32 {
    fn value(&self) -> u32 {
        *self
    }
}

impl Record for Tracked<u32> {
    fn value(&self) -> u32 {
        **self
    }
}

/// The stage `$records -> $stage`, in the order that the plan says, and on a task if it says so.
macro_rules! stage {
    ($worker:expr, $records:expr, $V:ty, $stage:ident => $checkpoints:expr) => {
        match $worker.world.plan.is_by_key {
            true => {
                let key = |record: &$V| key_of(record.value());
                let policy = AsyncWait::ordered_by_key($worker.world.plan.capacity, key);
                stage!(on $worker, $records, policy, $V, $stage => $checkpoints)
            }
            false => {
                let policy = AsyncWait::ordered($worker.world.plan.capacity);
                stage!(on $worker, $records, policy, $V, $stage => $checkpoints)
            }
        }
    };
    (on $worker:expr, $records:expr, $policy:expr, $V:ty, $stage:ident => $checkpoints:expr) => {{
        let $stage = $records.async_wait_with($policy, $worker.service::<$V>());
        let $stage = $stage.permits(&$worker.permits);
        let stage = $checkpoints;
        let outcomes: Outcomes<$V> = match $worker.world.plan.spawns {
            true => Box::pin(stage.spawn($worker.runtime())?),
            false => Box::pin(stage.in_place($worker.runtime())?),
        };
        Ok(outcomes)
    }};
}

impl Worker {
    pub(crate) fn records_stage(
        self: &Rc<Self>,
        records: CheckpointedSource<Watched<LogSource>>,
        recovery: &Recovery,
    ) -> Result<Outcomes<u32>, StartError> {
        stage!(self, records, u32, stage => stage.checkpointed("ask", 1).restore(recovery))
    }

    pub(crate) fn positions_stage(
        self: &Rc<Self>,
        records: TrackedSource<Watched<LogSource>>,
        recovery: &Recovery,
    ) -> Result<Outcomes<Tracked<u32>>, StartError> {
        stage!(self, records, Tracked<u32>, stage => stage.positions_only(recovery))
    }

    /// The service that the partitions of this worker ask.
    fn service<V: Record>(
        self: &Rc<Self>,
    ) -> impl AsyncFunction<V, Output = u32, Error = ()> + use<V> {
        let this = Rc::clone(self);
        with_attempt(move |record: &V, attempt: AttemptInfo| {
            let (this, record) = (Rc::clone(&this), record.value());
            this.world.request(record, attempt.request_id);
            async move {
                let _counted = Counted::new(|up| this.count_request(up));
                this.world.step(&this.process);
                this.world.some_time(this.world.plan.latency).await;
                Ok(answer(record))
            }
        })
    }
}
