//! The model's state that survives a crash (rules K).

use super::{Call, Control, Element, Ending, Model, Output, State};
use crate::features;
use crate::setup::Setup;
use crate::values::Answer;

/// A snapshot: the elements inside, in push order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saved {
    pub(crate) elements: Vec<SavedElement>,
    /// The number of records that ever had a slot.
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
    pub(crate) number: u32,
    key: u32,
    timestamp: Option<i64>,
    attempts: u32,
    interrupted: u32,
    spent: i64,
    progress: Progress,
}

#[derive(Clone, Debug)]
enum Progress {
    /// The call is to be invoked.
    Waiting,
    /// The call is to be invoked after this long.
    Backoff(i64),
    /// The call is done, and not to be invoked again.
    Done(Option<Answer>),
}

impl Saved {
    /// The records for which a restored operator will start attempts.
    pub(crate) fn called_again(&self) -> Vec<u32> {
        let number = |element: &SavedElement| match element {
            SavedElement::Call(SavedCall { progress: Progress::Done(_), .. }) => None,
            SavedElement::Call(call) => Some(call.number),
            SavedElement::Control(_) => None,
        };
        self.elements.iter().filter_map(number).collect()
    }

    #[allow(dead_code, reason = "only the stage's simulation asks")]
    pub(crate) fn records(&self) -> usize {
        let is_call = |element: &&SavedElement| matches!(element, SavedElement::Call(_));
        self.elements.iter().filter(is_call).count()
    }

    /// Without these records.
    #[allow(dead_code, reason = "only the stage's simulation asks")]
    pub(crate) fn forget(&mut self, numbers: &[u32]) {
        self.elements.retain(|element| match element {
            SavedElement::Call(call) => !numbers.contains(&call.number),
            SavedElement::Control(_) => true,
        });
    }

    /// Without an element that was on its way out already.
    #[allow(dead_code, reason = "only the stage's simulation asks")]
    pub(crate) fn goes_without(&mut self, output: &Output) {
        let is_it = |element: &SavedElement| match (element, output) {
            (SavedElement::Control(own), Output::Control(control)) => own == control,
            (SavedElement::Call(call), Output::Outcome { number, .. }) => call.number == *number,
            _ => false,
        };
        if let Some(at) = self.elements.iter().position(is_it) {
            self.elements.remove(at);
        }
    }

    /// Whether a stage with this capacity and no room for a backlog can take it up. Watermarks that
    /// would merge count, too.
    pub(crate) fn fits(&self, capacity: usize) -> bool {
        let is_call = |element: &&SavedElement| matches!(element, SavedElement::Call(_));
        let calls = self.elements.iter().filter(is_call).count();
        calls <= capacity && self.elements.len() - calls <= capacity
    }
}

impl Model {
    /// K1, K2: the snapshot is the same in every order.
    pub(crate) fn snapshot(&mut self, now: i64) -> Saved {
        self.see(now);
        let inside = self.inside.iter().filter_map(|element| match element {
            Element::Control(control) => Some(SavedElement::Control(*control)),
            Element::Call(call) => Some(SavedElement::Call(self.save(call))),
            Element::Drain { .. } | Element::Gone => None,
        });
        let elements = inside.chain(self.backlog.iter().cloned()).collect();
        Saved { elements, requests: self.requests }
    }

    /// The snapshot of a drain barrier that leaves.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    fn save(&self, call: &Call) -> SavedCall {
        let until = match call.state {
            State::Backoff(end) => end.min(self.now), // the clock stands still from there on (C5)
            _ => self.now,
        };
        let so_far = call.spent + call.started.map_or(0, |started| until - started);
        let (attempts, spent, progress) = match &call.state {
            State::Waiting { .. } | State::Running { .. } => {
                (call.attempts, so_far, Progress::Waiting)
            }
            State::Backoff(end) => {
                (call.attempts, so_far, Progress::Backoff((end - self.now).max(0)))
            }
            State::Done { answer, elapsed, .. } if self.setup.keeps_results => {
                (call.attempts, *elapsed, Progress::Done(*answer))
            }
            State::Done { .. } => (0, 0, Progress::Waiting),
        };
        let interrupted = match call.state {
            State::Running { .. } => call.interrupted + 1,
            State::Done { .. } if !self.setup.keeps_results => 0,
            _ => call.interrupted,
        };
        let Call { request, number, key, timestamp, .. } = *call;
        SavedCall { request, number, key, timestamp, attempts, interrupted, spent, progress }
    }

    /// Makes a new model that goes on from this snapshot (K5).
    pub(crate) fn restore(setup: &Setup, now: i64, saved: &Saved) -> Self {
        let mut model = Self::new(setup);
        model.see(now);
        model.requests = saved.requests;
        model.backlog.extend(saved.elements.iter().cloned());
        model.admit();
        model
    }

    /// Gives slots to restored elements, as far as there are any.
    pub(crate) fn admit(&mut self) {
        while let Some(element) = self.backlog.front().cloned() {
            match element {
                SavedElement::Control(control) => {
                    if !self.append(control, None) {
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

    /// A restored call in backoff stays in backoff; any other one waits to be invoked.
    fn take_up(&mut self, saved: SavedCall) {
        let backs_off = self.backs_off(&saved);
        let SavedCall { request, number, key, timestamp, attempts, interrupted, spent, progress } =
            saved;
        let state = match progress {
            Progress::Backoff(rest) if backs_off => State::Backoff(self.now + rest),
            Progress::Waiting | Progress::Backoff(_) => State::Waiting { since: None },
            Progress::Done(answer) => State::Done { answer, elapsed: spent, since: None },
        };
        self.inside.push(Element::Call(Call {
            request,
            number,
            key,
            timestamp,
            attempts,
            interrupted,
            spent,
            started: None,
            deadline: None,
            told: None,
            since: self.now,
            batch: None,
            last: None,
            has_timed_out: false,
            state,
        }));
        if backs_off && self.is_paused() {
            self.start_clock_in_pause(request);
        } else if backs_off {
            self.start_clock(request);
        }
        self.settle();
        if self.ending == Ending::ShutDown {
            self.shut_down(self.now);
        }
    }

    fn backs_off(&self, saved: &SavedCall) -> bool {
        let is_before =
            |call: &Call| call.key == saved.key && !matches!(call.state, State::Done { .. });
        let is_behind = self.setup.has_one_per_key() && self.calls().any(is_before);
        let has_ended = self.ending == Ending::AllRetries;
        matches!(saved.progress, Progress::Backoff(_))
            && self.ending != Ending::LastAttempt
            && (features::BACKOFF_BEHIND_ITS_KEY || !is_behind)
            && (features::BACKOFF_AFTER_THE_END || !has_ended)
    }
}
