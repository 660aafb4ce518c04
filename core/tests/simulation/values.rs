//! What the simulated calls are about: records, answers and mistakes.
//!
//! An answer and a mistake tell which attempt of which record they came from, so that no two can be
//! mixed up, and in their last digit how the retry strategy likes them.

use std::cell::Cell;

use inflight_core::Failure;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

thread_local! {
    static ALIVE: Cell<i64> = const { Cell::new(0) };
}

/// An input. It cannot be cloned, and the living ones of a thread are counted.
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

    /// How many live on this thread.
    pub(crate) fn alive() -> i64 {
        ALIVE.with(Cell::get)
    }

    /// Forgets those that a panic left behind.
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

/// What an attempt or a call ends with.
pub(crate) type Answer = Result<u32, Failure<u32>>;

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Success,
    /// An output that a strategy may dislike.
    NotYet,
    Transient,
    Permanent,
    /// A mistake that says when to come again.
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

    /// The answer of this kind that attempt `attempt` of record `number` gives.
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

/// Whether an output is one of [`End::NotYet`].
pub(crate) fn is_not_yet(output: &u32) -> bool {
    output % 10 == 1
}

/// Whether a mistake is not one of [`End::Permanent`].
pub(crate) fn is_passing(mistake: &u32) -> bool {
    mistake % 10 != 1
}

/// How long a mistake says to wait, in milliseconds.
pub(crate) fn dictated(mistake: &u32) -> Option<u64> {
    (mistake % 10 == 2).then_some(3)
}
