//! Policies, read from the fuzzer's bytes.

use core::time::Duration;

use inflight_core::{
    AsyncWait, AttemptInfo, Checkpointing, ConfigError, ExponentialBackoff, Failure, FinishPolicy,
    Fixed, FixedDelay, GivenKey, Heap, NoRetry, Operator, RetryBudget, RetryStrategy, Storage,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bytes::Bytes;
use crate::format::{NAME, SCHEMA};

pub type Out = u16;
pub type Error = u8;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    Ordered,
    Unordered,
    /// The next record of a key is invoked when the record before it has its outcome.
    Serial,
    Overlapping,
}

impl Order {
    pub fn read(bytes: &mut Bytes<'_>) -> Self {
        [Self::Ordered, Self::Unordered, Self::Serial, Self::Overlapping][bytes.below(4)]
    }
}

/// A policy, and the options of its snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub order: Order,
    pub capacity: usize,
    pub max_capacity: usize,
    pub max_running: Option<usize>,
    pub timeout: Option<Duration>,
    pub attempt_timeout: Option<Duration>,
    pub retry: Strategy,
    pub budget: Option<u32>,
    pub finish: FinishPolicy,
    pub keeping_results: bool,
}

impl Policy {
    /// With a capacity of at most `most`.
    pub fn read(bytes: &mut Bytes<'_>, most: usize) -> Self {
        let order = Order::read(bytes);
        let capacity = 1 + bytes.below(most);
        let what = bytes.byte();
        let chosen = |bit: u8| what & 1 << bit != 0;
        let (growing, running) = (chosen(0), chosen(1));
        let (call, attempt, last) = (chosen(2), chosen(3), chosen(4));
        let (budget, keeping_results) = (chosen(5), chosen(6));
        let positive = |duration: Duration| duration.max(Duration::from_nanos(1));
        Self {
            order,
            capacity,
            max_capacity: if growing { most } else { capacity },
            max_running: running.then(|| 1 + bytes.below(most)),
            timeout: call.then(|| positive(bytes.duration())),
            attempt_timeout: attempt.then(|| positive(bytes.duration())),
            retry: Strategy::read(bytes),
            budget: budget.then(|| bytes.byte().into()),
            finish: if last { FinishPolicy::LastAttempt } else { FinishPolicy::AllRetries },
            keeping_results,
        }
    }

    /// The options of snapshots of an operator with this policy.
    pub fn checkpointing<In>(&self) -> Checkpointing<In, Out, Error>
    where
        In: Serialize + DeserializeOwned,
    {
        let how = Checkpointing::new(NAME, SCHEMA);
        if self.keeping_results { how.keeping_results() } else { how }
    }

    /// An operator with this policy, which takes snapshots.
    pub fn build<In, S: Built>(
        &self,
        how: Checkpointing<In, Out, Error>,
    ) -> Operator<(In, Out, Error, Strategy, GivenKey, ()), S> {
        let capacity = self.capacity;
        let op = S::build(self.set(match self.order {
            Order::Ordered => AsyncWait::ordered(capacity).with_given_key(),
            Order::Unordered => AsyncWait::unordered(capacity).with_given_key(),
            Order::Serial => AsyncWait::ordered_by_given_key(capacity),
            Order::Overlapping => AsyncWait::ordered_by_given_key(capacity).overlapping(),
        }));
        op.expect("a sound policy").checkpointed_with(how)
    }

    fn set(&self, policy: AsyncWait<NoRetry, GivenKey>) -> AsyncWait<Strategy, GivenKey> {
        let mut policy =
            policy.max_capacity(self.max_capacity).finish_policy(self.finish).retry(self.retry);
        if let Some(attempts) = self.max_running {
            policy = policy.max_running(attempts);
        }
        if let Some(timeout) = self.timeout {
            policy = policy.timeout(timeout);
        }
        if let Some(timeout) = self.attempt_timeout {
            policy = policy.attempt_timeout(timeout);
        }
        if let Some(tokens) = self.budget {
            policy = policy.retry_budget(RetryBudget::new(tokens, 0.5));
        }
        policy
    }
}

/// A storage, and how to build an operator over it.
pub trait Built: Storage + Sized {
    /// The largest capacity asked for here.
    const MOST: usize;
    /// True if a restore may bring more records than there are slots.
    const BACKLOG: bool;

    fn build<In, R>(
        policy: AsyncWait<R, GivenKey>,
    ) -> Result<Operator<(In, Out, Error, R, GivenKey, ()), Self>, ConfigError>
    where
        R: RetryStrategy<In, Out, Error>;
}

impl Built for Heap {
    const MOST: usize = 20;
    const BACKLOG: bool = true;

    fn build<In, R>(
        policy: AsyncWait<R, GivenKey>,
    ) -> Result<Operator<(In, Out, Error, R, GivenKey, ()), Self>, ConfigError>
    where
        R: RetryStrategy<In, Out, Error>,
    {
        policy.build_core()
    }
}

impl Built for Fixed<8> {
    const MOST: usize = 8;
    const BACKLOG: bool = false;

    fn build<In, R>(
        policy: AsyncWait<R, GivenKey>,
    ) -> Result<Operator<(In, Out, Error, R, GivenKey, ()), Self>, ConfigError>
    where
        R: RetryStrategy<In, Out, Error>,
    {
        policy.build_fixed()
    }
}

/// One of the library's strategies.
#[derive(Clone, Copy, Debug)]
pub struct Strategy {
    kind: Kind,
    pub max_retries: u32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    None,
    Fixed(FixedDelay),
    Exponential(ExponentialBackoff),
    /// Retries some errors and outputs only; errors from 200 on set the delay.
    Chosen(FixedDelay<fn(&Error) -> bool, fn(&Out) -> bool, fn(&Error) -> Option<Duration>>),
}

impl Strategy {
    fn read(bytes: &mut Bytes<'_>) -> Self {
        let kind = bytes.below(4);
        let (max_retries, delay) = (bytes.below(4) as u32, bytes.duration());
        let fixed = FixedDelay::new(delay).max_retries(max_retries);
        let kind = match kind {
            0 => return Self { kind: Kind::None, max_retries: 0 },
            1 => Kind::Fixed(fixed),
            2 => {
                let growing = ExponentialBackoff::new(delay).max_retries(max_retries);
                Kind::Exponential(growing.max_delay(Duration::MAX).jitter(0.5, 7))
            }
            _ => Kind::Chosen(
                fixed
                    .when_error::<Error, fn(&Error) -> bool>(|error| *error >= 100)
                    .when_output::<Out, fn(&Out) -> bool>(|output| output % 4 == 3)
                    .retry_after::<Error, fn(&Error) -> Option<Duration>>(|error| {
                        (*error >= 200).then(|| Duration::from_nanos((*error).into()))
                    }),
            ),
        };
        Self { kind, max_retries }
    }
}

impl<In> RetryStrategy<In, Out, Error> for Strategy {
    fn next_delay(
        &self,
        attempt: AttemptInfo,
        input: &In,
        result: &Result<Out, Failure<Error>>,
    ) -> Option<Duration> {
        match &self.kind {
            Kind::None => NoRetry.next_delay(attempt, input, result),
            Kind::Fixed(strategy) => strategy.next_delay(attempt, input, result),
            Kind::Exponential(strategy) => strategy.next_delay(attempt, input, result),
            Kind::Chosen(strategy) => strategy.next_delay(attempt, input, result),
        }
    }
}
