//! What every [`CheckpointStore`] has to stand: saved and loaded again in every size, closed and
//! opened, cut off in the middle of a write at every byte, a bit flipped in every byte, a medium that
//! is full or gone, a second owner.
//!
//! A store's test brings a [`Medium`], says in [`Capabilities`] what can be done to it, and calls
//! [`check`]. What cannot be done is left out, and the [`Report`] lists it, so that the test can show
//! that nothing is left out by mistake.
//!
//! ```
//! use inflight_core::MemoryStore;
//! use inflight_store_conformance::{Capabilities, Check, Medium, check};
//!
//! struct Memory;
//!
//! impl Medium for Memory {
//!     type Store = MemoryStore;
//!
//!     fn capabilities(&self) -> Capabilities {
//!         Capabilities { keeps: 2, ..Capabilities::default() }
//!     }
//!
//!     fn open(&mut self) -> Result<MemoryStore, std::convert::Infallible> {
//!         Ok(MemoryStore::new())
//!     }
//! }
//!
//! let report = check(|| Memory).unwrap();
//! assert!(report.skipped.contains(&Check::Torn));
//! ```
#![forbid(unsafe_code)]

mod damage;
mod keeping;
mod probe;

use std::error::Error;
use std::fmt;

use inflight_core::{CheckpointId, CheckpointStore};

/// The error of a medium's store.
pub type StoreError<M> = <<M as Medium>::Store as CheckpointStore>::Error;

/// What a store keeps its checkpoints on, new and empty.
///
/// The methods with a default are called only if the [`Capabilities`] say so.
pub trait Medium {
    /// The store to be checked.
    type Store: CheckpointStore;

    /// What this medium can do and what can be done to it.
    fn capabilities(&self) -> Capabilities;

    /// Opens a store, as the next process would. Earlier ones were dropped, except where a second
    /// owner is tried.
    ///
    /// # Errors
    ///
    /// The store's own.
    fn open(&mut self) -> Result<Self::Store, StoreError<Self>>;

    /// Makes the newest checkpoint that is intact unreadable. No store is open.
    fn damage_newest(&mut self) {
        undone("damages")
    }

    /// Opens a store and saves a checkpoint, but the power fails after `at` bytes were written.
    /// Returns whether it did; `false` when that was enough for all of it.
    fn save_torn(&mut self, _id: CheckpointId, _bytes: &[u8], _at: usize) -> bool {
        undone("tears")
    }

    /// All that the medium holds. No store is open.
    fn image(&mut self) -> Image {
        undone("flips")
    }

    /// Lets the medium hold this and nothing else. No store is open.
    fn put_back(&mut self, _image: &Image) {
        undone("flips")
    }

    /// Where a bit is to be flipped, by part and byte: everywhere, unless the most of a medium is
    /// known to hold nothing.
    fn places(&self, image: &Image) -> Vec<(usize, usize)> {
        let parts = image.iter().enumerate();
        parts
            .flat_map(|(part, (_, bytes))| (0..bytes.len()).map(move |byte| (part, byte)))
            .collect()
    }

    /// Leaves no room for another checkpoint. A store is open.
    fn fill(&mut self) {
        undone("fills")
    }

    /// There is room again. A store is open.
    fn make_room(&mut self) {
        undone("fills")
    }

    /// The medium is gone. A store is open.
    fn take_away(&mut self) {
        undone("vanishes")
    }

    /// It is back, as it was. A store is open.
    fn bring_back(&mut self) {
        undone("vanishes")
    }
}

/// A medium that says it can do this has to say how.
fn undone(capability: &str) -> ! {
    panic!("the medium's `Capabilities::{capability}` is set, and the method for it is not written")
}

/// The content of a medium: parts (files, objects, the one chip) by name.
pub type Image = Vec<(String, Vec<u8>)>;

/// What a medium and its store can do, and what can be done to them. By default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// How many checkpoints are kept at least; with 0 everything is forgotten.
    pub keeps: usize,
    /// What was saved is there when a store is opened again.
    pub durable: bool,
    /// The longest checkpoint, if there is a limit.
    pub largest: Option<usize>,
    /// What becomes of two owners.
    pub owners: Owners,
    /// The newest checkpoint can be made unreadable.
    pub damages: bool,
    /// After a single flipped bit an intact checkpoint is loaded; otherwise it may be an error.
    pub survives_flips: bool,
    /// A write can be cut off.
    pub tears: bool,
    /// Bits can be flipped.
    pub flips: bool,
    /// It can be full.
    pub fills: bool,
    /// While it is full, the latest checkpoint can be loaded; otherwise that may be an error.
    pub loads_when_full: bool,
    /// It can be gone.
    pub vanishes: bool,
}

/// What becomes of a second owner of one medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// The store's type, or its user, sees to it that there is none.
    #[default]
    Unchecked,
    /// It is refused while the first one lives.
    SecondRefused,
    /// The first one is refused from then on.
    FirstRefused,
}

/// One subject of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// A store that holds nothing says so.
    Empty,
    /// Every size comes back as it was, also when the store was opened again.
    RoundTrip,
    /// A buffer that is too small is told what is needed.
    Buffer,
    /// Ids with gaps, repeated, and lower.
    Ids,
    /// As many as are to be kept are.
    Retention,
    /// Two owners never save both.
    Owners,
    /// What is too long is refused, and costs nothing.
    Limit,
    /// A write cut off at every byte.
    Torn,
    /// A bit flipped in every byte.
    Flipped,
    /// A medium that is full.
    Full,
    /// A medium that vanishes.
    Gone,
}

/// What was checked, and what could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the store stood.
    pub passed: Vec<Check>,
    /// What the capabilities say cannot be done to it.
    pub skipped: Vec<Check>,
}

/// What a store did that it must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// In which part of the suite.
    pub check: Check,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.check, self.what)
    }
}

impl Error for Violation {}

/// Runs the suite, on a new and empty medium for every check.
///
/// # Errors
///
/// The first thing that the store did and must not.
pub fn check<M: Medium>(mut new: impl FnMut() -> M) -> Result<Report, Violation> {
    let can = new().capabilities();
    let mut report = Report { passed: Vec::new(), skipped: Vec::new() };
    let mut run = |check, possible, of: fn(&mut dyn FnMut() -> M) -> Result<(), String>| {
        if possible {
            of(&mut new).map_err(|what| Violation { check, what })?;
            report.passed.push(check);
        } else {
            report.skipped.push(check);
        }
        Ok(())
    };
    run(Check::Empty, true, keeping::empty)?;
    run(Check::RoundTrip, true, keeping::round_trip)?;
    run(Check::Buffer, can.keeps > 0, keeping::buffer)?;
    run(Check::Ids, can.keeps > 0, keeping::ids)?;
    run(Check::Retention, can.damages, damage::retention)?;
    run(Check::Owners, can.owners != Owners::Unchecked, keeping::owners)?;
    run(Check::Limit, can.largest.is_some(), keeping::limit)?;
    run(Check::Torn, can.tears, damage::torn)?;
    run(Check::Flipped, can.flips, damage::flipped)?;
    run(Check::Full, can.fills, damage::full)?;
    run(Check::Gone, can.vanishes, damage::gone)?;
    Ok(report)
}
