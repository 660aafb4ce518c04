use std::error::Error;
use std::fmt;

use inflight_core::CheckpointId;
use object_store::path::Path;

/// Why an [`ObjectCheckpointStore`](crate::ObjectCheckpointStore) did not do as asked.
///
/// It stays usable after each of them but [`Fenced`](Self::Fenced).
#[derive(Debug)]
#[non_exhaustive]
pub enum ObjectStoreError {
    /// Another owner has opened the job since, so this one must stop. It never can save again.
    Fenced {
        /// Where the job's checkpoints are.
        job: Path,
    },
    /// Nothing was to be kept.
    KeepsNothing,
    /// The object storage refused. The reason is the [`source`](Error::source).
    Storage(object_store::Error),
    /// The checkpoint to save has a lower number than the latest one that is kept, so it would never
    /// be loaded.
    IdBehind {
        /// The number of the checkpoint that was refused.
        id: CheckpointId,
        /// The number of the latest one.
        latest: CheckpointId,
    },
    /// Checkpoints were saved, and none of them is intact.
    AllDamaged {
        /// The damaged objects.
        objects: Vec<Path>,
    },
}

impl fmt::Display for ObjectStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced { job } => {
                write!(f, "{job} has another owner now: end this one, or open the job again")
            }
            Self::KeepsNothing => f.write_str("a job has to keep at least one checkpoint"),
            Self::Storage(_) => f.write_str("the object storage refused: try again"),
            Self::IdBehind { id, latest } => {
                write!(f, "checkpoint {id} is behind checkpoint {latest}: count on from there")
            }
            Self::AllDamaged { objects } => {
                f.write_str("no checkpoint is intact (")?;
                for (index, object) in objects.iter().enumerate() {
                    write!(f, "{}{object}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("): put copies back, or remove them to start afresh")
            }
        }
    }
}

impl Error for ObjectStoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Storage(source) => Some(source),
            _ => None,
        }
    }
}

impl From<object_store::Error> for ObjectStoreError {
    fn from(error: object_store::Error) -> Self {
        Self::Storage(error)
    }
}
