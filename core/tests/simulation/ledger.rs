//! What went in and what came out, and what must hold of the two whatever the model says.

use std::collections::BTreeSet;

use crate::model::Control;
use crate::script::is_by_key;
use crate::setup::Order;

/// Records are numbered as they are taken in, from 0, without gaps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Passed {
    pub(crate) number: u32,
    pub(crate) key: u32,
    pub(crate) timestamp: Option<i64>,
}

/// A control element, and how many records went in before it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark {
    control: Control,
    records: usize,
}

/// The source's position is part of it, so that a copy is what a checkpoint keeps of the world
/// around the operator.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    records_in: Vec<Passed>,
    marks_in: Vec<Mark>,
    records_out: Vec<Passed>,
    marks_out: Vec<Mark>,
    dropped: BTreeSet<u32>,
    /// The highest watermark that went in.
    frontier: i64,
    /// Elements of any kind that were taken in.
    pub(crate) position: usize,
}

impl Ledger {
    /// The number of the next record.
    pub(crate) fn next(&self) -> u32 {
        self.records_in.len() as u32
    }

    pub(crate) fn frontier(&self) -> i64 {
        self.frontier
    }

    pub(crate) fn record_in(&mut self, record: Passed) {
        self.position += 1;
        self.records_in.push(record);
    }

    pub(crate) fn control_in(&mut self, control: Control) {
        self.position += 1;
        if let Control::Watermark(mark) = control {
            self.frontier = self.frontier.max(mark);
        }
        self.marks_in.push(Mark { control, records: self.records_in.len() });
    }

    pub(crate) fn snapshot_barrier_in(&mut self) {
        self.position += 1;
    }

    /// A record left without an output.
    pub(crate) fn dropped(&mut self, number: u32) {
        self.dropped.insert(number);
    }

    pub(crate) fn record_out(&mut self, record: Passed) {
        self.records_out.push(record);
    }

    /// O1, O2: everything before it is out, and nothing else.
    pub(crate) fn control_out(&mut self, control: Control) -> Result<(), String> {
        let out: BTreeSet<u32> = self.records_out.iter().map(|record| record.number).collect();
        let fits = |mark: &&Mark| {
            let before = 0..mark.records as u32;
            mark.control == control
                && out.iter().all(|number| before.contains(number))
                && before.clone().all(|n| out.contains(&n) || self.dropped.contains(&n))
        };
        let Some(mark) = self.marks_in.iter().find(fits) else {
            return Err(format!("{control:?} came out where it did not go in, after {out:?}"));
        };
        self.marks_out.push(*mark);
        Ok(())
    }

    /// What a checkpoint keeps: barriers inside belong to checkpoints of their own.
    pub(crate) fn without_barriers_inside(&self) -> Self {
        let mut kept = self.clone();
        let is_out = |mark: &Mark| self.marks_out.contains(mark);
        kept.marks_in.retain(|mark| !matches!(mark.control, Control::Drain(_)) || is_out(mark));
        kept
    }

    /// What holds at any time, and with `complete` also what holds at the end.
    pub(crate) fn check(&self, order: Order, complete: bool) -> Result<(), String> {
        let mut out = BTreeSet::new();
        for record in &self.records_out {
            if !out.insert(record.number) || self.dropped.contains(&record.number) {
                return Err(format!("record {} came out twice", record.number));
            }
            if self.records_in.get(record.number as usize) != Some(record) {
                return Err(format!("record {} came out changed", record.number));
            }
        }
        self.check_order(order)?;
        self.check_event_time()?;
        if complete {
            let missing = |n: &u32| !out.contains(n) && !self.dropped.contains(n);
            if let Some(number) = (0..self.next()).find(missing) {
                return Err(format!("record {number} never came out"));
            }
            self.check_controls()?;
        }
        Ok(())
    }

    fn check_order(&self, order: Order) -> Result<(), String> {
        for (at, record) in self.records_out.iter().enumerate() {
            let bound = |earlier: &&Passed| {
                order == Order::Ordered || (is_by_key(order) && earlier.key == record.key)
            };
            let mut earlier = self.records_out[..at].iter().filter(bound);
            if let Some(other) = earlier.find(|other| other.number > record.number) {
                return Err(format!("record {} overtook {}", other.number, record.number));
            }
        }
        Ok(())
    }

    /// O5: what was in time on the way in is so on the way out.
    fn check_event_time(&self) -> Result<(), String> {
        let behind = |marks: &[Mark], timestamp: i64| {
            marks.iter().any(|mark| matches!(mark.control, Control::Watermark(w) if w >= timestamp))
        };
        // Where a mark stands in the output: behind all records but those after it in the input, as
        // `control_out` has seen to.
        for record in &self.records_out {
            let Some(timestamp) = record.timestamp else { continue };
            let before = |marks: &[Mark]| -> Vec<Mark> {
                let before = |mark: &&Mark| mark.records <= record.number as usize;
                marks.iter().filter(before).copied().collect()
            };
            let late_in = behind(&before(&self.marks_in), timestamp);
            if !late_in && behind(&before(&self.marks_out), timestamp) {
                return Err(format!("record {} came late", record.number));
            }
        }
        Ok(())
    }

    /// C3: of the control elements only watermarks are missing, and only beside another one that
    /// is not lower.
    fn check_controls(&self) -> Result<(), String> {
        let mut out = self.marks_out.iter().peekable();
        for (at, mark) in self.marks_in.iter().enumerate() {
            if out.next_if(|next| *next == mark).is_some() {
                continue;
            }
            let Control::Watermark(merged) = mark.control else {
                return Err(format!("{mark:?} never came out"));
            };
            let is_later = |other: &&Mark| {
                matches!(other.control, Control::Watermark(w) if w >= merged)
                    && other.records == mark.records
            };
            let beside = self.marks_in[..at].iter().rev().chain(&self.marks_in[at + 1..]);
            if !beside.filter(|other| self.marks_out.contains(other)).any(|other| is_later(&other))
            {
                return Err(format!("{mark:?} never came out, nor what it was merged into"));
            }
        }
        match out.next() {
            None => Ok(()),
            Some(mark) => Err(format!("{mark:?} came out of order")),
        }
    }
}
