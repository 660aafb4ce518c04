//! The operator: everything a stage decides, and nothing it does.

mod attempt;
mod bypass;
mod deadlines;
mod failing;
mod given_key;
mod lifecycle;
mod metrics;
mod order;
mod outputs;
mod record;
mod slab;
mod snapshot;

use core::fmt;

pub use self::attempt::{Attempt, AttemptId, Completion, Expired, Full, TimeoutAction};
use self::deadlines::Deadlines;
use self::failing::Overtaking;
use self::metrics::Counters;
pub use self::metrics::{Histogram, Metrics};
use self::order::{Control, Queue, earlier};
use self::record::Ended;
use self::slab::{Calls, State, Waiting};
pub use self::snapshot::Checkpointing;
pub use self::snapshot::RestoreError;
use self::snapshot::Saved;
#[cfg(feature = "alloc")]
pub(crate) use self::snapshot::holds_anything;
#[cfg(feature = "alloc")]
pub use self::snapshot::{merge_snapshots, split_snapshot};
use crate::element::{Barrier, BarrierMode, StreamElement};
use crate::function::AttemptInfo;
use crate::outcome::Failure;
use crate::policy::{ConfigError, FinishPolicy, KeySelector, Settings, Unkeyed};
use crate::retry::{RetryBudget, RetryStrategy};
use crate::storage::NONE;
use crate::storage::{Queue as _, Storage};
use crate::time::{Instant, Span, Timestamp};

/// The operator without any input or output of its own: no clock, no futures, no runtime.
///
/// Whoever drives it hands in what happens and takes out what follows:
///
/// | in | out |
/// | --- | --- |
/// | [`push`](Self::push): an element arrives | [`poll_attempt`](Self::poll_attempt): an attempt to start |
/// | [`handle_completion`](Self::handle_completion): an attempt has ended | [`poll_output`](Self::poll_output): an element to hand on |
/// | [`handle_deadline`](Self::handle_deadline): time has passed | [`poll_deadline`](Self::poll_deadline): when that is next needed |
/// | [`finish`](Self::finish): there is no more input | [`is_empty`](Self::is_empty): everything is through |
///
/// After anything in, ask for everything out. Hand completions in before deadlines: a result that is
/// there counts, however late it is looked at. Every method does a bounded amount of work, O(1) in
/// the capacity (amortised, and O(log n) for backoffs) unless it says otherwise.
///
/// `now` never goes back: an instant earlier than one already seen counts as that one. Misuse never
/// panics and never corrupts the queue.
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
/// while let Some(call) = op.poll_attempt(now) {
///     requests.push((call.id, *call.input)); // start the request; the id must outlive the borrow
/// }
/// for (id, input) in requests.into_iter().rev() {
///     let _ = op.handle_completion(now, id, Ok(input * 2));
/// }
/// let Some(StreamElement::Record { value, .. }) = op.poll_output() else { panic!() };
/// assert_eq!((value.input, value.result), (21, Ok(42)));
/// # }
/// ```
pub struct Operator<In, Out, E, R, S: Storage, K = Unkeyed> {
    limits: Limits,
    retry: R,
    /// Where records have their keys from. A stage's operator is told them.
    key: K,
    budget: Option<RetryBudget>,
    calls: Calls<In, Out, E, S>,
    queue: Queue<S>,
    deadlines: Deadlines<S>,
    /// Calls to be invoked, in order.
    waiting: Waiting,
    running: usize,
    /// Records that have left and count against the capacity all the same.
    held: usize,
    overtaking: Option<Overtaking>,
    /// Which failures end the job, and a call that has timed out and may have ended it.
    ends_the_job: Option<fn(&Failure<E>) -> bool>,
    undecided: u32,
    checkpointing: Option<Checkpointing<In, Out, E>>,
    /// What a restore brought and what has no place yet.
    backlog: S::Backlog<Saved<In, Out, E>>,
    next_request_id: u64,
    request_id_step: u64,
    /// The last watermark that has left, and whether the stream was idle then.
    watermark: Option<Timestamp>,
    idle: bool,
    phase: Phase,
    now: Instant,
    counters: Counters,
}

#[derive(Clone, Copy)]
struct Limits {
    capacity: usize,
    max_capacity: usize,
    max_running: usize,
    timeout: Option<Span>,
    attempt_timeout: Option<Span>,
    last_attempt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// No more input.
    Finishing,
    /// No more input, and no more retries: `FinishPolicy::LastAttempt`.
    LastAttempts,
    /// No more input and no more attempts.
    ShutDown,
    /// The same, and no more outcomes than one: a failure has ended the job.
    Failed,
}

impl<In, Out, E, R, S, K> Operator<In, Out, E, R, S, K>
where
    R: RetryStrategy<In, Out, E>,
    S: Storage,
{
    pub(crate) fn new(settings: Settings, retry: R, key: K) -> Result<Self, ConfigError> {
        settings.check::<S>()?;
        retry.check()?;
        Ok(Self::unchecked(settings, retry, key, None))
    }

    pub(crate) const fn unchecked(
        settings: Settings,
        retry: R,
        key: K,
        checkpointing: Option<Checkpointing<In, Out, E>>,
    ) -> Self {
        Self {
            limits: Limits::new(&settings),
            retry,
            key,
            budget: settings.retry_budget,
            calls: Calls::new(),
            queue: Queue::new(settings.order),
            deadlines: Deadlines::new(),
            waiting: Waiting::EMPTY,
            running: 0,
            held: 0,
            overtaking: None,
            ends_the_job: None,
            undecided: NONE,
            checkpointing,
            backlog: S::Backlog::EMPTY,
            next_request_id: 0,
            request_id_step: 1,
            watermark: None,
            idle: false,
            phase: Phase::Open,
            now: Instant::ZERO,
            counters: Counters::NONE,
        }
    }

    /// Takes in an element. A record has the key that the policy's key function gives it, if there is one.
    ///
    /// A barrier in [`BarrierMode::Snapshot`] gets its snapshot here and leaves at once, ahead of
    /// what is in flight. If the snapshot cannot be taken, the barrier's checkpoint says so.
    ///
    /// # Errors
    ///
    /// [`Full`] hands the element back when `capacity` records are in flight, or as many control
    /// elements (two adjacent watermarks merge then), while a restore still has records waiting for a
    /// place, and after [`finish`](Self::finish). Unless it is finished, try again after an output was
    /// taken.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn push(
        &mut self,
        now: Instant,
        element: StreamElement<In>,
    ) -> Result<(), Full<StreamElement<In>>>
    where
        K: KeySelector<In>,
    {
        let key = match &element {
            StreamElement::Record { value, .. } => self.key.key_of(value),
            _ => 0,
        };
        self.push_element(now, key, element)
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn push_element(
        &mut self,
        now: Instant,
        key: u64,
        element: StreamElement<In>,
    ) -> Result<(), Full<StreamElement<In>>> {
        self.advance(now);
        if self.backlog.len() > 0 || self.phase != Phase::Open {
            return Err(Full(element));
        }
        match element {
            StreamElement::Record { value, timestamp } => {
                if !self.has_room_for_record() {
                    return Err(Full(StreamElement::Record { value, timestamp }));
                }
                let request_id = self.next_request_id;
                self.insert(value, timestamp, request_id, key)
                    .map_err(|value| Full(StreamElement::Record { value, timestamp }))?;
                self.next_request_id = request_id.wrapping_add(self.request_id_step);
                Ok(())
            }
            element => self.push_control(element),
        }
    }

    /// The next attempt to start, if there is one. It counts as running from here on.
    ///
    /// The input is borrowed from the operator: start the request and copy the id before the next
    /// call of a method.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn poll_attempt(&mut self, now: Instant) -> Option<Attempt<'_, In>> {
        self.advance(now);
        self.admit();
        if self.running >= self.limits.max_running {
            return None;
        }
        let index = self.waiting.pop_front(self.calls.slots());
        if index == NONE {
            return None;
        }
        let slot = self.calls.at(index);
        match slot.state {
            State::Queued => {
                slot.started = self.now.back(slot.spent);
                self.counters.queued -= 1;
            }
            _ => self.counters.in_backoff -= 1,
        }
        self.begin_attempt(index)
    }

    /// Takes in a record for which there [is room](Self::room), and starts its first attempt if it may
    /// start: what `push` and `poll_attempt` do one after the other, at the latest instant seen. Nothing
    /// [may start](Self::has_attempt) before it.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn push_and_call(
        &mut self,
        key: u64,
        value: In,
        timestamp: Option<Timestamp>,
    ) -> Option<Attempt<'_, In>> {
        let request_id = self.next_request_id;
        let Ok((index, may_start)) = self.place(value, timestamp, request_id, key) else {
            unreachable!("there is room for it");
        };
        self.next_request_id = request_id.wrapping_add(self.request_id_step);
        debug_assert!(!self.has_attempt());
        if !may_start || self.running >= self.limits.max_running {
            self.queue_call(index, may_start);
            return None;
        }
        self.begin_attempt(index)
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn begin_attempt(&mut self, index: u32) -> Option<Attempt<'_, In>> {
        let now = self.now;
        let slot = self.calls.at(index);
        slot.state = State::Running;
        slot.attempts = slot.attempts.saturating_add(1);
        slot.generation = slot.generation.wrapping_add(1);
        self.running += 1;
        self.counters.attempts += 1;

        let deadline = self.limits.deadline(slot.started);
        let attempt_deadline = self.limits.attempt_timeout.map(|timeout| now.plus(timeout));
        if let Some(first) = earlier(deadline, attempt_deadline) {
            self.deadlines.set(index, first);
        }
        let attempt = AttemptInfo {
            number: slot.attempts,
            retry: slot.retries(),
            request_id: slot.request_id,
            time_left: deadline.map(|deadline| deadline - now),
        };
        let id = slot.id(index);
        slot.input.as_ref().map(|input| Attempt { id, attempt, input })
    }

    /// An attempt has ended.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn handle_completion(
        &mut self,
        now: Instant,
        id: AttemptId,
        result: Result<Out, Failure<E>>,
    ) -> Completion {
        self.advance(now);
        match self.calls.slots().get(id.slot()) {
            Some(slot) if slot.state == State::Running && slot.id(id.slot) == id => {
                match self.end_attempt(id.slot, result) {
                    Ended::Attempt => Completion::Retry,
                    Ended::Call | Ended::Job => Completion::Outcome,
                }
            }
            _ => {
                self.counters.late += 1;
                Completion::Late
            }
        }
    }

    /// The attempt that is running in `slot` has ended, at the latest instant seen. Returns whether that has ended the
    /// job: then nothing runs any more.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn end_running(&mut self, slot: usize, result: Result<Out, Failure<E>>) -> bool {
        debug_assert_eq!(self.calls.slots()[slot].state, State::Running);
        matches!(self.end_attempt(slot as u32, result), Ended::Job)
    }

    /// Judges what is due at `now`: attempts and calls that took too long, backoffs that are over.
    /// Returns an attempt that has expired, whose request should be cancelled. Attempt it until it
    /// returns `None`.
    pub fn handle_deadline(&mut self, now: Instant) -> Option<Expired> {
        self.advance(now);
        if self.undecided != NONE {
            self.decide();
        }
        self.judge_barriers(self.now);
        while let Some(slot) = self.first_due(self.now) {
            let expired = self.judge(slot);
            if expired.is_some() {
                return expired;
            }
        }
        None
    }

    /// Judges whether a barrier's time limit has passed at `until`.
    pub(crate) fn judge_barriers(&mut self, until: Instant) {
        if self.overtaking.is_none() {
            self.overtaking = self.queue.take_late_barrier(until).map(Overtaking::Barrier);
        }
    }

    /// The call that is due first at the latest instant seen. One whose attempt is running is not due before its deadline
    /// is at most `until`: its answer may have come and not have been delivered.
    #[cfg_attr(feature = "alloc", inline)]
    pub(crate) fn first_due(&mut self, until: Instant) -> Option<usize> {
        let calls = self.calls.all();
        let is_running = |call: u32| calls[call as usize].state == State::Running;
        self.deadlines.first_due(self.now, until, is_running).map(|call| call as usize)
    }

    /// Judges a call that is [due](Self::first_due): its backoff is over, or its attempt has expired.
    pub(crate) fn judge(&mut self, slot: usize) -> Option<Expired> {
        let index = slot as u32;
        self.deadlines.cancel(index);
        let slot = self.calls.at(index);
        let id = slot.id(index);
        let deadline = self.limits.deadline(slot.started);
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            self.abandon(index, Failure::TimedOut);
            self.note_timeout(index);
            return Some(Expired::Call(id));
        }
        if slot.state == State::Running {
            let _ = self.end_attempt(index, Err(Failure::AttemptTimedOut));
            return Some(Expired::Attempt(id));
        }
        self.retry_now(index);
        None
    }

    /// The earliest instant at which [`handle_deadline`](Self::handle_deadline) has something to do.
    #[cfg_attr(feature = "alloc", inline)]
    pub fn poll_deadline(&self) -> Option<Instant> {
        match self.queue.drain_deadline() {
            // A barrier that is on its way out already holds the next one up.
            Some(deadline) if self.overtaking.is_none() => {
                earlier(Some(deadline), self.deadlines.earliest())
            }
            _ => self.deadlines.earliest(),
        }
    }

    /// Sets the present.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn insert(
        &mut self,
        input: In,
        timestamp: Option<Timestamp>,
        request_id: u64,
        key: u64,
    ) -> Result<u32, In> {
        let (index, may_start) = self.place(input, timestamp, request_id, key)?;
        self.queue_call(index, may_start);
        Ok(index)
    }

    /// Gives a record its place. Returns whether it may be invoked now; it does not stand in line for that.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn place(
        &mut self,
        input: In,
        timestamp: Option<Timestamp>,
        request_id: u64,
        key: u64,
    ) -> Result<(u32, bool), In> {
        let Some(index) = self.calls.vacant() else { return Err(input) };
        let segment = self.queue.count_call();
        let call = self.calls.occupy(index);
        call.input = Some(input);
        call.set_timestamp(timestamp);
        call.request_id = request_id;
        call.started = self.now;
        call.segment = segment;
        if self.calls.len() >= self.limits.capacity {
            self.counters.full(self.now);
        }
        let may_start = self.queue.link_call(self.calls.slots(), index, key);
        Ok((index, may_start))
    }

    /// Lets a new call wait to be invoked, unless it has to be released first.
    fn queue_call(&mut self, index: u32, may_start: bool) {
        self.counters.queued += 1;
        if may_start {
            self.waiting.push_back(self.calls.slots(), index);
        }
    }

    fn push_control(&mut self, element: StreamElement<In>) -> Result<(), Full<StreamElement<In>>> {
        let control = match element {
            StreamElement::Watermark(timestamp) => Control::Watermark(timestamp),
            StreamElement::Status(status) => Control::Status(status),
            StreamElement::Barrier(barrier) if barrier.mode == BarrierMode::Snapshot => {
                return self.push_overtaking(barrier);
            }
            StreamElement::Barrier(mut barrier) => {
                if self.queue.controls() < self.limits.capacity {
                    self.put_empty_section(&mut barrier);
                }
                let deadline = barrier.limit.map(|limit| self.now.plus(Span::of(limit)));
                Control::Barrier(barrier, deadline)
            }
            record @ StreamElement::Record { .. } => return Err(Full(record)),
        };
        let pushed = self.queue.push_control(control, self.limits.capacity);
        pushed.map_err(|control| match control.into_element() {
            Some(element) => Full(element),
            None => unreachable!("what is pushed is an element"),
        })
    }

    fn push_overtaking(&mut self, mut barrier: Barrier) -> Result<(), Full<StreamElement<In>>> {
        if self.overtaking.is_some() {
            return Err(Full(StreamElement::Barrier(barrier)));
        }
        if let Err(reason) = self.put_section(&mut barrier.checkpoint) {
            barrier.checkpoint.fail(reason);
        }
        self.overtaking = Some(Overtaking::Barrier(barrier));
        Ok(())
    }

    /// Gives places to what a restore brought, as far as there are any.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn admit(&mut self) {
        if self.backlog.len() > 0 {
            self.admit_backlog();
        }
    }
}

impl Limits {
    const fn new(settings: &Settings) -> Self {
        Self {
            capacity: settings.capacity,
            max_capacity: settings.max_capacity(),
            max_running: match settings.max_running {
                Some(attempts) => attempts,
                None => usize::MAX,
            },
            timeout: Span::of_some(settings.timeout),
            attempt_timeout: Span::of_some(settings.attempt_timeout),
            last_attempt: matches!(settings.finish_policy, FinishPolicy::LastAttempt),
        }
    }

    /// When a call that started then has to be over.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn deadline(&self, started: Instant) -> Option<Instant> {
        self.timeout.map(|timeout| started.plus(timeout))
    }
}

impl<In, Out, E, R, S: Storage, K> fmt::Debug for Operator<In, Out, E, R, S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator")
            .field("capacity", &self.limits.capacity)
            .field("in_flight", &self.calls.len())
            .field("running", &self.running)
            .field("control_elements", &self.queue.controls())
            .field("backlog", &self.backlog.len())
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use super::*;
    use crate::policy::AsyncWait;

    // T5: also after so many records have been in a place that a counter of 32 bits would begin anew.
    #[test]
    fn the_name_of_an_attempt_never_comes_again() {
        let now = Instant::ZERO;
        for records in [1, 1 << 31, 1 << 32, 1 << 63] {
            let mut op = AsyncWait::unordered(1).build_core::<(), (), ()>().unwrap();
            let ask = |op: &mut Operator<(), (), (), _, _>| {
                op.push(now, StreamElement::value(())).unwrap();
                op.poll_attempt(now).unwrap().id
            };
            let first = ask(&mut op);
            assert_eq!(op.handle_completion(now, first, Ok(())), Completion::Outcome);
            assert!(op.poll_output().is_some());
            op.next_request_id = records;
            let last = ask(&mut op);
            assert_eq!(first.slot(), last.slot());
            assert_eq!(op.handle_completion(now, first, Ok(())), Completion::Late, "{records}");
            assert_eq!(op.handle_completion(now, last, Ok(())), Completion::Outcome);
        }
    }
}
