//! What a job is like, from a seed.

use std::time::Duration;

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    Ordered,
    Unordered,
    ByKey,
}

/// Who drives the stages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Drive {
    OnTask,
    InPlace,
    /// Each is run with a consumer that takes its time, and hands on.
    Run,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Medium {
    /// Transactions, each under the number of its checkpoint.
    Transactions,
    /// A file that is cut back.
    File,
}

/// Something that is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Flaw {
    None,
    /// The sink commits while the checkpoint is not durable yet.
    CommitsBeforeTheSave,
    /// The store says that a checkpoint is durable when it is not.
    SavesTooLittle,
    /// The sink describes only what was written since the last pre-commit, although that failed.
    ForgetsFailedCheckpoints,
    /// While it recovers, the sink commits a transaction in two steps: a crash in between loses it.
    CommitsInTwoSteps,
    /// The store writes a checkpoint anew when it is loaded: a crash on the way damages it.
    RewritesWhatItLoads,
    /// The source takes a seek to where it was sent before for one that it has done.
    GoesOnBehindAnEarlierSeek,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) records: u32,
    pub(crate) capacity: usize,
    pub(crate) order: Order,
    pub(crate) stages: usize,
    pub(crate) drive: Drive,
    pub(crate) keeps_results: bool,
    pub(crate) interval: Option<Duration>,
    pub(crate) every: Option<u64>,
    pub(crate) drains: bool,
    pub(crate) drain_limit: Option<Duration>,
    pub(crate) medium: Medium,
    /// Chances of one in so many.
    pub(crate) save_fails: Option<usize>,
    pub(crate) others_fail: Option<usize>,
    /// The newest checkpoint cannot be read any more, if nothing of it was committed.
    pub(crate) decays: Option<usize>,
    /// The step at which somebody stops the first life.
    pub(crate) stop_at: Option<u64>,
    pub(crate) flaw: Flaw,
}

impl Plan {
    pub(crate) fn random(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let millis = |millis| Duration::from_millis(millis);
        Self {
            seed,
            records: random.below(10) as u32,
            capacity: 1 + random.below(4),
            order: random.pick(&[Order::Ordered, Order::Unordered, Order::ByKey]),
            stages: 1 + random.below(2),
            drive: if random.one_in(2) { Drive::OnTask } else { Drive::InPlace },
            keeps_results: random.one_in(3),
            interval: random.perhaps(&[Duration::from_nanos(1), millis(2), millis(5)]),
            every: random.perhaps(&[1, 2, 3]),
            drains: random.one_in(4),
            drain_limit: random.perhaps(&[millis(1), millis(4)]),
            medium: random.pick(&[Medium::Transactions, Medium::Transactions, Medium::File]),
            save_fails: random.perhaps(&[2, 4]),
            others_fail: random.perhaps(&[20, 60]),
            stop_at: random.perhaps(&[3, 10, 20, 30, 50]),
            decays: random.perhaps(&[2, 4]),
            flaw: Flaw::None,
        }
        .with_runs(random)
    }

    /// Drawn last, so that all other jobs stay what they were.
    fn with_runs(self, random: &mut Random) -> Self {
        if random.one_in(3) { Self { drive: Drive::Run, ..self } } else { self }
    }

    pub(crate) fn with(self, flaw: Flaw) -> Self {
        let medium = match flaw {
            Flaw::CommitsInTwoSteps
            | Flaw::CommitsBeforeTheSave
            | Flaw::ForgetsFailedCheckpoints => Medium::Transactions,
            _ => self.medium,
        };
        Self { flaw, medium, ..self }
    }

    /// Without anything that fails or stops by itself.
    pub(crate) fn calm(self) -> Self {
        Self { save_fails: None, others_fail: None, decays: None, stop_at: None, ..self }
    }

    /// What a record comes to, by the function below, once for each stage.
    pub(crate) fn outcome(&self, record: u32) -> u32 {
        (0..self.stages).fold(record, |value, _| match answer(value) {
            Ok(value) => value,
            Err(error) => error,
        })
    }

    /// What has to be in the sink in the end, in the order of the input.
    pub(crate) fn outcomes(&self) -> Vec<u32> {
        (0..self.records).map(|record| self.outcome(record)).collect()
    }
}

/// What the service says. Failures are outcomes as well.
pub(crate) fn answer(value: u32) -> Result<u32, u32> {
    if value % 5 == 3 { Err(value * 10 + 1) } else { Ok(value * 10) }
}

/// Whether the first attempt is refused, and only another one is answered.
pub(crate) fn is_refused_first(value: u32) -> bool {
    value % 4 == 2
}
