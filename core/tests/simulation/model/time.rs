//! What time does to the model (rules T).

use inflight_core::Failure;

use super::{Call, Deadline, Element, Expired, Model, State};

/// What a deadline stands for. Of two at one instant the first of these comes first: a call that is
/// over has no further attempts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Call(u64),
    Attempt(u64),
    Backoff(u64),
    Drain(u64),
}

impl Due {
    const fn rank(self) -> u8 {
        match self {
            Self::Call(_) => 0,
            _ => 1,
        }
    }
}

impl Model {
    /// Time does not go back.
    pub(super) fn see(&mut self, now: i64) {
        self.now = self.now.max(now);
    }

    pub(super) fn deadline_in(&mut self, millis: u64) -> Deadline {
        self.deadline_at(self.now + millis as i64 * 1_000_000)
    }

    pub(super) fn deadline_at(&mut self, at: i64) -> Deadline {
        self.events += 1;
        Deadline { at, set: self.events }
    }

    /// A call's time counts from its first invocation in this life; what it took before is taken.
    pub(super) fn start_clock(&mut self, request: u64) {
        if self.call(request).started.is_some() {
            return;
        }
        let spent = self.call(request).spent;
        let timeout = self.setup.timeout.map(|timeout| timeout as i64 * 1_000_000);
        let deadline = timeout.map(|timeout| self.deadline_at(self.now - spent + timeout));
        let now = self.now;
        let call = self.call(request);
        call.started = Some(now);
        call.deadline = deadline;
    }

    /// Everything that time will do, in order.
    fn due(&self) -> Vec<(i64, u8, u64, Due)> {
        let mut due = Vec::new();
        let mut add = |deadline: Option<Deadline>, what: Due| {
            due.extend(deadline.map(|deadline| (deadline.at, what.rank(), deadline.set, what)));
        };
        for element in &self.inside {
            match element {
                Element::Control(_) => {}
                Element::Drain { id, limit, failed } => {
                    add(limit.filter(|_| !failed), Due::Drain(*id));
                }
                Element::Call(Call { request, deadline, state, .. }) => {
                    add(*deadline, Due::Call(*request));
                    match *state {
                        State::Running { deadline } => add(deadline, Due::Attempt(*request)),
                        State::Backoff(end) => add(Some(end), Due::Backoff(*request)),
                        State::Waiting { .. } | State::Done { .. } => {}
                    }
                }
            }
        }
        due.sort_unstable();
        due
    }

    pub(crate) fn poll_deadline(&self) -> Option<i64> {
        self.due().first().map(|first| first.0)
    }

    /// The first attempt or call that is over because time is; what else comes before it happens on
    /// the way (T1, T2, T4).
    pub(crate) fn handle_deadline(&mut self, now: i64) -> Option<Expired> {
        self.see(now);
        loop {
            let (at, _, _, what) = *self.due().first()?;
            if at > self.now {
                return None;
            }
            match what {
                Due::Call(request) => {
                    self.end_call(request, Some(Err(Failure::TimedOut)));
                    return Some(Expired::Call { request });
                }
                Due::Attempt(request) => {
                    self.end_attempt(request, Err(Failure::AttemptTimedOut));
                    return Some(Expired::Attempt { request });
                }
                Due::Backoff(request) => {
                    self.call(request).state = State::Waiting { turn: None };
                    self.settle();
                }
                Due::Drain(id) => self.fail_drain(id),
            }
        }
    }

    fn fail_drain(&mut self, barrier: u64) {
        for element in &mut self.inside {
            if let Element::Drain { id, failed, .. } = element
                && *id == barrier
            {
                *failed = true;
            }
        }
    }
}
