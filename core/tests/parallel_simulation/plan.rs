//! The settings of a schedule, and its elements.

use std::fmt;
use std::time::Duration;

use inflight_core::{Barrier, Checkpoint, CheckpointId, Status, StreamElement, Timestamp};
use serde::{Deserialize, Serialize};

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    Ordered,
    OrderedWithKey,
    Unordered,
    ByKey,
    ByKeyOverlapping,
}

impl Order {
    pub(crate) fn has_key(self) -> bool {
        matches!(self, Self::OrderedWithKey | Self::ByKey | Self::ByKeyOverlapping)
    }

    pub(crate) fn is_total(self) -> bool {
        matches!(self, Self::Ordered | Self::OrderedWithKey)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) order: Order,
    pub(crate) capacity: usize,
    /// Of the present life; `None` is a stage without instances.
    pub(crate) instances: Option<usize>,
    pub(crate) is_spread: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retries: u32,
    pub(crate) is_spawned: bool,
    pub(crate) keeps_results: bool,
    /// One in so many requests has its answer at its first poll.
    pub(crate) eager: usize,
    pub(crate) elements: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) number: u32,
    pub(crate) key: u32,
}

impl Plan {
    pub(crate) fn random(seed: u64, random: &mut Random) -> Self {
        use Order::{ByKey, ByKeyOverlapping, Ordered, OrderedWithKey, Unordered};
        let orders = [Ordered, OrderedWithKey, Unordered, ByKey, ByKeyOverlapping];
        let mut plan = Self {
            seed,
            order: random.pick(&orders),
            capacity: 1,
            instances: None,
            is_spread: random.one_in(4),
            timeout: random.perhaps(&[10, 30]).map(Duration::from_millis),
            retries: random.pick(&[0, 0, 2]),
            is_spawned: !random.one_in(4),
            keeps_results: random.one_in(3),
            eager: random.pick(&[2, 4, 1_000]),
            elements: 20 + random.below(30) as u32,
        };
        plan.next_life(random);
        plan
    }

    /// Another life may have another capacity and another number of instances, or none (P2).
    pub(crate) fn next_life(&mut self, random: &mut Random) {
        self.capacity = 1 + random.below(8);
        self.instances = random.pick(&[None, Some(1), Some(2), Some(2), Some(3), Some(5)]);
    }

    /// The element at a position of the source: the same in every life.
    pub(crate) fn element(&self, number: u32) -> StreamElement<Record> {
        let random = &mut Random::new(self.seed ^ (u64::from(number) << 32));
        let id = CheckpointId(u64::from(number) + 1);
        match random.below(20) {
            0 | 1 => StreamElement::Watermark(Timestamp::from_millis(i64::from(number))),
            2 => StreamElement::Status(random.pick(&[Status::Idle, Status::Active])),
            3 | 4 => StreamElement::Barrier(Barrier::snapshot(Checkpoint::new(id))),
            5 => StreamElement::Barrier(Barrier::drain(Checkpoint::new(id))),
            _ => StreamElement::value(Record { number, key: random.below(4) as u32 }),
        }
    }
}

/// The end of a call that has timed out: some fail, some have another output, some records are dropped.
pub(crate) fn is_dropped_late(number: u32) -> bool {
    number % 5 == 2
}

pub(crate) fn late_output(number: u32) -> Option<u32> {
    (number % 5 == 3).then_some(number + 1_000_000)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INFLIGHT_SEED={} fails: {self:?}", self.seed)
    }
}
