//! Checks a stage's outputs against its plan, one after the other.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use inflight::Order;
use inflight::prelude::*;

use super::plan::{Ask, Habit, KEYS, Late};
use super::service::Refused;
use super::source::{Control, Record};
use super::tally::Tally;
use super::whole::{Done, Whole};

/// The judge of one stream, which sees one element after the other.
pub struct Judge {
    tally: Arc<Tally>,
    /// The control elements, each with the number of records before it.
    controls: Vec<(u32, Control)>,
    /// The number of control elements that have come.
    passed: usize,
    came: Vec<bool>,
    records: u32,
    last: Option<u32>,
    last_of_key: [Option<u32>; KEYS],
    watermark: Timestamp,
}

impl Judge {
    pub fn new(tally: &Arc<Tally>, controls: Vec<(u32, Control)>) -> Self {
        Self {
            controls,
            passed: 0,
            came: vec![false; tally.plan.records as usize],
            records: 0,
            last: None,
            last_of_key: [None; KEYS],
            watermark: Timestamp::MIN,
            tally: Arc::clone(tally),
        }
    }

    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// The number of records that have come.
    pub fn records(&self) -> u32 {
        self.records
    }

    pub fn see(&mut self, element: StreamElement<Done>) {
        match element {
            StreamElement::Record { value, timestamp } => self.see_record(&value, timestamp),
            StreamElement::Watermark(at) => {
                self.watermark = self.watermark.max(at);
                self.see_control(Control::Watermark(at));
            }
            StreamElement::Status(status) => self.see_control(Control::Status(status)),
            StreamElement::Barrier(_) => self.tally.wrong("E1: a barrier from nowhere"),
        }
    }

    fn see_record(&mut self, done: &Done, timestamp: Option<Timestamp>) {
        let Record { number, key, .. } = done.input;
        if std::mem::replace(&mut self.came[number as usize], true) {
            self.tally.wrong(format!("E2: record {number} came twice"));
        }
        self.records += 1;
        self.tally.received.fetch_add(1, SeqCst);
        if timestamp != done.input.timestamp {
            self.tally.wrong(format!("E2: record {number} came with the time {timestamp:?}"));
        }
        let next = self.last.map_or(0, |last| last + 1);
        let is_next = number == next || self.tally.plan.may_drop_records() && number > next;
        if self.tally.plan.order == Order::Ordered && !is_next {
            self.tally.wrong(format!("O1: record {number} after {:?}", self.last));
        }
        self.last = Some(number);
        let before = self.last_of_key[key as usize].replace(number);
        if self.tally.plan.order != Order::Unordered && before > Some(number) {
            self.tally.wrong(format!("O3: record {number} after {before:?}, both of key {key}"));
        }
        self.check_place(number, timestamp);
        self.check_result(done);
    }

    /// O2: no record crosses a control element. O5: none is late.
    fn check_place(&self, number: u32, timestamp: Option<Timestamp>) {
        let after = self.passed.checked_sub(1).map_or(0, |last| self.controls[last].0);
        let before = self.controls.get(self.passed).map_or(u32::MAX, |next| next.0);
        if !(after..before).contains(&number) {
            self.tally.wrong(format!("O2: record {number} came between {after} and {before}"));
        }
        if timestamp.is_some_and(|at| at <= self.watermark) {
            let watermark = self.watermark;
            self.tally.wrong(format!("O5: record {number} of {timestamp:?} after {watermark:?}"));
        }
    }

    /// E3, C3: a control element keeps its place; only adjacent watermarks may have merged.
    fn see_control(&mut self, control: Control) {
        let Some((place, _)) = self.controls.get(self.passed).copied() else {
            return self.tally.wrong(format!("E3: {control:?} at the end"));
        };
        let rest = &self.controls[self.passed..];
        let mergeable =
            |at: &&(u32, Control)| at.0 == place && matches!(at.1, Control::Watermark(_));
        let run = rest.iter().take_while(mergeable).count().max(1);
        match rest[..run].iter().position(|(_, expected)| *expected == control) {
            Some(at) => self.passed += at + 1,
            None => self.tally.wrong(format!("E3: {control:?} instead of {:?}", rest[0])),
        }
        let is_all = self.records == place;
        let is_rest_dropped = self.records < place && self.tally.plan.may_drop_records();
        if !is_all && !is_rest_dropped {
            let records = self.records;
            self.tally.wrong(format!("O2: {control:?} after {records} records, not {place}"));
        }
    }

    /// F1, F3, R4: the outcome is that of the record's last attempt.
    fn check_result(&self, done: &Done) {
        let (plan, number) = (&self.tally.plan, done.input.number);
        let fails = done.input.fails;
        let panics = done.input.ask == Ask::Panic && plan.contains_panics();
        let is_right = match &done.result {
            Ok(answer) if answer.is_late => {
                plan.late == Late::HasAnother && plan.is_impatient() && answer.number == number
            }
            Ok(answer) => answer.number == number && fails <= plan.retries && !panics,
            Err(Failure::Error(Refused(of))) => *of == number && fails > plan.retries && !panics,
            Err(Failure::Panicked) => panics,
            Err(Failure::TimedOut) => plan.is_impatient() && plan.late == Late::Fails,
            Err(Failure::AttemptTimedOut) => plan.attempt_timeout.is_some(),
            Err(Failure::ShutDown) => plan.may_shut_down(),
            Err(Failure::Cancelled | Failure::WrongAnswers) => false,
        };
        let made = self.tally.attempts_of(number);
        let expected = if panics { 1 } else { fails.min(plan.retries) + 1 };
        let may_be_cut_short = plan.is_impatient() || plan.may_shut_down();
        let is_counted = done.attempts == made && (made == expected || may_be_cut_short);
        if !is_right || !is_counted {
            self.tally.wrong(format!("F1: {made} attempts made, {expected} expected: {done:?}"));
        }
    }

    /// E2, M1, L4: at the end of the stream all records are out, and counted.
    pub fn see_end(&self, stage: &dyn Whole) {
        let tally = &self.tally;
        if stage.end() != Some(Ok(())) {
            tally.wrong(format!("L3: it ended as {:?}", stage.end()));
        }
        let (pulled, numbers) = (tally.pulled.load(SeqCst), stage.metrics());
        let is_stopped = matches!(tally.plan.habit, Habit::Stops { .. });
        if !is_stopped && (pulled < tally.plan.records || self.passed < self.controls.len()) {
            tally.wrong(format!("E2: only {pulled} records and {} controls", self.passed));
        }
        let dropped = pulled - self.records.min(pulled);
        if self.records > pulled || dropped > 0 && !tally.plan.may_drop_records() {
            tally.wrong(format!("E2: {pulled} records came in, {} came out", self.records));
        }
        let counted = [numbers.records_in, numbers.emitted, numbers.dropped, numbers.in_flight];
        if counted != [pulled, self.records, dropped, 0].map(u64::from) {
            tally.wrong(format!("M1: {pulled} in, {} out: {numbers:?}", self.records));
        }
        let opened_and_closed = [&tally.opened, &tally.closed].map(|times| times.load(SeqCst));
        let instances = tally.plan.instances() as u32;
        let is_right = match opened_and_closed {
            [opened, closed] if closed == instances && opened < instances => {
                tally.plan.may_shut_down() // before the function was open
            }
            times => times == [instances; 2],
        };
        if !is_right {
            tally.wrong(format!("L4: opened and closed {opened_and_closed:?} times"));
        }
    }
}
