//! The part of a checkpoint that goes on while records are written: the save, and the acknowledgement (K12).

use super::source::Acknowledge;
use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointId, CheckpointStore};

/// A checkpoint that the sink has pre-committed.
pub(super) struct Prepared<D, P> {
    pub(super) checkpoint: Checkpoint,
    /// The sink's description of its output.
    pub(super) description: D,
    /// The source's position in it.
    pub(super) position: P,
}

/// The result of a save: the number of bytes, or the reason of its failure. It returns the store, which the save's future
/// owned.
pub(super) struct Saved<D, P, C: CheckpointStore> {
    pub(super) store: C,
    pub(super) prepared: Prepared<D, P>,
    pub(super) result: Result<usize, Reason<C::Error>>,
}

/// The reason why a save failed.
pub(super) enum Reason<E> {
    Store(E),
    Checkpoint(CheckpointError),
}

/// The end of an acknowledgement.
pub(super) struct Acknowledged<A, E> {
    pub(super) acknowledger: A,
    pub(super) id: CheckpointId,
    pub(super) bytes: usize,
    pub(super) result: Result<(), E>,
}

/// Saves a checkpoint. When the future is ready, the checkpoint is durable or has failed.
pub(super) async fn save<D, P, C: CheckpointStore>(
    mut store: C,
    mut prepared: Prepared<D, P>,
) -> Saved<D, P, C> {
    let id = prepared.checkpoint.id();
    // K9: the store makes this atomic. After a crash there is this checkpoint or the one before it.
    let result = match prepared.checkpoint.bytes() {
        Ok(bytes) => store.save(id, bytes).await.map(|()| bytes.len()).map_err(Reason::Store),
        Err(reason) => Err(Reason::Checkpoint(reason)),
    };
    Saved { store, prepared, result }
}

pub(super) async fn acknowledge<P, A: Acknowledge<P>>(
    mut acknowledger: A,
    position: P,
    id: CheckpointId,
    bytes: usize,
) -> Acknowledged<A, A::Error> {
    let result = acknowledger.acknowledge(position).await;
    Acknowledged { acknowledger, id, bytes, result }
}
