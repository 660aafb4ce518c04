use std::error::Error;
use std::fmt;

use inflight_core::CheckpointId;

/// Why a [`RedbStore`](crate::RedbStore) did not do as asked.
///
/// The store stays usable after each of them: the file is opened anew when that may help.
#[derive(Debug)]
#[non_exhaustive]
pub enum RedbStoreError {
    /// Another store of the same job is open.
    Owned {
        /// The job that has an owner.
        job: String,
    },
    /// Nothing was to be kept.
    KeepsNothing,
    /// The database refused: the file is open elsewhere, full, gone, or damaged. The reason is the
    /// [`source`](Error::source).
    Database(redb::Error),
    /// The database panicked over what is in the file. It is damaged.
    Panicked {
        /// What it said.
        message: String,
    },
    /// The database has not the tables that were made with it. It is damaged, or not one of checkpoints.
    NoTables,
    /// The checkpoint to save has a lower number than the latest one that is kept, so it would never
    /// be loaded.
    IdBehind {
        /// The number of the checkpoint that was refused.
        id: CheckpointId,
        /// The number of the latest one.
        latest: CheckpointId,
    },
    /// Checkpoints of the job were saved, and none of them is intact.
    AllDamaged {
        /// The job.
        job: String,
        /// How many there are.
        damaged: usize,
    },
}

impl fmt::Display for RedbStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned { job } => write!(f, "another store has the job {job:?} open: close it"),
            Self::KeepsNothing => f.write_str("a job has to keep at least one checkpoint"),
            Self::Database(_) => f.write_str("the database of checkpoints refused"),
            Self::Panicked { message } => {
                write!(f, "the database of checkpoints is damaged: {message}")
            }
            Self::NoTables => f.write_str(
                "the database has no tables of checkpoints: it is damaged, or another program's",
            ),
            Self::IdBehind { id, latest } => {
                write!(f, "checkpoint {id} is behind checkpoint {latest}: count on from there")
            }
            Self::AllDamaged { job, damaged } => {
                write!(f, "all {damaged} checkpoints of the job {job:?} are damaged")
            }
        }
    }
}

impl Error for RedbStoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Database(source) => Some(source),
            _ => None,
        }
    }
}

impl<E: Into<redb::Error>> From<E> for RedbStoreError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}
