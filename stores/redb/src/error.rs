use std::error::Error;
use std::fmt;

use inflight_core::CheckpointId;

/// The reason why a [`RedbStore`](crate::RedbStore) call failed.
///
/// The store remains usable after each error: the next call opens the file again where that may help.
#[derive(Debug)]
#[non_exhaustive]
pub enum RedbStoreError {
    /// Another store of the same job is open.
    Owned {
        /// The job.
        job: String,
    },
    /// The number of checkpoints to keep was zero.
    KeepsNothing,
    /// The database returned an error, the [`source`](Error::source): the file is open elsewhere, full, gone,
    /// or damaged.
    Database(redb::Error),
    /// The database panicked while it read the file, which is damaged.
    Panicked {
        /// The message of the panic.
        message: String,
    },
    /// The database has none of the tables that a new database gets. It is damaged, or does not hold
    /// checkpoints.
    NoTables,
    /// The checkpoint to save has a lower number than the latest one that is kept, so no load would ever
    /// return it.
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
        /// The number of damaged checkpoints.
        damaged: usize,
    },
}

impl fmt::Display for RedbStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned { job } => write!(f, "another store has the job {job:?} open: close it"),
            Self::KeepsNothing => f.write_str("a job has to keep at least one checkpoint"),
            Self::Database(_) => f.write_str("the database of checkpoints returned an error"),
            Self::Panicked { message } => {
                write!(f, "the database of checkpoints is damaged: {message}")
            }
            Self::NoTables => f.write_str(
                "the database has no tables of checkpoints: it is damaged, or belongs to another program",
            ),
            Self::IdBehind { id, latest } => {
                write!(f, "checkpoint {id} is older than checkpoint {latest}: use higher ids")
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
