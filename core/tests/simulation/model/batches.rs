//! Requests for several records at a time (B1-B4).

use inflight_core::{Completion, Failure, Verdict};

use super::starts::one_of;
use super::{Call, Element, Ending, Model, Started, State, nanos};
use crate::parts::Size;
use crate::values::{Answer, verdict, weight_of};

/// A batch that runs.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    id: u64,
    since: i64,
    /// In their order, also those that have left it.
    members: Vec<u64>,
    /// Its answers are being handed in.
    is_ending: bool,
}

/// What the next batch could be, if it started now.
#[derive(Clone, Debug, PartialEq)]
struct Front {
    requests: Vec<u64>,
    weight: u64,
    /// No other record could join it.
    is_full: bool,
}

/// More orders of records that began to wait at the same moment than are looked at.
const MANY: usize = 300;

impl Model {
    /// These records' batch starts.
    pub(crate) fn begin_batch(
        &mut self,
        now: i64,
        requests: &[u64],
    ) -> Result<(u64, Vec<Started>), String> {
        self.see(now);
        self.admit();
        if !self.may_start_one() {
            return Err(format!("a batch starts that may not run (B4): {requests:?}"));
        }
        let fronts = self.fronts(Some(requests)).unwrap_or_default();
        if !fronts.iter().any(|front| front.requests == requests) {
            return Err(format!("{requests:?} are not the next batch (B1)"));
        }
        if !fronts.iter().any(|front| self.is_due(front)) {
            return Err(format!("{requests:?} start too early (B1, B2)"));
        }
        let id = self.all_batches;
        self.all_batches += 1;
        let members = requests.to_vec();
        self.batches.push(Running { id, since: self.now, members, is_ending: false });
        let started: Vec<_> = requests.iter().map(|request| self.set_running(*request)).collect();
        for request in requests {
            self.call(*request).batch = Some(id);
        }
        self.pay(&started.iter().map(|started| started.number).collect::<Vec<_>>());
        Ok((id, started))
    }

    /// Whether no batch may have to start now.
    pub(crate) fn may_have_none(&mut self, now: i64) -> bool {
        self.see(now);
        self.admit();
        self.may_have_batch() != Some(true)
    }

    /// Whether a batch could start. `None` if that depends on the order of records that began to wait at the same moment.
    pub(crate) fn may_have_batch(&self) -> Option<bool> {
        self.in_all_orders(|model, front| model.is_due(front))
    }

    /// The same of a batch that no further record can join.
    pub(crate) fn may_have_full_batch(&self) -> Option<bool> {
        self.in_all_orders(|model, front| {
            (front.is_full || model.is_stuck()) && model.is_due(front)
        })
    }

    fn in_all_orders(&self, holds: impl Fn(&Self, &Front) -> bool) -> Option<bool> {
        if !self.may_start_one() {
            return Some(false);
        }
        let fronts = self.fronts(None)?;
        one_of(fronts.iter().map(|front| holds(self, front))).unwrap_or(Some(false))
    }

    /// When a batch may start that may not start now, in every order.
    pub(super) fn batch_deadlines(&self) -> Vec<Option<i64>> {
        let fronts = self.fronts(None).filter(|_| self.may_start_one()).unwrap_or_default();
        let deadline = |front: &Front| {
            let filled = (!self.is_filled(front)).then(|| self.fills_until(front));
            let at = filled.max(Some(self.batch_ready_at(&front.requests)));
            at.filter(|at| *at > self.now)
        };
        let mut deadlines: Vec<_> = fronts.iter().map(deadline).collect();
        if deadlines.is_empty() {
            deadlines.push(None);
        }
        deadlines
    }

    /// Whether more orders are possible than are looked at.
    pub(crate) fn knows_no_front(&self) -> bool {
        self.setup.batch().is_some() && self.fronts(None).is_none()
    }

    fn is_due(&self, front: &Front) -> bool {
        self.is_filled(front) && self.batch_ready_at(&front.requests) <= self.now
    }

    /// B1, B2: it waits for no more records.
    fn is_filled(&self, front: &Front) -> bool {
        let controls = self.inside.iter().rposition(|element| !matches!(element, Element::Call(_)));
        let before = &self.inside[..controls.unwrap_or(0)];
        let is_cut_off = before.iter().any(|element| match element {
            Element::Call(call) => queued_since(call).is_some(),
            _ => false,
        });
        let waits_no_more = self.fills_until(front) <= self.now;
        front.is_full || is_cut_off || self.is_stuck() || waits_no_more
    }

    /// Until when it waits for others, from when on its first record waits.
    fn fills_until(&self, front: &Front) -> i64 {
        let is_first = |call: &&Call| call.request == front.requests[0];
        let first = self.calls().find(is_first).expect("it is in flight");
        first.since + nanos(self.size().within)
    }

    /// Whether no record is taken in before a batch has gone (B2).
    fn is_stuck(&self) -> bool {
        let has_room = self.backlog.is_empty() && self.in_flight() < self.capacity;
        let leaves = self.running() > 0 || self.has_output();
        self.ending != Ending::Open || !has_room && !leaves
    }

    fn size(&self) -> Size {
        self.setup.batch().expect("there are batches")
    }

    /// What could be the next batch, or those of them that begin like `like`. `None` if it could be very many.
    fn fronts(&self, like: Option<&[u64]>) -> Option<Vec<Front>> {
        let mut queue: Vec<_> = self.calls().filter(|call| queued_since(call).is_some()).collect();
        queue.sort_by_key(|call| queued_since(call));
        let empty = Front { requests: Vec::new(), weight: 0, is_full: false };
        let mut open = vec![empty];
        let mut fronts = Vec::new();
        while let Some(front) = open.pop() {
            let rest: Vec<_> =
                queue.iter().filter(|call| !front.requests.contains(&call.request)).collect();
            if front.is_full || rest.is_empty() {
                if !front.requests.is_empty() && !fronts.contains(&front) {
                    fronts.push(front);
                }
                continue;
            }
            let next = rest.iter().take_while(|call| queued_since(call) == queued_since(rest[0]));
            let chosen = like.and_then(|like| like.get(front.requests.len()));
            let next = next.map(|call| self.joined(&front, call));
            let is_chosen = |other: &Front| {
                other.requests.len() == front.requests.len()
                    || chosen.is_none_or(|chosen| other.requests.last() == Some(chosen))
            };
            open.extend(next.filter(is_chosen));
            if open.len() + fronts.len() > MANY {
                return None;
            }
        }
        Some(fronts)
    }

    /// The front with one more record, or full because that is too heavy.
    fn joined(&self, front: &Front, call: &Call) -> Front {
        let size = self.size();
        let mut front = front.clone();
        let weight = front.weight + weight_of(call.number);
        let numbers: Vec<_> = self
            .calls()
            .filter(|other| {
                front.requests.contains(&other.request) || other.request == call.request
            })
            .map(|other| other.number)
            .collect();
        if !front.requests.is_empty()
            && (weight > size.weight
                || self.buckets.iter().any(|bucket| bucket.is_too_small_for(&numbers)))
        {
            front.is_full = true;
            return front;
        }
        front.requests.push(call.request);
        front.weight = weight;
        front.is_full = front.requests.len() >= size.records || weight >= size.weight;
        front
    }
}

/// The batches that run.
impl Model {
    /// Requests that run: batches, if there are any (B4).
    pub(crate) fn running_requests(&self) -> usize {
        if self.setup.batch().is_some() { self.batches.len() } else { self.running() }
    }

    pub(crate) fn is_running_batch(&self, id: u64) -> bool {
        self.batches.iter().any(|batch| batch.id == id)
    }

    /// B3: the batch ends with these answers.
    pub(crate) fn complete_batch(
        &mut self,
        now: i64,
        id: Option<u64>,
        mut answers: Vec<Answer>,
    ) -> Completion {
        self.see(now);
        let running = self.running_requests();
        let Some(batch) = self.batches.iter_mut().find(|batch| Some(batch.id) == id) else {
            self.late += 1;
            return Completion::Late;
        };
        batch.is_ending = true;
        let Running { id, since, members, .. } = batch.clone();
        if answers.len() != members.len() {
            answers = vec![Err(Failure::WrongAnswers); members.len()];
        }
        // One that was refused for a single record has been refused (A1).
        let is_refused = |answer: &&Answer| {
            answer.as_ref().is_err_and(|failure| verdict(failure) == Verdict::Overloaded)
        };
        let answered = answers.iter().find(is_refused);
        let answered = answered.or_else(|| answers.iter().find(|answer| answer.is_ok()));
        let answered = answered.or(answers.last());
        let answered = *answered.expect("no batch is empty");
        self.observe(since, running, &answered);
        let mut completion = Completion::Retry;
        for (request, answer) in members.into_iter().zip(answers) {
            if !self.calls().any(|call| call.request == request && call.batch == Some(id)) {
                self.late += 1;
            } else if self.end_attempt(request, answer) == Completion::Outcome {
                completion = Completion::Outcome;
            }
        }
        self.batches.retain(|batch| batch.id != id);
        completion
    }

    /// A record leaves its batch, which is over with the last one of them (T3).
    pub(super) fn leave_batch(&mut self, request: u64, answer: &Answer) {
        let id = self.call(request).batch.take();
        let running = self.running_requests();
        let is_empty = !self.calls().any(|call| call.batch == id);
        let Some(at) = self.batches.iter().position(|batch| Some(batch.id) == id) else { return };
        if is_empty && !self.batches[at].is_ending {
            self.observe(self.batches[at].since, running, answer);
            self.batches.remove(at);
        }
    }
}

/// The event since which an attempt of this call may start.
fn queued_since(call: &Call) -> Option<u64> {
    match call.state {
        State::Waiting { since } => since,
        _ => None,
    }
}
