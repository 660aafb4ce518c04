//! The inputs and the outputs, and rules that hold between them independently of the model.

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

/// A control element, and the number of records that went in before it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mark {
    control: Control,
    records: usize,
    position: usize,
}

/// A point in the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    records: usize,
    marks: usize,
    frontier: i64,
    position: usize,
}

/// It includes the source's position, so that a copy of the ledger is the part of the world that a checkpoint keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    records_in: Vec<Passed>,
    marks_in: Vec<Mark>,
    records_out: Vec<Passed>,
    marks_out: Vec<Mark>,
    dropped: BTreeSet<u32>,
    late_drains: BTreeSet<u64>,
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

    /// An event time that many seconds after the highest watermark. No two watermarks are equal, because their
    /// milliseconds differ.
    pub(crate) fn time(&self, seconds: i64) -> i64 {
        (self.frontier.div_euclid(1000) + seconds) * 1000 + self.position as i64 % 1000
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
        let (records, position) = (self.records_in.len(), self.position);
        self.marks_in.push(Mark { control, records, position });
    }

    pub(crate) fn snapshot_barrier_in(&mut self) {
        self.position += 1;
    }

    /// Counts a record that left without an output.
    pub(crate) fn dropped(&mut self, number: u32) {
        self.dropped.insert(number);
    }

    /// O5: a record that was not late on its way in is not late on its way out.
    pub(crate) fn record_out(&mut self, record: Passed) -> Result<(), String> {
        let is_behind = |mark: &Mark| match (mark.control, record.timestamp) {
            (Control::Watermark(watermark), Some(timestamp)) => watermark >= timestamp,
            _ => false,
        };
        let number = record.number;
        let was_late =
            self.marks_in.iter().any(|mark| is_behind(mark) && mark.records <= number as usize);
        if !was_late && self.marks_out.iter().any(is_behind) {
            return Err(format!("record {number} has become late"));
        }
        self.records_out.push(record);
        Ok(())
    }

    /// O1, O2: when a control element comes out, everything before it is out, and nothing after it.
    pub(crate) fn control_out(&mut self, control: Control) -> Result<(), String> {
        let out: BTreeSet<u32> = self.records_out.iter().map(|record| record.number).collect();
        let fits = |mark: &&Mark| {
            let before = 0..mark.records as u32;
            mark.control == control
                && out.iter().all(|number| before.contains(number))
                && before.clone().all(|n| out.contains(&n) || self.dropped.contains(&n))
        };
        let last = self.marks_out.last().map_or(0, |mark| mark.position);
        let is_next = |mark: &&Mark| mark.position > last;
        let Some(mark) = self.marks_in.iter().filter(is_next).find(fits) else {
            return Err(format!("{control:?} came out where it did not go in, after {out:?}"));
        };
        self.marks_out.push(*mark);
        Ok(())
    }

    /// K3: a drain barrier whose time limit has passed overtakes.
    pub(crate) fn late_drain_out(&mut self, id: u64) {
        self.late_drains.insert(id);
    }

    /// The state that a checkpoint keeps: barriers inside belong to checkpoints of their own, and dropped records
    /// that will be called again count as not dropped.
    pub(crate) fn kept(&self, called_again: &[u32]) -> Self {
        let mut kept = self.clone();
        kept.dropped.retain(|number| !called_again.contains(number));
        let is_out = |mark: &Mark| self.marks_out.contains(mark);
        kept.marks_in.retain(|mark| !matches!(mark.control, Control::Drain(_)) || is_out(mark));
        kept
    }

    /// The source's position.
    pub(crate) fn point(&self) -> Point {
        let (records, marks) = (self.records_in.len(), self.marks_in.len());
        Point { records, marks, frontier: self.frontier, position: self.position }
    }

    /// The state that a drained checkpoint keeps: as if nothing had gone in after the barrier.
    pub(crate) fn rewound(&self, point: Point) -> Self {
        let mut kept = self.clone();
        kept.records_in.truncate(point.records);
        kept.marks_in.truncate(point.marks);
        kept.dropped.retain(|number| (*number as usize) < point.records);
        kept.frontier = point.frontier;
        kept.position = point.position;
        kept
    }

    /// Checks the rules that hold at any time, and with `complete` also those that hold at the end.
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

    /// C3: only watermarks may be missing among the control elements, and only next to another one that is not lower.
    fn check_controls(&self) -> Result<(), String> {
        for (at, mark) in self.marks_in.iter().enumerate() {
            if self.marks_out.contains(mark) {
                continue;
            }
            let Control::Watermark(merged) = mark.control else {
                if matches!(mark.control, Control::Drain(id) if self.late_drains.contains(&id)) {
                    continue;
                }
                return Err(format!("{mark:?} never came out"));
            };
            let is_later = |other: &&Mark| {
                matches!(other.control, Control::Watermark(w) if w >= merged)
                    && other.records == mark.records
            };
            let beside = self.marks_in[..at].iter().rev().chain(&self.marks_in[at + 1..]);
            if !beside.filter(|other| self.marks_out.contains(other)).any(|other| is_later(&other))
            {
                return Err(format!(
                    "{mark:?} never came out, nor a watermark that it was merged into"
                ));
            }
        }
        Ok(())
    }
}
