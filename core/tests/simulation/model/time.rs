//! The effects of time on the model (rules T).

use inflight_core::Failure;

use super::{Call, Element, Expired, Model, Overtaking, State, nanos};
use crate::features;

/// An event of a certain instant.
#[derive(Clone, Copy)]
struct Due {
    at: i64,
    what: What,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    CallTimeout(u64),
    AttemptTimeout(u64),
    BackoffEnd(u64),
}

impl Model {
    /// Time does not go back.
    pub(crate) fn see(&mut self, now: i64) {
        self.now = self.now.max(now);
        self.end_asked_pause();
    }

    /// A call's time counts from its first invocation in this life, plus the time spent in earlier lives.
    pub(crate) fn start_clock(&mut self, request: u64) {
        if self.call(request).started.is_none() {
            self.set_clock(request, self.now);
        }
    }

    /// The call's clock goes on at this instant.
    pub(crate) fn set_clock(&mut self, request: u64, at: i64) {
        let number = self.call(request).number;
        let timeout = self.setup.timeout_of(number);
        let call = self.call(request);
        call.started = Some(at);
        call.deadline = timeout.map(|timeout| at - call.spent + nanos(timeout));
    }

    /// All future events of time.
    fn everything_due(&self) -> Vec<Due> {
        let mut due = Vec::new();
        let mut add = |at: Option<i64>, what| due.extend(at.map(|at| Due { at, what }));
        for element in &self.inside {
            match element {
                Element::Control(_) | Element::Drain { .. } | Element::Gone => {}
                Element::Call(Call { request, deadline, state, .. }) => {
                    add(*deadline, What::CallTimeout(*request));
                    match *state {
                        State::Running { deadline } => {
                            add(deadline, What::AttemptTimeout(*request));
                        }
                        State::Backoff(end) => add(Some(end), What::BackoffEnd(*request)),
                        State::Waiting { .. } | State::Done { .. } => {}
                    }
                }
            }
        }
        due
    }

    pub(crate) fn poll_deadline(&self) -> Option<i64> {
        self.poll_deadlines().into_iter().flatten().min()
    }

    /// The same, with one answer for each request that could be the next to start.
    pub(crate) fn poll_deadlines(&self) -> Vec<Option<i64>> {
        let earliest = self.earliest_deadline();
        let earlier = |start| [start, earliest].into_iter().flatten().min();
        self.start_deadlines().into_iter().map(earlier).collect()
    }

    fn earliest_deadline(&self) -> Option<i64> {
        // A barrier that overtakes blocks the next one.
        let limits = self.inside.iter().filter_map(|element| match element {
            Element::Drain { limit, .. } if self.overtaking.is_none() => *limit,
            _ => None,
        });
        let told = self.calls().filter_map(|call| call.told);
        self.everything_due().iter().map(|due| due.at).chain(limits).chain(told).min()
    }

    /// Returns the first attempt or call that times out; other events before it happen on the way (T1, T2, T4). If
    /// several come first, `wish` decides. Call it until it returns `None`.
    pub(crate) fn handle_deadline(&mut self, now: i64, wish: Option<u64>) -> Option<Expired> {
        self.see(now);
        self.fail_drain();
        let now = self.now;
        for call in self.calls_mut() {
            call.told = call.told.filter(|told| *told > now);
        }
        while let Some(Due { at, what }) = self.next_due(wish) {
            if self.judging != Some(at) {
                self.judging = Some(at);
                self.at_one_moment();
            }
            match what {
                What::CallTimeout(request) => {
                    if self.runs(what) {
                        self.note_end(request, &Err(Failure::TimedOut));
                    }
                    self.call(request).has_timed_out = true;
                    self.end_call(request, Some(Err(Failure::TimedOut)));
                    return Some(Expired::Call { request });
                }
                What::AttemptTimeout(request) => {
                    let _ = self.end_attempt(request, Err(Failure::AttemptTimedOut));
                    return Some(Expired::Attempt { request });
                }
                What::BackoffEnd(request) => {
                    let now = self.now;
                    self.call(request).wait_again(now);
                    self.settle();
                }
            }
        }
        (self.judging, self.moment) = (None, None);
        None
    }

    /// The next event to judge. At one instant, visible events come after invisible ones.
    fn next_due(&self, wish: Option<u64>) -> Option<Due> {
        let mut due = self.judged();
        let first = due.iter().map(|due| due.at).min()?;
        due.retain(|due| due.at == first);
        let is_silent = |due: &&Due| matches!(due.what, What::BackoffEnd(_));
        let is_wish = |due: &&Due| match due.what {
            What::CallTimeout(request) | What::AttemptTimeout(request) => Some(request) == wish,
            _ => false,
        };
        let silent = due.iter().find(is_silent);
        silent.or(due.iter().find(is_wish)).or(due.first()).copied()
    }

    /// All events that are due.
    fn judged(&self) -> Vec<Due> {
        let mut due = self.everything_due();
        due.retain(|due| due.at <= self.now && (due.at <= self.delivered || !self.runs(due.what)));
        for due in &mut due {
            due.what = self.unless_call_is_over(*due);
        }
        due
    }

    /// Returns true if an attempt of the call is running.
    fn runs(&self, what: What) -> bool {
        let (What::CallTimeout(request)
        | What::AttemptTimeout(request)
        | What::BackoffEnd(request)) = what;
        let call = self.calls().find(|call| call.request == request);
        call.is_some_and(|call| matches!(call.state, State::Running { .. }))
    }

    /// An event that would let a call go on does not happen when the call's own time is up.
    fn unless_call_is_over(&self, due: Due) -> What {
        let (What::AttemptTimeout(request) | What::BackoffEnd(request)) = due.what else {
            return due.what;
        };
        // A call's clock stands still from the end of its backoff on, however late that is judged.
        let in_order = features::LATE_JUDGEMENT_IN_ORDER || matches!(due.what, What::BackoffEnd(_));
        let judged = if in_order { due.at } else { self.now };
        let call = self.calls().find(|call| call.request == request);
        match call.and_then(|call| call.deadline) {
            Some(deadline) if deadline <= judged => What::CallTimeout(request),
            _ => due.what,
        }
    }

    /// K3: the first barrier whose limit has passed leaves at once, if no other one is about to.
    fn fail_drain(&mut self) {
        let now = self.now.min(self.delivered);
        for element in &mut self.inside {
            if let Element::Drain { id, limit: Some(limit) } = *element
                && limit <= now
                && self.overtaking.is_none()
            {
                self.overtaking = Some(Overtaking::FailedDrain(id));
                *element = Element::Gone;
            }
        }
    }
}
