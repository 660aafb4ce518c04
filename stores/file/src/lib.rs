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
//! # The files in the folder
//!
//! | file | content |
//! | --- | --- |
//! | `slot-0`, `slot-1`, ... | one checkpoint each, after a header with a checksum |
//! | `slot-new` | a slot under construction; after a crash its content is ignored |
//! | `lock` | empty; the store that has locked it owns the folder |
//!
//! The store does not touch other files. A save overwrites the oldest slot, or a damaged one, but never the
//! newest intact one, and syncs once. The first save into a slot creates its file and syncs the folder too.
//! Later saves overwrite the slot in place, so it needs no more room on the medium unless the checkpoints
//! grow.
//!
//! # Assumptions
//!
//! * A successful sync puts the bytes on the medium, and a sync of the folder puts the names of its files
//!   there. (On systems other than Unix folders are not synced; there the file system has to keep names by
//!   itself.)
//! * A write damages no other file.
//! * The checksum is a CRC-32: it accepts one torn slot in four thousand million.
//! * File locks work. Not every network file system has them, and a lock binds only programs that check it.
//!
//! The store runs on any async runtime: it works on files in the threads of the crate `blocking`.
#![forbid(unsafe_code)]

mod error;
mod folder;
mod lock;
mod reader;
mod slot;
mod sync;

use std::path::{Path, absolute};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use inflight_core::{CheckpointId, CheckpointStore, LoadError, Loaded, LoadedInto};

pub use error::FileStoreError;
use folder::Folder;
pub use sync::{sync_folder, sync_parent};

/// One slot stays intact while another is written.
const MINIMUM_SLOTS: u16 = 2;

/// Keeps the latest checkpoints in a folder, which it owns while it lives.
///
/// A saved checkpoint survives a crash of the process and of the machine. The [crate's page](crate) explains
/// the method and its assumptions.
///
/// # Cancellation
///
/// If the future of a [`save`](CheckpointStore::save) is dropped, the checkpoint is saved completely or not
/// at all. An operation that has begun ends in the background; a later call waits for it. An operation that
/// has not begun by then is never executed. The folder has an owner until the operation has ended, even if
/// the store was dropped.
///
/// # Failures
///
/// After a [`FileStoreError`] the store is usable, and the newest intact checkpoint is in place. If the
/// folder vanishes, every call is an error until it is back; if another folder replaces it, the store opens
/// that one. The store does not create a folder again.
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
    /// Opens a folder, and creates it if it does not exist; keeps the two latest checkpoints.
    ///
    /// This blocks while it reads the existing checkpoints.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::Owned`] if another store has the folder open, [`FileStoreError::Io`] if the file
    /// system returns an error. Damaged checkpoints are not an error here:
    /// [`load_latest`](CheckpointStore::load_latest) reports them.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, FileStoreError> {
        Self::options().open(folder)
    }

    /// Reads the latest intact checkpoint in a folder, without owning it: for monitors, and for a look at a job from outside.
    /// `None` if none was ever saved there. Another store may have the folder open and save to it meanwhile; nothing is
    /// locked, created or changed.
    ///
    /// The checkpoint can be one whose save is about to return, so a crash of the machine may still take it away. A slot that is
    /// being written during the whole time of this call counts as damaged. To go on with the job, [`open`](Self::open) the
    /// folder.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::Io`] if the file system returns an error or there is no such folder,
    /// [`FileStoreError::AllDamaged`].
    pub async fn read_latest(folder: impl AsRef<Path>) -> Result<Option<Loaded>, FileStoreError> {
        let folder = folder.as_ref().to_path_buf();
        blocking::unblock(move || reader::read_latest(&folder)).await
    }

    /// [`read_latest`](Self::read_latest) for code that may block.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn read_latest_blocking(
        folder: impl AsRef<Path>,
    ) -> Result<Option<Loaded>, FileStoreError> {
        reader::read_latest(folder.as_ref())
    }

    /// Options to open a folder with; [`open`](Self::open) uses the defaults.
    pub fn options() -> FileStoreOptions {
        FileStoreOptions { keep: MINIMUM_SLOTS }
    }

    /// [`save`](CheckpointStore::save) for code that may block.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::Io`] if the file system returns an error; then the checkpoint does not count as
    /// saved. [`FileStoreError::IdBehind`] if `id` is lower than that of the latest intact checkpoint.
    /// [`FileStoreError::Owned`] if another folder has replaced this one and has an owner.
    pub fn save_blocking(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), FileStoreError> {
        let frame = slot::frame(id, bytes);
        self.call(move |folder| folder.save(id, frame))()
    }

    /// [`load_latest`](CheckpointStore::load_latest) for code that may block.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::AllDamaged`] if checkpoints were saved and none is intact, [`FileStoreError::Io`] if
    /// the file system returns an error, and [`FileStoreError::Owned`] if another folder has replaced this
    /// one and has an owner.
    pub fn load_latest_blocking(&mut self) -> Result<Option<Loaded>, FileStoreError> {
        self.call(Folder::load_latest)()
    }

    /// Removes every checkpoint, including damaged ones, to start from the beginning. Files of other programs
    /// stay.
    ///
    /// This blocks. If it fails, some checkpoints may be removed.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::Io`] if the file system returns an error, [`FileStoreError::Owned`] if another
    /// folder has replaced this one and has an owner.
    pub fn clear_blocking(&mut self) -> Result<(), FileStoreError> {
        self.call(Folder::clear)()
    }

    /// The work of one call, for any thread.
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
            // A panic leaves the folder's state valid, because a slot is distrusted before it is changed.
            let mut folder = shared.folder.lock().unwrap_or_else(PoisonError::into_inner);
            if shared.calls.load(Ordering::Relaxed) != call {
                // A later call has overtaken this one, so its future was dropped and its result is not used.
                return Ok(T::default());
            }
            work(&mut folder)
        }
    }
}

impl CheckpointStore for FileStore {
    type Error = FileStoreError;

    /// Saves a checkpoint; when the future is ready, the checkpoint survives a crash of the machine.
    ///
    /// A save of the latest id replaces that checkpoint once the new one is durable. A lower id is refused,
    /// because no load would ever return it.
    ///
    /// # Errors
    ///
    /// As [`FileStore::save_blocking`].
    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), FileStoreError> {
        let frame = slot::frame(id, bytes);
        blocking::unblock(self.call(move |folder| folder.save(id, frame))).await
    }

    /// Like [`load_latest`](CheckpointStore::load_latest), which reads the checkpoint only once.
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
    /// The age of a damaged slot is unknown, so each counts as newer.
    ///
    /// # Errors
    ///
    /// As [`FileStore::load_latest_blocking`].
    async fn load_latest(&mut self) -> Result<Option<Loaded>, FileStoreError> {
        blocking::unblock(self.call(Folder::load_latest)).await
    }
}

/// Options of a [`FileStore`]; [`FileStore::options`] gives the defaults.
#[derive(Clone, Debug)]
pub struct FileStoreOptions {
    keep: u16,
}

impl FileStoreOptions {
    /// The number of checkpoints to keep, each in a file of its own: at least two, which is the default.
    ///
    /// If the folder has more slots already, the store uses them all.
    #[must_use]
    pub fn keep(mut self, checkpoints: u16) -> Self {
        self.keep = checkpoints;
        self
    }

    /// Opens a folder, and creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::TooFewSlots`], and the errors of [`FileStore::open`].
    pub fn open(&self, folder: impl AsRef<Path>) -> Result<FileStore, FileStoreError> {
        let (folder, keep) = (folder.as_ref(), self.keep);
        if keep < MINIMUM_SLOTS {
            let folder = folder.to_path_buf();
            return Err(FileStoreError::TooFewSlots { folder, keep, minimum: MINIMUM_SLOTS });
        }
        // An absolute path, so that it stays the same folder when the process changes its working directory.
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

    // K9: a save whose future was dropped does not overwrite a later one.
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

    // L1: a slow medium does not block the runtime's thread.
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
        // The test waits that long only when it fails.
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(false));
        drop(slow);
        polls.join().unwrap();
    }
}
