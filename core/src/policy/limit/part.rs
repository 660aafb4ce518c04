//! An adaptive limit as a part of a policy.

use core::fmt;
use core::time::Duration;

use super::{LimitStrategy, Sample, Verdict};
use crate::config_error::ConfigError;
use crate::outcome::Failure;
use crate::policy::extras::{Extras, sealed};
use crate::storage::{Column, NoBatches, Nothing, Storage};
use crate::time::Instant;

/// Lets as many requests run as a [`LimitStrategy`] says (A1): see [`AsyncWait::limit`](crate::AsyncWait::limit).
#[derive(Clone, Copy)]
pub struct AdaptiveLimit<L, V = AnyFailure> {
    strategy: L,
    verdict: V,
    /// Of the records that have failed in the batch that is about to end.
    worst: Option<Verdict>,
}

/// Every failure counts as [`Verdict::Overloaded`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyFailure;

/// A function says what a failure tells about the service's load.
#[derive(Clone, Copy)]
pub struct JudgeBy<F>(F);

impl<L> AdaptiveLimit<L> {
    pub(in crate::policy) const fn new(strategy: L) -> Self {
        Self { strategy, verdict: AnyFailure, worst: None }
    }
}

impl<L, F> AdaptiveLimit<L, JudgeBy<F>> {
    pub(in crate::policy) const fn judging(strategy: L, verdict: F) -> Self {
        Self { strategy, verdict: JudgeBy(verdict), worst: None }
    }
}

/// What a failure says about the service's load.
trait Judge<E> {
    fn judge(&self, failure: &Failure<E>) -> Verdict;
}

impl<E> Judge<E> for AnyFailure {
    fn judge(&self, _: &Failure<E>) -> Verdict {
        Verdict::Overloaded
    }
}

impl<E, F: Fn(&Failure<E>) -> Verdict> Judge<E> for JudgeBy<F> {
    fn judge(&self, failure: &Failure<E>) -> Verdict {
        (self.0)(failure)
    }
}

impl<L, V> sealed::Sealed for AdaptiveLimit<L, V> {}

#[allow(private_bounds)] // sealed
impl<In, Out, E, L: LimitStrategy, V: Judge<E>> Extras<In, Out, E> for AdaptiveLimit<L, V> {
    const THROTTLES: bool = true;
    type NextOfKey<S: Storage> = Nothing;
    type StartTimes<S: Storage> = Column<S, Instant>;
    type Batches<S: Storage> = NoBatches;

    fn check(&self) -> Result<(), ConfigError> {
        self.strategy.check()
    }

    fn limit(&self) -> usize {
        self.strategy.limit().max(1)
    }

    fn record_failed(&mut self, failure: &Failure<E>) {
        // One refused record says that the service has too much to do.
        if self.worst != Some(Verdict::Overloaded) {
            self.worst = Some(self.verdict.judge(failure));
        }
    }

    fn ended(&mut self, latency: Duration, running: usize, failure: Option<&Failure<E>>) {
        let verdict = match (self.worst.take(), failure) {
            (Some(Verdict::Overloaded), _) => Verdict::Overloaded,
            (_, Some(failure)) => self.verdict.judge(failure),
            (_, None) => Verdict::Answered,
        };
        self.strategy.observe(Sample::new(latency, verdict, running));
    }
}

impl<L: fmt::Debug, V> fmt::Debug for AdaptiveLimit<L, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AdaptiveLimit").field(&self.strategy).finish()
    }
}

impl<F> fmt::Debug for JudgeBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JudgeBy(..)")
    }
}
