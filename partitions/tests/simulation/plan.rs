//! What a seed decides.

use std::time::Duration;

use crate::random::Random;

/// What checkpoints keep (K14).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Keeps {
    Records,
    Positions,
}

/// Something that happens to the workers, or to those who serve them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A worker dies. Another one comes later.
    Kill,
    /// A worker is frozen, perhaps for so long that the engine misses it, and goes on later.
    Freeze,
    /// The engine takes a partition from a worker for another one, in good order.
    Move,
    /// The engine gives a partition to a second worker, and tells the first one of it later.
    AssignTwice,
    /// A worker leaves.
    Leave,
    /// A worker comes.
    Join,
    /// The broker forgets everything but what is committed: calls under way, answers, and who has what.
    Forget,
}

/// A fault that is planted on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Flaw {
    None,
    /// The log takes the commits of any owner.
    NoFence,
    /// Outputs become visible before the commit of their checkpoint.
    OutputsFirst,
    /// The position is acknowledged before the commit of its outputs.
    AcknowledgesFirst,
    /// A worker that leaves is not seen alive any more before it has handed over.
    SeenDeadFirst,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) keeps: Keeps,
    pub(crate) partitions: u16,
    /// The number of records in all partitions.
    pub(crate) records: u32,
    pub(crate) workers: usize,
    pub(crate) capacity: usize,
    pub(crate) is_by_key: bool,
    /// Stages run on tasks of their own.
    pub(crate) spawns: bool,
    /// A worker's permits for all its partitions.
    pub(crate) permits: usize,
    pub(crate) interval: Duration,
    pub(crate) hand_over_within: Duration,
    /// An answer of the log is lost, with a chance of one in that many.
    pub(crate) loses_answers: Option<usize>,
    /// The longest time that a call of the log is under way, each way, in nanoseconds.
    pub(crate) way: i64,
    /// The longest time of a request, in nanoseconds.
    pub(crate) latency: i64,
    pub(crate) flaw: Flaw,
}

impl Plan {
    pub(crate) fn random(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let millis = Duration::from_millis;
        Self {
            seed,
            keeps: random.pick(&[Keeps::Records, Keeps::Records, Keeps::Positions]),
            partitions: 1 + random.below(3) as u16,
            records: 4 + random.below(12) as u32,
            workers: 1 + random.below(3),
            capacity: 1 + random.below(4),
            is_by_key: random.one_in(2),
            spawns: random.one_in(2),
            permits: 1 + random.below(3),
            interval: random.pick(&[millis(1), millis(3), millis(10)]),
            hand_over_within: random.pick(&[millis(2), millis(200), millis(200)]),
            loses_answers: random.perhaps(&[4, 20]),
            way: random.pick(&[100_000, 1_000_000, 4_000_000]),
            latency: random.pick(&[1_000_000, 5_000_000, 30_000_000]),
            flaw: Flaw::None,
        }
    }

    pub(crate) fn with(self, flaw: Flaw) -> Self {
        Self { flaw, ..self }
    }

    /// Nothing fails by itself, so a fence shows that something came in the wrong order.
    pub(crate) fn calm(self) -> Self {
        let hand_over_within = Duration::from_millis(200);
        Self { loses_answers: None, hand_over_within, way: 4_000_000, ..self }
    }
}
