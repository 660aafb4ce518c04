//! What the service answers, what the adapters do, and what the sink must hold at the end.
//!
//! A record is a digit. Each stage appends a digit to it, and an adapter may change the last one; so the first digit of every value
//! names its record.

use crate::plan::{Order, Plan};

pub(crate) const KEYS: u32 = 3;

/// The service's answer. Failures are outcomes as well.
pub(crate) fn answer(value: u32) -> Result<u32, u32> {
    if value % 5 == 3 { Err(value * 10 + 1) } else { Ok(value * 10) }
}

/// The record that a value came from, whichever stages it has passed.
pub(crate) fn record_of(value: u32) -> u32 {
    let mut record = value;
    while record >= 10 {
        record /= 10;
    }
    record
}

pub(crate) fn key_of(value: u32) -> u32 {
    record_of(value) % KEYS
}

/// Added to a copy.
const COPY: u32 = 4;

impl Plan {
    /// The number of attempts that the service refuses.
    pub(crate) fn refusals_of(&self, value: u32) -> u32 {
        if value % 4 == 2 { self.refusals } else { 0 }
    }

    /// The values that the adapter behind a stage makes of an answer: none, one or two.
    pub(crate) fn adapt(&self, stage: usize, value: u32) -> Vec<u32> {
        let record = record_of(value);
        if self.drops && stage == 0 && record % 5 == 4 {
            return Vec::new();
        }
        match self.multiplies_behind {
            // Of two copies one is dropped at once.
            Some(behind) if behind == stage && self.drops && record % 3 == 2 => vec![value],
            Some(behind) if behind == stage && !record.is_multiple_of(3) => {
                vec![value, value + COPY]
            }
            _ => vec![value],
        }
    }

    /// Whether the adapter makes a copy and drops it.
    pub(crate) fn drops_a_copy(&self, stage: usize, value: u32) -> bool {
        self.multiplies_behind == Some(stage) && self.drops && record_of(value) % 3 == 2
    }

    /// The values that come of a record behind all stages.
    pub(crate) fn outcomes_of(&self, record: u32) -> Vec<u32> {
        let stage = |values: Vec<u32>, stage| -> Vec<u32> {
            let answers = values.into_iter().map(|value| match answer(value) {
                Ok(value) => value,
                Err(error) => error,
            });
            answers.flat_map(|value| self.adapt(stage, value)).collect()
        };
        (0..self.stages).fold(vec![record], stage)
    }

    /// Compares the contents of the sink with those that are expected at the end.
    pub(crate) fn check_output(&self, output: &[u32]) -> Result<(), String> {
        let expected: Vec<u32> =
            (0..self.records).flat_map(|record| self.outcomes_of(record)).collect();
        let differs = || Err(format!("expected {expected:?}, found {output:?}"));
        let of_key = |values: &[u32], key| -> Vec<u32> {
            values.iter().copied().filter(|value| key_of(*value) == key).collect()
        };
        let is_ordered = match self.order {
            Order::Ordered => expected == output,
            Order::ByKey => (0..KEYS).all(|key| of_key(&expected, key) == of_key(output, key)),
            Order::Unordered => true,
        };
        let sorted = |values: &[u32]| {
            let mut values = values.to_vec();
            values.sort_unstable();
            values
        };
        if is_ordered && sorted(&expected) == sorted(output) { Ok(()) } else { differs() }
    }

    /// Whether the outputs of each record are there together, or none is (K14).
    pub(crate) fn is_whole(&self, output: &[u32]) -> bool {
        (0..self.records).all(|record| {
            let found = output.iter().filter(|value| record_of(**value) == record).count();
            found == 0 || found == self.outcomes_of(record).len()
        })
    }
}
