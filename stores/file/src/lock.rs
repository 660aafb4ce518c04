//! The owner's lock.

use std::fs::{self, File, Metadata, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::FileStoreError;

/// Held until this value is dropped or its process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    pub(crate) fn on(folder: &Path) -> Result<Self, FileStoreError> {
        let path = folder.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(FileStoreError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, file }),
            Err(TryLockError::WouldBlock) => {
                Err(FileStoreError::Owned { folder: folder.to_path_buf() })
            }
            Err(TryLockError::Error(error)) => Err(FileStoreError::io("lock", path)(error)),
        }
    }

    /// True if the locked file is the one that other programs find in the folder.
    pub(crate) fn is_in_place(&self) -> bool {
        match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(ours), Ok(found)) => is_same_file(&ours, &found),
            _ => false,
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file does not release the lock at once: a child process that is just being started has
        // the file open too, until it executes its own program.
        let _ = self.file.unlock();
    }
}

#[cfg(unix)]
fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// On other systems a folder with an open file in it cannot be replaced.
#[cfg(not(unix))]
fn is_same_file(_one: &Metadata, _other: &Metadata) -> bool {
    true
}
