//! What a schedule is about besides the policy: how the stage is run, and by what kind of runtime.

use std::fmt;

use crate::parts::Parts;
use crate::random::Random;
use crate::setup::{Order, Setup, Storage};

/// How the stage is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    InPlace,
    SpawnedStage,
    RequestsSpawned,
    BothSpawned,
    /// With its consumer, as one future.
    Run,
    RunRequestsSpawned,
}

impl Mode {
    pub(crate) fn has_task(self) -> bool {
        matches!(self, Self::SpawnedStage | Self::BothSpawned)
    }

    pub(crate) fn has_request_tasks(self) -> bool {
        matches!(self, Self::RequestsSpawned | Self::BothSpawned | Self::RunRequestsSpawned)
    }

    pub(crate) fn is_run(self) -> bool {
        matches!(self, Self::Run | Self::RunRequestsSpawned)
    }

    /// Whether the stage is polled whatever its consumer does (L1).
    pub(crate) fn is_driven(self) -> bool {
        self.has_task() || self.is_run()
    }

    /// The same with the consumer in it.
    fn as_run(self) -> Self {
        if self.has_request_tasks() { Self::RunRequestsSpawned } else { Self::Run }
    }
}

/// What the stage lives in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Home {
    Heap,
    /// In place; all requests are polled whenever the stage is.
    PollAll,
    /// In place; those requests are polled that were woken, by a static table.
    WakeTable,
}

impl Home {
    pub(crate) const ALL: [Self; 3] = [Self::Heap, Self::PollAll, Self::WakeTable];

    /// Whether a request that is polled has been woken (L6).
    pub(crate) fn is_exact(self) -> bool {
        self != Self::PollAll
    }

    /// And the source and the function, too.
    pub(crate) fn is_all_exact(self) -> bool {
        self == Self::Heap
    }
}

/// Slots of the storage in place, in usual schedules and in huge ones.
pub(crate) const SLOTS: usize = 7;
pub(crate) const HUGE_SLOTS: usize = 300;

/// What becomes of opening the function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Opening {
    AtOnce,
    /// When the script says so.
    Later,
    Fails,
    FailsLater,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    pub(crate) mode: Mode,
    pub(crate) home: Home,
    /// Values values in, plain outcomes out.
    pub(crate) plain: bool,
    pub(crate) opening: Opening,
    /// Closing waits until the script lets it.
    pub(crate) closes_later: bool,
    /// One in so many requests is ready at its first poll; 0 for none.
    pub(crate) eager: usize,
    /// One in so many requests wakes itself a few times; 0 for none.
    pub(crate) restless: usize,
    /// Some calls that time out end with another output, or are dropped.
    pub(crate) timeout_actions: bool,
    /// The stage has a pool of so many permits, which nobody else uses.
    pub(crate) permits: Option<usize>,
    /// Nanoseconds between two instants at which timers fire.
    pub(crate) resolution: i64,
    pub(crate) fresh_wakers: bool,
    pub(crate) cancels_late: bool,
    /// Nanoseconds that a consumer which is run with the stage takes for an element, at most.
    pub(crate) busy_for: i64,
    /// Whatever is woken is polled before the next step.
    pub(crate) prompt: bool,
    /// Chooses what the script does not say: the order of polls, the nature of requests.
    pub(crate) seed: u64,
}

impl Plan {
    pub(crate) fn random(random: &mut Random, seed: u64) -> Self {
        let mut setup = Setup::random(random);
        if setup.storage == Storage::InPlace {
            setup.storage = Storage::Heap;
        }
        if random.one_in(60) {
            make_huge(&mut setup, random);
        }
        let modes = [Mode::InPlace, Mode::SpawnedStage, Mode::SpawnedStage, Mode::RequestsSpawned];
        let mode = if random.one_in(4) { Mode::BothSpawned } else { random.pick(&modes) };
        let openings = [Opening::Later, Opening::Later, Opening::Fails, Opening::FailsLater];
        let opening = if random.one_in(6) { random.pick(&openings) } else { Opening::AtOnce };
        let (mode, home) = match random.below(4) {
            0 => (in_place(&mut setup, mode), Home::PollAll),
            1 => (in_place(&mut setup, mode), Home::WakeTable),
            _ => (mode, Home::Heap),
        };
        // Drawn apart, so that all other schedules stay what they were.
        let apart = &mut Random::new(seed ^ APART);
        let mode = if apart.one_in(4) { mode.as_run() } else { mode };
        let parts = &mut Random::new(seed ^ APART_PARTS);
        if setup.capacity < HUGE && parts.one_in(3) {
            setup.parts = Some(Parts::random(parts));
        }
        let others = &mut Random::new(seed ^ APART_OTHERS);
        setup.one_per_key = setup.order == Order::Ordered && others.one_in(3);
        let permits = others.one_in(4).then(|| 1 + others.below(4));
        let busy_for = match setup.capacity {
            HUGE.. => 0, // it would take too many steps
            _ => apart.pick(&[0, 0, 1_000_000, 20_000_000]),
        };
        Self {
            setup,
            mode,
            home,
            plain: random.one_in(8),
            opening,
            closes_later: random.one_in(6),
            eager: random.pick(&[0, 0, 2, 4]),
            restless: random.pick(&[0, 0, 3]),
            timeout_actions: random.one_in(2),
            permits,
            resolution: if random.one_in(4) { 1_000_000 } else { 1 },
            fresh_wakers: random.one_in(2),
            cancels_late: random.one_in(2),
            busy_for,
            prompt: random.one_in(3),
            seed,
        }
    }

    pub(crate) fn is_huge(&self) -> bool {
        self.setup.capacity >= HUGE
    }

    /// Slots of the storage in place.
    pub(crate) fn slots(&self) -> usize {
        match self.home {
            Home::Heap => 0,
            _ if self.is_huge() => HUGE_SLOTS,
            _ => SLOTS,
        }
    }

    /// Random numbers for one thing, the same whatever else there is in the schedule.
    pub(crate) fn random_for(&self, number: u32, attempt: u32) -> Random {
        Random::new(self.seed ^ (u64::from(number) << 32 | u64::from(attempt) << 8))
    }
}

/// Leaves the schedules that were found to be wrong once as they were.
const APART: u64 = 0x7275_6E01;
const APART_OTHERS: u64 = 0x7065_726D;
pub(crate) const APART_PARTS: u64 = 0x7061_7283;

/// From this capacity on there can be more to do than one turn's budget allows.
const HUGE: usize = 100;

/// The settings for a stage without an allocator, and the way to run it that is nearest to `mode`.
fn in_place(setup: &mut Setup, mode: Mode) -> Mode {
    if setup.capacity < HUGE {
        setup.capacity = setup.capacity.min(SLOTS);
        setup.max_capacity = setup.max_capacity.min(SLOTS);
    }
    if mode.has_request_tasks() { Mode::RequestsSpawned } else { Mode::InPlace }
}

fn make_huge(setup: &mut Setup, random: &mut Random) {
    let order = if random.one_in(2) { Order::Ordered } else { Order::Unordered };
    *setup = Setup::plain(order, HUGE + random.below(200));
    if random.one_in(3) {
        setup.timeout = Some(20);
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |yes, what| if yes { what } else { "" };
        write!(f, "{:?} ({:?}), {}", self.mode, self.home, self.setup)?;
        f.write_str(said(self.plain, ", plain values"))?;
        if self.opening != Opening::AtOnce {
            write!(f, ", opening: {:?}", self.opening)?;
        }
        f.write_str(said(self.closes_later, ", closes later"))?;
        f.write_str(said(self.eager > 0, ", some requests are ready at once"))?;
        f.write_str(said(self.restless > 0, ", some requests wake themselves"))?;
        if let Some(permits) = self.permits {
            write!(f, ", {permits} permits")?;
        }
        f.write_str(said(self.timeout_actions, ", actions on timeouts"))?;
        f.write_str(said(self.resolution > 1, ", timers of milliseconds"))?;
        f.write_str(said(self.fresh_wakers, ", fresh wakers"))?;
        f.write_str(said(self.cancels_late, ", late cancellation"))?;
        f.write_str(said(self.busy_for > 0 && self.mode.is_run(), ", a busy consumer"))?;
        f.write_str(said(self.prompt, ", prompt"))
    }
}
