//! Pauses that an error asks for.

use core::fmt;
use core::time::Duration;

use super::extras::{Extras, sealed};
use crate::outcome::Failure;
use crate::storage::{NoBatches, Nothing, Storage};

/// Holds back all attempts for as long as a failure says (A2): see [`AsyncWait::pause_on`](crate::AsyncWait::pause_on).
#[derive(Clone, Copy)]
pub struct PauseOn<F>(pub(super) F);

impl<F> sealed::Sealed for PauseOn<F> {}

impl<In, Out, E, F> Extras<In, Out, E> for PauseOn<F>
where
    F: Fn(&Failure<E>) -> Option<Duration>,
{
    const THROTTLES: bool = true;
    const PAUSES: bool = true;
    type NextOfKey<S: Storage> = Nothing;
    type StartTimes<S: Storage> = Nothing;
    type Batches<S: Storage> = NoBatches;

    fn pause_after(&self, failure: &Failure<E>) -> Option<Duration> {
        (self.0)(failure)
    }
}

impl<F> fmt::Debug for PauseOn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PauseOn(..)")
    }
}

/// Lets a program without a heap pause: see [`AsyncWait::pausable`](crate::AsyncWait::pausable).
#[derive(Clone, Copy, Debug)]
pub struct Pausable;

impl sealed::Sealed for Pausable {}

impl<In, Out, E> Extras<In, Out, E> for Pausable {
    const PAUSES: bool = true;
    type NextOfKey<S: Storage> = Nothing;
    type StartTimes<S: Storage> = Nothing;
    type Batches<S: Storage> = NoBatches;
}
