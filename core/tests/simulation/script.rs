//! The steps of a schedule. Each step makes sense at any point, so that shrinking can leave out any of them.

use inflight_core::Status;

use crate::features;
use crate::model::TimeoutAction;
use crate::parts::Parts;
use crate::random::Random;
use crate::setup::{Order, SLOTS, Setup, Storage};
use crate::values::End;

/// Numbers select among the candidates at that point: `n` selects the running attempt with index `n` modulo their
/// count. Event times are in seconds from the highest watermark so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Record {
        key: u32,
        timestamp: Option<i64>,
        /// Its attempt may start at once.
        at_once: bool,
    },
    Watermark(i64),
    Status(Status),
    SnapshotBarrier,
    /// The limit is in milliseconds.
    DrainBarrier {
        limit: Option<i64>,
    },
    /// Starts at most that many attempts.
    Start(usize),
    /// A running attempt ends.
    End(usize, End),
    /// A running batch ends.
    EndBatch {
        which: usize,
        end: End,
        how: BatchEnd,
    },
    /// A batch that has ended ends once more.
    LateBatch(usize),
    /// An attempt that has ended ends once more.
    Late(usize, End),
    /// A foreign attempt ends.
    Foreign(usize, End),
    /// Time passes to the next deadline, or to that many nanoseconds before or after it.
    ToDeadline(i64),
    /// Time passes (or goes back), in nanoseconds.
    Pass(i64),
    /// Due deadlines are judged. The numbers select the ends of the calls that time out.
    Judge(Choice),
    /// At most that many elements are taken out.
    Take(usize),
    /// A snapshot is taken outside of the stream.
    Snapshot,
    /// The process dies, and the next one goes on from the last checkpoint.
    Crash {
        capacity: usize,
        storage: Storage,
        clock_restarts: bool,
    },
    Change {
        capacity: usize,
        running_limit: Option<usize>,
    },
    Pause,
    Resume,
    Finish,
    ShutDown,
}

/// How a batch ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum BatchEnd {
    /// Record by record: the bits say which of them succeed whatever the end is.
    Each {
        succeeds: u8,
    },
    /// As a whole.
    Whole,
    /// With one answer more than it has records, or one fewer.
    OneMore,
    OneFewer,
}

/// The ends of calls that time out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    Fail,
    FailWith,
    Output,
    Drop,
}

impl Choice {
    pub(crate) const fn action(self, output: u32) -> TimeoutAction {
        match self {
            Self::Fail => TimeoutAction::Fail,
            Self::FailWith => TimeoutAction::FailWith(output * 10 + 7),
            Self::Output => TimeoutAction::Output(output),
            Self::Drop => TimeoutAction::Drop,
        }
    }
}

/// A schedule.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<Step>,
}

impl Script {
    pub(crate) fn random(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let mut setup = Setup::random(random);
        if features::PARTS && random.one_in(2) {
            setup.parts = Some(Parts::random(random).and_more(random));
        }
        let can_be_alone = matches!(setup.order, Order::Ordered | Order::KeyAlone);
        setup.one_per_key = features::ONE_PER_KEY && can_be_alone && random.one_in(2);
        let mood = Mood::random(random);
        let length = if setup.is_crowded() { 150 } else { 10 + random.below(51) };
        let steps = (0..length).map(|_| mood.step(random, &setup)).collect();
        Self { setup, steps }
    }
}

/// The likelihood of each kind of step, drawn at random so that schedules differ.
struct Mood {
    weights: [usize; KINDS.len()],
    /// Attempts fail in one case out of this many.
    failures: usize,
}

type Make = fn(&mut Random, &Mood, &Setup) -> Step;

/// Each kind of step with its usual weight.
const KINDS: [(Make, usize); 21] = [
    (record, 24),
    (watermark, 6),
    (status, 2),
    (|_, _, _| Step::SnapshotBarrier, 3),
    (drain_barrier, 2),
    (|random, _, _| Step::Start(if random.one_in(4) { 1 } else { 100 }), 24),
    (end, 24),
    (|random, mood, _| Step::Late(random.below(64), mood.end(random)), 2),
    (|random, mood, _| Step::Foreign(random.below(200), mood.end(random)), 1),
    (|random, _, _| Step::LateBatch(random.below(64)), 1),
    (|random, _, _| Step::ToDeadline(random.pick(&[-1, 0, 0, 0, 1, 1_000_000])), 10),
    (pass, 6),
    (judge, 14),
    (|random, _, _| Step::Take(random.pick(&[1, 1, 2, 3, 100])), 14),
    (|_, _, _| Step::Snapshot, 3),
    (crash, 3),
    (change, if features::CHANGES { 2 } else { 0 }),
    (|_, _, _| Step::Pause, if features::PAUSE { 2 } else { 0 }),
    (|_, _, _| Step::Resume, if features::PAUSE { 3 } else { 0 }),
    (|_, _, _| Step::Finish, if features::FINISH { 1 } else { 0 }),
    (|_, _, _| Step::ShutDown, if features::SHUT_DOWN { 1 } else { 0 }),
];

impl Mood {
    fn random(random: &mut Random) -> Self {
        let weights = KINDS.map(|(_, usual)| match random.below(6) {
            0 => usual / 3,
            1 => usual * 3,
            _ => usual,
        });
        Self { weights, failures: 1 + random.below(5) }
    }

    fn step(&self, random: &mut Random, setup: &Setup) -> Step {
        let mut at = random.below(self.weights.iter().sum());
        for (weight, (make, _)) in self.weights.iter().zip(KINDS) {
            if at < *weight {
                return make(random, self, setup);
            }
            at -= weight;
        }
        unreachable!("the weights have been summed up")
    }

    fn end(&self, random: &mut Random) -> End {
        if random.one_in(self.failures) { random.pick(&End::ALL) } else { End::Success }
    }
}

fn record(random: &mut Random, _: &Mood, _: &Setup) -> Step {
    let timestamp = random.perhaps(&[-5, 0, 1, 2, 5, 10]);
    Step::Record { key: random.below(3) as u32, timestamp, at_once: random.one_in(3) }
}

fn end(random: &mut Random, mood: &Mood, setup: &Setup) -> Step {
    let (which, end) = (random.below(8), mood.end(random));
    if setup.batch().is_none() || random.one_in(8) {
        return Step::End(which, end);
    }
    let how = match random.below(12) {
        0 => BatchEnd::OneMore,
        1 => BatchEnd::OneFewer,
        2..6 => BatchEnd::Whole,
        _ => BatchEnd::Each { succeeds: random.below(32) as u8 },
    };
    Step::EndBatch { which, end, how }
}

fn watermark(random: &mut Random, _: &Mood, _: &Setup) -> Step {
    Step::Watermark(random.pick(&[-3, 0, 1, 1, 2, 4, 8]))
}

fn status(random: &mut Random, _: &Mood, _: &Setup) -> Step {
    Step::Status(random.pick(&[Status::Idle, Status::Active]))
}

fn drain_barrier(random: &mut Random, _: &Mood, _: &Setup) -> Step {
    let limit = if features::DRAIN_LIMIT { random.perhaps(&[1, 5, 20]) } else { None };
    Step::DrainBarrier { limit }
}

fn pass(random: &mut Random, _: &Mood, _: &Setup) -> Step {
    let millis = random.pick(&[-3, 0, 1, 1, 2, 3, 5, 10, 30]);
    Step::Pass(millis * 1_000_000 + random.pick(&[0, 0, 0, 1, -1]))
}

fn judge(random: &mut Random, _: &Mood, _: &Setup) -> Step {
    let choices: &[_] = if features::TIMEOUT_ACTIONS {
        &[Choice::Fail, Choice::FailWith, Choice::Output, Choice::Drop]
    } else {
        &[Choice::Fail]
    };
    Step::Judge(random.pick(choices))
}

fn crash(random: &mut Random, _: &Mood, setup: &Setup) -> Step {
    let storage = if random.one_in(3) { random.pick(STORAGES) } else { setup.storage };
    let capacity = match random.below(3) {
        0 => setup.capacity,
        1 => 1 + random.below(setup.capacity),
        _ => setup.capacity + random.below(3),
    };
    let capacity = match storage {
        Storage::InPlace => capacity.min(SLOTS),
        Storage::Heap => capacity,
    };
    Step::Crash { capacity, storage, clock_restarts: random.one_in(3) }
}

const STORAGES: &[Storage] = &[Storage::Heap, Storage::InPlace];

fn change(random: &mut Random, _: &Mood, setup: &Setup) -> Step {
    let capacity = 1 + random.below(setup.max_capacity);
    let limit = random.one_in(2).then(|| 1 + random.below(setup.max_capacity));
    Step::Change { capacity, running_limit: limit.filter(|_| features::RUNNING_LIMIT) }
}

/// Returns true if this order keeps the records of one key in order.
pub(crate) fn is_by_key(order: Order) -> bool {
    matches!(order, Order::KeyAlone | Order::KeyOverlapping)
}
