//! A database or a log that takes output and checkpoint in one transaction, in place of a sink and a store.

use alloc::vec::Vec;
use core::error::Error;
use core::future::Future;

use crate::checkpoint::{CheckpointId, Loaded};
use crate::time::Timestamp;

/// A system that commits a job's output together with its checkpoint: a database's transaction, a log's atomic batch.
///
/// It takes the place of a sink and of a store. There is no second phase, so there is no time at which the checkpoint is durable and
/// the output is not; and the checkpoint's commit is also the fence: an owner that has lost the job commits neither.
///
/// An implementation MUST
///
/// 1. in `claim`, make the caller the job's only owner, durably and before it returns, and return the latest checkpoint. From then
///    on no commit of an earlier owner succeeds, wherever that process was frozen and whatever it had sent before;
/// 2. in `commit`, make the outputs and the checkpoint durable and visible together, or neither of them;
/// 3. tolerate that a `commit` future is dropped half-way, or that its answer is lost: the commit is then whole or not at all, and
///    [`is_committed`](Self::is_committed) says which; its answer does not change later;
/// 4. return an error, not a panic, when the system fails, and stay usable afterwards;
/// 5. name the errors that are [final](Self::is_final): the job has another owner.
pub trait Transaction<T> {
    /// The error of the system.
    type Error: Error + 'static;

    /// Claims the job, which fences the owner that had it before, and loads the latest checkpoint; `None` for a new job. Called
    /// once, before every other method.
    fn claim(&mut self) -> impl Future<Output = Result<Option<Loaded>, Self::Error>>;

    /// Commits `outputs`, in this order, and the checkpoint. The ids of the calls increase.
    fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<T>],
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// Whether the commit of this checkpoint has taken place. It is asked after a `commit` that returned an error that is not final,
    /// before anything else is committed. A `commit` that may still be on its way must be decided first: by a rule of
    /// the system, or by making it impossible.
    fn is_committed(&mut self, id: CheckpointId)
    -> impl Future<Output = Result<bool, Self::Error>>;

    /// Returns true if this owner can never commit again after this error: another one has claimed the job (K15). The
    /// pipeline ends at once.
    fn is_final(&self, error: &Self::Error) -> bool;
}

/// An outcome on its way into a transaction, with its record's timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output<T> {
    /// The outcome.
    pub value: T,
    /// The timestamp of its record, if that has one.
    pub timestamp: Option<Timestamp>,
}

/// Outputs that are not committed.
#[expect(dead_code, reason = "the two halves follow")]
type Batch<T> = Vec<Output<T>>;
