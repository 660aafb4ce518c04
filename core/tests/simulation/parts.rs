//! The optional parts of a policy: rates, pauses that mistakes ask for, timeouts of the records' own, a limit that adapts, batches.

use std::fmt;
use std::time::Duration;

use inflight_core::{
    AdaptiveLimit, AsyncWait, BatchSize, Failure, JudgeBy, PauseOn, Rate, RateLimit, TimeoutBy,
    Verdict, WeighBy,
};

use crate::limit::Follow;
use crate::random::Random;
use crate::values::{Record, own_timeout, pause_after, verdict, weight};

/// So many `tokens` come in `period` milliseconds, and there are never more than `burst`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tokens {
    pub(crate) tokens: u64,
    pub(crate) period: u64,
    pub(crate) burst: u64,
}

/// How large a batch is at most, and for how many milliseconds a record waits for others (B1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Size {
    pub(crate) records: usize,
    pub(crate) weight: u64,
    pub(crate) within: u64,
}

/// A policy that has them has all but batches; a rate or a limit that is `None` never holds an attempt up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Parts {
    /// The rate at which attempts start.
    pub(crate) rate: Option<Tokens>,
    /// The same, where an attempt takes as many tokens as its record weighs.
    pub(crate) weighed: Option<Tokens>,
    /// Mistakes may ask for a pause, and so may timeouts.
    pub(crate) pauses: bool,
    /// Records may have timeouts of their own.
    pub(crate) own_timeouts: bool,
    /// The limit of running requests follows samples, and is never above this (A1).
    pub(crate) limit: Option<usize>,
    /// A request is for several records.
    pub(crate) batch: Option<Size>,
}

type Weight = fn(&Record) -> u64;
type PauseAfter = fn(&Failure<u32>) -> Option<Duration>;
type OwnTimeout = fn(&Record) -> Option<Duration>;
type Judge = fn(&Failure<u32>) -> Verdict;

/// The parts as the policy's type has them.
pub(crate) type Full = (Waits, AdaptiveLimit<Follow, JudgeBy<Judge>>);
type Waits =
    (((((), RateLimit), RateLimit<WeighBy<Weight>>), PauseOn<PauseAfter>), TimeoutBy<OwnTimeout>);

/// With batches.
pub(crate) type Batched = (Full, BatchSize<WeighBy<Weight>>);

impl Parts {
    pub(crate) const NONE: Self = Self {
        rate: None,
        weighed: None,
        pauses: false,
        own_timeouts: false,
        limit: None,
        batch: None,
    };

    pub(crate) fn random(random: &mut Random) -> Self {
        Self {
            rate: random.one_in(3).then(|| Tokens::random(random)),
            weighed: random.one_in(3).then(|| Tokens::random(random)),
            pauses: random.one_in(2),
            own_timeouts: random.one_in(2),
            ..Self::NONE
        }
    }

    /// With a limit, and batches, or without.
    pub(crate) fn and_more(self, random: &mut Random) -> Self {
        let limit = random.one_in(3).then(|| 1 + random.below(4));
        let batch = random.one_in(2).then(|| Size::random(random));
        Self { limit, batch, ..self }
    }

    pub(crate) fn policy<R, K>(&self, policy: AsyncWait<R, K>) -> AsyncWait<R, K, Full> {
        let weight: Weight = if self.weighed.is_some() { weight } else { |_| 0 };
        let pause: PauseAfter = match self.pauses {
            true => |failure| pause_after(failure).map(Duration::from_millis),
            false => |_| None,
        };
        let timeout: OwnTimeout = match self.own_timeouts {
            true => |record| own_timeout(record.number).map(Duration::from_millis),
            false => |_| None,
        };
        policy
            .rate(Tokens::rate(self.rate))
            .rate_by(Tokens::rate(self.weighed), weight)
            .pause_on(pause)
            .timeout_by(timeout)
            .limit_by(Follow::up_to(self.limit), verdict as Judge)
    }
}

impl Size {
    fn random(random: &mut Random) -> Self {
        Self {
            records: random.pick(&[1, 2, 2, 3, 3, 5]),
            weight: random.pick(&[u64::MAX, u64::MAX, 1, 2, 4]),
            within: random.pick(&[0, 0, 3, 10]),
        }
    }

    pub(crate) fn policy<R, K>(self, policy: AsyncWait<R, K, Full>) -> AsyncWait<R, K, Batched> {
        let size = BatchSize::records(self.records).weight(self.weight, weight as Weight);
        policy.batch(size.within(Duration::from_millis(self.within)))
    }
}

impl Tokens {
    /// A token comes after a whole number of nanoseconds.
    fn random(random: &mut Random) -> Self {
        let (tokens, period) = random.pick(&[(1, 1), (1, 5), (2, 10), (3, 6), (4, 1), (10, 40)]);
        Self { tokens, period, burst: random.pick(&[1, 1, 2, 3, 5]) }
    }

    fn rate(tokens: Option<Self>) -> Rate {
        match tokens {
            Some(Self { tokens, period, burst }) => {
                Rate::per(Duration::from_millis(period), tokens).burst(burst)
            }
            // More than can start in a schedule.
            None => Rate::per(Duration::from_secs(1), 1_000_000_000),
        }
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(", optional parts")?;
        for (tokens, what) in [(self.rate, "attempts"), (self.weighed, "weights")] {
            if let Some(Tokens { tokens, period, burst }) = tokens {
                write!(f, ", {what} at {tokens} in {period} ms and {burst} at once")?;
            }
        }
        f.write_str(if self.pauses { ", mistakes ask for pauses" } else { "" })?;
        f.write_str(if self.own_timeouts { ", timeouts of the records' own" } else { "" })?;
        if let Some(most) = self.limit {
            write!(f, ", a limit that adapts, up to {most}")?;
        }
        if let Some(Size { records, weight, within }) = self.batch {
            write!(f, ", batches of {records}, of a weight of {weight}, within {within} ms")?;
        }
        Ok(())
    }
}
