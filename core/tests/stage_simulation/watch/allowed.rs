//! The things that a stage may do next, by the contract. When it does them, within a poll, is its own affair.
//!
//! The stage notices some things silently: that a backoff is over, that there is room for what a restore brought, that a
//! dropped record may leave. The model does these when something that can be seen depends on them. Two calls that began to
//! wait for their invocation silently, or one that did and another, have an order only if the stage was at rest between.

use inflight_core::Failure;

use super::Inner;
use crate::model::{
    Call, Control, Element, Expired, Model, Output, Overtaking, Started, State, add, failures,
    outcome,
};
use crate::setup::Order;

/// Events are counted in the low bits; the high bits count how often the stage was at rest.
const EVENTS: u32 = 32;

/// What has left of what could.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum HandedOut {
    /// What was seen to be taken.
    Taken,
    /// Perhaps everything: a task hands over more than its consumer has taken.
    All,
}

/// Whether a call that began to wait at the event `one` has waited longer than another one (C7). One that began silently may
/// have done so one rest earlier: its backoff was over, and nobody looked.
const fn is_before(one: u64, other: u64) -> bool {
    let slack = if other as u32 == 0 { 1 } else { 0 };
    let is_silent = one as u32 == 0 || other as u32 == 0;
    (one >> EVENTS) + slack < other >> EVENTS || (!is_silent && one < other)
}

impl Model {
    /// Everything that the stage could notice it has noticed.
    pub(crate) fn rest(&mut self) {
        self.events = ((self.events >> EVENTS) + 1) << EVENTS;
    }

    /// What happens in `silently` has no order among what else happens before the next rest.
    fn silently(&mut self, silently: impl FnOnce(&mut Self)) {
        self.moment = Some(self.events >> EVENTS << EVENTS);
        silently(self);
        self.moment = None;
    }

    /// Backoffs end by the clock (T6): those for which this holds.
    pub(crate) fn end_backoffs(&mut self, now: i64, is_over: impl Fn(&Call, i64) -> bool) {
        self.see(now);
        self.silently(|model| {
            for call in model.calls_mut() {
                if matches!(call.state, State::Backoff(end) if is_over(call, end)) {
                    call.wait_again(now);
                }
            }
            model.settle();
        });
    }

    /// Elements that leave without an outcome leave (L1), and restored elements have slots as far as there is room (K5).
    pub(crate) fn give_slots(&mut self, now: i64, forgets: Option<HandedOut>) {
        self.see(now);
        if let Some(handed_out) = forgets.filter(|_| self.inside.iter().any(Element::is_nothing)) {
            let leaving = self.leaving(handed_out);
            // The position of a barrier divides the outputs before it from those after it, until it has been taken.
            let has_come_out = self.leaving(HandedOut::Taken);
            self.retain(|at, element| match element {
                Element::Gone => !has_come_out[at],
                element => !(leaving[at] && element.is_nothing()),
            });
        }
        if self.has_backlog() {
            self.silently(Self::admit);
        }
    }

    fn retain(&mut self, keeps: impl Fn(usize, &Element) -> bool) {
        let mut at = 0..;
        self.inside.retain(|element| keeps(at.next().unwrap_or(0), element));
        self.settle();
    }

    /// O1, O2, O3, O4: which elements could leave now, or have left.
    fn leaving(&self, handed_out: HandedOut) -> Vec<bool> {
        // Something stays before the last control element; keys of calls that stay since then.
        let (mut stays, mut keys) = (false, Vec::new());
        let leaves = |element: &Element| {
            let (leaves, key) = match element {
                Element::Call(call) => {
                    let waits = match self.setup.order {
                        Order::Ordered => !keys.is_empty(),
                        Order::Unordered => false,
                        Order::KeyAlone | Order::KeyOverlapping => keys.contains(&call.key),
                    };
                    let is_done = matches!(call.state, State::Done { .. });
                    (is_done && !stays && !waits, Some(call.key))
                }
                _ => {
                    stays |= !keys.is_empty();
                    keys.clear();
                    (!stays, None)
                }
            };
            let has_left = leaves && handed_out == HandedOut::All;
            match key {
                _ if has_left || element.is_nothing() => {}
                Some(key) => keys.push(key),
                None => stays = true,
            }
            leaves
        };
        self.inside.iter().map(leaves).collect()
    }

    /// Of what could leave next, the first for which this holds.
    fn first_that(&self, holds: impl Fn(&Self, usize) -> bool) -> Option<usize> {
        let leaving = self.leaving(HandedOut::Taken);
        (0..self.inside.len()).find(|at| leaving[*at] && holds(self, *at))
    }

    /// Whether something could be handed out that is not on its way past everything.
    pub(crate) fn could_hand_out(&self) -> bool {
        self.first_that(|model, at| !model.inside[at].is_nothing()).is_some()
    }

    /// Records that count against the capacity: a dropped one that could leave may have left (L1).
    pub(crate) fn records(&self, handed_out: HandedOut) -> usize {
        let is_dropped = self.inside.iter().any(Element::is_nothing);
        self.in_flight() - if is_dropped { self.dropped(handed_out).count() } else { 0 }
    }

    fn dropped(&self, handed_out: HandedOut) -> impl Iterator<Item = &Call> {
        let leaving = self.leaving(handed_out).into_iter();
        let dropped =
            leaving.zip(&self.inside).filter(|(leaves, element)| *leaves && element.is_nothing());
        dropped.filter_map(|(_, element)| match element {
            Element::Call(call) => Some(call),
            _ => None,
        })
    }

    /// Control elements inside, but for the positions of barriers that have failed.
    pub(crate) fn marks(&self) -> usize {
        let is_gone = |element: &&Element| matches!(element, Element::Gone);
        self.controls() - self.inside.iter().filter(is_gone).count()
    }

    /// Dropped records that may have left or not, those first that leave first.
    pub(crate) fn perhaps_left(&self, handed_out: HandedOut) -> Vec<u32> {
        let mut dropped: Vec<_> =
            self.dropped(handed_out).map(|call| (since(call), call.number)).collect();
        if self.setup.order != Order::Ordered {
            dropped.sort_unstable();
        }
        dropped.into_iter().map(|(_, number)| number).collect()
    }

    /// The records that leave when everything is handed out that could be, and what is inside then.
    pub(crate) fn handed_out(&self) -> (Vec<u32>, Self) {
        let (mut rest, leaving) = (self.clone(), self.leaving(HandedOut::All));
        rest.retain(|at, _| !leaving[at]);
        let left = leaving
            .iter()
            .zip(&self.inside)
            .filter(|(leaves, element)| **leaves && !element.is_nothing());
        let numbers = left.filter_map(|(_, element)| match element {
            Element::Call(call) => Some(call.number),
            _ => None,
        });
        (numbers.collect(), rest)
    }

    /// Nothing is inside but what leaves without a word.
    pub(crate) fn is_through(&self) -> bool {
        !self.has_backlog() && self.inside.iter().all(Element::is_nothing)
    }

    pub(crate) fn has_slot(&self, request: u64) -> bool {
        self.calls().any(|call| call.request == request)
    }

    /// An attempt starts that may: C7, O3, R3, T4.
    pub(crate) fn start(&mut self, request: u64, limit: Option<usize>) -> Result<Started, String> {
        let call = self.calls().find(|call| call.request == request);
        let call = call.ok_or(format!("request {request} is started and has no slot (C5)"))?;
        let State::Waiting { since: Some(since) } = call.state else {
            return Err(format!("request {request} may not start yet: {call:?}"));
        };
        if self.is_paused() {
            return Err(format!("request {request} is started in a pause (A2)"));
        }
        let ready_at = self.ready_at(request);
        if ready_at > self.now {
            return Err(format!(
                "request {request} is started before {ready_at}, by the rate (A2)"
            ));
        }
        if limit.is_some_and(|limit| self.running() >= limit) {
            return Err(format!(
                "request {request} is started beside {} others (C7)",
                self.running()
            ));
        }
        let has_waited_longer = |other: &&Call| match other.state {
            State::Waiting { since: Some(other) } => is_before(other, since),
            _ => false,
        };
        if let Some(other) = self.calls().find(has_waited_longer) {
            return Err(format!(
                "request {request} is started, and {} has waited longer (C7)",
                other.request
            ));
        }
        Ok(self.begin_attempt(request))
    }

    /// Whether an attempt could start, and a timer has rung for it.
    pub(crate) fn has_startable(
        &self,
        limit: Option<usize>,
        has_rung: impl Fn(i64) -> bool,
    ) -> bool {
        let may_start = !self.is_paused() && limit.is_none_or(|limit| self.running() < limit);
        may_start && has_rung(self.pause_ended()) && self.all_ready_at().is_some_and(has_rung)
    }

    /// From when on the rates allow an attempt, whichever is the next.
    fn all_ready_at(&self) -> Option<i64> {
        let since = |call: &Call| match call.state {
            State::Waiting { since } => since,
            _ => None,
        };
        let is_next = |call: &&Call| {
            let before = |own| self.calls().filter_map(since).any(|other| is_before(other, own));
            since(call).is_some_and(|own| !before(own))
        };
        self.calls().filter(is_next).map(|call| self.ready_at(call.request)).max()
    }

    /// When an attempt may start that may not start now.
    fn start_deadline(&self, limit: Option<usize>) -> Option<i64> {
        let could = limit.is_none_or(|limit| self.running() < limit);
        match self.paused_until() {
            None if self.is_paused() || !could => None,
            None => self.all_ready_at().filter(|at| *at > self.now),
            // It matters to what is inside.
            until => until.filter(|_| !self.is_through()),
        }
    }

    /// An attempt, or a call, is over because time is: T1, T2, T4. One that runs is judged when the runtime has delivered
    /// what had come by its deadline (T6).
    pub(crate) fn expire(&mut self, request: u64) -> Result<Expired, String> {
        let call = self.calls().find(|call| call.request == request);
        let call = call.ok_or(format!("request {request} times out and is not in flight"))?;
        let is_over = call.deadline.is_some_and(|deadline| deadline <= self.now);
        let due = match call.state {
            State::Running { deadline } => {
                let first = [deadline, call.deadline].into_iter().flatten().min();
                first.is_some_and(|first| first <= self.now.min(self.delivered))
            }
            State::Backoff(end) => {
                call.deadline.is_some_and(|deadline| deadline <= self.now.min(end))
            }
            State::Waiting { .. } | State::Done { .. } => false, // a call that waits to run takes no time
        };
        if !due {
            let (now, delivered) = (self.now, self.delivered);
            return Err(format!(
                "request {request} times out at {now}, delivered is what had come until {delivered} (T6, T8): {call:?}"
            ));
        }
        if is_over {
            if matches!(self.call(request).state, State::Running { .. }) {
                self.heed(&Err(Failure::TimedOut));
            }
            self.call(request).has_timed_out = true;
            self.end_call(request, Some(Err(Failure::TimedOut)));
            return Ok(Expired::Call { request });
        }
        let _ = self.end_attempt(request, Err(Failure::AttemptTimedOut));
        Ok(Expired::Attempt { request })
    }

    /// The earliest instant at which time does something: with the limits of drains, unless a barrier that is on its way
    /// out holds them up. Of a backoff that is over the stage may have taken notice.
    pub(crate) fn next_deadline(
        &self,
        drains: bool,
        now: i64,
        running: Option<usize>,
    ) -> Option<i64> {
        let limit = |element: &Element| match element {
            Element::Drain { limit, .. } if drains => *limit,
            _ => None,
        };
        let of_call = |call: &Call| {
            let own = match call.state {
                State::Running { deadline } => deadline,
                // The stage may have noticed its end already. Then the call's time stands still until its attempt starts (C5).
                State::Backoff(end) if end <= now => return [None, None],
                State::Backoff(end) => Some(end),
                State::Waiting { .. } | State::Done { .. } => None,
            };
            [own, call.deadline]
        };
        let limits = self.inside.iter().filter_map(limit);
        let start = self.start_deadline(running);
        self.calls().flat_map(of_call).flatten().chain(limits).chain(start).min()
    }

    /// Attempts that run and are due by what was delivered (T6).
    pub(crate) fn due(&self, now: i64) -> Vec<(u64, u32)> {
        let until = now.min(self.delivered);
        let is_due = |call: &&Call| match call.state {
            State::Running { deadline } => {
                [deadline, call.deadline].into_iter().flatten().any(|deadline| deadline <= until)
            }
            _ => false,
        };
        self.calls().filter(is_due).map(|call| (call.request, call.attempts)).collect()
    }

    /// The first drain barrier for which this holds, given its id and limit, goes ahead (K3).
    pub(crate) fn lets_ahead(&mut self, holds: impl Fn(u64, i64) -> bool) -> Option<u64> {
        self.inside.iter_mut().find_map(|element| match *element {
            Element::Drain { id, limit: Some(limit) } if holds(id, limit) => {
                *element = Element::Gone;
                Some(id)
            }
            _ => None,
        })
    }

    /// An element leaves in its order, while `barrier` overtakes all of them: that came after so many events.
    fn leave(&mut self, output: &Output, barrier: Option<u64>) -> Result<(), String> {
        let is_it = |element: &Element| match (element, output) {
            (Element::Control(own), Output::Control(control)) => own == control,
            (Element::Drain { id, .. }, Output::Control(Control::Drain(other))) => id == other,
            (Element::Call(call), Output::Outcome { number, .. }) => call.number == *number,
            _ => false,
        };
        let at =
            self.first_that(|model, at| is_it(&model.inside[at]) && !model.inside[at].is_nothing());
        let Some(at) = at else {
            let inside = &self.inside;
            return Err(format!("{output:?} may not leave yet (O1-O4): {inside:?}"));
        };
        let mut is_gone = vec![false; self.inside.len()];
        is_gone[at] = true;
        if let Element::Call(call) = &self.inside[at] {
            if self.setup.order == Order::Unordered {
                self.is_first_done(at)?;
            }
            let is_late = |barrier| !self.is_by_key() && since(call) > Some(barrier);
            if barrier.is_some_and(is_late) {
                return Err(format!("{output:?} leaves before a barrier that goes ahead (K3)"));
            }
            let (counts, expected) = (failures(call), outcome(call.clone()));
            if expected.as_ref() != Some(output) {
                return Err(format!("taken\n    stage: {output:?}\n    model: {expected:?}"));
            }
            self.failures_out = add(self.failures_out, counts);
        }
        // What leaves without a word and must leave before this has left before it.
        let (own, key) = (turn_of(&self.inside[at]), self.inside[at].key());
        for (other, leaves) in self.leaving(HandedOut::Taken).into_iter().enumerate() {
            let element = &self.inside[other];
            let is_earlier = match (self.setup.order, key, element.key()) {
                (Order::Ordered, _, _) | (_, None, _) | (_, _, None) => other < at,
                (Order::Unordered, _, _) => turn_of(element) < own,
                (_, own, key) => other < at && own == key,
            };
            is_gone[other] |= leaves && element.is_nothing() && is_earlier;
        }
        self.retain(|at, _| !is_gone[at]);
        Ok(())
    }

    fn is_by_key(&self) -> bool {
        matches!(self.setup.order, Order::KeyAlone | Order::KeyOverlapping)
    }

    /// O2: outcomes come out as they come. (By key, who comes first of several keys is looked at in the operator's simulation.)
    fn is_first_done(&self, at: usize) -> Result<(), String> {
        let own = turn_of(&self.inside[at]);
        let is_first = |model: &Self, other: usize| {
            let other = &model.inside[other];
            let is_before = turn_of(other).zip(own).is_some_and(|(other, own)| other < own);
            is_before && !other.is_nothing()
        };
        match self.first_that(is_first) {
            Some(other) => {
                Err(format!("{:?} was ready before {:?} (O2)", self.inside[other], self.inside[at]))
            }
            None => Ok(()),
        }
    }
}

/// Whether a backoff that ends at `end` is over, and not the call's own time (T4).
pub(crate) fn is_over(call: &Call, end: i64, now: i64) -> bool {
    end <= now && call.deadline.is_none_or(|deadline| deadline > end)
}

/// When a call became ready to leave.
fn since(call: &Call) -> Option<u64> {
    match call.state {
        State::Done { since, .. } => since,
        _ => None,
    }
}

fn turn_of(element: &Element) -> Option<u64> {
    match element {
        Element::Call(call) => since(call),
        _ => None,
    }
}

impl Element {
    fn key(&self) -> Option<u32> {
        match self {
            Self::Call(call) => Some(call.key),
            _ => None,
        }
    }

    /// Whether it leaves without a word.
    fn is_nothing(&self) -> bool {
        matches!(
            self,
            Self::Gone | Self::Call(Call { state: State::Done { answer: None, .. }, .. })
        )
    }
}

impl Inner {
    /// Whatever leaves the stage is seen at once, and not only when the consumer takes it.
    pub(crate) fn is_exact(&self) -> bool {
        !self.plan.mode.has_task()
    }

    pub(crate) fn may_be_out(&self) -> HandedOut {
        if self.is_exact() { HandedOut::Taken } else { HandedOut::All }
    }

    /// Something comes out.
    pub(crate) fn comes_out(&mut self, output: &Output) -> Result<(), String> {
        self.give_slots();
        let output = &self.shut_down_for(output);
        if let Output::Overtaking(overtaking) = *output {
            return self.goes_ahead(overtaking);
        }
        let barrier = self.overtaking.front().map(|(_, event)| *event);
        if self.is_exact() && barrier.is_some() {
            return Err(format!("{output:?} comes out before {:?} (K3)", self.overtaking));
        }
        self.model.leave(output, barrier)
    }

    /// A call that was shut down without anything else to be seen of it: then as its outcome comes out, as of some instant
    /// since the time to stop was over.
    fn shut_down_for(&mut self, output: &Output) -> Output {
        let Output::Outcome { answer: Err(Failure::ShutDown), elapsed, .. } = *output else {
            return *output;
        };
        if self.may_shut_down() {
            self.shut_down();
        }
        let late = self.shut_down_since.map_or(0, |since| self.now() - since);
        self.model
            .expected_elapsed(output)
            .filter(|expected| (expected - late..=*expected).contains(&elapsed))
            .map_or(*output, |expected| {
                let mut output = *output;
                if let Output::Outcome { elapsed, .. } = &mut output {
                    *elapsed = expected;
                }
                output
            })
    }

    /// A barrier overtakes: one that holds a snapshot, or one whose time is over (K3).
    fn goes_ahead(&mut self, overtaking: Overtaking) -> Result<(), String> {
        if self.overtaking.front().is_some_and(|first| first.0 == overtaking) {
            self.overtaking.pop_front();
            return Ok(());
        }
        let until = self.now().min(self.model.delivered);
        // Of several whose time is over any may be the first.
        let is_snapshot = |first: &(Overtaking, u64)| matches!(first.0, Overtaking::Snapshot(_));
        let is_alone = !self.is_exact() || !self.overtaking.front().is_some_and(is_snapshot);
        let is_it = |id, limit| Overtaking::FailedDrain(id) == overtaking && limit <= until;
        match self.model.lets_ahead(is_it) {
            Some(_) if is_alone => Ok(()),
            _ => Err(format!("{overtaking:?} goes ahead (K3): {:?}", self.overtaking)),
        }
    }
}

impl Model {
    fn expected_elapsed(&self, output: &Output) -> Option<i64> {
        let Output::Outcome { number, .. } = output else { return None };
        let call = self.calls().find(|call| call.number == *number)?;
        match call.state {
            State::Done { elapsed, .. } => Some(elapsed),
            _ => None,
        }
    }
}
