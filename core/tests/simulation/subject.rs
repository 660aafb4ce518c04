//! The real operator, over whichever storage, in the words of the simulation.
//!
//! This file alone names the operator's methods.

use inflight_core::{
    CallId, Checkpoint, CheckpointError, Completion, Expired, Fixed, Full, Heap, Instant, Operator,
    Outcome, RestoreError, StreamElement,
};

use crate::model::TimeoutAction;
use crate::setup::{PLACES, Setup, Storage, Strategy};
use crate::values::{Answer, Record};

/// The name of the stage in checkpoints.
pub(crate) const NAME: &str = "stage";

pub(crate) type Element = StreamElement<Outcome<Record, u32, u32>>;

pub(crate) enum Subject {
    Heap(Operator<Record, u32, u32, Strategy, Heap>),
    InPlace(Operator<Record, u32, u32, Strategy, Fixed<PLACES>>),
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
    pub(crate) id: CallId,
    pub(crate) request: u64,
    pub(crate) number: u32,
    pub(crate) attempt: u32,
    pub(crate) time_left: Option<i64>,
}

impl Subject {
    pub(crate) fn new(setup: &Setup) -> Self {
        let policy = setup.policy();
        let subject = match setup.storage {
            Storage::Heap => Self::Heap(policy.build_core().expect("the settings make sense")),
            Storage::InPlace => {
                Self::InPlace(policy.build_fixed().expect("the settings make sense"))
            }
        };
        if setup.checkpointed { subject.checkpointed() } else { subject }
    }

    fn checkpointed(self) -> Self {
        match self {
            Self::Heap(operator) => Self::Heap(operator.checkpointed(NAME, 1)),
            Self::InPlace(operator) => Self::InPlace(operator.checkpointed(NAME, 1)),
        }
    }

    pub(crate) fn push(
        &mut self,
        now: i64,
        element: StreamElement<Record>,
    ) -> Result<(), StreamElement<Record>> {
        operator!(self, operator => operator.push(at(now), element)).map_err(|Full(element)| element)
    }

    pub(crate) fn poll_call(&mut self, now: i64) -> Option<Started> {
        let call = operator!(self, operator => operator.poll_call(at(now)))?;
        Some(Started {
            id: call.id,
            request: call.attempt.request_id,
            number: call.input.number,
            attempt: call.attempt.number,
            time_left: call.attempt.time_left.map(|left| left.as_nanos() as i64),
        })
    }

    pub(crate) fn complete(&mut self, now: i64, id: CallId, answer: Answer) -> Completion {
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

    pub(crate) fn capacity(&self) -> usize {
        operator!(self, operator => operator.capacity())
    }

    pub(crate) fn is_empty(&self) -> bool {
        operator!(self, operator => operator.is_empty())
    }
}

/// What the operator does not do yet (see `features`).
impl Subject {
    pub(crate) fn resolve_timeout(&mut self, _id: CallId, _action: TimeoutAction) {
        unreachable!("features::TIMEOUT_ACTIONS")
    }

    pub(crate) fn change(&mut self, _capacity: usize, _running_limit: Option<usize>) {
        unreachable!("features::CHANGES")
    }

    pub(crate) fn finish(&mut self, _now: i64, _last_attempt: bool) {
        unreachable!("features::FINISH")
    }

    pub(crate) fn shut_down(&mut self, _now: i64) {
        unreachable!("features::SHUT_DOWN")
    }
}

fn at(nanos: i64) -> Instant {
    Instant::from_nanos(nanos)
}
