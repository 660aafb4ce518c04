//! What the two ends of a pipeline put into a checkpoint.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, CheckpointError};

/// The source's position.
pub(super) const SOURCE: &str = "pipeline.source";
/// What the sink has pre-committed.
pub(super) const SINK: &str = "pipeline.sink";
/// How the pipeline ended, if this is its last checkpoint.
const END: &str = "pipeline.end";

/// How a pipeline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The source has ended, and everything is through and committed.
    Finished,
    /// Somebody asked for it ([`StopHandle::stop`](super::StopHandle::stop)). What was in flight is
    /// through and committed; the next run goes on with the next record.
    Stopped,
    /// The source failed. What it had handed out is through and committed.
    SourceFailed,
}

/// How the pipeline ended whose last checkpoint this is; `None` if it is not the last one.
pub fn ended(checkpoint: &Checkpoint) -> Option<Ended> {
    read(checkpoint, END)
}

/// The position of the source in a pipeline's checkpoint, for those who want to look before they run;
/// `None` if there is none of that type.
pub fn position<P: DeserializeOwned>(checkpoint: &Checkpoint) -> Option<P> {
    read(checkpoint, SOURCE)
}

/// What the sink has put into a pipeline's checkpoint; `None` if there is none of that type.
pub fn prepared<D: DeserializeOwned>(checkpoint: &Checkpoint) -> Option<D> {
    read(checkpoint, SINK)
}

pub(super) fn put_end(checkpoint: &mut Checkpoint, end: Ended) -> Result<(), CheckpointError> {
    put(checkpoint, END, &end)
}

pub(super) fn put<T: Serialize>(
    checkpoint: &mut Checkpoint,
    name: &str,
    value: &T,
) -> Result<(), CheckpointError> {
    let bytes = postcard::to_allocvec(value).map_err(|_| CheckpointError::Serialize)?;
    checkpoint.put(name, &bytes)
}

pub(super) fn read<T: DeserializeOwned>(checkpoint: &Checkpoint, name: &str) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(checkpoint.section(name)?).ok()?;
    rest.is_empty().then_some(value)
}
