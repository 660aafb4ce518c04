//! What the model keeps over a crash (rules K).

use super::{Call, Control, Element, Ending, Model, State};
use crate::setup::Setup;
use crate::values::Answer;

/// A snapshot: what is inside, in push order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saved {
    pub(crate) elements: Vec<SavedElement>,
    /// Records that ever had a place.
    pub(crate) requests: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum SavedElement {
    Control(Control),
    Call(SavedCall),
}

#[derive(Clone, Debug)]
pub(crate) struct SavedCall {
    request: u64,
    number: u32,
    key: u32,
    timestamp: Option<i64>,
    attempts: u32,
    spent: i64,
    progress: Progress,
}

#[derive(Clone, Debug)]
enum Progress {
    /// To be invoked.
    Waiting,
    /// To be invoked after this long.
    Backoff(i64),
    /// Not to be invoked again.
    Done(Option<Answer>),
}

impl Model {
    /// K1, K2: in every order the same.
    pub(crate) fn snapshot(&mut self, now: i64) -> Saved {
        self.see(now);
        let inside = self.inside.iter().filter_map(|element| match element {
            Element::Control(control) => Some(SavedElement::Control(*control)),
            Element::Call(call) => Some(SavedElement::Call(self.save(call))),
            Element::Drain { .. } => None,
        });
        let elements = inside.chain(self.backlog.iter().cloned()).collect();
        Saved { elements, requests: self.requests }
    }

    /// What stands for everything before a drain barrier that leaves.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    fn save(&self, call: &Call) -> SavedCall {
        let so_far = call.spent + call.started.map_or(0, |started| self.now - started);
        let (attempts, spent, progress) = match &call.state {
            State::Waiting { .. } | State::Running { .. } => {
                (call.attempts, so_far, Progress::Waiting)
            }
            State::Backoff(end) => {
                (call.attempts, so_far, Progress::Backoff((end.at - self.now).max(0)))
            }
            State::Done { answer, elapsed, .. } if self.setup.keeps_results => {
                (call.attempts, *elapsed, Progress::Done(*answer))
            }
            State::Done { .. } => (0, 0, Progress::Waiting),
        };
        let Call { request, number, key, timestamp, .. } = *call;
        SavedCall { request, number, key, timestamp, attempts, spent, progress }
    }

    /// A new model that goes on from there (K5).
    pub(crate) fn restore(setup: &Setup, now: i64, saved: &Saved) -> Self {
        let mut model = Self::new(setup);
        model.see(now);
        model.requests = saved.requests;
        model.backlog.extend(saved.elements.iter().cloned());
        model.admit();
        model
    }

    /// Whether everything that a restore brought has its place.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Gives places to what a restore brought, as far as there are any.
    pub(super) fn admit(&mut self) {
        while let Some(element) = self.backlog.front().cloned() {
            match element {
                SavedElement::Control(control) => {
                    if !self.place(control, None) {
                        return;
                    }
                }
                SavedElement::Call(call) => {
                    if self.in_flight() >= self.capacity {
                        return;
                    }
                    self.take_up(call);
                }
            }
            self.backlog.pop_front();
        }
    }

    /// A call in backoff is under way again; any other one waits to be invoked.
    fn take_up(&mut self, saved: SavedCall) {
        let SavedCall { request, number, key, timestamp, attempts, spent, progress } = saved;
        let in_backoff = matches!(progress, Progress::Backoff(_));
        let state = match progress {
            Progress::Waiting => State::Waiting { turn: None },
            Progress::Backoff(_) if self.ending == Ending::LastAttempt => {
                State::Waiting { turn: None }
            }
            Progress::Backoff(rest) => State::Backoff(self.deadline_at(self.now + rest)),
            Progress::Done(answer) => State::Done { answer, elapsed: spent, turn: None },
        };
        let (started, deadline) = (None, None);
        self.inside.push(Element::Call(Call {
            request,
            number,
            key,
            timestamp,
            attempts,
            spent,
            started,
            deadline,
            state,
        }));
        if in_backoff {
            self.start_clock(request);
        }
        self.settle();
        if self.ending == Ending::ShutDown {
            self.shut_down(self.now);
        }
    }
}
