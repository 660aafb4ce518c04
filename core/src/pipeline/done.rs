//! The records behind a position that are done, as runs.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Lengths of runs: records that are not done, then records that are, and so on in turns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Saved", from = "Saved")]
pub(super) struct Done(VecDeque<u64>);

/// The shorter one of two forms: long runs as numbers, and short ones as a bit for each record.
#[derive(Serialize, Deserialize)]
enum Saved {
    Runs(VecDeque<u64>),
    Bits(Vec<u8>),
}

impl From<Done> for Saved {
    fn from(done: Done) -> Self {
        let records = done.0.iter().fold(0_u64, |sum, run| sum.saturating_add(*run));
        let bytes = usize::try_from(records.div_ceil(8)).unwrap_or(usize::MAX);
        // A run takes a byte, or more from 128 records on.
        if bytes >= done.0.len() {
            return Self::Runs(done.0);
        }
        // The last run is one of records that are done.
        let (mut bits, mut at, mut is_done) = (vec![0; bytes], 0, done.0.len() % 2 == 1);
        for run in done.0 {
            for _ in 0..run {
                bits[at / 8] |= u8::from(is_done) << (at % 8);
                at += 1;
            }
            is_done = !is_done;
        }
        Self::Bits(bits)
    }
}

impl From<Saved> for Done {
    fn from(saved: Saved) -> Self {
        let bits = match saved {
            Saved::Runs(runs) => return Self(runs),
            Saved::Bits(bits) => bits,
        };
        let end = 8 * bits.len() as u64;
        let is_open = |at: &u64| bits[(*at / 8) as usize] & (1 << (*at % 8)) == 0;
        let last = (0..end).rev().find(|at| !is_open(at)).map_or(0, |at| at + 1);
        Self::all_but((0..last).filter(is_open), 0, last, &Self::default())
    }
}

impl Done {
    /// The runs of the records from `base` up to `end`, all of which are done but for these, in their order; and of those from `end` on,
    /// which `rest` tells.
    pub(super) fn all_but(
        open: impl IntoIterator<Item = u64>,
        base: u64,
        end: u64,
        rest: &Self,
    ) -> Self {
        let (mut runs, mut length, mut next) = (VecDeque::new(), 0, base);
        for number in open {
            if number > next {
                runs.extend([length, number - next]);
                length = 0;
            }
            (length, next) = (length + 1, number + 1);
        }
        if end > next {
            runs.extend([length, end - next]);
            length = 0;
        }
        let mut is_done = rest.0.len() % 2 == 1;
        for run in &rest.0 {
            match runs.back_mut() {
                Some(last) if is_done && length == 0 => *last += run,
                _ if is_done => runs.extend([core::mem::take(&mut length), *run]),
                _ => length += run,
            }
            is_done = !is_done;
        }
        Self(runs)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the next record is done.
    pub(super) fn next(&mut self) -> bool {
        // The front run is one of records that are not done if the number of runs is even.
        while let Some(length) = self.0.front_mut() {
            if let Some(less) = length.checked_sub(1) {
                *length = less;
                return self.0.len() % 2 == 1;
            }
            self.0.pop_front();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // K14
    #[test]
    fn every_pattern_comes_back_and_takes_little_more_than_a_bit_a_record() {
        for pattern in 0..1_u32 << 12 {
            let records = (0..12).map(|bit| pattern & (1 << bit) != 0);
            let open = (100..112).zip(records.clone()).filter(|(_, is_done)| !is_done);
            let open: VecDeque<_> = open.map(|(number, _)| number).collect();
            let done = Done::all_but(open.iter().copied(), 100, 112, &Done::default());
            // The same of two parts, the second of which is what is left of an earlier life's runs.
            for cut in 100..=112 {
                let mut rest = done.clone();
                (100..cut).for_each(|_| _ = rest.next());
                let saved = postcard::to_allocvec(&rest).unwrap();
                let mut again: Done = postcard::from_bytes(&saved).unwrap();
                assert!((0..14).all({
                    let mut rest = rest.clone();
                    move |_| rest.next() == again.next()
                }));
                let front = open.iter().copied().filter(|number| *number < cut);
                let joined = Done::all_but(front, 100, cut, &rest);
                assert_eq!(joined, done, "{pattern:b} cut at {cut}");
            }
            let bytes = postcard::to_allocvec(&done).unwrap();
            assert!(bytes.len() <= 4, "{pattern:b}: {bytes:?}");
            let mut done: Done = postcard::from_bytes(&bytes).unwrap();
            for is_done in records {
                assert_eq!(done.next(), is_done, "{pattern:b}");
            }
            assert!((0..3).all(|_| !done.next()));
        }
    }
}
