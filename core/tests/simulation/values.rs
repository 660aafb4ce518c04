//! The values of simulated calls: records, answers and mistakes.
//!
//! An answer or a mistake encodes the record and the attempt that it came from, so that no two can be mixed up, and
//! in its last digit the retry strategy's verdict on it.

use std::cell::Cell;

use inflight_core::{Failure, Verdict};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

thread_local! {
    static ALIVE: Cell<i64> = const { Cell::new(0) };
}

/// An input. It cannot be cloned, and each thread counts its live ones.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) number: u32,
    pub(crate) key: u32,
}

impl Record {
    pub(crate) fn new(number: u32, key: u32) -> Self {
        ALIVE.with(|alive| alive.set(alive.get() + 1));
        Self { number, key }
    }

    /// The number of live inputs on this thread.
    pub(crate) fn alive() -> i64 {
        ALIVE.with(Cell::get)
    }

    /// Resets the count, which a panic may have left wrong.
    pub(crate) fn start_counting() {
        ALIVE.with(|alive| alive.set(0));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        ALIVE.with(|alive| alive.set(alive.get() - 1));
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.number, self.key).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (number, key) = <(u32, u32)>::deserialize(deserializer)?;
        Ok(Self::new(number, key))
    }
}

/// The results of attempts and calls.
pub(crate) type Answer = Result<u32, Failure<u32>>;

/// The end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Success,
    /// An output that a strategy may retry.
    NotYet,
    Transient,
    Permanent,
    /// A mistake that dictates the delay.
    ComeLater,
    Panic,
    Cancel,
}

impl End {
    pub(crate) const ALL: [Self; 7] = [
        Self::Success,
        Self::NotYet,
        Self::Transient,
        Self::Permanent,
        Self::ComeLater,
        Self::Panic,
        Self::Cancel,
    ];

    /// Returns the answer of this kind for an attempt of a record.
    pub(crate) fn answer(self, number: u32, attempt: u32) -> Answer {
        let origin = number * 100 + attempt;
        match self {
            Self::Success => Ok(origin * 10),
            Self::NotYet => Ok(origin * 10 + 1),
            Self::Transient => Err(Failure::Error(origin * 10)),
            Self::Permanent => Err(Failure::Error(origin * 10 + 1)),
            Self::ComeLater => Err(Failure::Error(origin * 10 + 2)),
            Self::Panic => Err(Failure::Panicked),
            Self::Cancel => Err(Failure::Cancelled),
        }
    }
}

/// Returns true for an output of [`End::NotYet`].
pub(crate) fn is_not_yet(output: &u32) -> bool {
    output % 10 == 1
}

/// Returns true for a mistake other than [`End::Permanent`].
pub(crate) fn is_passing(mistake: &u32) -> bool {
    mistake % 10 != 1
}

/// The delay that a mistake dictates, in milliseconds.
pub(crate) fn dictated(mistake: &u32) -> Option<u64> {
    (mistake % 10 == 2).then_some(3)
}

/// The tokens that an attempt of this record takes, where its weight counts.
pub(crate) fn weight(record: &Record) -> u64 {
    weight_of(record.number)
}

pub(crate) fn weight_of(number: u32) -> u64 {
    u64::from(number % 4)
}

/// The pause that a failure asks for, in milliseconds.
pub(crate) fn pause_after(failure: &Failure<u32>) -> Option<u64> {
    match failure {
        Failure::Error(mistake) if mistake % 10 == 2 => {
            // By the record and the attempt.
            Some([3, 8, 0, 20][(*mistake as usize / 10 + *mistake as usize / 1000) % 4])
        }
        Failure::AttemptTimedOut => Some(2),
        Failure::TimedOut => Some(6),
        _ => None,
    }
}

/// What a failure says about the load.
pub(crate) fn verdict(failure: &Failure<u32>) -> Verdict {
    match failure {
        Failure::Error(mistake) if !is_passing(mistake) => Verdict::Ignored,
        _ => Verdict::Overloaded,
    }
}

/// The timeout of this record's own, in milliseconds.
pub(crate) fn own_timeout(number: u32) -> Option<u64> {
    [None, Some(12), Some(0), Some(4), Some(60)][number as usize % 5]
}
