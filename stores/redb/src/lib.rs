//! [`RedbStore`] keeps the checkpoints of an inflight pipeline in a [`redb`] database: many jobs in one file,
//! the latest few of each.
//!
//! ```
//! use inflight_core::{CheckpointId, CheckpointStore};
//! use inflight_store_redb::RedbFile;
//!
//! # fn main() -> Result<(), inflight_store_redb::RedbStoreError> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("checkpoints.redb");
//! # futures_lite::future::block_on(async {
//! let file = RedbFile::open(&path)?;
//! let mut enrich = file.job("enrich", 2)?;
//! let mut rescore = file.job("rescore", 2)?;
//! enrich.save(CheckpointId(1), b"line 12").await?;
//! assert_eq!(rescore.load_latest().await?, None);
//! assert_eq!(enrich.load_latest().await?.unwrap().bytes, b"line 12");
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # Assumptions
//!
//! * redb's commits are atomic and durable, and redb locks the file while it is open, where the system has
//!   locks.
//! * A checksum (a CRC-32) over each checkpoint, and for each job a second record of its latest checkpoint,
//!   detect bits that change by themselves. redb checks its own sums only after a crash, so with such a bit
//!   in one of its pages a checkpoint, or all of them, can seem never to have existed. The store reports that
//!   as damage.
//! * Panics unwind: redb panics over some damaged files. The store catches the panic and returns
//!   [`RedbStoreError::Panicked`] (the panic hook is called nevertheless). In a program that aborts on panic,
//!   the panic ends the program.
//! * redb's pages form no cycle. A bit that changes by itself in the pointers of redb's pages nearly always
//!   causes an error; at one position of some nine thousand that were tried, it made redb recurse until the
//!   process ended. A save that is cut off at any byte does not cause that: every byte was tried.
//!
//! The store runs on any async runtime: it works in the threads of the crate `blocking`.
#![forbid(unsafe_code)]

mod error;
mod record;

use std::any::Any;
use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use inflight_core::{CheckpointId, CheckpointStore, LoadError, Loaded, LoadedInto};
use inflight_store_file::sync_parent;
use redb::backends::FileBackend;
use redb::{Builder, Database, StorageBackend};

pub use error::RedbStoreError;

/// A small cache is enough, because checkpoints are few, and are read once in a process's life.
const CACHE_BYTES: usize = 4 << 20;

/// Opens the database.
type Opener = Box<dyn FnMut(&mut Builder) -> Result<Database, RedbStoreError> + Send>;

/// A database of checkpoints. Clones refer to the same database, which is closed when they and their stores
/// are dropped.
#[derive(Clone)]
pub struct RedbFile {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    opener: Opener,
    /// The path of the file, if there is one, and the identity of the file that was opened.
    place: Option<PathBuf>,
    identity: Option<Identity>,
    /// `None` after a failure: redb then refuses every operation until it is opened again.
    database: Option<Database>,
    owned: HashSet<String>,
}

impl fmt::Debug for RedbFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbFile").finish_non_exhaustive()
    }
}

impl RedbFile {
    /// Opens a file, and creates it if it does not exist. It does not create its folder.
    ///
    /// This blocks; after a crash for as long as it takes to read the file.
    ///
    /// # Errors
    ///
    /// [`RedbStoreError::Database`] if the system returns an error, if another process or another `RedbFile`
    /// has the file open, or if it is damaged; [`RedbStoreError::Panicked`] too.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RedbStoreError> {
        let path = std::path::absolute(path.as_ref())?;
        let (mut was_open, place) = (false, path.clone());
        let opener: Opener = Box::new(move |builder| {
            // Do not silently create a file again that has vanished.
            if !was_open && !path.try_exists()? {
                make_file(&path, builder)?;
            }
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let database = open_carefully(builder, FileBackend::new(file)?)?;
            was_open = true;
            Ok(database)
        });
        Self::with_opener(opener, Some(place))
    }

    /// Opens a database on another medium than a file. The closure is called once, and again after each
    /// failure.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_backend<B: StorageBackend>(
        mut backend: impl FnMut() -> io::Result<B> + Send + 'static,
    ) -> Result<Self, RedbStoreError> {
        Self::with_opener(Box::new(move |builder| open_carefully(builder, backend()?)), None)
    }

    fn with_opener(opener: Opener, place: Option<PathBuf>) -> Result<Self, RedbStoreError> {
        let owned = HashSet::new();
        let mut shared = Shared { opener, place, identity: None, database: None, owned };
        shared.with_database(|_| Ok(()))?;
        Ok(Self { shared: Arc::new(Mutex::new(shared)) })
    }

    /// Reads the latest intact checkpoint of a job, whether or not a store of it is open, and without becoming one: for a look
    /// at a job from inside its process. `None` if none was ever saved. This blocks.
    ///
    /// [`RedbStore::read_latest`] looks at it from another process.
    ///
    /// # Errors
    ///
    /// [`RedbStoreError::AllDamaged`], [`RedbStoreError::Database`], [`RedbStoreError::Panicked`].
    pub fn read_latest_blocking(&self, job: &str) -> Result<Option<Loaded>, RedbStoreError> {
        lock(&self.shared).with_database(|database| record::load(database, job))
    }

    /// The store of a job, which keeps its latest `keep` checkpoints.
    ///
    /// # Errors
    ///
    /// [`RedbStoreError::Owned`] while another store of that job is open,
    /// [`RedbStoreError::KeepsNothing`].
    pub fn job(&self, name: impl Into<String>, keep: usize) -> Result<RedbStore, RedbStoreError> {
        let job = name.into();
        if keep == 0 {
            return Err(RedbStoreError::KeepsNothing);
        }
        if !lock(&self.shared).owned.insert(job.clone()) {
            return Err(RedbStoreError::Owned { job });
        }
        let owned = Owned { file: self.clone(), job, calls: AtomicU64::new(0) };
        Ok(RedbStore { keep, owned: Arc::new(owned) })
    }
}

impl Shared {
    /// Works with the database, and opens it again first if needed.
    fn with_database<T>(
        &mut self,
        work: impl FnOnce(&Database) -> Result<T, RedbStoreError>,
    ) -> Result<T, RedbStoreError> {
        if self.database.is_some() && self.identity != identity(self.place.as_deref()) {
            // The file was deleted or replaced, so the open one can no longer be reached by its path.
            self.close();
        }
        let Self { opener, place, identity: known, database, .. } = self;
        // A panic may leave the database in an invalid state; it is dropped below, and no other state is
        // changed.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let opened = match database.take() {
                Some(opened) => opened,
                None => {
                    let opened = opener(Builder::new().set_cache_size(CACHE_BYTES))?;
                    *known = identity(place.as_deref());
                    opened
                }
            };
            work(database.insert(opened))
        }));
        let outcome = outcome
            .unwrap_or_else(|panic| Err(RedbStoreError::Panicked { message: message(&*panic) }));
        let is_sound = matches!(
            outcome,
            Ok(_) | Err(RedbStoreError::IdBehind { .. } | RedbStoreError::AllDamaged { .. })
        );
        if !is_sound {
            self.close();
        }
        outcome
    }

    fn close(&mut self) {
        let database = self.database.take();
        // The drop may panic again over the same damage.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.close();
    }
}

/// Creates a database with its tables, completely or not at all: a database without them counts as damaged.
fn make_file(path: &Path, builder: &mut Builder) -> Result<(), RedbStoreError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&new)?;
    // The file is locked from here on, so no other process writes to it or has it open under its final name.
    let medium = FileBackend::new(file)?;
    if !path.try_exists()? {
        // A file that a crash has left here may be damaged, and no checkpoint was ever saved in it.
        medium.set_len(0)?;
        record::make_tables(&builder.create_with_backend(medium)?)?;
        match fs::hard_link(&new, path) {
            // Some file systems have no hard links.
            Err(_) if !path.try_exists()? => fs::rename(&new, path)?,
            Ok(()) | Err(_) => {}
        }
    }
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        // A checkpoint is not durable before its file's name is.
        _ => Ok(sync_parent(path)?),
    }
}

/// redb takes a file that is longer than its header says for one that a crash has left behind, and then
/// checks its header more closely. Otherwise it would trust a file that was cut off while it grew, and panic.
/// The extra page is used later, or cut off again when half of the file is free.
fn open_carefully<B: StorageBackend>(
    builder: &mut Builder,
    medium: B,
) -> Result<Database, RedbStoreError> {
    const PAGE: u64 = 4096;
    let len = medium.len()?;
    if len > 0 {
        medium.set_len(len.next_multiple_of(PAGE) + PAGE)?;
    }
    let database = builder.create_with_backend(medium)?;
    if len == 0 {
        record::make_tables(&database)?;
    }
    record::check_tables(&database)?;
    Ok(database)
}

/// Device and number of a file.
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(place: Option<&Path>) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(place?).ok()?;
    Some((found.dev(), found.ino()))
}

/// On other systems an open file cannot be replaced.
#[cfg(not(unix))]
fn identity(_place: Option<&Path>) -> Option<Identity> {
    None
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").into()
}

/// The lock is never poisoned in an invalid state, because every panic of the database is caught inside it.
fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the latest checkpoints of a job in a [`RedbFile`].
///
/// A saved checkpoint survives a crash of the process and of the machine. The [crate's page](crate) lists the
/// assumptions.
///
/// # Cancellation
///
/// If the future of a [`save`](CheckpointStore::save) is dropped, the checkpoint is saved completely or not
/// at all. An operation that has begun ends in the background; a later call waits for it. An operation that
/// has not begun by then is never executed. Until the operation has ended, the job has an owner and the file
/// is open.
#[derive(Debug)]
pub struct RedbStore {
    keep: usize,
    owned: Arc<Owned>,
}

#[derive(Debug)]
struct Owned {
    file: RedbFile,
    job: String,
    /// The number of calls so far.
    calls: AtomicU64,
}

impl Drop for Owned {
    fn drop(&mut self) {
        lock(&self.file.shared).owned.remove(&self.job);
    }
}

impl RedbStore {
    /// Reads the latest intact checkpoint of a job in a file, without becoming its owner; `None` if none was ever saved. Nothing
    /// is created or changed.
    ///
    /// redb locks its file, so this works only while no [`RedbFile`] has it open, in this process or another one; several readers
    /// can have it open together. In the process that has it open, ask
    /// [`RedbFile::read_latest_blocking`]. A file whose process has died is repaired by
    /// [`RedbFile::open`], which writes; before that this is an error.
    ///
    /// # Errors
    ///
    /// [`RedbStoreError::Database`] if the file is open
    /// ([`DatabaseAlreadyOpen`](redb::Error::DatabaseAlreadyOpen)), needs a repair
    /// ([`RepairAborted`](redb::Error::RepairAborted)), is not there, or is damaged;
    /// [`RedbStoreError::NoTables`], [`RedbStoreError::AllDamaged`],
    /// [`RedbStoreError::Panicked`].
    pub async fn read_latest(
        path: impl AsRef<Path>,
        job: &str,
    ) -> Result<Option<Loaded>, RedbStoreError> {
        let (path, job) = (path.as_ref().to_path_buf(), job.to_owned());
        blocking::unblock(move || Self::read_latest_blocking(path, &job)).await
    }

    /// [`read_latest`](Self::read_latest) for code that may block.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn read_latest_blocking(
        path: impl AsRef<Path>,
        job: &str,
    ) -> Result<Option<Loaded>, RedbStoreError> {
        let read = || {
            let database = Builder::new().set_cache_size(CACHE_BYTES).open_read_only(path)?;
            record::check_tables(&database)?;
            record::load(&database, job)
        };
        catch_unwind(AssertUnwindSafe(read))
            .unwrap_or_else(|panic| Err(RedbStoreError::Panicked { message: message(&*panic) }))
    }

    /// [`save`](CheckpointStore::save) for code that may block.
    ///
    /// # Errors
    ///
    /// [`RedbStoreError::IdBehind`], [`RedbStoreError::Database`], [`RedbStoreError::Panicked`].
    pub fn save_blocking(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), RedbStoreError> {
        self.save_call(id, bytes)()
    }

    /// [`load_latest`](CheckpointStore::load_latest) for code that may block.
    ///
    /// # Errors
    ///
    /// [`RedbStoreError::AllDamaged`], [`RedbStoreError::Database`], [`RedbStoreError::Panicked`].
    pub fn load_latest_blocking(&mut self) -> Result<Option<Loaded>, RedbStoreError> {
        self.call(record::load)()
    }

    /// Removes every checkpoint of the job, including damaged ones, to start from the beginning. This blocks.
    ///
    /// # Errors
    ///
    /// [`RedbStoreError::Database`], [`RedbStoreError::Panicked`]; then no checkpoint is removed.
    pub fn clear_blocking(&mut self) -> Result<(), RedbStoreError> {
        self.call(record::clear)()
    }

    fn save_call(
        &mut self,
        id: CheckpointId,
        bytes: &[u8],
    ) -> impl FnOnce() -> Result<(), RedbStoreError> + Send + 'static + use<> {
        let (keep, frame) = (self.keep, record::frame(&self.owned.job, id, bytes));
        self.call(move |database, job| record::save(database, job, (id, &frame), keep))
    }

    /// The work of one call, for any thread.
    fn call<T, W>(
        &mut self,
        work: W,
    ) -> impl FnOnce() -> Result<T, RedbStoreError> + Send + 'static + use<T, W>
    where
        T: Default,
        W: FnOnce(&Database, &str) -> Result<T, RedbStoreError> + Send + 'static,
    {
        let owned = Arc::clone(&self.owned);
        let call = owned.calls.fetch_add(1, Ordering::Relaxed) + 1;
        move || {
            let mut shared = lock(&owned.file.shared);
            if owned.calls.load(Ordering::Relaxed) != call {
                // A later call has overtaken this one, so its future was dropped and its result is not used.
                return Ok(T::default());
            }
            shared.with_database(|database| work(database, &owned.job))
        }
    }
}

impl CheckpointStore for RedbStore {
    type Error = RedbStoreError;

    /// Saves a checkpoint; when the future is ready, the checkpoint survives a crash of the machine.
    ///
    /// # Errors
    ///
    /// As [`RedbStore::save_blocking`].
    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), RedbStoreError> {
        blocking::unblock(self.save_call(id, bytes)).await
    }

    /// Like [`load_latest`](CheckpointStore::load_latest), which reads the checkpoint only once.
    ///
    /// # Errors
    ///
    /// As [`RedbStore::load_latest_blocking`].
    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<RedbStoreError>> {
        let latest = self.load_latest().await?;
        latest.map(|latest| latest.copy_into(buffer)).transpose()
    }

    /// The latest intact checkpoint of the job; `None` when none was ever saved.
    ///
    /// # Errors
    ///
    /// As [`RedbStore::load_latest_blocking`].
    async fn load_latest(&mut self) -> Result<Option<Loaded>, RedbStoreError> {
        blocking::unblock(self.call(record::load)).await
    }
}
