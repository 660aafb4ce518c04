//! The result of a suite, whose subjects are of type `C`.

use std::error::Error;
use std::fmt;

use crate::Verdict;

/// The checks that were made, and those that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<C> {
    /// The checks that were passed.
    pub passed: Vec<C>,
    /// The checks that are impossible with the capabilities.
    pub skipped: Vec<C>,
}

/// A violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation<C> {
    /// The check that found it.
    pub check: C,
    /// A description.
    pub what: String,
}

impl<C: fmt::Debug> fmt::Display for Violation<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.check, self.what)
    }
}

impl<C: fmt::Debug> Error for Violation<C> {}

/// Makes a new medium.
pub(crate) type New<'a, M> = &'a mut dyn FnMut() -> M;

/// A subject of a suite, whether it is possible, and the check itself.
pub(crate) type Subject<C, M> = (C, bool, fn(New<'_, M>) -> Verdict);

/// Makes the checks that are possible.
pub(crate) fn run<C: Clone, M>(
    mut new: impl FnMut() -> M,
    subjects: impl IntoIterator<Item = Subject<C, M>>,
) -> Result<Report<C>, Violation<C>> {
    let mut report = Report { passed: Vec::new(), skipped: Vec::new() };
    for (check, is_possible, of) in subjects {
        if !is_possible {
            report.skipped.push(check);
            continue;
        }
        of(&mut new).map_err(|what| Violation { check: check.clone(), what })?;
        report.passed.push(check);
    }
    Ok(report)
}

/// Panics because a capability is set but its method is missing.
pub(crate) fn undone(capability: &str) -> ! {
    panic!("the medium's `Capabilities::{capability}` is set, and the method for it is not written")
}
