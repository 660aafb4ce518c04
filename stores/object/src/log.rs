//! The log of a job: objects with numbers as names, each created only if it does not exist.

use futures_util::TryStreamExt;
use inflight_core::CheckpointId;
use inflight_core::envelope::{self, FormatError, HEADER_LEN, Magic};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};

const MAGIC: Magic = *b"ifOB";

/// The bytes before a checkpoint's own: the header, its owner and its id.
const PREFIX_LEN: usize = HEADER_LEN + 16;

/// The kind of an entry, stored in the header's schema version.
const CLAIM: u32 = 1;
const CHECKPOINT: u32 = 2;

/// The number of an entry. The number of its claim identifies an owner.
pub(crate) type Number = u64;

#[derive(Debug)]
pub(crate) enum Entry {
    Claim,
    Checkpoint { owner: Number, id: CheckpointId, frame: Vec<u8> },
    Damaged,
}

impl Entry {
    pub(crate) fn claim(owner: Number) -> Vec<u8> {
        frame(CLAIM, owner, CheckpointId(0), &[])
    }

    pub(crate) fn checkpoint(owner: Number, id: CheckpointId, bytes: &[u8]) -> Vec<u8> {
        frame(CHECKPOINT, owner, id, bytes)
    }

    fn read(frame: Vec<u8>) -> Self {
        let read = |frame: &[u8]| {
            let (kind, body) = envelope::open(frame, MAGIC)?;
            // No bytes follow the body, because an object has exactly the bytes that were written.
            let owner = body.first_chunk().ok_or(FormatError::Damaged)?;
            let id = body[8..].first_chunk().ok_or(FormatError::Damaged)?;
            Ok::<_, FormatError>((kind, u64::from_le_bytes(*owner), u64::from_le_bytes(*id)))
        };
        match read(&frame) {
            Ok((CLAIM, ..)) => Self::Claim,
            Ok((CHECKPOINT, owner, id)) => Self::Checkpoint { owner, id: CheckpointId(id), frame },
            _ => Self::Damaged,
        }
    }

    /// The checkpoint's own bytes.
    pub(crate) fn bytes(frame: &[u8]) -> &[u8] {
        &frame[PREFIX_LEN..]
    }
}

fn frame(kind: u32, owner: Number, id: CheckpointId, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    frame.extend_from_slice(&owner.to_le_bytes());
    frame.extend_from_slice(&id.0.to_le_bytes());
    frame.extend_from_slice(bytes);
    envelope::seal(&mut frame, MAGIC, kind);
    frame
}

#[derive(Clone, Debug)]
pub(crate) struct Log<O> {
    pub(crate) storage: O,
    pub(crate) folder: Path,
}

impl<O: ObjectStore> Log<O> {
    pub(crate) fn path(&self, number: Number) -> Path {
        self.folder.clone().join(format!("{number:020}"))
    }

    /// The numbers of all entries, in order. Other objects in the folder are ignored.
    pub(crate) async fn numbers(&self) -> Result<Vec<Number>, Error> {
        let objects: Vec<_> = self.storage.list(Some(&self.folder)).try_collect().await?;
        let number = |path: &Path| {
            let number = path.filename()?.parse().ok()?;
            (self.path(number) == *path).then_some(number)
        };
        let mut numbers: Vec<_> = objects.iter().filter_map(|it| number(&it.location)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Writes an entry if its number is free; returns true if it was.
    pub(crate) async fn append(&self, number: Number, frame: Vec<u8>) -> Result<bool, Error> {
        let (path, options) = (self.path(number), PutOptions::from(PutMode::Create));
        match self.storage.put_opts(&path, PutPayload::from(frame), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads an entry; `None` if it was deleted.
    pub(crate) async fn read(&self, number: Number) -> Result<Option<Entry>, Error> {
        let found = match self.storage.get(&self.path(number)).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        match found {
            Ok(bytes) => Ok(Some(Entry::read(bytes.to_vec()))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The latest intact checkpoint with its number, and the damaged entries after it.
    pub(crate) async fn latest(&self) -> Result<(Option<(Number, Entry)>, Vec<Path>), Error> {
        let mut numbers = self.numbers().await?;
        'again: loop {
            let mut damaged = Vec::new();
            for number in numbers.iter().rev().copied() {
                match self.read(number).await? {
                    Some(entry @ Entry::Checkpoint { .. }) => {
                        return Ok((Some((number, entry)), damaged));
                    }
                    Some(Entry::Damaged) => damaged.push(self.path(number)),
                    Some(Entry::Claim) => {}
                    // The job's owner deletes an entry after it has written a newer checkpoint, which the list did not have.
                    None => {
                        let now = self.numbers().await?;
                        if now.last() > numbers.last() {
                            numbers = now;
                            continue 'again;
                        }
                    }
                }
            }
            return Ok((None, damaged));
        }
    }

    /// Deletes an entry; it is no error if it does not exist.
    pub(crate) async fn delete(&self, number: Number) -> Result<(), Error> {
        match self.storage.delete(&self.path(number)).await {
            Err(Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
