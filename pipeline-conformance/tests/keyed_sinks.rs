//! Idempotent sinks, whose rows replace each other by key: they may do nothing but write, and not less than that.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use inflight_core::pipeline::TransactionalSink;
use inflight_core::{CheckpointId, Timestamp};
use inflight_pipeline_conformance::sink::{
    Capabilities, Check, Medium, Report, Violation, Visible,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    /// Rows wait in memory for the commit.
    KeepsRowsInMemory,
    RemovesCommittedRows,
    /// Rows have no key.
    Appends,
}

type Rows = Rc<RefCell<Vec<u64>>>;

struct Table {
    rows: Rows,
    waiting: Vec<u64>,
    mistake: Mistake,
}

impl Table {
    fn put(&self, row: u64) {
        let mut rows = self.rows.borrow_mut();
        if self.mistake == Mistake::Appends || !rows.contains(&row) {
            rows.push(row);
        }
    }
}

impl TransactionalSink<u64> for Table {
    type Prepared = ();
    type Error = Infallible;

    async fn write(&mut self, row: u64, _: Option<Timestamp>) -> Result<(), Infallible> {
        match self.mistake {
            Mistake::KeepsRowsInMemory => self.waiting.push(row),
            _ => self.put(row),
        }
        Ok(())
    }

    async fn pre_commit(&mut self, _: CheckpointId) -> Result<(), Infallible> {
        Ok(())
    }

    async fn commit(&mut self, _: CheckpointId, _: &()) -> Result<(), Infallible> {
        std::mem::take(&mut self.waiting).into_iter().for_each(|row| self.put(row));
        Ok(())
    }

    async fn abort(&mut self, _: Option<&()>) -> Result<(), Infallible> {
        if self.mistake == Mistake::RemovesCommittedRows {
            self.rows.borrow_mut().pop();
        }
        Ok(())
    }
}

struct Shelf(Rows, Mistake);

impl Medium for Shelf {
    type Record = u64;
    type Sink = Table;

    fn capabilities(&self) -> Capabilities {
        Capabilities { visible: Visible::Keyed, ..Capabilities::default() }
    }

    fn open(&mut self) -> Result<Table, Infallible> {
        Ok(Table { rows: Rc::clone(&self.0), waiting: Vec::new(), mistake: self.1 })
    }

    fn record(&mut self, number: u64) -> u64 {
        number
    }

    fn read(&mut self) -> Vec<u64> {
        self.0.borrow().clone()
    }
}

fn check(mistake: Mistake) -> Result<Report, Violation> {
    inflight_pipeline_conformance::sink::check(|| Shelf(Rows::default(), mistake))
}

#[test]
fn a_table_passes() {
    let report = check(Mistake::None).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(report.skipped, [Check::Foreign, Check::Vanished, Check::Owners]);
    assert_eq!(report.passed.len(), 7);
}

#[test]
fn every_mistake_is_reported() {
    for (mistake, expected) in [
        (Mistake::KeepsRowsInMemory, Check::Survives),
        (Mistake::RemovesCommittedRows, Check::Commits),
        (Mistake::Appends, Check::Commits),
    ] {
        let violation = check(mistake).unwrap_err();
        assert_eq!(violation.check, expected, "{mistake:?}: {violation}");
    }
}
