//! The plan of one stream: all random choices, drawn from one seed.

use std::time::Duration;

use inflight::{Order, Rate};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt, SeedableRng};

/// The number of keys.
pub const KEYS: usize = 5;

/// A stage with its source, its requests and its consumer. Two streams of one plan differ only in the interleaving of
/// their threads.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub on: On,
    pub way: Way,
    pub order: Order,
    pub capacity: usize,
    pub max_capacity: usize,
    pub max_running: Option<usize>,
    pub records: u32,
    /// The probability of a watermark or a status before each record, and after each other one.
    pub controls: f64,
    pub asks: Asks,
    /// One record in that many fails at first; the record decides the number of its failures.
    pub fails: Option<u32>,
    pub retries: u32,
    pub backoff: Duration,
    /// The record whose request panics.
    pub panics: Option<u32>,
    /// Some requests from this record on are never answered. The consumer does not wait for them.
    pub never_from: Option<u32>,
    /// The rate at which attempts start, of some streams.
    pub rate: Option<Rate>,
    pub timeout: Option<Duration>,
    pub attempt_timeout: Option<Duration>,
    pub late: Late,
    pub supply: Supply,
    /// The function's opening and closing wait for another thread.
    pub opens_slowly: bool,
    pub habit: Habit,
    /// The consumer has a thread of its own and is not a task of the runtime.
    pub own_thread: bool,
    /// A request is for several records.
    pub batches: Option<Batches>,
    /// Requests need permits of a pool that other streams use at the same time.
    pub has_permits: bool,
}

/// Batches of so many records, which wait for others for so long.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    pub records: usize,
    pub within: Duration,
}

impl Batches {
    fn pick(random: &mut StdRng) -> Self {
        let within = Duration::from_micros(pick(random, &[(3, 0), (1, 200), (1, 1000)]));
        Self { records: random.random_range(1..=10), within }
    }
}

/// The runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Tokio { workers: usize },
    Smol { threads: usize },
}

impl On {
    pub const ALL: [Self; 4] = [
        Self::Tokio { workers: 1 },
        Self::Tokio { workers: 2 },
        Self::Tokio { workers: 4 },
        Self::Smol { threads: 3 },
    ];
}

/// The parts that run on tasks of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Stage,
    Requests,
    Both,
    /// The stage, and that many instances of its function.
    Instances(usize),
}

/// The way in which a request gets its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Ready,
    /// Pending that many times; it wakes itself at once, or yields to the runtime.
    Yield {
        times: u32,
        at_once: bool,
    },
    Block(Duration),
    Sleep(Duration),
    /// From another thread.
    Elsewhere,
    /// Never: the request has to be cancelled.
    Never,
    /// A panic in the future, or before there is one.
    Panic,
}

/// The requests of a stream: all of one kind, or a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    All(Ask),
    Mixed,
}

/// The end of a call that has timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    Fails,
    IsDropped,
    HasAnother,
}

/// The source of the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// All records are ready.
    Here,
    /// All records are ready, but the source yields after each that many.
    Pausing(u32),
    /// Another thread sends that many at a time.
    Sent(u32),
    /// Another thread sends that many at a time; after the last record the source stays pending.
    Open(u32),
}

/// The behaviour of the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Takes the outcomes, and nothing else wakes the stage.
    Takes,
    /// Works after each that many.
    Stalls { every: u32, stall: Stall },
    /// Drops a pending `next`, does something else, and calls it again.
    GivesUp,
    /// Changes the limits after each that many, or lets another thread do it.
    Steers { every: u32, elsewhere: bool },
    /// Stops the stage after that many, or lets another thread do it, and takes the remaining outcomes; the limit is
    /// in milliseconds.
    Stops { after: u32, within: Option<u64>, elsewhere: bool },
    /// Drops the stage after that many.
    Leaves { after: u32 },
    /// Is cancelled when this attempt begins, at whatever point it is.
    IsCancelled { at_attempt: u32 },
}

impl Habit {
    /// The number of records, or attempts, after which records in flight need not have an outcome.
    fn ends_at(self) -> Option<u32> {
        match self {
            Self::Leaves { after } | Self::Stops { after, within: Some(_), .. } => Some(after),
            Self::IsCancelled { at_attempt } => Some(at_attempt),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    Yield,
    Sleep(Duration),
    Block(Duration),
}

impl Plan {
    /// Makes the plan for a seed. The last two bits select the runtime.
    pub fn of(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let random = &mut random;
        let capacity = pick(random, &[(3, 1), (6, 4), (3, 100), (1, 2), (1, 16)]);
        let asks = pick_asks(random);
        let records = pick_records(random, asks, capacity);
        let [fails, panics, short, long] = [0.1, 0.05, 0.06, 0.1].map(|p| random.random_bool(p));
        let max_running = random.random_bool(0.1).then(|| random.random_range(1..=capacity));
        // With such a limit, requests that never end could keep others from starting, for which the consumer waits.
        let may_never_end = max_running.is_none() && random.random_bool(0.5);
        let steers = random.random_bool(0.06);
        let habit = if steers { pick_steering(random) } else { pick_habit(random, records) };
        let supply = pick_supply(random, habit);
        let late =
            match pick(random, &[(1, Late::Fails), (1, Late::IsDropped), (1, Late::HasAnother)]) {
                // The consumer never counts dropped records, so it might never stop the stage.
                Late::IsDropped if matches!(supply, Supply::Open(_)) => Late::Fails,
                late => late,
            };
        let ms = Duration::from_millis;
        // Drawn apart, so that all other choices stay what they were. It is high enough for a stream to end soon.
        let apart = &mut StdRng::seed_from_u64(!seed);
        let rate = apart.random_bool(0.1).then(|| {
            let burst = apart.random_range(1..=4);
            Rate::per(ms(1), apart.random_range(1..=20)).burst(burst)
        });
        let batches = apart.random_bool(0.25).then(|| Batches::pick(apart));
        let has_permits = apart.random_bool(0.2);
        // A request that never ends, or panics, would do so for the other records of its batch, or keep its permit.
        let may_never_end = may_never_end && batches.is_none() && !has_permits;
        let panics = panics && batches.is_none();
        Self {
            seed,
            on: On::ALL[(seed % 4) as usize],
            way: match pick_way(random) {
                Way::Instances(_) if batches.is_some() || rate.is_some() => Way::Both,
                way => way,
            },
            order: pick_order(random),
            capacity,
            max_capacity: if steers { 4 * capacity } else { capacity },
            max_running,
            records,
            controls: pick(random, &[(6, 0.0), (3, 0.15), (1, 0.6)]),
            asks,
            fails: fails.then(|| random.random_range(2..=10)),
            retries: random.random_range(0..=2),
            backoff: Duration::from_micros(random.random_range(0..=300)),
            panics: panics.then(|| random.random_range(0..records)),
            never_from: habit.ends_at().filter(|_| may_never_end),
            rate,
            // A long timeout never matters to a call, but its timer is armed, and would later wake a stage that has
            // missed a wake-up.
            timeout: short.then_some(ms(1)).or(long.then_some(ms(60_000))),
            attempt_timeout: (short && random.random_bool(0.3)).then_some(ms(1)),
            late,
            supply,
            opens_slowly: random.random_bool(0.1),
            habit,
            own_thread: random.random_bool(0.6),
            batches,
            has_permits,
        }
    }

    /// Returns true if a panic is one record's failure.
    pub fn contains_panics(&self) -> bool {
        matches!(self.way, Way::Requests | Way::Both)
    }

    /// The number of instances of the function.
    pub fn instances(&self) -> usize {
        if let Way::Instances(count) = self.way { count } else { 1 }
    }

    /// Returns true if a call or an attempt may time out.
    pub fn is_impatient(&self) -> bool {
        self.timeout.is_some_and(|timeout| timeout < Duration::from_secs(1))
    }

    /// Returns true if there are control elements between the records.
    pub fn has_elements(&self) -> bool {
        self.controls > 0.0
    }

    pub fn may_drop_records(&self) -> bool {
        self.is_impatient() && self.late == Late::IsDropped
    }

    /// Returns true if calls may be shut down before they have an outcome.
    pub fn may_shut_down(&self) -> bool {
        matches!(self.habit, Habit::Stops { within: Some(_), .. })
    }
}

fn pick<T: Copy>(random: &mut StdRng, weighted: &[(u32, T)]) -> T {
    let chosen = weighted.choose_weighted(random, |(weight, _)| *weight);
    chosen.expect("there is a choice").1
}

fn pick_way(random: &mut StdRng) -> Way {
    let instances = [(1, Way::Instances(1)), (4, Way::Instances(2)), (1, Way::Instances(3))];
    let ways = [(6, Way::Stage), (2, Way::Requests), (4, Way::Both)];
    pick(random, &ways.into_iter().chain(instances).collect::<Vec<_>>())
}

fn pick_order(random: &mut StdRng) -> Order {
    let orders = [Order::Ordered, Order::Unordered, Order::ByKeyOverlapping, Order::ByKey];
    pick(random, &[3, 2, 1, 1].into_iter().zip(orders).collect::<Vec<_>>())
}

/// A request that blocks its thread for 300 us takes most of the time, although few streams have such requests.
fn pick_asks(random: &mut StdRng) -> Asks {
    let yields = Asks::All(Ask::Yield { times: random.random_range(1..=2), at_once: false });
    let wakes = Asks::All(Ask::Yield { times: random.random_range(1..=2), at_once: true });
    let sleeps = Asks::All(Ask::Sleep(Duration::from_micros(random.random_range(1..=1000))));
    let blocks = Asks::All(Ask::Block(Duration::from_micros(300)));
    let (ready, elsewhere) = (Asks::All(Ask::Ready), Asks::All(Ask::Elsewhere));
    let kinds = [yields, blocks, elsewhere, Asks::Mixed, wakes, ready, sleeps];
    pick(random, &[30, 8, 20, 15, 10, 10, 2].into_iter().zip(kinds).collect::<Vec<_>>())
}

/// Many short streams rather than few long ones, because faults show at the ends of a stream, and at the first and
/// last record in flight. With threads that block, they show in the middle as well.
fn pick_records(random: &mut StdRng, asks: Asks, capacity: usize) -> u32 {
    match asks {
        Asks::All(Ask::Block(_)) => 150,
        Asks::All(Ask::Sleep(_)) => (10 * capacity as u32).min(200),
        _ => pick(random, &[(1, 1), (12, 20), (2, 60), (1, 200)]),
    }
}

/// The request of one record.
pub fn pick_ask(random: &mut StdRng, asks: Asks) -> Ask {
    let Asks::All(ask) = asks else {
        let yields = Ask::Yield { times: 1, at_once: random.random_bool(0.5) };
        let [block, sleep] = [300, 500].map(Duration::from_micros);
        let (block, sleep) = (Ask::Block(block), Ask::Sleep(sleep));
        return pick(
            random,
            &[(8, Ask::Ready), (8, yields), (8, Ask::Elsewhere), (2, block), (1, sleep)],
        );
    };
    ask
}

fn pick_supply(random: &mut StdRng, habit: Habit) -> Supply {
    let some = random.random_range(1..=10);
    if matches!(habit, Habit::Stops { .. }) && random.random_bool(0.6) {
        return Supply::Open(some);
    }
    pick(random, &[(6, Supply::Here), (1, Supply::Pausing(some)), (3, Supply::Sent(some))])
}

fn pick_habit(random: &mut StdRng, records: u32) -> Habit {
    let every = random.random_range(3..=30);
    let after = random.random_range(0..=records);
    let short = Duration::from_micros(random.random_range(1..=300));
    let stalls = [Stall::Yield, Stall::Sleep(short), Stall::Block(short)];
    let stall = *stalls.choose(random).expect("there is a choice");
    let within = random.random_bool(0.6).then(|| random.random_range(0..=1));
    let habits = [
        Habit::Takes,
        Habit::Stalls { every, stall },
        Habit::GivesUp,
        Habit::Stops { after, within, elsewhere: random.random_bool(0.7) },
        Habit::Leaves { after },
        Habit::IsCancelled { at_attempt: after },
    ];
    pick(random, &[24, 4, 1, 2, 1, 1].into_iter().zip(habits).collect::<Vec<_>>())
}

fn pick_steering(random: &mut StdRng) -> Habit {
    Habit::Steers { every: random.random_range(1..=10), elsewhere: random.random_bool(0.5) }
}
