//! The optional parts of a policy: a program pays for those that it names, and for no others.

use core::time::Duration;

use super::on_retry::RetriedCall;
use crate::config_error::ConfigError;
use crate::outcome::Failure;
use crate::storage::{AutoTraits, BatchTables, NoBatches, Nothing, PerSlot, Storage};
use crate::time::{Instant, Span};

/// The optional parts of a policy, as a chain of pairs: [`AsyncWait::rate`](crate::AsyncWait::rate) on a policy with the parts `X`
/// gives one with the parts `(X, Rate)`. A policy without any has `()`. Sealed.
///
/// Code that is generic over policies says `X: Extras<In, Out, E>`, or leaves `X` out and takes policies without optional parts.
pub trait Extras<In, Out, E>: sealed::Sealed {
    /// Whether a part is told of the starts and ends of attempts, and may hold starts up.
    #[doc(hidden)]
    const THROTTLES: bool = false;

    /// Whether a part pauses, or lets others pause.
    #[doc(hidden)]
    const PAUSES: bool = false;

    /// Whether a part gives records timeouts of their own.
    #[doc(hidden)]
    const HAS_TIMEOUTS: bool = false;

    /// Whether one attempt runs at a time for each key, in an ordered stage (O7).
    #[doc(hidden)]
    const ONE_PER_KEY: bool = false;

    /// The next record of each record's key, if one attempt runs at a time for each.
    #[doc(hidden)]
    type NextOfKey<S: Storage>: PerSlot<u32> + AutoTraits;

    /// When the running attempts have started, if a part asks for it.
    #[doc(hidden)]
    type StartTimes<S: Storage>: PerSlot<Instant> + AutoTraits;

    /// Whether a request is for a batch of records (B1).
    #[doc(hidden)]
    const BATCHES: bool = false;

    /// The batches, if there are any.
    #[doc(hidden)]
    type Batches<S: Storage>: BatchTables<S> + AutoTraits;

    /// Whether the settings make sense.
    #[doc(hidden)]
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The timeout of this record's call, in place of the policy's (T9).
    #[doc(hidden)]
    fn timeout_of(&self, _input: &In) -> Option<Duration> {
        None
    }

    /// The most requests that may run at once (A1).
    #[doc(hidden)]
    fn limit(&self) -> usize {
        usize::MAX
    }

    /// The instant from which a request for these records may start; `None` for at once.
    #[doc(hidden)]
    fn ready_at<'a>(&self, _records: impl Iterator<Item = &'a In> + Clone) -> Option<Instant>
    where
        In: 'a,
    {
        None
    }

    /// A request for these records starts.
    #[doc(hidden)]
    fn started<'a>(&mut self, _now: Instant, _records: impl Iterator<Item = &'a In> + Clone)
    where
        In: 'a,
    {
    }

    /// A record of a batch has failed, whose request has not ended yet.
    #[doc(hidden)]
    fn record_failed(&mut self, _failure: &Failure<E>) {}

    /// How many of these records, which are in the order in which they start, a request may have, so that it takes no more than there can
    /// ever be at once. At least one.
    #[doc(hidden)]
    fn most_at_once<'a>(&self, _records: impl Iterator<Item = &'a In> + Clone) -> usize
    where
        In: 'a,
    {
        usize::MAX
    }

    /// A request has ended after `latency`, beside `running` requests, itself included.
    #[doc(hidden)]
    fn ended(&mut self, _latency: Duration, _running: usize, _failure: Option<&Failure<E>>) {}

    /// How long no attempt may start, because of this failure (A2).
    #[doc(hidden)]
    fn pause_after(&self, _failure: &Failure<E>) -> Option<Duration> {
        None
    }

    /// A call will be tried again.
    #[doc(hidden)]
    #[inline(always)]
    fn retried(&mut self, _call: RetriedCall<'_, In, Out, E>) {}

    /// How large a batch may be, and how long it waits for records.
    #[doc(hidden)]
    fn batch_limits(&self) -> BatchLimits {
        BatchLimits { records: 1, weight: u64::MAX, within: Span::ZERO }
    }

    /// What a record adds to the weight of a batch.
    #[doc(hidden)]
    fn batch_weight_of(&self, _input: &In) -> u64 {
        0
    }
}

/// How large a batch may be, and how long it waits for records.
#[allow(unreachable_pub)] // part of a sealed trait
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub(crate) records: usize,
    pub(crate) weight: u64,
    pub(crate) within: Span,
}

pub(crate) mod sealed {
    #[allow(unreachable_pub)]
    pub trait Sealed {}

    impl Sealed for () {}
    impl<A, B> Sealed for (A, B) {}
}

impl<In, Out, E> Extras<In, Out, E> for () {
    type NextOfKey<S: Storage> = Nothing;
    type StartTimes<S: Storage> = Nothing;
    type Batches<S: Storage> = NoBatches;
}

impl<In, Out, E, A, B> Extras<In, Out, E> for (A, B)
where
    A: Extras<In, Out, E>,
    B: Extras<In, Out, E>,
{
    const THROTTLES: bool = A::THROTTLES || B::THROTTLES;
    const PAUSES: bool = A::PAUSES || B::PAUSES;
    const HAS_TIMEOUTS: bool = A::HAS_TIMEOUTS || B::HAS_TIMEOUTS;
    const ONE_PER_KEY: bool = A::ONE_PER_KEY || B::ONE_PER_KEY;
    type NextOfKey<S: Storage> = <A::NextOfKey<S> as PerSlot<u32>>::Or<B::NextOfKey<S>>;
    const BATCHES: bool = A::BATCHES || B::BATCHES;
    type StartTimes<S: Storage> = <A::StartTimes<S> as PerSlot<Instant>>::Or<B::StartTimes<S>>;
    type Batches<S: Storage> = <A::Batches<S> as BatchTables<S>>::Or<B::Batches<S>>;

    fn check(&self) -> Result<(), ConfigError> {
        self.0.check()?;
        self.1.check()
    }

    // The part that was named last decides.
    fn timeout_of(&self, input: &In) -> Option<Duration> {
        self.1.timeout_of(input).or_else(|| self.0.timeout_of(input))
    }

    fn limit(&self) -> usize {
        self.0.limit().min(self.1.limit())
    }

    fn ready_at<'a>(&self, records: impl Iterator<Item = &'a In> + Clone) -> Option<Instant>
    where
        In: 'a,
    {
        // `None` is less than every instant.
        self.0.ready_at(records.clone()).max(self.1.ready_at(records))
    }

    fn started<'a>(&mut self, now: Instant, records: impl Iterator<Item = &'a In> + Clone)
    where
        In: 'a,
    {
        self.0.started(now, records.clone());
        self.1.started(now, records);
    }

    fn record_failed(&mut self, failure: &Failure<E>) {
        self.0.record_failed(failure);
        self.1.record_failed(failure);
    }

    fn most_at_once<'a>(&self, records: impl Iterator<Item = &'a In> + Clone) -> usize
    where
        In: 'a,
    {
        self.0.most_at_once(records.clone()).min(self.1.most_at_once(records))
    }

    fn ended(&mut self, latency: Duration, running: usize, failure: Option<&Failure<E>>) {
        self.0.ended(latency, running, failure);
        self.1.ended(latency, running, failure);
    }

    fn pause_after(&self, failure: &Failure<E>) -> Option<Duration> {
        self.0.pause_after(failure).max(self.1.pause_after(failure))
    }

    #[inline(always)]
    fn retried(&mut self, call: RetriedCall<'_, In, Out, E>) {
        self.0.retried(call);
        self.1.retried(call);
    }

    // The part that was named last decides.
    fn batch_limits(&self) -> BatchLimits {
        if B::BATCHES { self.1.batch_limits() } else { self.0.batch_limits() }
    }

    fn batch_weight_of(&self, input: &In) -> u64 {
        if B::BATCHES { self.1.batch_weight_of(input) } else { self.0.batch_weight_of(input) }
    }
}
