//! Attempts: their starts and ends, and due deadlines.

use core::time::Duration;

use inflight_core::{AttemptId, Completion, Expired, Failure, Instant, TimeoutAction};

use super::{Answer, FAR, Item, Life, Phase, State};
use crate::policy::{Built, Order};

impl<S: Built> Life<'_, '_, S> {
    pub(super) fn poll_attempt(&mut self) -> bool {
        let running = self.op.running();
        let now = self.now();
        let clock = self.clock;
        let Some(call) = self.op.poll_attempt(now) else {
            self.check_nothing_to_start();
            return false;
        };
        assert!(running < self.max_running && self.phase != Phase::ShutDown);
        self.counts.attempts += 1;
        let (id, attempt, input) = (call.id, call.info, call.input.0);

        let at = self.find(input).expect("the record went in and has not come out");
        let (before, rest) = self.items.split_at_mut(at);
        let Item::Record(record) = &mut rest[0] else { unreachable!("that is what was found") };
        let first = record.state == State::Waiting;
        assert!(first || record.state == State::Backoff, "{record:?} is called");
        for earlier in before.iter().filter_map(Item::record) {
            assert_ne!(Some(attempt.request_id), earlier.request_id);
            if self.policy.order == Order::Serial {
                let over = earlier.key != record.key || earlier.state.is_over();
                assert!(over, "{record:?} and {earlier:?} at a time");
            } else {
                assert!(!first || earlier.state != State::Waiting, "{earlier:?} comes first");
            }
        }

        let request_id = *record.request_id.get_or_insert(attempt.request_id);
        assert_eq!(attempt.request_id, request_id);
        assert_eq!(attempt.retry, record.attempts - record.interrupted);
        record.attempts += 1;
        assert_eq!(attempt.number, record.attempts);
        if !record.vague {
            let started = *record.started.get_or_insert(clock.saturating_sub(record.spent));
            let left =
                |timeout| Instant::from_nanos(started) + timeout - Instant::from_nanos(clock);
            assert!(clock >= FAR || attempt.time_left == self.policy.timeout.map(left));
        }
        record.state = State::Running { id, since: clock };
        let in_slot = self.running().filter(|(_, other, _)| other.slot() == id.slot());
        assert_eq!(in_slot.count(), 1, "two attempts in one slot");
        true
    }

    /// If no attempt is to be started, the limit is reached, or every waiting record has to wait.
    fn check_nothing_to_start(&self) {
        if self.op.running() >= self.max_running || self.overfull || self.phase == Phase::ShutDown {
            return;
        }
        for (at, record) in self.records().enumerate() {
            let held = self.policy.order == Order::Serial
                && self
                    .records()
                    .take(at)
                    .any(|earlier| earlier.key == record.key && !earlier.state.is_over());
            assert!(record.state != State::Waiting || held, "nobody calls {record:?}");
        }
    }

    pub(super) fn complete(&mut self) {
        let running: Vec<AttemptId> = self.running().map(|(_, id, _)| id).collect();
        if !running.is_empty() {
            let id = running[self.bytes.below(running.len())];
            self.complete_by(id);
        }
    }

    /// A completion of an attempt that is over, or of another operator.
    pub(super) fn complete_stale(&mut self) {
        if !self.origin.stale.is_empty() {
            let id = self.origin.stale[self.bytes.below(self.origin.stale.len())];
            self.complete_by(id);
        }
    }

    fn complete_by(&mut self, id: AttemptId) {
        let answer = match self.bytes.byte() {
            0..8 => Err(Failure::Panicked),
            8..12 => Err(Failure::Cancelled),
            12..16 => Err(Failure::TimedOut),
            16..20 => Err(Failure::AttemptTimedOut),
            20..24 => Err(Failure::ShutDown),
            24..128 => Err(Failure::Error(self.bytes.byte())),
            output => Ok(output.into()),
        };
        let now = self.now();
        self.hand_in(now, id, answer);
    }

    pub(super) fn hand_in(&mut self, now: Instant, id: AttemptId, answer: Answer) {
        let completion = self.op.handle_completion(now, id, answer);
        // The id of another operator's attempt may equal that of an attempt running here.
        let Some(at) = self.find_running(id) else {
            self.counts.late += 1;
            return assert_eq!(completion, Completion::Late);
        };
        match completion {
            Completion::Late => panic!("the attempt is running"),
            Completion::Final => panic!("no failure ends the job"),
            Completion::Retry => self.back_off(at),
            Completion::Outcome => {
                self.done(at, answer);
                if answer == Err(Failure::TimedOut) {
                    let record = self.record(at).id;
                    self.undecided.push((id, record));
                }
            }
        }
    }

    fn back_off(&mut self, at: usize) {
        assert!(self.phase != Phase::LastAttempts && self.phase != Phase::ShutDown);
        self.counts.retried += 1;
        self.end_attempt(at);
        self.record(at).state = State::Backoff;
    }

    pub(super) fn done(&mut self, at: usize, answer: Answer) {
        self.end_attempt(at);
        let clock = self.clock;
        let record = self.record(at);
        let elapsed = record.started.map(|started| clock.saturating_sub(started));
        record.state = State::Done { answer, elapsed };
    }

    fn end_attempt(&mut self, at: usize) {
        if let State::Running { id, .. } = self.record(at).state {
            self.origin.stale.push(id);
        }
    }

    /// The running attempts: the positions of their records, their ids, and their starts.
    pub(super) fn running(&self) -> impl Iterator<Item = (usize, AttemptId, i64)> {
        self.items.iter().enumerate().filter_map(|(at, item)| match item.record()?.state {
            State::Running { id, since } => Some((at, id, since)),
            _ => None,
        })
    }

    fn find_running(&self, id: AttemptId) -> Option<usize> {
        self.running().find(|(_, running, _)| *running == id).map(|(at, ..)| at)
    }

    pub(super) fn handle_deadline(&mut self) -> bool {
        let now = self.now();
        let expired = self.op.handle_deadline(now);
        match expired {
            None => self.check_nothing_is_due(),
            Some(Expired::Attempt(id)) => {
                let at = self.find_running(id).expect("an attempt that is running");
                let State::Running { since, .. } = self.record(at).state else { unreachable!() };
                assert!(self.is_over(since, self.policy.attempt_timeout), "too early");
                if self.op.metrics(now).retried > self.counts.retried {
                    self.back_off(at);
                } else {
                    self.done(at, Err(Failure::AttemptTimedOut));
                }
            }
            Some(Expired::Call(id)) => self.call_timed_out(id),
        }
        expired.is_some()
    }

    fn call_timed_out(&mut self, id: AttemptId) {
        let at = self.find_running(id).unwrap_or_else(|| self.find_in_backoff(id));
        let (record, timeout) = (self.record(at).clone(), self.policy.timeout);
        match record.started {
            Some(started) => assert!(self.is_over(started, timeout), "{record:?}: too early"),
            None => assert!(record.vague && timeout.is_some(), "{record:?} has not begun"),
        }
        self.done(at, Err(Failure::TimedOut));
        if record.state.is_running() {
            self.undecided.push((id, record.id));
            if self.bytes.byte() < 64 {
                self.resolve();
            }
        }
    }

    /// The record in backoff that has timed out. The target asks the operator which one, because the id names
    /// no attempt.
    fn find_in_backoff(&mut self, id: AttemptId) -> usize {
        let mut named = None;
        let decided = self.op.resolve_timeout(id, |call| {
            named = Some(call.input.0);
            TimeoutAction::Fail
        });
        assert!(decided, "it has timed out just now");
        let at = named.and_then(|named| self.find(named)).expect("a record that is inside");
        assert_eq!(self.record(at).state, State::Backoff);
        at
    }

    fn is_over(&self, since: i64, timeout: Option<Duration>) -> bool {
        timeout
            .is_some_and(|timeout| (Instant::from_nanos(since) + timeout).as_nanos() <= self.clock)
    }

    /// After all due deadlines, none is due.
    fn check_nothing_is_due(&self) {
        let clock = self.clock;
        for record in self.records().filter(|record| !record.state.is_over()) {
            if let State::Running { since, .. } = record.state {
                let late = self.is_over(since, self.policy.attempt_timeout);
                assert!(!late, "{record:?} is late at {clock}");
            }
            if let Some(started) = record.started {
                let late = self.is_over(started, self.policy.timeout);
                assert!(!late, "{record:?} is late at {clock}");
            }
        }
        if let Some(deadline) = self.op.poll_deadline() {
            assert!(deadline.as_nanos() > clock, "{deadline:?} at {clock}");
        }
    }

    pub(super) fn resolve(&mut self) {
        let action = match self.bytes.byte() % 4 {
            0 => TimeoutAction::Drop,
            3 => TimeoutAction::FailWith(self.bytes.byte()),
            1 => TimeoutAction::Output(self.bytes.byte().into()),
            _ => TimeoutAction::Fail,
        };
        let stale = self.bytes.byte() < 32 && !self.origin.stale.is_empty();
        let (id, record, foreign) = if stale {
            let at = self.bytes.below(self.origin.stale.len());
            (self.origin.stale[at], None, at < self.inherited)
        } else {
            let Some(&(id, record)) = self.undecided.last() else { return };
            (id, Some(record), false)
        };
        let mut named = None;
        let decided = self.op.resolve_timeout(id, |call| {
            named = Some(call.input.0);
            action
        });
        assert_eq!(decided, named.is_some());
        let Some(named) = named else {
            return assert_eq!(record, None, "it has timed out and nobody has decided");
        };
        assert!(record.is_none_or(|record| record == named));
        let before = self.undecided.len();
        self.undecided.retain(|(_, undecided)| *undecided != named);
        // The id of another operator's attempt may be any id.
        assert!(self.undecided.len() < before || foreign, "somebody has decided before");
        let at = self.find(named).expect("the record is still inside");
        let State::Done { answer, .. } = &mut self.record(at).state else {
            panic!("it has no outcome");
        };
        assert_eq!(*answer, Err(Failure::TimedOut));
        match action {
            TimeoutAction::Fail => {}
            TimeoutAction::FailWith(error) => *answer = Err(Failure::Error(error)),
            TimeoutAction::Output(output) => *answer = Ok(output),
            TimeoutAction::Drop => {
                self.record(at).state = State::Dropped;
                self.counts.dropped_or_will_be += 1;
            }
        }
    }
}
