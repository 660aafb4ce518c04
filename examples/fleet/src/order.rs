//! The records: seeded orders, and what becomes of each. All are functions of the seed and the order's number.

use inflight::hash_key;
use serde::{Deserialize, Serialize};

/// The number of keys. The outputs of a key keep the order of its records.
const KEYS: u64 = 200;

/// A record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub id: u64,
    pub key: u64,
    /// Its number among the orders of its key, from 0.
    pub number: u64,
}

/// The output for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub order: Order,
    pub answer: u64,
}

impl Order {
    /// What is to come out for it.
    #[must_use]
    pub fn done(self) -> Done {
        Done { order: self, answer: answer(self.id) }
    }
}

/// What the service answers.
pub fn answer(id: u64) -> u64 {
    hash_key(&(id, "answer"))
}

/// The orders of a seed.
pub fn orders(seed: u64, count: u64) -> Vec<Order> {
    let mut numbers = [0; KEYS as usize];
    let order = |id| {
        // The low bits of that hash depend little on the high bits of its input.
        let key = (hash_key(&(seed, id)) >> 20) % KEYS;
        let next = &mut numbers[key as usize];
        let number = *next;
        *next += 1;
        Order { id, key, number }
    };
    (0..count).map(order).collect()
}
