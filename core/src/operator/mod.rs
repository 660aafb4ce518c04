//! The operator: everything a stage decides, and nothing it does.

mod calls;
mod queue;
mod snapshot;

use core::fmt;
use core::time::Duration;

use self::calls::{Calls, List, State};
use self::queue::{Control, Departure, Queue};
pub use self::snapshot::RestoreError;
use self::snapshot::{Checkpointing, Saved};
use crate::checkpoint::CheckpointError;
use crate::config::{AsyncWait, ConfigError};
use crate::deadlines::{Deadlines, NONE};
use crate::element::{Barrier, BarrierMode, StreamElement};
use crate::function::Attempt;
use crate::outcome::{Failure, Outcome};
use crate::retry::RetryStrategy;
use crate::storage::{Queue as _, Storage};
use crate::time::{Instant, Span, Timestamp};

/// The operator without any input or output of its own: no clock, no futures, no runtime.
///
/// Whoever drives it hands in what happens and takes out what follows:
///
/// | in | out |
/// | --- | --- |
/// | [`push`](Self::push): an element arrives | [`poll_call`](Self::poll_call): an attempt to start |
/// | [`handle_completion`](Self::handle_completion): an attempt has ended | [`poll_output`](Self::poll_output): an element to hand on |
/// | [`handle_deadline`](Self::handle_deadline): time has passed | [`poll_deadline`](Self::poll_deadline): when that is next needed |
///
/// After anything in, ask for everything out. Hand completions in before deadlines: a result that is
/// there counts, however late it is looked at. Every method does a bounded amount of work, O(1) in
/// the capacity (amortised, and O(log n) for backoffs).
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
/// while let Some(call) = op.poll_call(now) {
///     requests.push((call.id, *call.input)); // start the request; the id must outlive the borrow
/// }
/// for (id, input) in requests.into_iter().rev() {
///     op.handle_completion(now, id, Ok(input * 2));
/// }
/// let Some(StreamElement::Record { value, .. }) = op.poll_output() else { panic!() };
/// assert_eq!((value.input, value.result), (21, Ok(42)));
/// # }
/// ```
pub struct Operator<In, Out, E, R, S: Storage> {
    limits: Limits,
    retry: R,
    calls: Calls<In, Out, E, S>,
    queue: Queue<S>,
    deadlines: Deadlines<S>,
    /// Calls to be invoked, in order.
    waiting: List,
    running: usize,
    /// A barrier on its way past everything.
    express: Option<Barrier>,
    checkpointing: Option<Checkpointing<Self>>,
    /// What a restore brought and what has no place yet.
    backlog: S::Backlog<Saved<In>>,
    next_request_id: u64,
    now: Instant,
}

#[derive(Clone, Copy)]
struct Limits {
    capacity: usize,
    timeout: Option<Span>,
    attempt_timeout: Option<Span>,
}

/// An attempt to start.
#[derive(Debug)]
pub struct Call<'a, In> {
    /// Its name, for the completion.
    pub id: CallId,
    /// What the function is told.
    pub attempt: Attempt,
    /// The record.
    pub input: &'a In,
}

/// Names one attempt of one call. Another attempt of the same call has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId {
    slot: u32,
    generation: u32,
}

impl CallId {
    /// A small number that no other attempt has while this one is running: an index into a table of
    /// requests.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// What became of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a late completion has had no effect"]
pub enum Completion {
    /// It is the call's outcome.
    Outcome,
    /// The call goes on: it is tried again after a backoff.
    Retry,
    /// It came too late, or names no attempt that was ever started; it had no effect.
    Late,
}

/// An attempt that is over because time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the attempt's request should be cancelled"]
pub enum Expired {
    /// The attempt took too long. The call may go on with another one.
    Attempt(CallId),
    /// The call took too long. If it was in backoff no attempt was running.
    Call(CallId),
}

impl Expired {
    /// The attempt to cancel.
    pub const fn id(self) -> CallId {
        match self {
            Self::Attempt(id) | Self::Call(id) => id,
        }
    }
}

/// There is no room for this element; here it is back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operator is full")
    }
}

impl<T> core::error::Error for Full<T> {}

impl<In, Out, E, R, S> Operator<In, Out, E, R, S>
where
    R: RetryStrategy<In, Out, E>,
    S: Storage,
{
    pub(crate) fn new(policy: AsyncWait<R>) -> Result<Self, ConfigError> {
        policy.check::<In, Out, E, S>()?;
        let AsyncWait { settings, retry } = policy;
        let limits = Limits {
            capacity: settings.capacity,
            timeout: settings.timeout.map(Span::of),
            attempt_timeout: settings.attempt_timeout.map(Span::of),
        };
        Ok(Self {
            limits,
            retry,
            calls: Calls::new(),
            queue: Queue::new(settings.order),
            deadlines: Deadlines::new(),
            waiting: List::EMPTY,
            running: 0,
            express: None,
            checkpointing: None,
            backlog: S::Backlog::EMPTY,
            next_request_id: 0,
            now: Instant::ZERO,
        })
    }

    /// Takes in an element.
    ///
    /// A barrier in [`BarrierMode::Snapshot`] gets its snapshot here and leaves at once, ahead of
    /// what is in flight. If the snapshot cannot be taken, the barrier's checkpoint says so.
    ///
    /// # Errors
    ///
    /// [`Full`] hands the element back when `capacity` records are in flight, or as many control
    /// elements (two adjacent watermarks merge then), or while a restore still has records waiting
    /// for a place. Try again after an output was taken.
    #[inline(always)]
    pub fn push(
        &mut self,
        now: Instant,
        element: StreamElement<In>,
    ) -> Result<(), Full<StreamElement<In>>> {
        self.advance(now);
        if self.backlog.len() > 0 {
            return Err(Full(element));
        }
        match element {
            StreamElement::Record { value, timestamp } => {
                if self.calls.len() >= self.limits.capacity {
                    return Err(Full(StreamElement::Record { value, timestamp }));
                }
                let request_id = self.next_request_id;
                let pushed = self.insert(value, timestamp, request_id).map(|_| ());
                self.next_request_id = request_id + u64::from(pushed.is_ok());
                pushed.map_err(|value| Full(StreamElement::Record { value, timestamp }))
            }
            element => self.push_control(element),
        }
    }

    /// The next attempt to start, if there is one. It counts as running from here on.
    ///
    /// The input is borrowed from the operator: start the request and copy the id before the next
    /// call of a method.
    #[inline(always)]
    pub fn poll_call(&mut self, now: Instant) -> Option<Call<'_, In>> {
        self.advance(now);
        self.admit();
        let index = self.waiting.pop_front(self.calls.slots());
        if index == NONE {
            return None;
        }
        let now = self.now;
        let slot = self.calls.at(index);
        if slot.state == State::Queued {
            slot.started = now.back(slot.spent);
        }
        slot.state = State::Running;
        slot.attempts = slot.attempts.saturating_add(1);
        slot.generation = slot.generation.wrapping_add(1);
        self.running += 1;

        let deadline = self.limits.timeout.map(|timeout| slot.started.plus(timeout));
        let attempt_deadline = self.limits.attempt_timeout.map(|timeout| now.plus(timeout));
        if let Some(first) = earlier(deadline, attempt_deadline) {
            self.deadlines.set(index, first);
        }
        let slot = self.calls.at(index);
        let attempt = Attempt {
            number: slot.attempts,
            request_id: slot.request_id,
            time_left: deadline.map(|deadline| deadline - now),
        };
        let id = CallId { slot: index, generation: slot.generation };
        slot.input.as_ref().map(|input| Call { id, attempt, input })
    }

    /// An attempt has ended.
    #[inline(always)]
    pub fn handle_completion(
        &mut self,
        now: Instant,
        id: CallId,
        result: Result<Out, Failure<E>>,
    ) -> Completion {
        self.advance(now);
        match self.calls.slots().get(id.slot as usize) {
            Some(slot) if slot.generation == id.generation && slot.state == State::Running => {
                self.end_attempt(id.slot, result)
            }
            _ => Completion::Late,
        }
    }

    /// Judges what is due at `now`: attempts and calls that took too long, backoffs that are over.
    /// Returns an attempt that has expired, whose request should be cancelled. Call it until it
    /// returns `None`.
    pub fn handle_deadline(&mut self, now: Instant) -> Option<Expired> {
        self.advance(now);
        while let Some(index) = self.deadlines.pop_due(self.now) {
            let timeout = self.limits.timeout;
            let slot = self.calls.at(index);
            let id = CallId { slot: index, generation: slot.generation };
            let deadline = timeout.map(|timeout| slot.started.plus(timeout));
            if deadline.is_some_and(|deadline| deadline <= self.now) {
                self.time_out(index);
                return Some(Expired::Call(id));
            }
            if slot.state == State::Running {
                let _ = self.end_attempt(index, Err(Failure::AttemptTimedOut));
                return Some(Expired::Attempt(id));
            }
            slot.state = State::Due;
            if let Some(deadline) = deadline {
                self.deadlines.set(index, deadline);
            }
            self.waiting.push_back(self.calls.slots(), index);
        }
        None
    }

    /// The earliest instant at which [`handle_deadline`](Self::handle_deadline) has something to do.
    #[inline]
    pub fn poll_deadline(&self) -> Option<Instant> {
        self.deadlines.earliest()
    }

    /// The next element to hand on, if there is one.
    #[inline(always)]
    pub fn poll_output(&mut self) -> Option<StreamElement<Outcome<In, Out, E>>> {
        if self.express.is_some() {
            return self.express.take().map(StreamElement::Barrier);
        }
        self.admit();
        loop {
            match self.queue.pop(self.calls.slots())? {
                Departure::Call(index) => {
                    let slot = self.calls.at(index);
                    let (attempts, timestamp) = (slot.attempts, slot.timestamp);
                    let elapsed = Duration::from(slot.spent);
                    let content = slot.input.take().zip(slot.result.take());
                    self.calls.remove(index);
                    if let Some((input, result)) = content {
                        let value = Outcome { input, result, attempts, elapsed };
                        return Some(StreamElement::Record { value, timestamp });
                    }
                }
                Departure::Control(control) => return Some(control.into()),
            }
        }
    }

    /// Records in flight: pushed and not yet handed on.
    #[inline(always)]
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Attempts running.
    pub fn running(&self) -> usize {
        self.running
    }

    /// The most records in flight.
    pub fn capacity(&self) -> usize {
        self.limits.capacity
    }

    /// Whether a record and a control element would both be taken in, with `held` further records
    /// that have left the operator but count against its capacity.
    #[cfg(feature = "alloc")] // for the driver
    #[inline(always)]
    pub(crate) fn has_room(&self, held: usize) -> bool {
        self.calls.len() + held < self.limits.capacity
            && self.queue.controls() < self.limits.capacity
            && self.express.is_none()
            && self.backlog.len() == 0
    }

    /// Whether [`poll_output`](Self::poll_output) has something to give.
    #[inline(always)]
    pub fn has_output(&self) -> bool {
        self.express.is_some() || self.queue.has_departure()
    }

    /// The attempt that is running in `slot`.
    #[cfg(feature = "alloc")] // for the driver
    #[inline(always)]
    pub(crate) fn running_in(&mut self, slot: usize) -> Option<CallId> {
        let call = self.calls.slots().get(slot).filter(|call| call.state == State::Running)?;
        Some(CallId { slot: slot as u32, generation: call.generation })
    }

    /// Whether nothing is left inside, control elements and a restore's backlog included.
    pub fn is_empty(&self) -> bool {
        self.calls.len() == 0
            && self.queue.controls() == 0
            && self.express.is_none()
            && self.backlog.len() == 0
    }

    #[inline(always)]
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    #[inline(always)]
    fn insert(
        &mut self,
        input: In,
        timestamp: Option<Timestamp>,
        request_id: u64,
    ) -> Result<u32, In> {
        let index = self.calls.insert(input, timestamp, request_id)?;
        self.queue.push_call(self.calls.slots(), index);
        self.waiting.push_back(self.calls.slots(), index);
        Ok(index)
    }

    fn push_control(&mut self, element: StreamElement<In>) -> Result<(), Full<StreamElement<In>>> {
        match element {
            StreamElement::Barrier(barrier) if barrier.mode == BarrierMode::Snapshot => {
                self.push_express(barrier)
            }
            element => match Control::try_from(element) {
                Ok(control) => self
                    .queue
                    .push_control(control, self.limits.capacity)
                    .map_err(|control| Full(control.into())),
                Err(record) => Err(Full(record)),
            },
        }
    }

    fn push_express(&mut self, mut barrier: Barrier) -> Result<(), Full<StreamElement<In>>> {
        if self.express.is_some() {
            return Err(Full(StreamElement::Barrier(barrier)));
        }
        let taken = match self.checkpointing {
            Some(checkpointing) => checkpointing.snapshot(self, &mut barrier.checkpoint),
            None => Err(CheckpointError::NotCheckpointed),
        };
        if let Err(reason) = taken {
            barrier.checkpoint.fail(reason);
        }
        self.express = Some(barrier);
        Ok(())
    }

    /// Ends the running attempt of a call: either the call is tried again, or this is its outcome.
    #[inline(always)]
    fn end_attempt(&mut self, index: u32, result: Result<Out, Failure<E>>) -> Completion {
        self.running -= 1;
        let (now, timeout) = (self.now, self.limits.timeout);
        let slot = self.calls.at(index);
        let attempt = Attempt {
            number: slot.attempts,
            request_id: slot.request_id,
            time_left: timeout.map(|timeout| slot.started.plus(timeout) - now),
        };
        let delay =
            slot.input.as_ref().and_then(|input| self.retry.next_delay(attempt, input, &result));
        match delay {
            None => {
                self.finish(index, result);
                Completion::Outcome
            }
            Some(delay) => {
                self.back_off(index, Span::of(delay));
                Completion::Retry
            }
        }
    }

    fn back_off(&mut self, index: u32, delay: Span) {
        let (now, timeout) = (self.now, self.limits.timeout);
        let slot = self.calls.at(index);
        let retry = now.plus(delay);
        slot.spent = retry.since(slot.started);
        slot.state = State::Backoff;
        slot.generation = slot.generation.wrapping_add(1);
        let deadline = timeout.map(|timeout| slot.started.plus(timeout));
        if let Some(first) = earlier(Some(retry), deadline) {
            self.deadlines.set(index, first);
        }
    }

    #[cold]
    fn time_out(&mut self, index: u32) {
        match self.calls.at(index).state {
            State::Running => self.running -= 1,
            State::Due => self.waiting.remove(self.calls.slots(), index),
            _ => {}
        }
        self.finish(index, Err(Failure::TimedOut));
    }

    #[inline(always)]
    fn finish(&mut self, index: u32, result: Result<Out, Failure<E>>) {
        self.deadlines.cancel(index);
        let now = self.now;
        let slot = self.calls.at(index);
        slot.result = Some(result);
        slot.spent = now.since(slot.started);
        slot.state = State::Done;
        slot.generation = slot.generation.wrapping_add(1);
        self.queue.done(self.calls.slots(), index);
    }

    /// Gives places to what a restore brought, as far as there are any.
    #[inline(always)]
    fn admit(&mut self) {
        if self.backlog.len() > 0 {
            self.admit_backlog();
        }
    }
}

impl<In, Out, E, R, S: Storage> fmt::Debug for Operator<In, Out, E, R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator")
            .field("capacity", &self.limits.capacity)
            .field("in_flight", &self.calls.len())
            .field("running", &self.running)
            .field("control_elements", &self.queue.controls())
            .field("backlog", &self.backlog.len())
            .finish_non_exhaustive()
    }
}

impl<T> TryFrom<StreamElement<T>> for Control {
    type Error = StreamElement<T>;

    /// A record is no control element, and comes back.
    fn try_from(element: StreamElement<T>) -> Result<Self, StreamElement<T>> {
        match element {
            StreamElement::Watermark(timestamp) => Ok(Self::Watermark(timestamp)),
            StreamElement::Status(status) => Ok(Self::Status(status)),
            StreamElement::Barrier(barrier) => Ok(Self::Barrier(barrier)),
            record @ StreamElement::Record { .. } => Err(record),
        }
    }
}

impl<T> From<Control> for StreamElement<T> {
    fn from(control: Control) -> Self {
        match control {
            Control::Watermark(timestamp) => Self::Watermark(timestamp),
            Control::Status(status) => Self::Status(status),
            Control::Barrier(barrier) => Self::Barrier(barrier),
        }
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
