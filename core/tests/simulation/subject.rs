//! The real operator, over either storage, in the terms of the simulation.
//!
//! Only this file calls the operator's methods.

use inflight_core::{
    AsyncWait, AttemptId, Checkpoint, CheckpointError, Checkpointing, Completion, ConfigError,
    Expired, Fixed, Heap, Instant, KeyBy, NoRetry, Operator, Outcome, PushError, RestoreError,
    StreamElement, TimedOutCall, TimeoutAction,
};

use crate::model;
use crate::script::Choice;
use crate::setup::{Order, SLOTS, Setup, Storage, Strategy};
use crate::values::{Answer, Record};

/// The name of the stage in checkpoints.
pub(crate) const NAME: &str = "stage";

pub(crate) type Element = StreamElement<Outcome<Record, u32, u32>>;

type Key = KeyBy<fn(&Record) -> u32>;

pub(crate) enum Subject {
    Heap(Box<Operator<(Record, u32, u32, Strategy, Key, ()), Heap>>),
    InPlace(Box<Operator<(Record, u32, u32, Strategy, Key, ()), Fixed<SLOTS>>>),
}

/// Does the same with the operator over either storage.
macro_rules! operator {
    ($subject:expr, $operator:ident => $what:expr) => {
        match $subject {
            Subject::Heap($operator) => $what,
            Subject::InPlace($operator) => $what,
        }
    };
}

/// An attempt to start, without the borrow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) id: AttemptId,
    pub(crate) request: u64,
    pub(crate) number: u32,
    pub(crate) attempt: u32,
    pub(crate) time_left: Option<i64>,
}

impl Subject {
    pub(crate) fn new(setup: &Setup) -> Self {
        let capacity = setup.capacity;
        let key: fn(&Record) -> u32 = |record| record.key;
        match setup.order {
            Order::Ordered => Self::build(setup, AsyncWait::ordered(capacity).with_key(key)),
            Order::Unordered => Self::build(setup, AsyncWait::unordered(capacity).with_key(key)),
            Order::KeyAlone => Self::build(setup, AsyncWait::ordered_by_key(capacity, key)),
            Order::KeyOverlapping => {
                Self::build(setup, AsyncWait::ordered_by_key(capacity, key).overlapping())
            }
        }
    }

    fn build(setup: &Setup, policy: AsyncWait<NoRetry, Key>) -> Self {
        let policy = setup.policy(policy);
        match setup.storage {
            Storage::Heap => Self::Heap(checkpointed(setup, policy.build_core())),
            Storage::InPlace => Self::InPlace(checkpointed(setup, policy.build_fixed())),
        }
    }

    pub(crate) fn push(
        &mut self,
        now: i64,
        element: StreamElement<Record>,
    ) -> Result<(), StreamElement<Record>> {
        operator!(self, operator => operator.push(at(now), element)).map_err(PushError::into_inner)
    }

    pub(crate) fn poll_attempt(&mut self, now: i64) -> Option<Started> {
        let call = operator!(self, operator => operator.poll_attempt(at(now)))?;
        Some(Started {
            id: call.id,
            request: call.info.request_id,
            number: call.input.number,
            attempt: call.info.number,
            time_left: call.info.time_left.map(|left| left.as_nanos() as i64),
        })
    }

    pub(crate) fn complete(&mut self, now: i64, id: AttemptId, answer: Answer) -> Completion {
        operator!(self, operator => operator.handle_completion(at(now), id, answer))
    }

    pub(crate) fn handle_deadline(&mut self, now: i64) -> Option<Expired> {
        operator!(self, operator => operator.handle_deadline(at(now)))
    }

    pub(crate) fn poll_deadline(&self) -> Option<i64> {
        operator!(self, operator => operator.poll_deadline()).map(Instant::as_nanos)
    }

    pub(crate) fn poll_output(&mut self) -> Option<Element> {
        operator!(self, operator => operator.poll_output())
    }

    pub(crate) fn snapshot(
        &mut self,
        now: i64,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), CheckpointError> {
        operator!(self, operator => operator.snapshot(at(now), checkpoint))
    }

    pub(crate) fn restore(
        &mut self,
        now: i64,
        checkpoint: &Checkpoint,
    ) -> Result<(), RestoreError> {
        operator!(self, operator => operator.restore(at(now), checkpoint))
    }

    pub(crate) fn in_flight(&self) -> usize {
        operator!(self, operator => operator.in_flight())
    }

    pub(crate) fn running(&self) -> usize {
        operator!(self, operator => operator.running())
    }

    /// M1
    pub(crate) fn done(&self) -> usize {
        operator!(self, operator => operator.metrics(Instant::ZERO).done as usize)
    }

    /// M1
    pub(crate) fn failures(&self) -> [u64; 2] {
        let metrics = operator!(self, operator => operator.metrics(Instant::ZERO));
        [metrics.failed, metrics.timed_out]
    }

    pub(crate) fn capacity(&self) -> usize {
        operator!(self, operator => operator.capacity())
    }

    pub(crate) fn has_output(&self) -> bool {
        operator!(self, operator => operator.has_output())
    }

    pub(crate) fn is_empty(&self) -> bool {
        operator!(self, operator => operator.is_empty())
    }
}

/// Rare calls.
impl Subject {
    /// Returns the number of the record whose end this decides, if there is such a call.
    pub(crate) fn resolve_timeout(&mut self, id: AttemptId, choice: Choice) -> Option<u32> {
        let mut number = None;
        let decide = |call: TimedOutCall<'_, Record, u32, u32>| {
            let record = call.input;
            number = Some(record.number);
            match choice.action(record.number) {
                model::TimeoutAction::Fail => TimeoutAction::Fail,
                model::TimeoutAction::Output(output) => TimeoutAction::Output(output),
                model::TimeoutAction::Drop => TimeoutAction::Drop,
            }
        };
        let is_resolved = operator!(self, operator => operator.resolve_timeout(id, decide));
        number.filter(|_| is_resolved)
    }

    pub(crate) fn change(&mut self, capacity: usize, running_limit: Option<usize>) {
        let running_limit = running_limit.unwrap_or(usize::MAX);
        operator!(self, operator => operator.set_capacity(capacity)).expect("it makes sense");
        operator!(self, operator => operator.set_max_running(running_limit))
            .expect("it makes sense");
    }

    pub(crate) fn finish(&mut self, now: i64) {
        operator!(self, operator => operator.finish(at(now)));
    }

    pub(crate) fn shut_down(&mut self, now: i64) {
        operator!(self, operator => operator.shut_down(at(now)));
    }
}

fn checkpointed<S: inflight_core::Storage>(
    setup: &Setup,
    operator: Result<Operator<(Record, u32, u32, Strategy, Key, ()), S>, ConfigError>,
) -> Box<Operator<(Record, u32, u32, Strategy, Key, ()), S>> {
    let mut operator = operator.expect("the settings make sense");
    if setup.checkpointed {
        let how = Checkpointing::new(NAME, 1);
        let how = if setup.keeps_results { how.keeping_results() } else { how };
        operator = operator.checkpointed_with(how);
    }
    Box::new(operator)
}

fn at(nanos: i64) -> Instant {
    Instant::from_nanos(nanos)
}
