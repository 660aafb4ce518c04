//! A failure that ends the job: it waits for no other call, and nothing comes after it.

use super::slab::{State, Waiting};
use super::{Operator, Phase};
use crate::element::{Barrier, StreamElement};
use crate::outcome::{Failure, Outcome};
use crate::retry::RetryStrategy;
use crate::storage::NONE;
use crate::storage::{Queue as _, Storage};
use crate::time::Timestamp;

/// What does not wait for its turn.
pub(super) enum Overtaking {
    /// A barrier on its way past everything.
    Barrier(Barrier),
    /// The call whose failure ends the job: what has its turn leaves before it, and nothing after it.
    Last(u32),
}

impl<In, Out, E, R, S, K> Operator<In, Out, E, R, S, K>
where
    R: RetryStrategy<In, Out, E>,
    S: Storage,
{
    /// Lets a failure for which `ends_the_job` holds end everything, at once: its outcome does not wait for calls that are
    /// still under way, and is the last element that comes out.
    ///
    /// When a call ends with such a failure, no more input is taken in and no more attempts are started; all running
    /// requests should be cancelled. What has its turn already comes out before it. The other records in flight leave
    /// without an outcome when it has come out, and count as dropped; control elements among them leave as well. O(n) in
    /// the places that were ever used, once.
    ///
    /// A call that has timed out is judged when [`resolve_timeout`](Self::resolve_timeout) or the next
    /// [`handle_deadline`](Self::handle_deadline) is called; if it ends with something else, it is no failure. Nor is a
    /// [`shut_down`](Self::shut_down) one that is asked about.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, Completion, Failure, Instant, StreamElement};
    ///
    /// let op = AsyncWait::ordered(4).build_core::<u32, u32, &str>().unwrap();
    /// let mut op = op.fail_fast(|failure| failure.error() == Some(&"wrong password"));
    /// let now = Instant::ZERO;
    /// op.push(now, StreamElement::value(20)).unwrap();
    /// op.push(now, StreamElement::value(21)).unwrap();
    /// let head = op.poll_attempt(now).map(|call| call.id).unwrap();
    /// let second = op.poll_attempt(now).map(|call| call.id).unwrap();
    ///
    /// let _ = op.handle_completion(now, second, Err(Failure::Error("wrong password")));
    /// let Some(StreamElement::Record { value, .. }) = op.poll_output() else { panic!() };
    /// assert_eq!((value.input, value.result), (21, Err(Failure::Error("wrong password"))));
    ///
    /// assert!(op.has_failed() && op.is_empty());
    /// assert_eq!(op.handle_completion(now, head, Ok(40)), Completion::Late);
    /// # }
    /// ```
    #[cfg(feature = "alloc")] // 1.5 KB of flash, which nobody pays for who has no heap
    #[must_use]
    pub const fn fail_fast(mut self, ends_the_job: fn(&Failure<E>) -> bool) -> Self {
        self.ends_the_job = Some(ends_the_job);
        self
    }

    /// Whether a failure has ended the job: see [`fail_fast`](Self::fail_fast). Its outcome may still be to be taken out.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn has_failed(&self) -> bool {
        cfg!(feature = "alloc") && matches!(self.phase, Phase::Failed)
    }

    /// A record that passes has failed.
    #[cold]
    pub(super) fn judge_passing(&mut self, result: &Result<Out, Failure<E>>) {
        if self.ends_job(Some(result)) {
            self.phase = Phase::Failed;
        }
    }

    /// A call has failed. Returns whether that has ended the job.
    #[cold]
    pub(super) fn judge_failure(&mut self, index: u32) -> bool {
        let result = self.calls.all()[index as usize].result.as_ref();
        let ends_job = !self.has_failed() && self.ends_job(result);
        if ends_job {
            self.fail(index);
        }
        ends_job
    }

    fn ends_job(&self, result: Option<&Result<Out, Failure<E>>>) -> bool {
        match (self.ends_the_job, result) {
            (Some(ends_the_job), Some(Err(failure))) => {
                cfg!(feature = "alloc") && ends_the_job(failure)
            }
            _ => false,
        }
    }

    /// A call has timed out: perhaps it ends with something else. With a failure that ends the job, from
    /// [`decide`](Self::decide) on.
    pub(super) fn note_timeout(&mut self, index: u32) {
        if cfg!(feature = "alloc") && self.ends_the_job.is_some() {
            self.undecided = index;
        }
    }

    /// A call that has timed out has not been given another end.
    pub(super) fn decide(&mut self) {
        if !cfg!(feature = "alloc") {
            return;
        }
        let index = core::mem::replace(&mut self.undecided, NONE);
        let timed_out = |call: &super::slab::Call<In, Out, E>| {
            call.state == State::Done && matches!(call.result, Some(Err(Failure::TimedOut)))
        };
        if self.calls.all().get(index as usize).is_some_and(timed_out) {
            let _ = self.judge_failure(index);
        }
    }

    fn fail(&mut self, index: u32) {
        self.phase = Phase::Failed;
        self.overtaking = Some(Overtaking::Last(index));
        for other in 0..self.calls.all().len() {
            self.halt(other as u32);
        }
    }

    /// Whatever a call is doing, it does no more. It gets no outcome.
    pub(super) fn halt(&mut self, index: u32) {
        self.waiting = Waiting::EMPTY;
        let slot = self.calls.at(index);
        match slot.state {
            State::Running => {
                slot.set_interrupted(slot.interrupted().saturating_add(1));
                self.running -= 1;
            }
            State::Backoff | State::Due => self.counters.in_backoff -= 1,
            State::Queued | State::Done | State::Vacant => return,
        }
        slot.spent = self.now.since(slot.started);
        slot.state = State::Queued;
        self.counters.queued += 1;
        self.deadlines.cancel(index);
    }

    /// What does not wait for its turn, and what has its turn before it.
    #[cold]
    #[inline(never)]
    pub(super) fn poll_overtaking(&mut self) -> Option<StreamElement<Outcome<In, Out, E>>> {
        let last = match self.overtaking.take()? {
            Overtaking::Barrier(barrier) => return Some(StreamElement::Barrier(barrier)),
            Overtaking::Last(last) if cfg!(feature = "alloc") => last,
            Overtaking::Last(_) => return None,
        };
        while self.queue.has_departure(self.calls.all()) {
            let element = match self.queue.pop_call(self.calls.slots()) {
                Some(call) => {
                    let record = self.take_record(call);
                    if call == last {
                        let _ = self.take_all_but(last);
                        return record.map(into_element);
                    }
                    record.map(into_element)
                }
                None => self.queue.pop_control().and_then(|control| self.hand_on(control)),
            };
            if element.is_some() {
                self.overtaking = Some(Overtaking::Last(last));
                return element;
            }
        }
        self.take_all_but(last).map(into_element)
    }

    /// Everything leaves, without an outcome, but for the call `last`, if it is still there.
    fn take_all_but(&mut self, last: u32) -> Option<(Outcome<In, Out, E>, Option<Timestamp>)> {
        while self.backlog.pop_front().is_some() {}
        for other in (0..self.calls.all().len() as u32).filter(|other| *other != last) {
            let slot = self.calls.at(other);
            slot.result = None;
            if slot.state == State::Queued {
                slot.state = State::Done;
                self.counters.queued -= 1;
                self.queue.done(self.calls.slots(), other);
            }
        }
        let mut record = None;
        loop {
            if let Some(call) = self.queue.pop_call(self.calls.slots()) {
                record = self.take_record(call).or(record);
            } else if self.queue.pop_control().is_none() {
                return record;
            }
        }
    }
}

fn into_element<T>((value, timestamp): (T, Option<Timestamp>)) -> StreamElement<T> {
    StreamElement::Record { value, timestamp }
}
