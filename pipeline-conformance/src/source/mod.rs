//! The suite for sources and their acknowledgers: every position, opened by another instance, leads to the same records and the same
//! watermarks; acknowledgements that are missing or repeated lose nothing; a quiet source wakes its task.

mod acknowledged;
mod positions;
mod reader;
mod waking;

use std::fmt::Debug;
use std::time::Duration;

use inflight_core::pipeline::ReplayableSource;

use crate::report::{New, Subject, undone};

/// The records of a medium's source.
pub type Record<M> = <<M as Medium>::Source as ReplayableSource>::Record;

/// The input of a source: a log or a queue that holds [`records`](Capabilities::records), each different from the others.
///
/// The suite calls a method with a default only if the [`Capabilities`] say so.
pub trait Medium {
    /// The source to be checked.
    type Source: ReplayableSource;

    /// The capabilities of this medium and its source.
    fn capabilities(&self) -> Capabilities;

    /// Makes a source over the input, as the next process would. The suite [opens](ReplayableSource::open) it. Earlier sources were
    /// dropped.
    fn source(&mut self) -> Self::Source;

    /// Adds a record. A source is open, and waits.
    fn append(&mut self) {
        undone("grows")
    }

    /// Changes the input so that nobody can go on from a position behind its first record. No source is open.
    fn lose(&mut self) {
        undone("loses")
    }
}

/// The capabilities of a medium and its source, and the possible manipulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The number of records in a new medium. The default is none; a few are enough.
    pub records: usize,
    /// The source ends after them. Otherwise, and by default, it waits for more.
    pub ends: bool,
    /// The source can go to a position. That is the default; otherwise it refuses every position.
    pub replays: bool,
    /// Records can be added while a source waits for them. By default they cannot.
    pub grows: bool,
    /// The input can be changed so that a position is not valid any more. By default it cannot.
    pub loses: bool,
    /// The longest time for which a source may be silent before its next record. The default is 10 s.
    pub patience: Duration,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            records: 0,
            ends: false,
            replays: true,
            grows: false,
            loses: false,
            patience: Duration::from_secs(10),
        }
    }
}

/// One subject of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Rule 4: the source hands out no barrier.
    Barriers,
    /// Without a position the source hands out all records, and so it does the next time.
    Whole,
    /// Rules 1 and 2: each position leads to the records after it, however far the source has read ahead.
    Positions,
    /// Rule 2: a source that cannot go to a position refuses to open.
    Refused,
    /// Rule 3: everything after the last acknowledged position is kept; acknowledgements may be missing or repeated.
    Acknowledged,
    /// Rule 5: a source that was pending wakes the task of the latest poll.
    Wakes,
    /// Rule 6: each position leads to the same watermarks.
    Watermarks,
}

/// The checks that were made, and those that were left out.
pub type Report = crate::Report<Check>;

/// A violation of a source's rules.
pub type Violation = crate::Violation<Check>;

/// Runs the suite, on a new medium for every scenario.
///
/// # Errors
///
/// The first violation.
pub fn check<M: Medium>(mut new: impl FnMut() -> M) -> Result<Report, Violation>
where
    Record<M>: PartialEq + Debug,
{
    let can = new().capabilities();
    let subjects: Vec<Subject<Check, M>> = vec![
        (Check::Barriers, true, positions::barriers),
        (Check::Whole, true, positions::whole),
        (Check::Positions, can.replays, positions::positions),
        (Check::Refused, can.loses || !can.replays, positions::refused),
        (Check::Acknowledged, can.replays, acknowledged::acknowledged),
        (Check::Wakes, true, waking::wakes),
        (Check::Watermarks, can.replays, positions::watermarks),
    ];
    crate::report::run(new, subjects)
}
