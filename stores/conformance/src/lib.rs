//! The conformance suite for every [`CheckpointStore`]: saves and loads of every size, before and after
//! reopening, writes that are cut off at every byte, a flipped bit in every byte, a medium that is full or
//! gone, a second owner.
//!
//! A store's test implements a [`Medium`], whose [`Capabilities`] list the possible manipulations, and calls
//! [`check`]. Impossible checks are left out, and the [`Report`] lists them, so that the test can verify that
//! none is left out by mistake.
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

/// The medium of a store, new and empty.
///
/// The suite calls a method with a default only if the [`Capabilities`] say so.
pub trait Medium {
    /// The store to be checked.
    type Store: CheckpointStore;

    /// The capabilities of this medium and its store.
    fn capabilities(&self) -> Capabilities;

    /// Opens a store, as the next process would. Earlier stores were dropped, except in the check of a second
    /// owner.
    ///
    /// # Errors
    ///
    /// The store's own.
    fn open(&mut self) -> Result<Self::Store, StoreError<Self>>;

    /// Makes the newest intact checkpoint unreadable. No store is open.
    fn damage_newest(&mut self) {
        undone("damages")
    }

    /// Opens a store and saves a checkpoint, but the power fails after `at` bytes were written. Returns true
    /// if it failed; `false` if `at` bytes were enough for the whole save.
    fn save_torn(&mut self, _id: CheckpointId, _bytes: &[u8], _at: usize) -> bool {
        undone("tears")
    }

    /// The whole content of the medium. No store is open.
    fn image(&mut self) -> Image {
        undone("flips")
    }

    /// Replaces the content of the medium by this. No store is open.
    fn put_back(&mut self, _image: &Image) {
        undone("flips")
    }

    /// The positions at which a bit is to be flipped, by part and byte: by default every byte. Override it
    /// for a medium that is mostly empty.
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

    /// Makes room again. A store is open.
    fn make_room(&mut self) {
        undone("fills")
    }

    /// Takes the medium away. A store is open.
    fn take_away(&mut self) {
        undone("vanishes")
    }

    /// Brings the medium back, unchanged. A store is open.
    fn bring_back(&mut self) {
        undone("vanishes")
    }
}

/// Panics because a capability is set but its method is missing.
fn undone(capability: &str) -> ! {
    panic!("the medium's `Capabilities::{capability}` is set, and the method for it is not written")
}

/// The content of a medium: parts (files, objects, the one chip) by name.
pub type Image = Vec<(String, Vec<u8>)>;

/// The capabilities of a medium and its store, and the possible manipulations. By default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The minimum number of checkpoints that are kept; 0 means that none is.
    pub keeps: usize,
    /// A saved checkpoint is still there when a store is opened again.
    pub durable: bool,
    /// The length of the longest checkpoint, if there is a limit.
    pub largest: Option<usize>,
    /// The rule for two owners.
    pub owners: Owners,
    /// The newest checkpoint can be made unreadable.
    pub damages: bool,
    /// After a single flipped bit an intact checkpoint is loaded; otherwise it may be an error.
    pub survives_flips: bool,
    /// A write can be cut off.
    pub tears: bool,
    /// Bits can be flipped.
    pub flips: bool,
    /// The medium can be full.
    pub fills: bool,
    /// While it is full, the latest checkpoint can be loaded; otherwise that may be an error.
    pub loads_when_full: bool,
    /// The medium can be gone.
    pub vanishes: bool,
}

/// The rule for a second owner of one medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// The store's type, or its user, prevents a second owner.
    #[default]
    Unchecked,
    /// The second owner is refused while the first one lives.
    SecondRefused,
    /// The first owner is refused from then on.
    FirstRefused,
}

/// One subject of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// An empty store returns `None`.
    Empty,
    /// Every size is loaded as it was saved, also after the store was opened again.
    RoundTrip,
    /// An error for a buffer that is too small names the size that is needed.
    Buffer,
    /// Ids with gaps, repeated, and lower.
    Ids,
    /// The store keeps as many checkpoints as it promises.
    Retention,
    /// Of two owners only one can save.
    Owners,
    /// A checkpoint that is too long is refused, without any effect.
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

/// The checks that were made, and those that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The checks that the store has passed.
    pub passed: Vec<Check>,
    /// The checks that are impossible with the capabilities.
    pub skipped: Vec<Check>,
}

/// A violation of a store's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The check that found it.
    pub check: Check,
    /// A description.
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
/// The first violation.
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
