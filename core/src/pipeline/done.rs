//! The records behind a position that are done, as runs.

use alloc::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Lengths of runs: records that are not done, then records that are, and so on in turns. In postcard a run is a byte, or two from
/// 128 records on; so no pattern takes more than a byte a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done(VecDeque<u64>);

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
    fn every_pattern_comes_back_and_takes_a_byte_a_record_at_most() {
        for pattern in 0..1_u32 << 12 {
            let records = (0..12).map(|bit| pattern & (1 << bit) != 0);
            let open = (100..112).zip(records.clone()).filter(|(_, is_done)| !is_done);
            let open: VecDeque<_> = open.map(|(number, _)| number).collect();
            let done = Done::all_but(open.iter().copied(), 100, 112, &Done::default());
            // The same of two parts, the second of which is what is left of an earlier life's runs.
            for cut in 100..=112 {
                let mut rest = done.clone();
                (100..cut).for_each(|_| _ = rest.next());
                let front = open.iter().copied().filter(|number| *number < cut);
                let joined = Done::all_but(front, 100, cut, &rest);
                assert_eq!(joined, done, "{pattern:b} cut at {cut}");
            }
            let bytes = postcard::to_allocvec(&done).unwrap();
            assert!(bytes.len() <= 13, "{pattern:b}");
            let mut done: Done = postcard::from_bytes(&bytes).unwrap();
            for is_done in records {
                assert_eq!(done.next(), is_done, "{pattern:b}");
            }
            assert!((0..3).all(|_| !done.next()));
        }
    }
}
