//! The rows of a comparison: their names and their measurements.

use std::fmt;
use std::marker::PhantomData;

use anyhow::Result;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::cells::Pick;
use crate::contenders::{Contender, Task};
use crate::meter::{Amount, Clock, Measured};
use crate::runtimes::{Rt, Smol, Tokio};
use crate::workloads::{BehindCache, Elsewhere, NAP, PendingOnce, Polled, ReadyAtOnce, Sleeping};

/// The runtime of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Where {
    /// tokio on one thread.
    Tokio,
    /// tokio with two workers.
    TokioMulti,
    /// smol on one thread.
    Smol,
}

impl Where {
    /// All of them.
    pub(crate) const ALL: &[Self] = &[Self::Tokio, Self::TokioMulti, Self::Smol];
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tokio => "tokio",
            Self::TokioMulti => "tokio-multi",
            Self::Smol => "smol",
        })
    }
}

/// The request of each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Ready at once.
    Ready,
    /// Wakes itself once.
    PendingOnce,
    /// Completed by another task in random order.
    Random,
    /// A cache in front: 10 % of the requests are as in `random`, the others are ready at once.
    #[value(name = "mix-10")]
    Mix10,
    /// The same with 1 %.
    #[value(name = "mix-1")]
    Mix1,
    /// Completed by another task, the latest first.
    Reverse,
    /// Completed by another task in random order, when the window is full.
    Shuffled,
    /// A sleep.
    #[value(name = "sleep-10ms")]
    Sleep,
}

impl What {
    /// The workloads of a comparison.
    pub(crate) const ALL: &[Self] =
        &[Self::Ready, Self::PendingOnce, Self::Random, Self::Mix10, Self::Mix1, Self::Sleep];

    /// True if there is a cache in front.
    pub(crate) fn is_mix(self) -> bool {
        matches!(self, Self::Mix10 | Self::Mix1)
    }

    fn responder(self) -> Option<Pick> {
        match self {
            Self::Random | Self::Mix10 | Self::Mix1 => Some(Pick::Random),
            Self::Reverse => Some(Pick::Reverse),
            Self::Shuffled => Some(Pick::Shuffled),
            _ => None,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ready => "ready",
            Self::PendingOnce => "pending-once",
            Self::Random => "random",
            Self::Mix10 => "mix-10",
            Self::Mix1 => "mix-1",
            Self::Reverse => "reverse",
            Self::Shuffled => "shuffled",
            Self::Sleep => "sleep-10ms",
        })
    }
}

/// Rows that are measured in turn and compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The runtime.
    pub(crate) runtime: Where,
    /// The workload.
    pub(crate) what: What,
    /// True if each request has a timeout.
    pub(crate) timeout: bool,
    /// The capacity.
    pub(crate) capacity: usize,
}

impl Group {
    /// The workload's name in a row.
    pub(crate) fn workload(&self) -> String {
        format!("{}{}", self.what, if self.timeout { "+timeout" } else { "" })
    }

    /// True if the contender has a row here.
    pub(crate) fn has(&self, contender: Contender) -> bool {
        let on_tokio = self.runtime != Where::Smol;
        contender.takes_part(on_tokio, self.what == What::Sleep, self.timeout)
    }

    /// The number of records that take about `seconds`, if one takes `ns`.
    pub(crate) fn amount(&self, contender: Contender, ns: f64, seconds: f64) -> Amount {
        let at_once = if contender.is_concurrent() { self.capacity as u64 } else { 1 };
        if self.what == What::Sleep {
            // Whole laps.
            let laps = (seconds / NAP.as_secs_f64()).ceil().max(4.0) as u64;
            return Amount { around: at_once, timed: laps * at_once };
        }
        // Whole windows, because some contenders hand out one window after the other.
        let windows = |records: u64| records.div_ceil(at_once) * at_once;
        let timed = windows(((seconds * 1e9 / ns) as u64).max(1_000).max(2 * at_once));
        Amount { around: windows((timed / 20).max(1)), timed }
    }

    /// True if one thread does all the work.
    pub(crate) fn on_one_thread(&self) -> bool {
        self.runtime != Where::TokioMulti
    }

    /// Runs one sample.
    pub(crate) fn sample(&self, contender: Contender, amount: Amount) -> Result<Measured> {
        let (capacity, timeout) = (self.capacity, self.timeout);
        let alone = self.on_one_thread() && self.what != What::Sleep;
        let clock = if alone { Clock::Thread } else { Clock::Wall };
        let responder = self.what.responder();
        let task = Task { contender, capacity, amount, timeout, clock, responder };
        match self.runtime {
            Where::Tokio => self.run(task, Tokio { workers: 0 }),
            Where::TokioMulti => self.run(task, Tokio { workers: 2 }),
            Where::Smol => self.run(task, Smol),
        }
    }

    fn run<R: Rt>(&self, task: Task, runtime: R) -> Result<Measured> {
        match self.what {
            What::Ready => task.run(runtime, ReadyAtOnce),
            What::PendingOnce => task.run(runtime, PendingOnce),
            What::Random | What::Reverse | What::Shuffled => task.run(runtime, Elsewhere),
            What::Mix10 => task.run(runtime, BehindCache { misses_of_100: 10 }),
            What::Mix1 => task.run(runtime, BehindCache { misses_of_100: 1 }),
            What::Sleep => task.run(runtime, Polled(Sleeping(PhantomData::<R>))),
        }
    }
}

/// A row of the results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// `tokio`, `tokio-multi`, `smol`.
    pub(crate) runtime: String,
    /// `ready`, `ready+timeout`, ..
    pub(crate) workload: String,
    /// The number of requests in flight.
    pub(crate) capacity: usize,
    /// The contender.
    pub(crate) contender: String,
    /// The median of all rounds.
    pub(crate) ns_per_record: f64,
    /// The lowest of all rounds.
    pub(crate) ns_lowest: f64,
    /// The highest of all rounds.
    pub(crate) ns_highest: f64,
    /// Allocations per record, once the window is full.
    pub(crate) allocations_per_record: f64,
    /// The largest number of bytes allocated at once, including the set-up.
    pub(crate) peak_bytes: u64,
    /// Polls per request, if they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) polls_per_record: Option<f64>,
}
