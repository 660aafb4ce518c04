//! Compares what came out with what went in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::producer::Written;
use super::readback::Keyed;
use crate::record::Seen;
use crate::service;

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    records: usize,
    shards: usize,
    lost: usize,
    /// Answers that a reader would have taken twice.
    doubled: usize,
    /// Answers that came after one to a later record of their key.
    out_of_order: usize,
    /// Answers to something else, or with another text.
    wrong: usize,
    /// Answers that the reader has recognised as repetitions.
    repeated: usize,
    kills: usize,
    /// Kills while there were records without an answer.
    busy_kills: usize,
}

impl Tally {
    /// Compares, as a reader who recognises repetitions with [`Seen`].
    pub fn new(
        written: &[Written],
        answers: &[Keyed],
        (kills, busy_kills): (usize, usize),
    ) -> Self {
        let shards: BTreeSet<_> = written.iter().map(|record| &record.shard).collect();
        let mut tally = Self {
            records: written.len(),
            shards: shards.len(),
            lost: 0,
            doubled: 0,
            out_of_order: 0,
            wrong: 0,
            repeated: 0,
            kills,
            busy_kills,
        };
        let by_id: BTreeMap<_, _> =
            written.iter().map(|record| ((&record.shard, &record.sequence), record)).collect();
        let (mut seen, mut taken, mut latest) = (Seen::default(), BTreeSet::new(), BTreeMap::new());
        for (key, answer) in answers {
            if !seen.is_new(key, answer) {
                tally.repeated += 1;
                continue;
            }
            let id = (&answer.shard, &answer.sequence);
            let Some(record) = by_id.get(&id).filter(|record| record.key == *key) else {
                tally.wrong += 1;
                continue;
            };
            tally.doubled += usize::from(!taken.insert(id));
            let expected = service::answer(&Written::text(key, record.number));
            tally.wrong += usize::from(answer.answer.as_ref() != Ok(&expected));
            let latest = latest.entry(key).or_insert(record.number);
            tally.out_of_order += usize::from(record.number < *latest);
            *latest = record.number.max(*latest);
        }
        tally.lost = written.len() - taken.len();
        tally
    }

    pub fn is_right(&self) -> bool {
        self.lost + self.doubled + self.out_of_order + self.wrong == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, shards, lost, doubled, out_of_order, wrong, .. } = self;
        let Self { repeated, kills, busy_kills, .. } = self;
        write!(
            f,
            "records: {records}, lost: {lost}, doubled: {doubled}, out of order: {out_of_order}"
        )?;
        write!(
            f,
            ", wrong: {wrong} (shards: {shards}, kills: {kills}, of which {busy_kills} with"
        )?;
        write!(f, " records open, repetitions recognised: {repeated})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Answer;

    fn written(shard: &str, number: u64) -> Written {
        let (shard, key) = (shard.to_owned(), "k".to_owned());
        Written { shard, sequence: (7 + number).to_string(), key, number }
    }

    fn answer(record: &Written) -> Keyed {
        let Written { shard, sequence, key, number } = record.clone();
        let text = service::answer(&Written::text(&key, number));
        (key, Answer { shard, sequence, answer: Ok(text) })
    }

    // K10, O3: the check finds each kind of mistake.
    #[test]
    fn each_mistake_is_counted() {
        let records = [written("a", 0), written("a", 1), written("a", 2), written("b", 3)];
        let [zero, one, two, three] = records.each_ref().map(answer);
        let tally = |answers: &[&Keyed]| {
            let answers: Vec<_> = answers.iter().map(|answer| (*answer).clone()).collect();
            Tally::new(&records, &answers, (0, 0))
        };
        let right = tally(&[&zero, &one, &zero, &one, &two, &three, &two]);
        assert!(right.is_right());
        assert_eq!((right.repeated, right.shards), (3, 2));

        assert_eq!(tally(&[&zero, &one, &three]).lost, 1);
        let child_first = tally(&[&zero, &three, &one, &two]);
        assert_eq!((child_first.out_of_order, child_first.is_right()), (2, false));
        let behind = tally(&[&zero, &two, &one, &three]);
        assert_eq!((behind.lost, behind.repeated), (1, 1), "a reader drops what comes too late");

        let mut other = one.clone();
        other.1.answer = Err("no answer".into());
        assert_eq!(tally(&[&zero, &other, &two, &three]).wrong, 1);
        let foreign = answer(&written("c", 9));
        assert_eq!(tally(&[&zero, &one, &two, &three, &foreign]).wrong, 1);
    }
}
