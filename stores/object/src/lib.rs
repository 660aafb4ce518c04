//! [`ObjectCheckpointStore`] keeps the checkpoints of an inflight pipeline in object storage, with fencing of
//! stale owners.
//!
//! ```
//! use inflight_core::{CheckpointId, CheckpointStore};
//! use inflight_store_object::{ObjectCheckpointStore, ObjectStoreError};
//! use object_store::{memory::InMemory, path::Path};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), ObjectStoreError> {
//! # futures_lite::future::block_on(async {
//! let storage = Arc::new(InMemory::new());
//! let job = Path::from("checkpoints/enrich");
//! let mut first = ObjectCheckpointStore::open(Arc::clone(&storage), job.clone(), 2).await?;
//! first.save(CheckpointId(1), b"line 12").await?;
//!
//! // Somewhere else, because the first one is thought to be dead:
//! let mut second = ObjectCheckpointStore::open(storage, job, 2).await?;
//! assert_eq!(second.load_latest().await?.unwrap().bytes, b"line 12");
//!
//! let refused = first.save(CheckpointId(2), b"line 29").await.unwrap_err();
//! assert!(matches!(refused, ObjectStoreError::Fenced { .. }));
//! second.save(CheckpointId(2), b"line 29").await?;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # The log
//!
//! The folder of a job is a log: its objects have consecutive numbers as names. A conditional put that fails
//! if the object exists ([`PutMode::Create`](object_store::PutMode::Create)) writes each object, and no
//! object is ever changed. A new owner appends a claim. The previous owner counts from its own last number,
//! so its next put finds the claim under that number and is refused. If the claim has been deleted since, the
//! put succeeds, but the owner lists the folder after each put, sees higher numbers, and refuses the save
//! before it returns.
//!
//! The store needs no conditional update (`If-Match`), so back ends without one work, such as the file system
//! of `object_store`.
//!
//! # Assumptions
//!
//! * A put is atomic, and durable when it returns. `LocalFileSystem` syncs only with `with_fsync`.
//! * `PutMode::Create` never overwrites an object, and a list shows every put that has returned. S3, Google
//!   Cloud Storage and Azure guarantee both.
//! * The checksum, a CRC-32, detects bits that change later.
#![forbid(unsafe_code)]

mod error;
mod log;

use inflight_core::{CheckpointId, CheckpointStore, LoadError, Loaded, LoadedInto};
use object_store::ObjectStore;
use object_store::path::Path;

pub use error::ObjectStoreError;
use log::{Entry, Log, Number};

/// Keeps the latest checkpoints of a job in object storage, as its only owner.
///
/// Opening a job makes its previous owner stale: that one can only load from then on. The [crate's
/// page](crate) explains the method.
///
/// # Cancellation
///
/// If the future of a [`save`](CheckpointStore::save) is dropped, the checkpoint is saved completely or not
/// at all. A request that is under way then may still arrive; a later call recognises it, and its number is
/// lower than that of every later save.
#[derive(Debug)]
pub struct ObjectCheckpointStore<O> {
    log: Log<O>,
    keep: usize,
    /// The number of our claim.
    owner: Number,
    /// The number of the next entry.
    next: Number,
    /// The intact checkpoints to keep, as far as they are known, the newest first.
    intact: Vec<(Number, CheckpointId)>,
    is_fenced: bool,
}

impl<O: ObjectStore> ObjectCheckpointStore<O> {
    /// Opens a job, whose objects have a folder of their own, and keeps its latest `keep` checkpoints.
    ///
    /// # Errors
    ///
    /// [`ObjectStoreError::Storage`], [`ObjectStoreError::KeepsNothing`].
    pub async fn open(storage: O, job: Path, keep: usize) -> Result<Self, ObjectStoreError> {
        if keep == 0 {
            return Err(ObjectStoreError::KeepsNothing);
        }
        let log = Log { storage, folder: job };
        loop {
            let owner = log.numbers().await?.last().map_or(0, |last| last.saturating_add(1));
            // The put decides the order of owners that claim the job at the same time.
            if log.append(owner, Entry::claim(owner)).await? {
                let (next, intact) = (owner.saturating_add(1), Vec::new());
                let mut store = Self { log, keep, owner, next, intact, is_fenced: false };
                store.intact = store.find_intact().await?;
                return Ok(store);
            }
        }
    }

    /// Reads the latest intact checkpoint of a job, from any owner, without becoming its owner: for monitors, and for a look at a
    /// job from outside. `None` if none was ever saved. Nothing is written, so the owner of the job goes on.
    ///
    /// # Errors
    ///
    /// [`ObjectStoreError::AllDamaged`], [`ObjectStoreError::Storage`].
    pub async fn read_latest(storage: O, job: Path) -> Result<Option<Loaded>, ObjectStoreError> {
        let (latest, damaged) = Log { storage, folder: job }.latest().await?;
        loaded(latest, damaged)
    }

    fn fenced<T>(&mut self) -> Result<T, ObjectStoreError> {
        self.is_fenced = true;
        Err(ObjectStoreError::Fenced { job: self.log.folder.clone() })
    }

    /// Appends a checkpoint. An object that has the number already comes from an earlier save of this owner
    /// that seemed to fail, or from a newer owner, which makes this one stale.
    async fn append(&mut self, frame: &[u8]) -> Result<(), ObjectStoreError> {
        while !self.log.append(self.next, frame.to_vec()).await? {
            match self.log.read(self.next).await? {
                Some(Entry::Checkpoint { owner, .. }) if owner == self.owner => self.next += 1,
                // A damaged object does not name its owner. If this owner is stale, the list will show it.
                Some(Entry::Damaged) => self.next += 1,
                _ => return self.fenced(),
            }
        }
        Ok(())
    }

    async fn find_intact(&self) -> Result<Vec<(Number, CheckpointId)>, object_store::Error> {
        let mut intact = Vec::new();
        for number in self.log.numbers().await?.into_iter().rev() {
            if let Some(Entry::Checkpoint { id, .. }) = self.log.read(number).await? {
                intact.push((number, id));
                if intact.len() == self.keep {
                    break;
                }
            }
        }
        Ok(intact)
    }

    /// Deletes objects that are older than the intact checkpoints to keep. A failure does not affect this
    /// save; the next one tries again.
    async fn delete_old(&mut self, numbers: &[Number]) {
        self.intact.truncate(self.keep);
        let Some((oldest, _)) = self.intact.get(self.keep - 1) else { return };
        for number in numbers.iter().filter(|number| *number < oldest) {
            if self.log.delete(*number).await.is_err() {
                return;
            }
        }
    }

    async fn find_latest(&mut self) -> Result<Option<Loaded>, ObjectStoreError> {
        let (latest, damaged) = self.log.latest().await?;
        match &latest {
            Some((number, _)) => self.intact.retain(|(intact, _)| intact <= number),
            None => self.intact.clear(),
        }
        loaded(latest, damaged)
    }
}

/// The checkpoint of the latest intact entry; an error if all are damaged.
fn loaded(
    latest: Option<(Number, Entry)>,
    damaged: Vec<Path>,
) -> Result<Option<Loaded>, ObjectStoreError> {
    match latest {
        Some((_, Entry::Checkpoint { id, frame, .. })) => {
            Ok(Some(Loaded { id, bytes: Entry::bytes(&frame).to_vec(), damaged: damaged.len() }))
        }
        _ if damaged.is_empty() => Ok(None),
        _ => Err(ObjectStoreError::AllDamaged { objects: damaged }),
    }
}

impl<O: ObjectStore> CheckpointStore for ObjectCheckpointStore<O> {
    type Error = ObjectStoreError;

    /// Saves a checkpoint, as the owner of the job.
    ///
    /// # Errors
    ///
    /// [`ObjectStoreError::Fenced`] if another owner has opened the job, [`ObjectStoreError::IdBehind`],
    /// [`ObjectStoreError::Storage`]. After the last error the checkpoint may be saved nevertheless.
    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), ObjectStoreError> {
        if self.is_fenced {
            return self.fenced();
        }
        if let Some((_, latest)) = self.intact.first().filter(|(_, latest)| id < *latest) {
            return Err(ObjectStoreError::IdBehind { id, latest: *latest });
        }
        self.append(&Entry::checkpoint(self.owner, id, bytes)).await?;
        let numbers = self.log.numbers().await?;
        if numbers.last().is_some_and(|last| *last > self.next) {
            return self.fenced();
        }
        self.intact.insert(0, (self.next, id));
        self.next += 1;
        self.delete_old(&numbers).await;
        Ok(())
    }

    /// Only [`ObjectStoreError::Fenced`] is final.
    fn is_final(&self, error: &ObjectStoreError) -> bool {
        matches!(error, ObjectStoreError::Fenced { .. })
    }

    /// Like [`load_latest`](CheckpointStore::load_latest), which reads the checkpoint only once.
    ///
    /// # Errors
    ///
    /// The same.
    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<ObjectStoreError>> {
        let latest = self.find_latest().await?;
        latest.map(|latest| latest.copy_into(buffer)).transpose()
    }

    /// The latest intact checkpoint of the job, from any owner; `None` if none was ever saved.
    ///
    /// # Errors
    ///
    /// [`ObjectStoreError::AllDamaged`], [`ObjectStoreError::Storage`].
    async fn load_latest(&mut self) -> Result<Option<Loaded>, ObjectStoreError> {
        self.find_latest().await
    }
}
