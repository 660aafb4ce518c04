use std::error::Error;
use std::path::PathBuf;
use std::{fmt, io};

use inflight_core::CheckpointId;

/// Why a [`FileStore`](crate::FileStore) did not do as asked.
///
/// The store stays usable after each of them, and the newest intact checkpoint stays where it is.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileStoreError {
    /// Another store has the folder open, in this process or in another one. A store that was
    /// dropped while a save was under way counts until that save is through.
    Owned {
        /// The folder that has an owner.
        folder: PathBuf,
    },
    /// Fewer slots were asked for than a crash-safe store needs.
    TooFewSlots {
        /// The folder that was to be opened.
        folder: PathBuf,
        /// How many slots were asked for.
        keep: u16,
        /// The smallest number that is accepted.
        minimum: u16,
    },
    /// The file system refused. The reason is the [`source`](Error::source).
    Io {
        /// What was to be done, as in "could not *write*".
        action: &'static str,
        /// The file or folder it was to be done with.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
    /// The checkpoint to save has a lower number than the latest one that is kept, so it would never
    /// be loaded.
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
        /// Every slot file, and what is wrong with it. Where its content is at fault, that is a
        /// [`FormatError`](inflight_core::envelope::FormatError) inside the [`io::Error`].
        slots: Vec<(PathBuf, io::Error)>,
    },
}

impl FileStoreError {
    /// For `map_err`: what could not be done, and with what.
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
                "keeping {keep} in {} is not safe, one must stay whole while another is written: \
                 keep at least {minimum}",
                folder.display()
            ),
            Self::Io { action, path, .. } => write!(
                f,
                "could not {action} {}: see that its folder is there, is writable and has room, \
                 then try again",
                path.display()
            ),
            Self::IdBehind { folder, id, latest } => write!(
                f,
                "checkpoint {id} is behind checkpoint {latest} in {}: count on from {latest}, or \
                 start in an empty folder",
                folder.display()
            ),
            Self::AllDamaged { folder, slots } => {
                write!(f, "no checkpoint in {} is intact (", folder.display())?;
                for (index, (path, reason)) in slots.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{}: {reason}", path.display())?;
                }
                f.write_str("): put a copy of the files back, or move them away to start afresh")
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
