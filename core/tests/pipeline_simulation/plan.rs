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

/// The contents of the checkpoints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Keeps {
    Records,
    Positions,
    /// Each life decides anew.
    Either,
}

/// Batches of so many records, which wait for others for at most so many milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batches {
    pub(crate) records: usize,
    pub(crate) within: u64,
    /// A refusal is of the whole batch.
    pub(crate) fail_whole: bool,
}

/// What holds requests up, and how many records one is for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts {
    pub(crate) batches: Option<Batches>,
    /// So many requests may start in 5 ms, and as many at once.
    pub(crate) rate: Option<u64>,
    /// A refusal asks all requests to wait for so many milliseconds.
    pub(crate) pause: Option<u64>,
    /// So many permits: all stages on tasks share them, any other stage has its own.
    pub(crate) permits: Option<usize>,
    pub(crate) max_running: Option<usize>,
    /// In an ordered stage too, one attempt runs at a time for each key (O7).
    pub(crate) one_per_key: bool,
}

impl Parts {
    fn random(random: &mut Random) -> Self {
        let batches = random.one_in(2).then(|| Batches {
            records: 1 + random.below(3),
            within: random.pick(&[0, 0, 4, 20]),
            fail_whole: random.one_in(2),
        });
        Self {
            batches,
            rate: random.one_in(4).then(|| 1 + random.below(3) as u64),
            pause: random.one_in(4).then(|| 1 + random.below(10) as u64),
            permits: random.one_in(3).then(|| 1 + random.below(4)),
            max_running: random.one_in(3).then(|| 1 + random.below(3)),
            one_per_key: random.one_in(2),
        }
    }
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
    /// The source's position is one record behind what it has handed out.
    TellsAPositionTooFar,
    /// The store takes the saves of an earlier owner.
    SavesForAnyOwner,
    /// The store refuses an earlier owner, and says that this is a passing error.
    CallsTheFenceAPassingError,
    /// The sink lets an earlier owner write, pre-commit and commit.
    CommitsForAnyOwner,
    /// A request gets a new id in each life.
    GivesOutNewRequestIds,
    /// A save takes longer than the bound on it, so that progress comes too late.
    SavesTooLate,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) keeps: Keeps,
    pub(crate) records: u32,
    pub(crate) capacity: usize,
    pub(crate) order: Order,
    pub(crate) stages: usize,
    pub(crate) drive: Drive,
    pub(crate) keeps_results: bool,
    pub(crate) interval: Option<Duration>,
    pub(crate) pause: Duration,
    pub(crate) every: Option<u64>,
    pub(crate) drains: bool,
    pub(crate) drain_limit: Option<Duration>,
    pub(crate) medium: Medium,
    /// So many outputs make the sink full.
    pub(crate) sink_room: Option<usize>,
    /// The time of a save beyond its steps.
    pub(crate) save_time: Duration,
    /// The source has watermarks.
    pub(crate) has_watermarks: bool,
    /// Requests for some records take longer than many intervals.
    pub(crate) has_slow_requests: bool,
    /// The request for this record is not answered until nothing fails any more.
    pub(crate) stuck: Option<u32>,
    /// The service refuses some records so many times before it answers.
    pub(crate) refusals: u32,
    /// An adapter drops some outputs.
    pub(crate) drops: bool,
    /// The adapter behind the stage with this number makes two of some outputs.
    pub(crate) multiplies_behind: Option<usize>,
    /// Requests keep a copy of their record.
    pub(crate) clones: bool,
    /// Chances, each of one in that many.
    pub(crate) save_fails: Option<usize>,
    pub(crate) others_fail: Option<usize>,
    /// The newest checkpoint becomes unreadable, if nothing of it was committed.
    pub(crate) decays: Option<usize>,
    /// The time at which each of the first lives is asked to end, in half milliseconds; and the way.
    pub(crate) end_at: Option<(u64, Event)>,
    pub(crate) parts: Parts,
    pub(crate) flaw: Flaw,
}

/// Something that happens to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It dies.
    Crash,
    /// It is frozen, and another owner takes the job over. Later it goes on.
    Freeze,
    /// The next request panics.
    Panic,
    /// The runtime cancels the task of a stage.
    Cancel,
    Drain,
    HandOver,
    CheckpointNow,
}

impl Plan {
    pub(crate) fn random(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let apart = &mut Random::new(!seed); // so that all other plans stay what they were
        let millis = |millis| Duration::from_millis(millis);
        let stages = 1 + random.below(2);
        Self {
            seed,
            keeps: random.pick(&[Keeps::Records, Keeps::Positions, Keeps::Either]),
            records: random.below(10) as u32,
            capacity: 1 + random.below(4),
            order: random.pick(&[Order::Ordered, Order::Unordered, Order::ByKey]),
            stages,
            drive: random.pick(&[Drive::OnTask, Drive::InPlace, Drive::Run]),
            keeps_results: random.one_in(3),
            interval: random.perhaps(&[Duration::from_nanos(1), millis(2), millis(5)]),
            pause: random.perhaps(&[millis(1), millis(10)]).unwrap_or_default(),
            every: random.perhaps(&[1, 2, 3]),
            drains: random.one_in(5),
            drain_limit: random.perhaps(&[millis(1), millis(4)]),
            medium: random.pick(&[Medium::Transactions, Medium::Transactions, Medium::File]),
            sink_room: random.one_in(6).then(|| 1 + random.below(3)),
            save_time: random.perhaps(&[millis(12), millis(200)]).unwrap_or_default(),
            has_watermarks: !random.one_in(3),
            has_slow_requests: random.one_in(3),
            stuck: random.one_in(4).then(|| random.below(10) as u32),
            refusals: random.pick(&[1, 1, 1, 6]),
            drops: random.one_in(4),
            multiplies_behind: random.one_in(4).then(|| random.below(stages)),
            clones: random.one_in(4),
            save_fails: random.perhaps(&[2, 4]),
            others_fail: random.perhaps(&[20, 60]),
            decays: random.perhaps(&[2, 4]),
            end_at: random.perhaps(&[3, 10, 20, 30, 50]).map(|at| {
                let how = [Event::Drain, Event::HandOver, Event::CheckpointNow];
                (at, random.pick(&how))
            }),
            parts: match apart.one_in(2) {
                true => Parts::random(apart),
                false => Parts::default(),
            },
            flaw: Flaw::None,
        }
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

    /// Removes planned failures and ends, so that no life begins twice at the same checkpoint by itself.
    pub(crate) fn calm(self) -> Self {
        let keeps = if self.keeps == Keeps::Either { Keeps::Records } else { self.keeps };
        let (save_fails, others_fail, decays, end_at, stuck) = (None, None, None, None, None);
        Self { keeps, save_fails, others_fail, decays, end_at, stuck, ..self }
    }

    /// Each record takes more attempts than a life has time for, and each life takes up where the last one ended.
    pub(crate) fn that_only_retries(self) -> Self {
        let interval = self.interval.or(Some(Duration::from_millis(2)));
        let (pause, save_time) = (Duration::ZERO, Duration::ZERO);
        let (records, keeps, stages, drains) = (2 + self.records % 3, Keeps::Records, 1, false);
        let (refusals, stuck, has_slow_requests) = (30, None, false);
        let (order, parts) = (Order::Unordered, Parts::default());
        Self {
            parts,
            interval,
            pause,
            save_time,
            records,
            keeps,
            stages,
            drains,
            refusals,
            stuck,
            has_slow_requests,
            order,
            ..self
        }
    }

    /// A checkpoint becomes due by itself and waits for no request, so everything is committed in a bounded time (K11, K13).
    pub(crate) fn is_prompt(&self) -> bool {
        self.interval.is_some() && !self.drains
    }
}
