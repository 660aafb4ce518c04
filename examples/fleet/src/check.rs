//! Compares every record of the log with the outputs.

use std::collections::HashMap;
use std::fmt;

use crate::order::{Done, Order};

/// The outputs so far, against the orders.
#[derive(Debug)]
pub struct Tally {
    orders: Vec<Order>,
    /// How often the output of each order has come.
    counts: Vec<u32>,
    /// The highest number that has come of each key.
    latest: HashMap<u64, u64>,
    lost: u64,
    doubled: u64,
    out_of_order: u64,
    /// Outputs that are nobody's: their content is wrong. The order for which one was meant counts as lost.
    wrong: u64,
}

/// What the comparison has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub records: u64,
    pub lost: u64,
    pub doubled: u64,
    pub out_of_order: u64,
    pub wrong: u64,
}

impl Tally {
    pub fn new(orders: Vec<Order>) -> Self {
        let lost = orders.len() as u64;
        let counts = vec![0; orders.len()];
        let latest = HashMap::new();
        Self { orders, counts, latest, lost, doubled: 0, out_of_order: 0, wrong: 0 }
    }

    /// Takes the next output. One that comes again behind a later one of its key is doubled and out of order.
    pub fn count(&mut self, payload: &[u8]) {
        let Some(Order { id, key, number }) = self.order_of(payload) else {
            eprintln!("fleet: a wrong output: {}", String::from_utf8_lossy(payload));
            self.wrong += 1;
            return;
        };
        let count = &mut self.counts[id as usize];
        *count += 1;
        match *count {
            1 => self.lost -= 1,
            _ => self.doubled += 1,
        }
        let latest = self.latest.entry(key).or_default();
        self.out_of_order += u64::from(number < *latest);
        *latest = number.max(*latest);
    }

    /// The order whose output this is, if all of it is right.
    fn order_of(&self, payload: &[u8]) -> Option<Order> {
        let done: Done = serde_json::from_slice(payload).ok()?;
        let order = self.orders.get(usize::try_from(done.order.id).ok()?)?;
        (done == order.done()).then_some(*order)
    }

    pub fn verdict(&self) -> Verdict {
        let Self { lost, doubled, out_of_order, wrong, .. } = *self;
        Verdict { records: self.orders.len() as u64, lost, doubled, out_of_order, wrong }
    }
}

impl Verdict {
    pub fn is_right(&self) -> bool {
        (self.lost, self.doubled, self.out_of_order, self.wrong) == (0, 0, 0, 0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, lost, doubled, out_of_order, .. } = self;
        write!(
            f,
            "records: {records}, lost: {lost}, doubled: {doubled}, out of order: {out_of_order}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::orders;

    const RECORDS: u64 = 2_000;

    /// The verdict after `spoil` has changed the outputs: lost, doubled, out of order, wrong.
    fn spoilt(spoil: impl FnOnce(&mut Vec<Done>)) -> [u64; 4] {
        let orders = orders(7, RECORDS);
        let mut outputs: Vec<_> = orders.iter().map(|order| order.done()).collect();
        spoil(&mut outputs);
        let mut tally = Tally::new(orders);
        for done in outputs {
            tally.count(&serde_json::to_vec(&done).expect("it is plain"));
        }
        let Verdict { records, lost, doubled, out_of_order, wrong } = tally.verdict();
        assert_eq!(records, RECORDS);
        assert_eq!(tally.verdict().is_right(), [lost, doubled, out_of_order, wrong] == [0; 4]);
        [lost, doubled, out_of_order, wrong]
    }

    #[test] // P3
    fn outputs_that_are_as_expected_are_right() {
        assert_eq!(spoilt(|_| ()), [0; 4]);
    }

    #[test] // P3
    fn keys_may_overtake_each_other() {
        let by_key = |outputs: &mut Vec<Done>| outputs.sort_by_key(|done| done.order.key);
        assert_eq!(spoilt(by_key), [0; 4]);
    }

    #[test] // P3
    fn a_lost_record_is_noticed() {
        assert_eq!(spoilt(|outputs| _ = outputs.remove(500)), [1, 0, 0, 0]);
        assert_eq!(spoilt(|outputs| outputs.truncate(1_990)), [10, 0, 0, 0]);
    }

    #[test] // P3
    fn a_doubled_record_is_noticed_wherever_it_comes_again() {
        assert_eq!(spoilt(|outputs| outputs.insert(500, outputs[500])), [0, 1, 0, 0]);
        assert_eq!(spoilt(|outputs| outputs.push(outputs[0])), [0, 1, 1, 0]);
    }

    #[test] // P3
    fn a_record_behind_a_later_one_of_its_key_is_noticed() {
        let late = |outputs: &mut Vec<Done>| {
            let first = outputs.remove(0);
            outputs.push(first);
        };
        assert_eq!(spoilt(late), [0, 0, 1, 0]);
    }

    #[test] // P3
    fn a_wrong_answer_is_no_output_of_its_record() {
        assert_eq!(spoilt(|outputs| outputs[3].answer ^= 1), [1, 0, 0, 1]);
        assert_eq!(spoilt(|outputs| outputs[3].order.key += 1), [1, 0, 0, 1]);
        assert_eq!(spoilt(|outputs| outputs[3].order.id = RECORDS), [1, 0, 0, 1]);
    }
}
