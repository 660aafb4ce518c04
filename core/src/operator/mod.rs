//! The operator: the state machine of the asynchronous wait, without input and output of its own.

mod attempt;
mod batch;
mod batches;
mod build;
mod bypass;
pub(crate) mod call;
mod deadlines;
mod ending;
mod input;
mod limits;
mod metrics;
mod one_per_key;
mod order;
mod output;
mod record;
mod request_ids;
mod slab;
mod snapshot;
mod starts;
mod steps;
mod timeouts;
mod window;

use core::fmt;

pub use self::attempt::{Attempt, AttemptId, Completion, Expired, PushError};
pub use self::batch::{Batch, BatchAttempts};
pub use self::call::Call;
pub(crate) use self::call::{OutcomeOf, ResultOf};
use self::deadlines::Deadlines;
use self::ending::{Ending, Overtaking, Phase};
use self::limits::Limits;
use self::metrics::Counters;
pub use self::metrics::{Histogram, Metrics};
use self::order::OutputOrder;
use self::output::EventTime;
use self::record::State;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub(crate) use self::request_ids::RequestIdRange;
use self::request_ids::RequestIds;
use self::slab::{List, Slab};
use self::snapshot::Saved;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub(crate) use self::snapshot::holds_anything;
pub use self::snapshot::{Checkpointing, RestoreError};
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub use self::snapshot::{merge_snapshots, split_snapshot};
#[cfg(feature = "alloc")]
pub(crate) use self::window::CELLS;
pub use self::window::{Cell, CellState};
use crate::config_error::ConfigError;
use crate::policy::{Extras, FinishPolicy, Settings};
use crate::retry::{RetryBudget, RetryStrategy};
pub use crate::storage::BatchId;
use crate::storage::{BatchTables, NONE, PerSlot, Queue as _, Storage};
use crate::time::Instant;

/// The operator without any input or output of its own: no clock, no futures, no runtime.
///
/// Its caller hands events in, and takes out elements, attempts to start, and the next deadline:
///
/// | in | out |
/// | --- | --- |
/// | [`push`](Self::push): an element arrives | [`poll_attempt`](Self::poll_attempt): an attempt to start |
/// | [`handle_completion`](Self::handle_completion): an attempt has ended | [`poll_output`](Self::poll_output): an element to hand on |
/// | [`handle_deadline`](Self::handle_deadline): time has passed | [`poll_deadline`](Self::poll_deadline): when that is needed next |
/// | [`finish`](Self::finish): there is no more input | [`is_empty`](Self::is_empty): everything has left |
///
/// After anything in, ask for everything out. Hand completions in before deadlines: a result that is
/// there counts, however late the operator hears of it (T4). Every method does a bounded amount of work, O(1) in
/// the capacity (amortised, and O(log n) for backoffs) unless it says otherwise.
///
/// `now` never goes back: an instant earlier than one already seen counts as that one. Misuse never
/// panics and never corrupts the operator (F4).
///
/// With a [batch size](crate::AsyncWait::batch), an engine takes batches of records in place of attempts ([`poll_batch`](Self::poll_batch)).
///
/// The library's own stages use these methods and no others, but for one shortcut. Where speed counts, an engine does what they do:
/// it asks [`room`](Self::room) once and then pulls so many elements, hands each in with
/// [`push_start`](Self::push_start), names a request that has completed by its slot
/// ([`handle_completion_in`](Self::handle_completion_in)), and lets deadlines pass with [`expire`](Self::expire).
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use inflight_core::{AsyncWait, Instant, StreamElement};
///
/// let mut op = AsyncWait::unordered(64).build_core::<u32, u32, ()>().unwrap();
/// let now = Instant::ZERO;
/// op.push(now, StreamElement::value(20)).unwrap();
/// op.push(now, StreamElement::value(21)).unwrap();
///
/// let mut requests = Vec::new();
/// while let Some(attempt) = op.poll_attempt(now) {
///     requests.push((attempt.id, *attempt.input)); // start the request; the id must outlive the borrow
/// }
/// for (id, input) in requests.into_iter().rev() {
///     let _ = op.handle_completion(now, id, Ok(input * 2));
/// }
/// let Some(StreamElement::Record { value, .. }) = op.poll_output() else { panic!() };
/// assert_eq!((value.input, value.result), (21, Ok(42)));
/// # }
/// ```
pub struct Operator<C: Call, S: Storage> {
    limits: Limits,
    retry: C::Retry,
    key: C::Key,
    /// The optional parts of the policy.
    extras: C::Extras,
    next_of_key: <C::Extras as Extras<C::Input, C::Output, C::Error>>::NextOfKey<S>,
    start_times: <C::Extras as Extras<C::Input, C::Output, C::Error>>::StartTimes<S>,
    batches: <C::Extras as Extras<C::Input, C::Output, C::Error>>::Batches<S>,
    retry_budget: Option<RetryBudget>,
    records: Slab<C, S>,
    order: OutputOrder<S>,
    deadlines: Deadlines<S>,
    /// Records whose attempt is to start.
    to_start: List,
    overtaking: Option<Overtaking>,
    ending: Ending<C::Error>,
    /// For [`FinishPolicy::LastAttempt`]: [`end_backoffs`](Self::end_backoffs). A pointer, so that a program without that policy does not
    /// pay for it in flash.
    cut_backoffs_short: Option<fn(&mut Self)>,
    checkpointing: Option<Checkpointing<C::Input, C::Output, C::Error>>,
    /// Of the call that has timed out last: its id, and the result of its last attempt, for
    /// [`resolve_timeout`](Self::resolve_timeout).
    last_result: Option<(AttemptId, ResultOf<C>)>,
    /// Elements that wait for a slot: restored ones, and those that came before a barrier beyond the capacity.
    backlog: S::Backlog<Saved<C::Input, C::Output, C::Error>>,
    ids: RequestIds,
    event_time: EventTime,
    now: Instant,
    counters: Counters,
}

impl<C: Call, S: Storage> Operator<C, S> {
    pub(crate) fn new(
        settings: Settings,
        retry: C::Retry,
        key: C::Key,
        extras: C::Extras,
    ) -> Result<Self, ConfigError> {
        settings.check::<S>()?;
        retry.check()?;
        extras.check()?;
        Ok(Self::unchecked(settings, retry, key, extras, None))
    }

    pub(crate) const fn unchecked(
        settings: Settings,
        retry: C::Retry,
        key: C::Key,
        extras: C::Extras,
        checkpointing: Option<Checkpointing<C::Input, C::Output, C::Error>>,
    ) -> Self {
        Self {
            limits: Limits::new(&settings),
            retry,
            key,
            extras,
            next_of_key: PerSlot::EMPTY,
            start_times: PerSlot::EMPTY,
            batches: BatchTables::EMPTY,
            retry_budget: settings.retry_budget,
            records: Slab::new(),
            order: OutputOrder::new(settings.order),
            deadlines: Deadlines::new(),
            to_start: List::EMPTY,
            overtaking: None,
            ending: Ending::OPEN,
            cut_backoffs_short: match settings.finish_policy {
                FinishPolicy::LastAttempt => Some(Self::end_backoffs),
                FinishPolicy::AllRetries => None,
            },
            checkpointing,
            last_result: None,
            backlog: S::Backlog::EMPTY,
            ids: RequestIds { next: 0, step: 1 },
            event_time: EventTime { watermark: None, idle: false },
            now: Instant::ZERO,
            counters: Counters::NONE,
        }
    }

    /// Lets barriers pass without a snapshot, because the source hands out again the records that were in flight (K14).
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub(crate) fn keeping_nothing(mut self) -> Self {
        self.limits.keeps_nothing = true;
        self
    }

    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub(crate) fn keeps_nothing(&self) -> bool {
        self.limits.keeps_nothing
    }

    /// The next attempt to start, if there is one. It counts as running from here on. A policy with batches has none here: see
    /// [`poll_batch`](Self::poll_batch).
    ///
    /// The input is borrowed from the operator: start the request and copy the id before the next
    /// call of a method.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn poll_attempt(&mut self, now: Instant) -> Option<Attempt<'_, C::Input>> {
        self.advance(now);
        self.admit();
        if C::Extras::BATCHES || !self.may_run() || !self.is_next_ready() {
            return None;
        }
        let slot = self.to_start.pop_front(self.records.slots());
        if slot == NONE {
            return None;
        }
        self.start(slot)
    }

    /// Whether [`poll_attempt`](Self::poll_attempt) has an attempt to give. It may have one more if
    /// [restored elements wait](Self::has_backlog) for a slot; [`room`](Self::room) gives them theirs.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn has_attempt(&self) -> bool {
        !C::Extras::BATCHES && !self.to_start.is_empty() && self.may_run() && self.is_next_ready()
    }

    /// The attempt that is running in a [slot](AttemptId::slot), if there is one.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn attempt_in(&self, slot: usize) -> Option<AttemptId> {
        let record = self.records.all().get(slot)?;
        (record.state() == State::Running).then(|| record.id(slot as u32))
    }

    /// An attempt has ended with this result. One that has ended already, or belongs to a call that is over, has no effect (T5).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn handle_completion(
        &mut self,
        now: Instant,
        id: AttemptId,
        result: ResultOf<C>,
    ) -> Completion {
        if self.attempt_in(id.slot()) != Some(id) {
            self.advance(now);
            self.counters.late += 1;
            return Completion::Late;
        }
        self.handle_completion_in(now, id.slot(), result)
    }

    /// The attempt that is running in this slot has ended with this result: [`handle_completion`](Self::handle_completion) for a
    /// caller that drops a request as soon as its attempt has ended or expired, and so never has a late one. If no
    /// attempt is running there, it has no effect.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn handle_completion_in(
        &mut self,
        now: Instant,
        slot: usize,
        result: ResultOf<C>,
    ) -> Completion {
        self.advance(now);
        match self.records.all().get(slot) {
            Some(record) if record.state() == State::Running => {}
            _ => {
                self.counters.late += 1;
                return Completion::Late;
            }
        }
        self.end_attempt(slot as u32, result)
    }

    /// The latest instant seen.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Sets the present, as every method does that takes `now`: for a caller that changes a limit or reads numbers before it calls
    /// any of these. An earlier instant than the latest one seen has no effect (F4).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn advance(&mut self, now: Instant) {
        // Time never goes back: an earlier instant counts as the latest one seen (F4).
        if now > self.now {
            self.now = now;
            self.check_pause();
        }
    }

    /// Gives slots to restored elements, as far as there are any.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn admit(&mut self) {
        if self.backlog.len() > 0 {
            self.admit_backlog();
        }
    }

    /// Whether restored elements wait for a slot. They get one when there is room, in [`room`](Self::room),
    /// [`poll_attempt`](Self::poll_attempt) and [`poll_output`](Self::poll_output).
    #[cfg_attr(feature = "alloc", inline)]
    pub fn has_backlog(&self) -> bool {
        self.backlog.len() > 0
    }

    /// Records in flight: pushed and not yet handed on.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn in_flight(&self) -> usize {
        self.records.len()
    }

    /// Whether an element waits to leave that goes before everything in flight: a barrier whose snapshot is taken, or the failure that
    /// has ended the job. No other barrier is taken in before it has left.
    pub fn has_overtaking(&self) -> bool {
        self.overtaking.is_some()
    }

    /// Whether there is no more input: after [`finish`](Self::finish), or the end of the job.
    pub fn is_finished(&self) -> bool {
        self.ending.phase != Phase::Open
    }

    /// Attempts running.
    pub fn running(&self) -> usize {
        self.counters.running
    }

    /// Records whose call is done and that have not left.
    #[cfg_attr(feature = "alloc", inline)]
    pub fn done(&self) -> usize {
        self.counters.done(self.records.len())
    }

    /// Whether nothing is in flight, control elements and restored elements without a slot included.
    pub fn is_empty(&self) -> bool {
        self.records.len() == 0
            && self.order.controls() == 0
            && self.overtaking.is_none()
            && self.backlog.len() == 0
    }

    /// The operator's numbers (M1). For the age of the oldest record it looks at each slot that was used since the last
    /// [`snapshot`](Self::snapshot) or [`forget_vacant`](Self::forget_vacant), and takes a step for each 64 other slots.
    pub fn metrics(&self, now: Instant) -> Metrics {
        let now = now.max(self.now);
        // The only number that takes more than a few steps.
        let started = self.records.occupied().map(|(_, record)| record.since()).min();
        Metrics { oldest: started.map(|started| now - started), ..self.quick_metrics(now) }
    }

    /// The operator's numbers without the age of the oldest record. O(1), but with batches and a rate that counts by weight it looks at
    /// each record of the next batch.
    pub fn quick_metrics(&self, now: Instant) -> Metrics {
        let now = now.max(self.now);
        let mut metrics = self.counters.metrics(now, self.records.len(), self.limits.capacity);
        self.count_holds(now, &mut metrics);
        metrics
    }

    /// A number that has changed if a snapshot of now has something that an earlier one had not, except for the time spent, and for
    /// elements that came in: an attempt has begun or ended, or a record has left (K13).
    #[inline]
    pub(crate) fn progress(&self) -> u64 {
        let Counters { attempts, running, emitted, dropped, .. } = self.counters;
        (attempts.wrapping_mul(2).wrapping_sub(running as u64))
            .wrapping_add(emitted)
            .wrapping_add(dropped)
    }

    /// Makes the next [`metrics`](Self::metrics) cost as much as there are records in flight, however many there were before. It
    /// takes a step for each use of a slot since the last time.
    pub fn forget_vacant(&mut self) {
        self.records.forget_vacant();
    }
}

impl<C: Call, S: Storage> fmt::Debug for Operator<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator")
            .field("capacity", &self.limits.capacity)
            .field("in_flight", &self.records.len())
            .field("running", &self.counters.running)
            .field("control_elements", &self.order.controls())
            .field("backlog", &self.backlog.len())
            .field("phase", &self.ending.phase)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::element::StreamElement;
    use crate::policy::AsyncWait;

    // T5: also after so many records have been in a slot that a counter of 32 bits would begin anew.
    #[test]
    fn the_id_of_an_attempt_never_comes_again() {
        let now = Instant::ZERO;
        for records in [1, 1 << 31, 1 << 32, 1 << 63] {
            let mut op = AsyncWait::unordered(1).build_core::<(), (), ()>().unwrap();
            let ask = |op: &mut Operator<_, _>| {
                op.push(now, StreamElement::value(())).unwrap();
                op.poll_attempt(now).unwrap().id
            };
            let first = ask(&mut op);
            assert_eq!(op.handle_completion(now, first, Ok(())), Completion::Outcome);
            assert!(op.poll_output().is_some());
            op.ids.next = records;
            let last = ask(&mut op);
            assert_eq!(first.slot(), last.slot());
            assert_eq!(op.handle_completion(now, first, Ok(())), Completion::Late, "{records}");
            assert_eq!(op.handle_completion(now, last, Ok(())), Completion::Outcome);
        }
    }
}
