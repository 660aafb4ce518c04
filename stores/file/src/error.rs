use std::error::Error;
use std::path::PathBuf;
use std::{fmt, io};

use inflight_core::CheckpointId;

/// The reason why a [`FileStore`](crate::FileStore) call failed.
///
/// The store remains usable after each error, and the newest intact checkpoint remains in place.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileStoreError {
    /// Another store has the folder open, in this process or in another one. A store that was dropped during
    /// a save still owns the folder until that save has ended.
    Owned {
        /// The folder.
        folder: PathBuf,
    },
    /// The requested number of slots is too small for a crash-safe store.
    TooFewSlots {
        /// The folder to open.
        folder: PathBuf,
        /// The requested number of slots.
        keep: u16,
        /// The smallest number that is accepted.
        minimum: u16,
    },
    /// The file system returned an error, the [`source`](Error::source).
    Io {
        /// The operation, as in "could not *write*".
        action: &'static str,
        /// The file or folder of the operation.
        path: PathBuf,
        /// The file system's error.
        source: io::Error,
    },
    /// The checkpoint to save has a lower number than the latest one that is kept, so no load would ever
    /// return it.
    IdBehind {
        /// The store's folder.
        folder: PathBuf,
        /// The number of the checkpoint that was refused.
        id: CheckpointId,
        /// The number of the latest intact checkpoint.
        latest: CheckpointId,
    },
    /// Checkpoints were saved, and none of them is intact.
    AllDamaged {
        /// The store's folder.
        folder: PathBuf,
        /// Every slot file with its error. If its content is damaged, the [`io::Error`] contains a
        /// [`FormatError`](inflight_core::envelope::FormatError).
        slots: Vec<(PathBuf, io::Error)>,
    },
}

impl FileStoreError {
    /// For `map_err`: adds the operation and the path to an I/O error.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl fmt::Display for FileStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned { folder } => write!(
                f,
                "another store has {} open: close that one, or give each store its own folder",
                folder.display()
            ),
            Self::TooFewSlots { folder, keep, minimum } => write!(
                f,
                "keeping {keep} checkpoints in {} is not safe, because one must stay intact while another is \
                 written: keep at least {minimum}",
                folder.display()
            ),
            Self::Io { action, path, .. } => write!(
                f,
                "could not {action} {}: check that its folder exists, is writable and has room, \
                 then try again",
                path.display()
            ),
            Self::IdBehind { folder, id, latest } => write!(
                f,
                "checkpoint {id} is older than checkpoint {latest} in {}: use ids above {latest}, or \
                 start in an empty folder",
                folder.display()
            ),
            Self::AllDamaged { folder, slots } => {
                write!(f, "no checkpoint in {} is intact (", folder.display())?;
                for (index, (path, reason)) in slots.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}: {reason}", path.display())?;
                }
                f.write_str(
                    "): put a copy of the files back, or move them away to start from the beginning",
                )
            }
        }
    }
}

impl Error for FileStoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
