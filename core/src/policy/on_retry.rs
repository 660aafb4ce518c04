//! A look at each retry.

use core::fmt;
use core::time::Duration;

use super::extras::{Extras, sealed};
use crate::outcome::Failure;
use crate::storage::{NoBatches, Nothing, Storage};

/// A call that will be tried again, as [`AsyncWait::on_retry`](crate::AsyncWait::on_retry) is told of it (R8).
#[derive(Debug)]
#[non_exhaustive]
pub struct RetriedCall<'a, In, Out, E> {
    /// The record.
    pub input: &'a In,
    /// The number of attempts made.
    pub attempts: u32,
    /// The result of the last one, which the retry strategy has not accepted: a failure, or an output that
    /// [`when_output`](crate::Retry::when_output) rejects.
    pub result: &'a Result<Out, Failure<E>>,
    /// The time until the next attempt may start.
    pub delay: Duration,
}

impl<In, Out, E> RetriedCall<'_, In, Out, E> {
    /// The function's own error, if the attempt has ended with one.
    pub fn error(&self) -> Option<&E> {
        self.result.as_ref().err()?.error()
    }
}

// Not derived: that would ask the same of the record, the output and the error.
impl<In, Out, E> Clone for RetriedCall<'_, In, Out, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In, Out, E> Copy for RetriedCall<'_, In, Out, E> {}

/// Tells a function of each retry (R8): see [`AsyncWait::on_retry`](crate::AsyncWait::on_retry).
#[derive(Clone, Copy)]
pub struct OnRetry<F>(pub(super) F);

impl<F> sealed::Sealed for OnRetry<F> {}

impl<In, Out, E, F> Extras<In, Out, E> for OnRetry<F>
where
    F: FnMut(RetriedCall<'_, In, Out, E>),
{
    type NextOfKey<S: Storage> = Nothing;
    type StartTimes<S: Storage> = Nothing;
    type Batches<S: Storage> = NoBatches;

    fn retried(&mut self, call: RetriedCall<'_, In, Out, E>) {
        (self.0)(call);
    }
}

impl<F> fmt::Debug for OnRetry<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnRetry(..)")
    }
}
