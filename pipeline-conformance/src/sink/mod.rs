//! The suite for sinks: one life after the other over one output, in all orders of writes, pre-commits, commits, failed checkpoints and
//! crashes; futures that are dropped half-way; output of another job; two owners at a time.

mod commits;
mod dropped;
mod faults;
mod orders;
mod owners;
mod probe;
mod undo;

use std::time::Duration;

use inflight_core::pipeline::TransactionalSink;

use crate::report::{New, Subject, undone};

/// The error of a medium's sink.
pub type SinkError<M> = <<M as Medium>::Sink as TransactionalSink<<M as Medium>::Record>>::Error;

/// The place of a sink's output, new and empty.
///
/// The suite calls a method with a default only if the [`Capabilities`] say so.
pub trait Medium {
    /// The records that the sink takes.
    type Record;
    /// The sink to be checked.
    type Sink: TransactionalSink<Self::Record>;

    /// The capabilities of this medium and its sink.
    fn capabilities(&self) -> Capabilities;

    /// Opens a sink of one and the same job, as the next process would. Earlier sinks were dropped, except in the check of two
    /// owners.
    ///
    /// # Errors
    ///
    /// The sink's own.
    fn open(&mut self) -> Result<Self::Sink, SinkError<Self>>;

    /// Makes the record of this number. After a crash the same number may be written again.
    fn record(&mut self, number: u64) -> Self::Record;

    /// Reads the output as a reader of it would, and returns the numbers of its records. A sink may be open.
    fn read(&mut self) -> Vec<u64>;

    /// Lets the machine crash: output that was not made durable is lost. No sink is open.
    fn crash(&mut self) {
        undone("crashes")
    }

    /// Takes the output away. A sink is open.
    fn take_away(&mut self) {
        undone("vanishes")
    }

    /// Brings the output back, unchanged. A sink is open.
    fn bring_back(&mut self) {
        undone("vanishes")
    }
}

/// The capabilities of a medium and its sink, and the possible manipulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The output that a reader sees. The default is committed output only.
    pub visible: Visible,
    /// A reader sees the records in the order in which they were written. By default the order does not matter.
    pub is_ordered: bool,
    /// The rule for two owners; by default it is not checked.
    pub owners: Owners,
    /// The machine can crash, which loses output that was not made durable. By default it does not.
    pub crashes: bool,
    /// The output can be gone. By default it cannot.
    pub vanishes: bool,
    /// The number of steps in each sequence of [`Check::Orders`]. There are about 4 to the power of that number of them, each on a
    /// medium of its own. The default is 5.
    pub steps: usize,
    /// The longest time for which a sink may be refused after an earlier one was dropped with an operation under way, and for which
    /// a future may be silent. The default is 10 s.
    pub patience: Duration,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            visible: Visible::Committed,
            is_ordered: false,
            owners: Owners::Unchecked,
            crashes: false,
            vanishes: false,
            steps: 5,
            patience: Duration::from_secs(10),
        }
    }
}

/// The output that a reader of the medium sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visible {
    /// Committed output only.
    #[default]
    Committed,
    /// Also output that is not committed, until an abort undoes it: a file that is cut back. Such a sink commits by what a checkpoint
    /// describes, so output that the checkpoint at the beginning of a life does not describe was never committed.
    UntilAbort,
    /// Rows by key. A row that is not committed may be visible and may stay after an abort, because the next life writes it again, over
    /// itself. Such a sink is idempotent, and may do nothing in `pre_commit`, `commit` and `abort`.
    Keyed,
}

/// The rule for a second owner of one output, in the same job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// The sink's type, or its user, prevents a second owner; or the sink is idempotent.
    #[default]
    Unchecked,
    /// The second owner is refused while the first one lives: when it opens the sink, or in its first `commit` or `abort`.
    SecondRefused,
    /// The first owner is refused from the second one's `abort` on.
    FirstRefused,
}

/// One subject of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Records that were written are committed by the next checkpoint, and a reader sees them.
    Commits,
    /// Rule 1: pre-committed output survives a crash, and the next life commits it.
    Survives,
    /// Rule 2: a description covers the output of earlier checkpoints that have failed.
    Covers,
    /// Rule 3: a commit that comes again changes nothing.
    CommitAgain,
    /// Rule 4: an abort undoes everything later, and nothing that was committed.
    Undo,
    /// Rule 5: a new job undoes what was never committed, and refuses the output of another one.
    Foreign,
    /// Rule 6: a future that is dropped half-way.
    Dropped,
    /// Rule 7: an output that vanishes is an error.
    Vanished,
    /// Rule 8: of two owners only one gets anything committed.
    Owners,
    /// All orders of writes, checkpoints, failures and crashes.
    Orders,
}

/// The checks that were made, and those that were left out.
pub type Report = crate::Report<Check>;

/// A violation of a sink's rules.
pub type Violation = crate::Violation<Check>;

/// Runs the suite, on a new and empty medium for every scenario.
///
/// # Errors
///
/// The first violation.
pub fn check<M: Medium>(mut new: impl FnMut() -> M) -> Result<Report, Violation> {
    let can = new().capabilities();
    let is_keyed = can.visible == Visible::Keyed;
    let subjects: Vec<Subject<Check, M>> = vec![
        (Check::Commits, true, commits::commits),
        (Check::Survives, true, commits::survives),
        (Check::Covers, true, commits::covers),
        (Check::CommitAgain, true, commits::commit_again),
        (Check::Undo, true, undo::undo),
        (Check::Foreign, !is_keyed, undo::foreign),
        (Check::Dropped, true, dropped::dropped),
        (Check::Vanished, can.vanishes, faults::vanished),
        (Check::Owners, can.owners != Owners::Unchecked, owners::owners),
        (Check::Orders, can.steps > 0, orders::orders),
    ];
    crate::report::run(new, subjects)
}
