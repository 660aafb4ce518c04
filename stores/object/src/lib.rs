//! [`ObjectCheckpointStore`] keeps the checkpoints of an inflight pipeline in object storage, and refuses
//! an owner that another one has followed.
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
//! # What is in the folder
//!
//! A log: objects whose names are consecutive numbers. Each is written by a conditional put that fails
//! if it exists ([`PutMode::Create`](object_store::PutMode::Create)), and never changed. Whoever opens the
//! job appends a claim. The owner before counts on from its own last number, so its next put finds the
//! claim in its place and is refused. If that claim has been deleted since, the put succeeds, but the
//! owner lists the folder after each put, sees higher numbers, and is refused all the same before it
//! has answered.
//!
//! An update on condition (`If-Match`) is not needed, so back ends that cannot do it will do: the file
//! system of `object_store` is one.
//!
//! # What it relies on
//!
//! * A put is atomic, and durable when it returns. `LocalFileSystem` syncs only if it is told to
//!   (`with_fsync`).
//! * `PutMode::Create` never writes over an object, and a list shows every put that has returned. S3,
//!   Google Cloud Storage and Azure promise both.
//! * The checksum, a CRC-32, for bits that change afterwards.
#![forbid(unsafe_code)]

mod error;
mod log;

use inflight_core::{CheckpointId, CheckpointStore, LoadError, Loaded, LoadedInto};
use object_store::ObjectStore;
use object_store::path::Path;

pub use error::ObjectStoreError;
use log::{Entry, Log, Number};

/// Keeps the last checkpoints of a job in object storage, as its only owner.
///
/// Opening a job makes whoever has it open stale: all it still can do is to load. The
/// [crate's page](crate) says how.
///
/// # Cancellation
///
/// When the future of a [`save`](CheckpointStore::save) is dropped, the checkpoint is saved whole or not
/// at all. A request that is under way then may still arrive; it is recognised when it has, and in any
/// case stands before what is saved later.
#[derive(Debug)]
pub struct ObjectCheckpointStore<O> {
    log: Log<O>,
    keep: usize,
    /// The number of our claim.
    owner: Number,
    /// The number of the next entry.
    next: Number,
    /// The intact checkpoints that are to be kept, as far as is known, the newest first.
    intact: Vec<(Number, CheckpointId)>,
    is_fenced: bool,
}

impl<O: ObjectStore> ObjectCheckpointStore<O> {
    /// Opens a job, whose objects have a folder of their own, to keep its last `keep` checkpoints.
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
            // Whoever else claims it now is before us or after us, never beside us.
            if log.append(owner, Entry::claim(owner)).await? {
                let (next, intact) = (owner.saturating_add(1), Vec::new());
                let mut store = Self { log, keep, owner, next, intact, is_fenced: false };
                store.intact = store.find_intact().await?;
                return Ok(store);
            }
        }
    }

    fn fenced<T>(&mut self) -> Result<T, ObjectStoreError> {
        self.is_fenced = true;
        Err(ObjectStoreError::Fenced { job: self.log.folder.clone() })
    }

    /// Appends a checkpoint. A number that is taken is ours, from a save that seemed to fail, or makes
    /// us stale.
    async fn append(&mut self, frame: &[u8]) -> Result<(), ObjectStoreError> {
        while !self.log.append(self.next, frame.to_vec()).await? {
            match self.log.read(self.next).await? {
                Some(Entry::Checkpoint { owner, .. }) if owner == self.owner => self.next += 1,
                // Damaged: it does not say whose it is. If we are stale the list will tell.
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

    /// Deletes what is older than the intact checkpoints to keep. Whether it can is of no importance to
    /// this save; the next one tries again.
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
        let mut damaged = Vec::new();
        for number in self.log.numbers().await?.into_iter().rev() {
            match self.log.read(number).await? {
                Some(Entry::Checkpoint { id, frame, .. }) => {
                    let bytes = Entry::bytes(&frame).to_vec();
                    self.intact.retain(|(intact, _)| *intact <= number);
                    return Ok(Some(Loaded { id, bytes, damaged: damaged.len() }));
                }
                Some(Entry::Damaged) => damaged.push(self.log.path(number)),
                Some(Entry::Claim) | None => {}
            }
        }
        self.intact.clear();
        if damaged.is_empty() {
            return Ok(None);
        }
        Err(ObjectStoreError::AllDamaged { objects: damaged })
    }
}

impl<O: ObjectStore> CheckpointStore for ObjectCheckpointStore<O> {
    type Error = ObjectStoreError;

    /// Saves a checkpoint, as the job's owner.
    ///
    /// # Errors
    ///
    /// [`ObjectStoreError::Fenced`] when another owner has opened the job,
    /// [`ObjectStoreError::IdBehind`], [`ObjectStoreError::Storage`]. After the last one it may be
    /// saved nevertheless.
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

    /// As [`load_latest`](CheckpointStore::load_latest), which does it in one go.
    ///
    /// # Errors
    ///
    /// As there.
    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<ObjectStoreError>> {
        let latest = self.find_latest().await?;
        latest.map(|latest| latest.copy_into(buffer)).transpose()
    }

    /// The latest intact checkpoint of the job, whoever saved it; `None` when none was ever saved.
    ///
    /// # Errors
    ///
    /// [`ObjectStoreError::AllDamaged`], [`ObjectStoreError::Storage`].
    async fn load_latest(&mut self) -> Result<Option<Loaded>, ObjectStoreError> {
        self.find_latest().await
    }
}
