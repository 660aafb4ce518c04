//! A timeout for each record, computed from the record.

use core::fmt;
use core::time::Duration;

use super::extras::{Extras, sealed};
use crate::storage::{NoBatches, Nothing, Storage};

/// Gives each record the timeout that a function computes from it (T9): see [`AsyncWait::timeout_by`](crate::AsyncWait::timeout_by).
#[derive(Clone, Copy)]
pub struct TimeoutBy<F>(pub(super) F);

impl<F> sealed::Sealed for TimeoutBy<F> {}

impl<In, Out, E, F> Extras<In, Out, E> for TimeoutBy<F>
where
    F: Fn(&In) -> Option<Duration>,
{
    const HAS_TIMEOUTS: bool = true;
    type NextOfKey<S: Storage> = Nothing;
    type StartTimes<S: Storage> = Nothing;
    type Batches<S: Storage> = NoBatches;

    fn timeout_of(&self, input: &In) -> Option<Duration> {
        (self.0)(input)
    }
}

impl<F> fmt::Debug for TimeoutBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TimeoutBy(..)")
    }
}
