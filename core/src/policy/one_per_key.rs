//! One attempt at a time for each key, in an ordered stage.

use super::extras::{Extras, sealed};
use crate::storage::{Column, NoBatches, Nothing, Storage};

/// One attempt at a time for each key, beside the order of all records (O7): see
/// [`AsyncWait::one_attempt_per_key`](crate::AsyncWait::one_attempt_per_key).
#[derive(Clone, Copy, Debug)]
pub struct OneAttemptPerKey;

impl sealed::Sealed for OneAttemptPerKey {}

impl<In, Out, E> Extras<In, Out, E> for OneAttemptPerKey {
    const ONE_PER_KEY: bool = true;
    type StartTimes<S: Storage> = Nothing;
    type Batches<S: Storage> = NoBatches;
    type NextOfKey<S: Storage> = Column<S, u32>;
}
