//! The optional parts of a policy: rates, pauses that mistakes ask for, timeouts of the records' own.

use std::fmt;
use std::time::Duration;

use inflight_core::{AsyncWait, Failure, PauseOn, Rate, RateLimit, TimeoutBy, WeighBy};

use crate::random::Random;
use crate::values::{Record, own_timeout, pause_after, weight};

/// So many `tokens` come in `period` milliseconds, and there are never more than `burst`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tokens {
    pub(crate) tokens: u64,
    pub(crate) period: u64,
    pub(crate) burst: u64,
}

/// A policy that has them has all four; a rate that is `None` never holds an attempt up.
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
}

type Weight = fn(&Record) -> u64;
type PauseAfter = fn(&Failure<u32>) -> Option<Duration>;
type OwnTimeout = fn(&Record) -> Option<Duration>;

/// The parts as the policy's type has them.
pub(crate) type Full =
    (((((), RateLimit), RateLimit<WeighBy<Weight>>), PauseOn<PauseAfter>), TimeoutBy<OwnTimeout>);

impl Parts {
    pub(crate) const NONE: Self =
        Self { rate: None, weighed: None, pauses: false, own_timeouts: false };

    pub(crate) fn random(random: &mut Random) -> Self {
        Self {
            rate: random.one_in(3).then(|| Tokens::random(random)),
            weighed: random.one_in(3).then(|| Tokens::random(random)),
            pauses: random.one_in(2),
            own_timeouts: random.one_in(2),
        }
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
        f.write_str(if self.own_timeouts { ", timeouts of the records' own" } else { "" })
    }
}
