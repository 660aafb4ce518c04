//! The interface of an engine that decides which worker has which partition.

use core::error::Error;
use core::fmt;
use core::future::Future;
use core::task::{Context, Poll};

/// An engine's decisions about the partitions of this worker: a consumer group, or leases in a log that compares and sets.
///
/// The decision need not be safe (P4). Two workers may believe for a while that a partition is theirs; the fence is in the commit of the
/// partition's pipeline, so the earlier one commits nothing more. A wrong decision delays, and does not damage.
///
/// An implementation MUST
///
/// 1. report each decision once, in order, by [`poll_change`](Self::poll_change), and try again by itself after errors that may pass;
/// 2. keep this worker alive in the eyes of the engine without being polled, because the task that polls may be busy;
/// 3. tolerate [`released`](Self::released) and [`finished`](Self::finished) of a partition that it has taken away since;
/// 4. keep a partition that was [`finished`](Self::finished) from being assigned again, to any worker.
pub trait Assignment {
    /// The name of a partition.
    type Partition: Clone + Ord + fmt::Debug;
    /// An error after which the engine tells nothing more.
    type Error: Error + 'static;

    /// The next change; `None` if no change follows: the job ends then, when its partitions have ended. It is not polled
    /// again after `None` or an error. When it is `Pending`, it wakes the task of the latest poll once there is more.
    fn poll_change(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Change<Self::Partition>, Self::Error>>>;

    /// The partition's number in the job, below 1,024. Request ids contain it (K17), so a partition has the same one in all lives of
    /// the job, and no other partition has it.
    fn number(&self, partition: &Self::Partition) -> u16;

    /// Gives back a partition that was [revoked](Change::Revoked), or that this worker leaves: its last checkpoint is
    /// committed, or it never will be, and nothing of it runs here any more. It also answers a partition that is revoked and was
    /// not here, and one that is assigned while this worker leaves.
    fn released(&mut self, partition: &Self::Partition);

    /// Tells that the partition's source has ended, and that everything of it is committed.
    fn finished(&mut self, partition: &Self::Partition);

    /// Leaves: from now on this worker need not be seen alive. The job calls it at its end, except after an error of
    /// [`poll_change`](Self::poll_change). It comes last, when each partition has [finished](Self::finished) or was
    /// [released](Self::released), because an engine that misses a worker gives its partitions to others, which then fence it.
    fn leave(&mut self) -> impl Future<Output = Result<(), Self::Error>>;
}

/// A decision of an engine about one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change<P> {
    /// The partition belongs to this worker. If it was revoked and not released yet, the revocation is taken back: it starts again when
    /// it is handed over, and is not released.
    Assigned(P),
    /// The partition is to go to another worker. The engine waits until it is [released](Assignment::released), or for as long as it
    /// likes.
    Revoked(P),
    /// The partition has been taken away. Another worker may have it already.
    Lost(P),
    /// A worker has the partition; `None` if nobody has. It serves a view of the whole job and decides nothing.
    Owner {
        /// The partition.
        partition: P,
        /// The worker's name.
        worker: Option<String>,
    },
}
