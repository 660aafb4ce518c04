//! The types that go into the operator and come out of it, beside elements.

use core::fmt;

use crate::function::AttemptInfo;

/// An attempt to start.
#[derive(Debug)]
pub struct Attempt<'a, In> {
    /// Names it when it [completes](crate::Operator::handle_completion).
    pub id: AttemptId,
    /// The argument for the function.
    pub info: AttemptInfo,
    /// The record.
    pub input: &'a In,
}

impl<In> Clone for Attempt<'_, In> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In> Copy for Attempt<'_, In> {}

/// Names one attempt of one call (T5). No other attempt ever has the same id: it holds the record's request id, of which there are
/// 2^64, and a count of the attempts in its slot, for records that share a request id (those of merged checkpoints, or of one
/// that is restored twice).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId {
    pub(super) request_id: u64,
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl AttemptId {
    /// A small number that no other attempt has while this one is running: an index into a table of
    /// requests.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// The effect of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a late completion has had no effect, and a final one ends all requests"]
pub enum Completion {
    /// It is the call's outcome.
    Outcome,
    /// The call goes on: it is tried again after a backoff.
    Retry,
    /// It came too late, or its id names no attempt that was ever started. It had no effect.
    Late,
    /// It is the call's outcome, and a failure that ends the job ([`fail_fast`](crate::Operator::fail_fast)): cancel all requests.
    Final,
}

/// An attempt that has run out of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the attempt's request should be cancelled"]
pub enum Expired {
    /// The attempt took too long. The call may go on with another one.
    Attempt(AttemptId),
    /// The call took too long: its outcome is [`Failure::TimedOut`](crate::Failure::TimedOut) unless
    /// [`resolve_timeout`](crate::Operator::resolve_timeout) says otherwise. If it was in backoff, no
    /// attempt was running.
    Call(AttemptId),
}

impl Expired {
    /// The attempt to cancel.
    pub const fn id(self) -> AttemptId {
        match self {
            Self::Attempt(id) | Self::Call(id) => id,
        }
    }
}

/// Why the operator did not take an element in. The element comes back with it (C4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PushError<T> {
    /// There is no room now. Push it again after an output was taken.
    Full(T),
    /// The input has been [finished](crate::Operator::finish): nothing is taken in any more.
    Finished(T),
}

impl<T> PushError<T> {
    /// The element.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(element) | Self::Finished(element) => element,
        }
    }
}

impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Finished(_) => "Finished(..)",
        })
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the operator is full",
            Self::Finished(_) => "the operator takes no more input: it has been finished",
        })
    }
}

impl<T> core::error::Error for PushError<T> {}
