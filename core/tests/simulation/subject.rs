//! The real operator, over either storage, in the terms of the simulation.
//!
//! Only this file calls the operator's methods.

use inflight_core::{
    AsyncWait, Attempt, AttemptId, BatchId, CellState, Checkpoint, CheckpointError, Checkpointing,
    Completion, ConfigError, Expired, Extras, Failure, Fixed, Heap, Instant, KeyBy, NoRetry,
    OneAttemptPerKey, Operator, Outcome, PushError, RestoreError, StreamElement, TimedOutCall,
    TimeoutAction,
};

use crate::model;
use crate::parts::{Batched, Full};
use crate::script::Choice;
use crate::setup::{Order, SLOTS, Setup, Storage, Strategy};
use crate::values::{Answer, Record};

/// The name of the stage in checkpoints.
pub(crate) const NAME: &str = "stage";

pub(crate) type Element = StreamElement<Outcome<Record, u32, u32>>;

type Key = KeyBy<fn(&Record) -> u32>;

type Of<X, S> = Box<Operator<(Record, u32, u32, Strategy, Key, X), S>>;

/// With the optional parts of the policy, and without.
pub(crate) enum Subject {
    Heap(Of<(), Heap>),
    InPlace(Of<(), Fixed<SLOTS>>),
    FullHeap(Of<Full, Heap>),
    FullInPlace(Of<Full, Fixed<SLOTS>>),
    BatchedHeap(Of<Batched, Heap>),
    BatchedInPlace(Of<Batched, Fixed<SLOTS>>),
    AloneHeap(Of<Alone<()>, Heap>),
    AloneInPlace(Of<Alone<()>, Fixed<SLOTS>>),
    AloneFullHeap(Of<Alone<Full>, Heap>),
    AloneFullInPlace(Of<Alone<Full>, Fixed<SLOTS>>),
    AloneBatchedHeap(Of<Alone<Batched>, Heap>),
    AloneBatchedInPlace(Of<Alone<Batched>, Fixed<SLOTS>>),
}

/// With one attempt at a time for each key.
type Alone<X> = (X, OneAttemptPerKey);

/// Does the same with the operator over either storage.
macro_rules! operator {
    ($subject:expr, $operator:ident => $what:expr) => {
        match $subject {
            Subject::Heap($operator) => $what,
            Subject::InPlace($operator) => $what,
            Subject::FullHeap($operator) => $what,
            Subject::FullInPlace($operator) => $what,
            Subject::BatchedHeap($operator) => $what,
            Subject::BatchedInPlace($operator) => $what,
            Subject::AloneHeap($operator) => $what,
            Subject::AloneInPlace($operator) => $what,
            Subject::AloneFullHeap($operator) => $what,
            Subject::AloneFullInPlace($operator) => $what,
            Subject::AloneBatchedHeap($operator) => $what,
            Subject::AloneBatchedInPlace($operator) => $what,
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

/// A call that has timed out, as its end is asked for (F5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TimedOut {
    pub(crate) number: u32,
    pub(crate) attempts: u32,
    pub(crate) last: Option<Answer>,
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
        let Some(parts) = setup.parts else {
            return Self::without_parts(setup, policy);
        };
        let policy = parts.policy(policy);
        let Some(size) = parts.batch else {
            return Self::full(setup, policy);
        };
        let policy = size.policy(policy);
        match (setup.storage, setup.one_per_key) {
            (Storage::Heap, false) => Self::BatchedHeap(checkpointed(setup, policy.build_core())),
            (Storage::InPlace, false) => {
                Self::BatchedInPlace(checkpointed(setup, policy.build_fixed()))
            }
            (Storage::Heap, true) => {
                let policy = policy.one_attempt_per_key();
                Self::AloneBatchedHeap(checkpointed(setup, policy.build_core()))
            }
            (Storage::InPlace, true) => {
                let policy = policy.one_attempt_per_key();
                Self::AloneBatchedInPlace(checkpointed(setup, policy.build_fixed()))
            }
        }
    }

    fn without_parts(setup: &Setup, policy: AsyncWait<Strategy, Key>) -> Self {
        match (setup.storage, setup.one_per_key) {
            (Storage::Heap, false) => Self::Heap(checkpointed(setup, policy.build_core())),
            (Storage::InPlace, false) => Self::InPlace(checkpointed(setup, policy.build_fixed())),
            (Storage::Heap, true) => {
                let policy = policy.one_attempt_per_key();
                Self::AloneHeap(checkpointed(setup, policy.build_core()))
            }
            (Storage::InPlace, true) => {
                let policy = policy.one_attempt_per_key();
                Self::AloneInPlace(checkpointed(setup, policy.build_fixed()))
            }
        }
    }

    fn full(setup: &Setup, policy: AsyncWait<Strategy, Key, Full>) -> Self {
        match (setup.storage, setup.one_per_key) {
            (Storage::Heap, false) => Self::FullHeap(checkpointed(setup, policy.build_core())),
            (Storage::InPlace, false) => {
                Self::FullInPlace(checkpointed(setup, policy.build_fixed()))
            }
            (Storage::Heap, true) => {
                let policy = policy.one_attempt_per_key();
                Self::AloneFullHeap(checkpointed(setup, policy.build_core()))
            }
            (Storage::InPlace, true) => {
                let policy = policy.one_attempt_per_key();
                Self::AloneFullInPlace(checkpointed(setup, policy.build_fixed()))
            }
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
        operator!(self, operator => operator.poll_attempt(at(now)).map(started))
    }

    pub(crate) fn push_start(
        &mut self,
        now: i64,
        element: StreamElement<Record>,
    ) -> Result<Option<Started>, StreamElement<Record>> {
        operator!(self, operator => match operator.push_start(at(now), element) {
            Ok(attempt) => Ok(attempt.map(started)),
            Err(refused) => Err(refused.into_inner()),
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

    /// The most requests that may run now.
    pub(crate) fn running_limit(&self) -> usize {
        operator!(self, operator => operator.running_limit())
    }

    pub(crate) fn running_requests(&self) -> usize {
        operator!(self, operator => operator.running_requests())
    }

    pub(crate) fn has_attempt(&self) -> bool {
        operator!(self, operator => operator.has_attempt())
    }

    pub(crate) fn is_paused(&self) -> bool {
        operator!(self, operator => operator.is_paused())
    }

    /// M1
    pub(crate) fn in_backoff(&self) -> usize {
        operator!(self, operator => operator.quick_metrics(Instant::ZERO).in_backoff as usize)
    }

    /// M2: the states and the attempts of the records in flight.
    pub(crate) fn window(&self) -> Vec<(CellState, u32)> {
        operator!(self, operator => {
            operator.window(Instant::ZERO).map(|cell| (cell.state, cell.attempts)).collect()
        })
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

    /// M1
    pub(crate) fn late(&self) -> u64 {
        operator!(self, operator => operator.quick_metrics(Instant::ZERO).late_completions)
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

/// Batches.
impl Subject {
    pub(crate) fn poll_batch(&mut self, now: i64) -> Option<(BatchId, Vec<Started>)> {
        operator!(self, operator => {
            let batch = operator.poll_batch(at(now))?;
            assert_eq!(batch.len(), batch.iter().count());
            Some((batch.id(), batch.iter().map(started).collect()))
        })
    }

    pub(crate) fn complete_batch(
        &mut self,
        now: i64,
        id: BatchId,
        answers: Vec<Answer>,
    ) -> Completion {
        operator!(self, operator => operator.handle_batch_completion(at(now), id, answers))
    }

    pub(crate) fn fail_batch(
        &mut self,
        now: i64,
        id: BatchId,
        failure: Failure<u32>,
    ) -> Completion {
        operator!(self, operator => operator.handle_batch_failure(at(now), id, failure))
    }

    pub(crate) fn take_abandoned_batch(&mut self) -> Option<BatchId> {
        operator!(self, operator => operator.take_abandoned_batch())
    }

    pub(crate) fn has_batch(&self) -> bool {
        operator!(self, operator => operator.has_batch())
    }

    pub(crate) fn has_full_batch(&self) -> bool {
        operator!(self, operator => operator.has_full_batch())
    }

    pub(crate) fn batch_in(&self, number: usize) -> Option<BatchId> {
        operator!(self, operator => operator.batch_in(number))
    }

    pub(crate) fn batch_of(&self, id: AttemptId) -> Option<BatchId> {
        operator!(self, operator => operator.batch_of(id))
    }
}

/// Rare calls.
impl Subject {
    /// Returns what the operator tells of the call whose end this decides, if there is such a call.
    pub(crate) fn resolve_timeout(&mut self, id: AttemptId, choice: Choice) -> Option<TimedOut> {
        let mut told = None;
        let decide = |call: TimedOutCall<'_, Record, u32, u32>| {
            let (number, attempts) = (call.input.number, call.attempts);
            told = Some(TimedOut { number, attempts, last: call.last.copied() });
            match choice.action(number) {
                model::TimeoutAction::Fail => TimeoutAction::Fail,
                model::TimeoutAction::FailWith(mistake) => TimeoutAction::FailWith(mistake),
                model::TimeoutAction::Output(output) => TimeoutAction::Output(output),
                model::TimeoutAction::Drop => TimeoutAction::Drop,
            }
        };
        let is_resolved = operator!(self, operator => operator.resolve_timeout(id, decide));
        told.filter(|_| is_resolved)
    }

    pub(crate) fn change(&mut self, capacity: usize, running_limit: Option<usize>) {
        let running_limit = running_limit.unwrap_or(usize::MAX);
        operator!(self, operator => operator.set_capacity(capacity)).expect("it makes sense");
        operator!(self, operator => operator.set_max_running(running_limit))
            .expect("it makes sense");
    }

    pub(crate) fn pause(&mut self, now: i64) {
        operator!(self, operator => operator.pause(at(now)));
    }

    pub(crate) fn resume(&mut self, now: i64) {
        operator!(self, operator => operator.resume(at(now)));
    }

    pub(crate) fn finish(&mut self, now: i64) {
        operator!(self, operator => operator.finish(at(now)));
    }

    pub(crate) fn shut_down(&mut self, now: i64) {
        operator!(self, operator => operator.shut_down(at(now)));
    }
}

fn checkpointed<X: Extras<Record, u32, u32>, S: inflight_core::Storage>(
    setup: &Setup,
    operator: Result<Operator<(Record, u32, u32, Strategy, Key, X), S>, ConfigError>,
) -> Of<X, S> {
    let mut operator = operator.expect("the settings make sense");
    if setup.checkpointed {
        let how = Checkpointing::new(NAME, 1);
        let how = if setup.keeps_results { how.keeping_results() } else { how };
        operator = operator.checkpointed_with(how);
    }
    Box::new(operator)
}

fn started(attempt: Attempt<'_, Record>) -> Started {
    Started {
        id: attempt.id,
        request: attempt.info.request_id,
        number: attempt.input.number,
        attempt: attempt.info.number,
        time_left: attempt.info.time_left.map(|left| left.as_nanos() as i64),
    }
}

fn at(nanos: i64) -> Instant {
    Instant::from_nanos(nanos)
}
