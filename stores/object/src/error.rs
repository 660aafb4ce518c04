use std::error::Error;
use std::fmt;

use inflight_core::CheckpointId;
use object_store::path::Path;

/// The reason why an [`ObjectCheckpointStore`](crate::ObjectCheckpointStore) call failed.
///
/// The store remains usable after each error except [`Fenced`](Self::Fenced).
#[derive(Debug)]
#[non_exhaustive]
pub enum ObjectStoreError {
    /// Another owner has opened the job since, so this one must stop. It can never save again.
    Fenced {
        /// The folder of the job's checkpoints.
        job: Path,
    },
    /// The number of checkpoints to keep was zero.
    KeepsNothing,
    /// The object storage returned an error, the [`source`](Error::source).
    Storage(object_store::Error),
    /// The checkpoint to save has a lower number than the latest one that is kept, so no load would ever
    /// return it.
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
                write!(f, "{job} has a newer owner: stop this one, or open the job again")
            }
            Self::KeepsNothing => f.write_str("a job has to keep at least one checkpoint"),
            Self::Storage(_) => f.write_str("the object storage returned an error: try again"),
            Self::IdBehind { id, latest } => {
                write!(f, "checkpoint {id} is older than checkpoint {latest}: use higher ids")
            }
            Self::AllDamaged { objects } => {
                f.write_str("no checkpoint is intact (")?;
                for (index, object) in objects.iter().enumerate() {
                    write!(f, "{}{object}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("): put copies back, or remove them to start from the beginning")
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
