//! What the operator says and is told.

use core::fmt;

use crate::function::AttemptInfo;

/// An attempt to start.
#[derive(Debug)]
pub struct Attempt<'a, In> {
    /// Its name, for the completion.
    pub id: AttemptId,
    /// What the function is told.
    pub attempt: AttemptInfo,
    /// The record.
    pub input: &'a In,
}

/// Names one attempt of one call. Another attempt of the same call has another name, and so has whatever else is in the
/// same place later: the name holds the record's request id, of which there are 2^64, and a count of what the place has seen, for
/// records that have one request id (those of merged checkpoints, or of one that is restored twice).
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

/// What became of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a late completion has had no effect"]
pub enum Completion {
    /// It is the call's outcome.
    Outcome,
    /// The call goes on: it is tried again after a backoff.
    Retry,
    /// It came too late, or names no attempt that was ever started; it had no effect.
    Late,
}

/// An attempt that is over because time is.
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

/// What becomes of a record whose call has timed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeoutAction<Out> {
    /// Its outcome is [`Failure::TimedOut`](crate::Failure::TimedOut).
    #[default]
    Fail,
    /// Its outcome is this output.
    Output(Out),
    /// It leaves without an outcome, and is counted.
    Drop,
}

/// There is no room for this element; here it is back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operator is full, or takes no more input")
    }
}

impl<T> core::error::Error for Full<T> {}
