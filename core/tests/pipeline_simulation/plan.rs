//! The plan of a job, drawn from a seed.

use std::time::Duration;

use crate::random::Random;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    Ordered,
    Unordered,
    ByKey,
}

/// The way in which the stages are driven.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Drive {
    OnTask,
    InPlace,
    /// Each stage runs with a slow consumer that passes its elements on.
    Run,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Medium {
    /// A sink with transactions, each under the number of its checkpoint.
    Transactions,
    /// A file that is truncated.
    File,
}

/// A fault that is planted on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Flaw {
    None,
    /// The sink commits before the checkpoint is durable.
    CommitsBeforeTheSave,
    /// The store reports a checkpoint as durable before it is.
    SavesTooLittle,
    /// The sink describes only the output since the last pre-commit, although that checkpoint failed.
    ForgetsFailedCheckpoints,
    /// During recovery the sink commits a transaction in two steps: a crash in between loses it.
    CommitsInTwoSteps,
    /// The store rewrites a checkpoint when it is loaded: a crash in between damages it.
    RewritesWhatItLoads,
    /// The source ignores a seek to the same position as in an earlier life.
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
    /// Chances, each of one in that many.
    pub(crate) save_fails: Option<usize>,
    pub(crate) others_fail: Option<usize>,
    /// The newest checkpoint becomes unreadable, if nothing of it was committed.
    pub(crate) decays: Option<usize>,
    /// The step at which the first life is stopped.
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

    /// Drawn last, so that older seeds still give the same jobs.
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

    /// Removes planned failures and stops.
    pub(crate) fn calm(self) -> Self {
        Self { save_fails: None, others_fail: None, decays: None, stop_at: None, ..self }
    }

    /// The value of a record after all stages: the function below, applied once for each stage.
    pub(crate) fn outcome(&self, record: u32) -> u32 {
        (0..self.stages).fold(record, |value, _| match answer(value) {
            Ok(value) => value,
            Err(error) => error,
        })
    }

    /// The expected contents of the sink at the end, in the order of the input.
    pub(crate) fn outcomes(&self) -> Vec<u32> {
        (0..self.records).map(|record| self.outcome(record)).collect()
    }
}

/// The service's answer. Failures are outcomes as well.
pub(crate) fn answer(value: u32) -> Result<u32, u32> {
    if value % 5 == 3 { Err(value * 10 + 1) } else { Ok(value * 10) }
}

/// Returns true if the service refuses the first attempt and answers the next one.
pub(crate) fn is_refused_first(value: u32) -> bool {
    value % 4 == 2
}
