//! The settings of a schedule, and the policy with the same settings for the operator.

use std::fmt;
use std::time::Duration;

use inflight_core::{
    AsyncWait, AttemptInfo, ConfigError, ExponentialBackoff, FinishPolicy, FixedDelay, NoRetry,
    RetryBudget, RetryStrategy,
};

use crate::features;
use crate::parts::{Parts, Size};
use crate::random::Random;
use crate::values::{Answer, Record, dictated, is_not_yet, is_passing, own_timeout};

/// The capacity of the storage in place, over which schedules also run.
pub(crate) const SLOTS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    Ordered,
    Unordered,
    /// By key, one attempt at a time a key.
    KeyAlone,
    /// By key, calls of one key overlap.
    KeyOverlapping,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Storage {
    Heap,
    InPlace,
}

/// Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Delays {
    NoRetry,
    Fixed(u64),
    /// The factor is given in halves.
    Exponential {
        initial: u64,
        halves: u64,
        maximum: u64,
    },
}

/// The conditions under which another attempt follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Retries {
    pub(crate) delays: Delays,
    pub(crate) most: u32,
    /// Only transient mistakes are retried.
    pub(crate) only_passing: bool,
    /// Some outputs are retried as well.
    pub(crate) not_yet: bool,
    /// A mistake may dictate the delay.
    pub(crate) dictated: bool,
}

/// The retry budget of all records: a full bucket, into which each success puts `gain` thousandths of a token,
/// and from which each retry takes a whole one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Budget {
    pub(crate) most: u64,
    pub(crate) gain: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Setup {
    pub(crate) order: Order,
    /// One attempt at a time for each key, also in [`Order::Ordered`] (O7).
    pub(crate) one_per_key: bool,
    pub(crate) storage: Storage,
    pub(crate) capacity: usize,
    pub(crate) max_capacity: usize,
    pub(crate) running_limit: Option<usize>,
    pub(crate) timeout: Option<u64>,
    pub(crate) attempt_timeout: Option<u64>,
    pub(crate) retries: Retries,
    pub(crate) retry_budget: Option<Budget>,
    pub(crate) checkpointed: bool,
    pub(crate) keeps_results: bool,
    /// At the end of the input, calls in backoff have one last attempt, at once.
    pub(crate) last_attempts: bool,
    /// `None` for a policy that has none.
    pub(crate) parts: Option<Parts>,
}

impl Setup {
    /// A setup with an order and a capacity only.
    pub(crate) const fn plain(order: Order, capacity: usize) -> Self {
        let retries = Retries {
            delays: Delays::NoRetry,
            most: 0,
            only_passing: false,
            not_yet: false,
            dictated: false,
        };
        Self {
            order,
            one_per_key: false,
            storage: Storage::Heap,
            capacity,
            max_capacity: capacity,
            running_limit: None,
            timeout: None,
            attempt_timeout: None,
            retries,
            retry_budget: None,
            checkpointed: true,
            keeps_results: false,
            last_attempts: false,
            parts: None,
        }
    }

    /// Returns true if one attempt runs at a time for each key (O3, O7).
    pub(crate) fn has_one_per_key(&self) -> bool {
        self.one_per_key || self.order == Order::KeyAlone
    }

    /// The size of batches, if a request is for several records.
    pub(crate) fn batch(&self) -> Option<Size> {
        self.parts.and_then(|parts| parts.batch)
    }

    /// Returns true if many records should be in flight at a time.
    pub(crate) const fn is_crowded(&self) -> bool {
        self.capacity >= 8
    }

    pub(crate) fn random(random: &mut Random) -> Self {
        let orders = [Order::Ordered, Order::Unordered, Order::KeyAlone, Order::KeyOverlapping];
        let order = orders[random.below(if features::BY_KEY { 4 } else { 2 })];
        let in_place = random.one_in(4);
        let capacity = match in_place {
            true => 1 + random.below(SLOTS),
            false if random.one_in(8) => 8 + random.below(16),
            false => 1 + random.below(6),
        };
        let mut setup = Self::plain(order, capacity);
        if in_place {
            setup.storage = Storage::InPlace;
            setup.max_capacity = SLOTS;
        }
        if features::CHANGES && !in_place {
            setup.max_capacity = capacity + random.below(4);
        }
        if features::RUNNING_LIMIT && random.one_in(3) {
            setup.running_limit = Some(1 + random.below(capacity));
        }
        if setup.is_crowded() {
            // Many deadlines at a time, out of order.
            setup.timeout = Some(50);
            setup.attempt_timeout = random.perhaps(&[20]);
            setup.retries = Retries::random(random);
            return setup;
        }
        setup.timeout = random.perhaps(&[5, 10, 10, 20, 50]);
        setup.attempt_timeout = random.perhaps(&[2, 5, 5, 10]);
        setup.retries = Retries::random(random);
        if features::BUDGET && random.one_in(4) {
            let most = 1 + random.below(3) as u64;
            setup.retry_budget = Some(Budget { most, gain: random.pick(&[0, 250, 1000]) });
        }
        setup.checkpointed = !random.one_in(20);
        setup.last_attempts = features::FINISH && random.one_in(2);
        setup.keeps_results = features::KEPT_RESULTS && random.one_in(3);
        setup
    }

    /// The timeout of this record's call (T1, T9).
    pub(crate) fn timeout_of(&self, number: u32) -> Option<u64> {
        let has_own = self.parts.is_some_and(|parts| parts.own_timeouts);
        own_timeout(number).filter(|_| has_own).or(self.timeout)
    }

    /// Adds all other settings to a policy that has its order and capacity, but for the optional parts.
    pub(crate) fn policy<K>(&self, policy: AsyncWait<NoRetry, K>) -> AsyncWait<Strategy, K> {
        let mut policy = policy.retry(Strategy::new(self.retries)).max_capacity(self.max_capacity);
        if let Some(limit) = self.running_limit {
            policy = policy.max_running(limit);
        }
        if let Some(timeout) = self.timeout {
            policy = policy.timeout(Duration::from_millis(timeout));
        }
        if let Some(timeout) = self.attempt_timeout {
            policy = policy.attempt_timeout(Duration::from_millis(timeout));
        }
        if let Some(Budget { most, gain }) = self.retry_budget {
            policy = policy.retry_budget(RetryBudget::new(most as u32, gain as f64 / 1000.0));
        }
        if self.last_attempts {
            policy = policy.finish_policy(FinishPolicy::LastAttempt);
        }
        policy
    }
}

impl Retries {
    fn random(random: &mut Random) -> Self {
        let delays = match random.below(5) {
            0 => Delays::NoRetry,
            1 | 2 => Delays::Fixed(random.pick(&[0, 1, 3, 5, 10])),
            _ => Delays::Exponential {
                initial: random.pick(&[1, 2, 4]),
                halves: random.pick(&[2, 3, 4, 6]),
                maximum: random.pick(&[4, 7, 1000]),
            },
        };
        Self {
            delays,
            most: random.below(4) as u32,
            only_passing: random.one_in(2),
            not_yet: random.one_in(3),
            dictated: random.one_in(3),
        }
    }
}

type Question = fn(&u32) -> bool;
type Dictation = fn(&u32) -> Option<Duration>;

/// The library's strategies behind one type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Strategy {
    No(NoRetry),
    Fixed(FixedDelay<Question, Question, Dictation>),
    Exponential(ExponentialBackoff<Question, Question, Dictation>),
}

impl Strategy {
    fn new(retries: Retries) -> Self {
        let only: Question = if retries.only_passing { is_passing } else { |_| true };
        let also: Question = if retries.not_yet { is_not_yet } else { |_| false };
        let delay: Dictation = match retries.dictated {
            true => |mistake| dictated(mistake).map(Duration::from_millis),
            false => |_| None,
        };
        match retries.delays {
            Delays::NoRetry => Self::No(NoRetry),
            Delays::Fixed(fixed) => {
                let strategy = FixedDelay::new(Duration::from_millis(fixed));
                let strategy = strategy.max_retries(retries.most);
                Self::Fixed(strategy.when_error(only).when_output(also).retry_after(delay))
            }
            Delays::Exponential { initial, halves, maximum } => {
                let strategy = ExponentialBackoff::new(Duration::from_millis(initial))
                    .factor(halves as f64 / 2.0)
                    .max_delay(Duration::from_millis(maximum))
                    .max_retries(retries.most);
                Self::Exponential(strategy.when_error(only).when_output(also).retry_after(delay))
            }
        }
    }
}

impl RetryStrategy<Record, u32, u32> for Strategy {
    fn next_delay(
        &self,
        attempt: AttemptInfo,
        input: &Record,
        answer: &Answer,
    ) -> Option<Duration> {
        match self {
            Self::No(strategy) => strategy.next_delay(attempt, input, answer),
            Self::Fixed(strategy) => strategy.next_delay(attempt, input, answer),
            Self::Exponential(strategy) => strategy.next_delay(attempt, input, answer),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::No(strategy) => RetryStrategy::<Record, u32, u32>::check(strategy),
            Self::Fixed(strategy) => RetryStrategy::<Record, u32, u32>::check(strategy),
            Self::Exponential(strategy) => RetryStrategy::<Record, u32, u32>::check(strategy),
        }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Ordered => "ordered",
            Order::Unordered => "unordered",
            Order::KeyAlone => "ordered by key, one at a time a key",
            Order::KeyOverlapping => "ordered by key, overlapping",
        };
        write!(f, "{order}, capacity {}", self.capacity)?;
        f.write_str(if self.one_per_key { ", one attempt per key" } else { "" })?;
        match self.storage {
            Storage::InPlace => write!(f, ", in place")?,
            Storage::Heap if self.max_capacity > self.capacity => {
                write!(f, " (at most {})", self.max_capacity)?;
            }
            Storage::Heap => {}
        }
        if let Some(limit) = self.running_limit {
            write!(f, ", {limit} running")?;
        }
        if let Some(timeout) = self.timeout {
            write!(f, ", timeout {timeout} ms")?;
        }
        if let Some(timeout) = self.attempt_timeout {
            write!(f, ", attempt timeout {timeout} ms")?;
        }
        let retries = &self.retries;
        match retries.delays {
            Delays::NoRetry => {}
            Delays::Fixed(delay) => write!(f, ", {} retries after {delay} ms", retries.most)?,
            Delays::Exponential { initial, halves, maximum } => {
                let factor = halves as f64 / 2.0;
                let most = retries.most;
                write!(f, ", {most} retries after {initial} ms x {factor} up to {maximum} ms")?;
            }
        }
        if retries.delays != Delays::NoRetry {
            let said = |yes, what| if yes { what } else { "" };
            f.write_str(said(retries.only_passing, ", only of passing mistakes"))?;
            f.write_str(said(retries.not_yet, ", also of \"not yet\""))?;
            f.write_str(said(retries.dictated, ", mistakes dictate the delay"))?;
        }
        if let Some(Budget { most, gain }) = self.retry_budget {
            write!(f, ", a retry budget of {most} retries and {gain}/1000 a success")?;
        }
        if self.keeps_results {
            f.write_str(", results in snapshots")?;
        }
        if self.last_attempts {
            f.write_str(", last attempts at the end")?;
        }
        if !self.checkpointed {
            f.write_str(", no snapshots")?;
        }
        self.parts.map_or(Ok(()), |parts| parts.fmt(f))
    }
}
