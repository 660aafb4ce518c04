//! What happens in a schedule: steps that make sense wherever they stand, so that any of them can be
//! left out.

use inflight_core::Status;

use crate::model::TimeoutAction;
use crate::plan::{APART_PARTS, Plan};
use crate::random::Random;
use crate::setup::Order;
use crate::source::Offer;
use crate::values::End;

/// Numbers choose among what there is: the `n`-th running attempt is the `n` modulo their count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// The source has one more element.
    Offer(Offer),
    /// The source has so many records more.
    OfferRecords(usize),
    /// The source has nothing more.
    EndSource,
    /// The source wakes the stage for nothing.
    WakeSource,
    /// A request ends.
    End(usize, End),
    /// So many requests succeed.
    EndMany(usize),
    /// A request wakes the stage for nothing.
    Wake(usize),
    /// A waker of a request that is gone is woken.
    LateWake(usize),
    /// So many tasks are polled that have been woken.
    Poll(usize),
    /// All are, until none is.
    Settle,
    /// The stage is polled although nothing has woken it; in place, by its consumer.
    PollForNothing,
    /// The consumer wants so many elements more.
    Want(usize),
    /// The consumer wants nothing more for now.
    Busy,
    /// Time passes, in nanoseconds, and everything happens at its time.
    Sleep(i64),
    /// Time passes, and nobody is polled meanwhile.
    Jump(i64),
    /// Time passes to the next deadline, or so many nanoseconds before or after it.
    ToDeadline(i64),
    /// The timer wakes the stage too early.
    WakeTimer,
    Change {
        capacity: usize,
        running: Option<usize>,
    },
    Pause,
    Resume,
    /// The limit is in milliseconds.
    Stop(Option<u64>),
    /// The function has been opened.
    Opened,
    /// The function has been closed.
    Closed,
    /// The process dies, and another one goes on from the last checkpoint that reached the sink.
    Crash {
        capacity: usize,
        clock_restarts: bool,
    },
    /// The runtime cancels the stage's task.
    CancelStage,
    /// A request that the stage polls panics.
    PanicInPlace(usize),
    /// The consumer drops the stream.
    Drop,
}

/// A schedule.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) plan: Plan,
    pub(crate) steps: Vec<Step>,
}

impl Script {
    pub(crate) fn random(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let plan = Plan::random(random, seed);
        let mood = Mood::random(random);
        let length = match (plan.is_huge(), plan.setup.is_crowded()) {
            (true, _) => 30,
            (false, true) => 120,
            (false, false) => 10 + random.below(70),
        };
        let mut steps = (0..length).map(|_| mood.step(random, &plan)).collect();
        add_pauses(&mut steps, &mut Random::new(seed ^ !APART_PARTS));
        Self { plan, steps }
    }
}

/// Pauses of some schedules, put in apart from the other steps.
fn add_pauses(steps: &mut Vec<Step>, random: &mut Random) {
    if !random.one_in(3) {
        return;
    }
    for _ in 0..1 + random.below(5) {
        let step = if random.one_in(2) { Step::Pause } else { Step::Resume };
        steps.insert(random.below(steps.len() + 1), step);
    }
}

/// How likely each kind of step is: schedules should differ.
struct Mood {
    weights: [usize; KINDS.len()],
    /// How often attempts fail: in one of so many.
    failures: usize,
}

type Make = fn(&mut Random, &Mood, &Plan) -> Step;

/// Each kind of step with its usual weight, in sixths.
const KINDS: [(Make, usize); 27] = [
    (record, 150),
    (|random, _, _| Step::Offer(Offer::Watermark(random.pick(&[-3, 0, 1, 1, 2, 4, 8]))), 36),
    (|random, _, _| Step::Offer(Offer::Status(random.pick(&[Status::Idle, Status::Active]))), 12),
    (|_, _, _| Step::Offer(Offer::SnapshotBarrier), 18),
    (drain_barrier, 12),
    (records, 24),
    (|_, _, _| Step::EndSource, 2),
    (|_, _, _| Step::WakeSource, 6),
    (|random, mood, _| Step::End(random.below(16), mood.end(random)), 150),
    (|random, _, plan| Step::EndMany(random.pick(&[2, 5, plan.setup.capacity])), 24),
    (|random, _, _| Step::Wake(random.below(16)), 12),
    (|random, _, _| Step::LateWake(random.below(64)), 6),
    (|random, _, _| Step::Poll(random.pick(&[1, 1, 2, 3])), 60),
    (|_, _, _| Step::Settle, 120),
    (|_, _, _| Step::PollForNothing, 18),
    (|random, _, _| Step::Want(random.pick(&[1, 1, 2, 3, 10, 1000])), 90),
    (|_, _, _| Step::Busy, 12),
    (|random, _, _| Step::Sleep(time(random)), 36),
    (|random, _, _| Step::Jump(time(random)), 18),
    (|random, _, _| Step::ToDeadline(random.pick(&[-1, 0, 0, 0, 1, 1_000_000])), 48),
    (|_, _, _| Step::WakeTimer, 6),
    (change, 12),
    (|random, _, plan| Step::Stop(stop_limit(random, plan)), 2),
    (|random, _, _| if random.one_in(2) { Step::Opened } else { Step::Closed }, 24),
    (crash, 12),
    (ending, 3),
    (|random, _, _| Step::Want(1 + random.below(4)), 24),
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

    fn step(&self, random: &mut Random, plan: &Plan) -> Step {
        let mut at = random.below(self.weights.iter().sum());
        for (weight, (make, _)) in self.weights.iter().zip(KINDS) {
            if at < *weight {
                return make(random, self, plan);
            }
            at -= weight;
        }
        unreachable!("the weights have been summed up")
    }

    fn end(&self, random: &mut Random) -> End {
        if random.one_in(self.failures) { random.pick(&End::ALL) } else { End::Success }
    }
}

fn record(random: &mut Random, _: &Mood, plan: &Plan) -> Step {
    if plan.is_huge() && random.one_in(3) {
        return Step::OfferRecords(50 + random.below(400));
    }
    let timestamp = random.perhaps(&[-5, 0, 1, 2, 5, 10]);
    Step::Offer(Offer::Record { key: random.below(3) as u32, timestamp })
}

fn records(random: &mut Random, _: &Mood, plan: &Plan) -> Step {
    Step::OfferRecords(1 + random.below(2 * plan.setup.capacity))
}

fn drain_barrier(random: &mut Random, _: &Mood, plan: &Plan) -> Step {
    let limit = random.perhaps(&[1, 5, 20]).filter(|_| !plan.is_huge());
    Step::Offer(Offer::DrainBarrier { limit })
}

fn time(random: &mut Random) -> i64 {
    let millis = random.pick(&[0, 1, 1, 2, 3, 5, 10, 30]);
    millis * 1_000_000 + random.pick(&[0, 0, 0, 1])
}

fn stop_limit(random: &mut Random, plan: &Plan) -> Option<u64> {
    random.perhaps(&[0, 1, 5, 20]).filter(|_| !plan.is_huge())
}

fn change(random: &mut Random, _: &Mood, plan: &Plan) -> Step {
    let most = plan.setup.max_capacity;
    let running = random.one_in(2).then(|| 1 + random.below(most));
    Step::Change { capacity: 1 + random.below(most), running }
}

fn crash(random: &mut Random, _: &Mood, plan: &Plan) -> Step {
    if plan.is_huge() {
        return Step::Settle;
    }
    let capacity = match random.below(3) {
        0 => plan.setup.capacity,
        1 => 1 + random.below(plan.setup.capacity),
        _ => plan.setup.capacity + random.below(3),
    };
    Step::Crash { capacity, clock_restarts: random.one_in(3) }
}

/// What ends the whole life.
fn ending(random: &mut Random, _: &Mood, plan: &Plan) -> Step {
    match random.below(4) {
        0 => Step::CancelStage,
        1 if !plan.mode.has_request_tasks() => Step::PanicInPlace(random.below(16)),
        2 => Step::Offer(Offer::Panic),
        _ => Step::Drop,
    }
}

/// What calls end with that time out, where the function has a say.
pub(crate) fn choice(random: &mut Random) -> Choice {
    match random.pick(&[Choice::Fail, Choice::Output, Choice::Drop]) {
        Choice::Fail if random.one_in(2) => Choice::FailWith,
        choice => choice,
    }
}

#[derive(Clone, Copy)]
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

/// Whether a set-up of this order keeps records of one key in order.
pub(crate) fn is_by_key(order: Order) -> bool {
    matches!(order, Order::KeyAlone | Order::KeyOverlapping)
}
