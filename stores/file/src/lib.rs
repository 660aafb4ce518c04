//! [`FileStore`] keeps the checkpoints of an inflight pipeline in a folder.
//!
//! ```
//! use inflight_core::{CheckpointId, CheckpointStore};
//! use inflight_store_file::FileStore;
//!
//! # fn main() -> Result<(), inflight_store_file::FileStoreError> {
//! # let temporary = tempfile::tempdir().unwrap();
//! # let folder = temporary.path().join("checkpoints");
//! # futures_lite::future::block_on(async {
//! let mut store = FileStore::open(&folder)?;
//! assert_eq!(store.load_latest().await?, None);
//! store.save(CheckpointId(1), b"line 12").await?;
//! store.save(CheckpointId(2), b"line 29").await?;
//! drop(store);
//!
//! // In the next life of the process:
//! let mut store = FileStore::open(&folder)?;
//! let loaded = store.load_latest().await?.expect("two were saved");
//! assert_eq!((loaded.id, loaded.bytes.as_slice()), (CheckpointId(2), &b"line 29"[..]));
//! assert_eq!(loaded.damaged, 0);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # What is in the folder
//!
//! | file | holds |
//! | --- | --- |
//! | `slot-0`, `slot-1`, ... | a checkpoint each, behind a header with a checksum |
//! | `slot-new` | a slot that is being made; what a crash leaves of it does not matter |
//! | `lock` | nothing; the store that has it locked owns the folder |
//!
//! Other files are left alone. A save writes over the oldest slot, or a damaged one, and syncs once;
//! never over the newest intact one. The first save into a slot makes its file and syncs the folder
//! too. From then on a slot is written in place, so it needs no more room on the medium unless
//! checkpoints grow.
//!
//! # What it relies on
//!
//! * A sync that succeeds: the bytes are on the medium then, and the names of files are once their
//!   folder is synced. (On systems other than Unix folders are not synced; there the file system has
//!   to keep names by itself.)
//! * A write harms no other file than the one written.
//! * The checksum, a CRC-32: one torn slot in four thousand million passes for whole.
//! * File locks, which not every network file system has. They bind only those who ask for them.
//!
//! It runs on any async runtime: the work on files happens on the threads of the crate `blocking`.
#![forbid(unsafe_code)]

mod error;
mod folder;
mod lock;
mod slot;

use std::path::{Path, absolute};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use inflight_core::{CheckpointId, CheckpointStore, LoadError, Loaded, LoadedInto};

pub use error::FileStoreError;
use folder::Folder;

/// One slot stays whole while another is written.
const MINIMUM_SLOTS: u16 = 2;

/// Keeps the last checkpoints in a folder that it owns while it lives.
///
/// What was saved outlives a crash of the process and of the machine. The [crate's page](crate)
/// says how, and what that relies on.
///
/// # Cancellation
///
/// When the future of a [`save`](CheckpointStore::save) is dropped, the checkpoint is saved whole or
/// not at all; what has begun ends in the background. A later call waits for it, and what has not
/// begun by then never will. Until it has ended the folder has an owner, even if the store was
/// dropped.
///
/// # Failures
///
/// A [`FileStoreError`] leaves the store usable and the newest intact checkpoint where it is. If the
/// folder vanishes, every call is an error until it is back; another folder in its place is opened
/// anew. None is made.
#[derive(Debug)]
pub struct FileStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: Mutex<Folder>,
    /// The number of calls so far.
    calls: AtomicU64,
}

impl FileStore {
    /// Opens a folder, which is made if it is not there, to keep the last two checkpoints.
    ///
    /// This blocks while it reads the checkpoints that are there.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::Owned`] when another store has it open, [`FileStoreError::Io`] when the file
    /// system refuses. Damaged checkpoints are none: [`load_latest`](CheckpointStore::load_latest)
    /// tells of them.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, FileStoreError> {
        Self::options().open(folder)
    }

    /// To open a folder otherwise than [`open`](Self::open) does.
    pub fn options() -> FileStoreOptions {
        FileStoreOptions { keep: MINIMUM_SLOTS }
    }

    /// [`save`](CheckpointStore::save) for code that may block.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::Io`] when the file system refuses; then the checkpoint does not count as
    /// saved. [`FileStoreError::IdBehind`] when `id` is lower than the latest intact checkpoint's.
    /// [`FileStoreError::Owned`] when another folder stands in its place and has an owner.
    pub fn save_blocking(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), FileStoreError> {
        let frame = slot::frame(id, bytes);
        self.call(move |folder| folder.save(id, frame))()
    }

    /// [`load_latest`](CheckpointStore::load_latest) for code that may block.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::AllDamaged`] when checkpoints were saved and none is intact,
    /// [`FileStoreError::Io`] when the file system refuses, and [`FileStoreError::Owned`] when another
    /// folder stands in its place and has an owner.
    pub fn load_latest_blocking(&mut self) -> Result<Option<Loaded>, FileStoreError> {
        self.call(Folder::load_latest)()
    }

    /// Removes every checkpoint, damaged ones too, to start afresh. Files of others stay.
    ///
    /// This blocks. When it fails, some of them may be gone.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::Io`] when the file system refuses, [`FileStoreError::Owned`] when another
    /// folder stands in its place and has an owner.
    pub fn clear_blocking(&mut self) -> Result<(), FileStoreError> {
        self.call(Folder::clear)()
    }

    /// The work of one call, to be done on whatever thread.
    fn call<T, W>(
        &mut self,
        work: W,
    ) -> impl FnOnce() -> Result<T, FileStoreError> + Send + 'static + use<T, W>
    where
        T: Default,
        W: FnOnce(&mut Folder) -> Result<T, FileStoreError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let call = shared.calls.fetch_add(1, Ordering::Relaxed) + 1;
        move || {
            // A panic leaves the folder's state valid: a slot is distrusted before it is touched.
            let mut folder = shared.folder.lock().unwrap_or_else(PoisonError::into_inner);
            if shared.calls.load(Ordering::Relaxed) != call {
                // A later call overtook this one, so its future is gone and nobody sees the answer.
                return Ok(T::default());
            }
            work(&mut folder)
        }
    }
}

impl CheckpointStore for FileStore {
    type Error = FileStoreError;

    /// Saves a checkpoint; when it is ready, the checkpoint outlives a crash of the machine.
    ///
    /// Saving the latest id again replaces that checkpoint once the new one is safe. A lower id is
    /// refused: it would never be loaded.
    ///
    /// # Errors
    ///
    /// As [`FileStore::save_blocking`].
    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), FileStoreError> {
        let frame = slot::frame(id, bytes);
        blocking::unblock(self.call(move |folder| folder.save(id, frame))).await
    }

    /// As [`load_latest`](CheckpointStore::load_latest), which does it in one go.
    ///
    /// # Errors
    ///
    /// As [`FileStore::load_latest_blocking`].
    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<FileStoreError>> {
        let latest = self.load_latest().await?;
        latest.map(|latest| latest.copy_into(buffer)).transpose()
    }

    /// The latest intact checkpoint; `None` when none was ever saved.
    ///
    /// A damaged slot does not say how new it was, so every one of them counts as newer.
    ///
    /// # Errors
    ///
    /// As [`FileStore::load_latest_blocking`].
    async fn load_latest(&mut self) -> Result<Option<Loaded>, FileStoreError> {
        blocking::unblock(self.call(Folder::load_latest)).await
    }
}

/// How to open a [`FileStore`]; [`FileStore::options`] gives the defaults.
#[derive(Clone, Debug)]
pub struct FileStoreOptions {
    keep: u16,
}

impl FileStoreOptions {
    /// How many checkpoints to keep, each in a file of its own: at least two, which is the default.
    ///
    /// A folder that has more slots already goes on using them all.
    #[must_use]
    pub fn keep(mut self, checkpoints: u16) -> Self {
        self.keep = checkpoints;
        self
    }

    /// Opens a folder, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::TooFewSlots`], and those of [`FileStore::open`].
    pub fn open(&self, folder: impl AsRef<Path>) -> Result<FileStore, FileStoreError> {
        let (folder, keep) = (folder.as_ref(), self.keep);
        if keep < MINIMUM_SLOTS {
            let folder = folder.to_path_buf();
            return Err(FileStoreError::TooFewSlots { folder, keep, minimum: MINIMUM_SLOTS });
        }
        // It stays the same folder when the process changes its own.
        let path = absolute(folder).map_err(FileStoreError::io("find", folder))?;
        folder::create(&path).map_err(FileStoreError::io("make", &path))?;
        let folder = Mutex::new(Folder::open(path, keep)?);
        Ok(FileStore { shared: Arc::new(Shared { folder, calls: AtomicU64::new(0) }) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    // K9: what a dropped future left behind does not write over what was saved after it.
    #[test]
    fn a_save_that_was_overtaken_never_begins() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(folder.path()).unwrap();
        let id = CheckpointId(1);
        let frame = slot::frame(id, b"dropped");
        let dropped = store.call(move |folder| folder.save(id, frame));
        store.save_blocking(id, b"saved").unwrap();
        dropped().unwrap();
        assert_eq!(store.load_latest_blocking().unwrap().unwrap().bytes, b"saved");
    }

    // L1: a slow medium does not hold up the runtime's thread.
    #[test]
    fn the_first_poll_does_not_wait_for_the_medium() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(folder.path()).unwrap();
        let shared = Arc::clone(&store.shared);
        let slow = shared.folder.lock().unwrap();
        let (tell, told) = mpsc::channel();
        let polls = thread::spawn(move || {
            let ready = block_on(async {
                poll_once(store.load_latest()).await.is_some()
                    || poll_once(store.save(CheckpointId(1), b"")).await.is_some()
            });
            tell.send(ready).unwrap();
        });
        // Only a failure waits that long.
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(false));
        drop(slow);
        polls.join().unwrap();
    }
}
