//! The folder: it chooses the slots to read and to write.

use std::path::{Path, PathBuf};
use std::{fs, io};

use inflight_core::{CheckpointId, Loaded};

use crate::error::FileStoreError;
use crate::lock::Lock;
use crate::slot::{self, Content, Slot, Version};
use crate::sync::{sync_folder, sync_parent};

/// An open folder, owned by this process for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    keep: u16,
    lock: Lock,
    /// At least `keep` slots.
    slots: Vec<Slot>,
}

impl Folder {
    /// Opens an existing folder.
    pub(crate) fn open(path: PathBuf, keep: u16) -> Result<Self, FileStoreError> {
        let lock = Lock::on(&path)?;
        // An earlier process may have been killed before this sync.
        sync_folder(&path).map_err(FileStoreError::io("sync", &path))?;
        let slots = find_slots(&path, keep).map_err(FileStoreError::io("list", &path))?;
        let mut folder = Self { path, keep, lock, slots };
        for slot in &mut folder.slots {
            if let Content::Intact(version, _) = read(slot)? {
                slot.holds = Some(version);
            }
        }
        Ok(folder)
    }

    /// Saves a checkpoint; `frame` comes from [`slot::frame`].
    pub(crate) fn save(
        &mut self,
        id: CheckpointId,
        mut frame: Vec<u8>,
    ) -> Result<(), FileStoreError> {
        self.ensure_ownership()?;
        let version = self.version_of(id)?;
        slot::seal(&mut frame, version);
        // Slots without a reliable checkpoint come first, then the oldest. The newest is never first, because
        // there are at least two slots, and no two versions are equal.
        self.slots.sort_by_key(|slot| slot.holds);
        let slot = &mut self.slots[0];
        slot.write(&frame, version).map_err(FileStoreError::io("write", &slot.path))
    }

    pub(crate) fn load_latest(&mut self) -> Result<Option<Loaded>, FileStoreError> {
        self.ensure_ownership()?;
        let mut latest: Option<(Version, Vec<u8>)> = None;
        let mut damaged = Vec::new();
        for slot in &mut self.slots {
            let reason = match read(slot)? {
                Content::Nothing => {
                    slot.holds = None;
                    continue;
                }
                Content::Intact(version, bytes) if slot.holds == Some(version) => {
                    if latest.as_ref().is_none_or(|(highest, _)| *highest < version) {
                        latest = Some((version, bytes));
                    }
                    continue;
                }
                // No other program writes here, so an earlier operation on this slot has failed.
                Content::Intact(..) => io::Error::other("an earlier failure leaves it in doubt"),
                Content::Damaged(reason) => reason,
            };
            slot.holds = None;
            damaged.push((slot.path.clone(), reason));
        }
        match latest {
            Some((version, bytes)) => {
                Ok(Some(Loaded { id: version.id, bytes, damaged: damaged.len() }))
            }
            None if damaged.is_empty() => Ok(None),
            None => Err(FileStoreError::AllDamaged { folder: self.path.clone(), slots: damaged }),
        }
    }

    pub(crate) fn clear(&mut self) -> Result<(), FileStoreError> {
        self.ensure_ownership()?;
        // The newest is removed last, so that a crash on the way leaves the latest checkpoint or none.
        self.slots.sort_by_key(|slot| slot.holds);
        for slot in &mut self.slots {
            slot.remove().map_err(FileStoreError::io("remove", &slot.path))?;
        }
        sync_folder(&self.path).map_err(FileStoreError::io("sync", &self.path))
    }

    /// Reopens the folder if it has vanished since the last call (for example because a medium was removed),
    /// or if another folder has replaced it: then everything known about it may be wrong.
    ///
    /// It does not create the folder again: a mount point without its medium is the wrong place for
    /// checkpoints.
    fn ensure_ownership(&mut self) -> Result<(), FileStoreError> {
        if !self.lock.is_in_place() {
            *self = Self::open(self.path.clone(), self.keep)?;
        }
        Ok(())
    }

    fn version_of(&self, id: CheckpointId) -> Result<Version, FileStoreError> {
        let latest = self.slots.iter().filter_map(|slot| slot.holds).max();
        let Some(latest) = latest.filter(|latest| id <= latest.id) else {
            return Ok(Version { id, revision: 0 });
        };
        let again = if id == latest.id { latest.revision.checked_add(1) } else { None };
        again.map(|revision| Version { id, revision }).ok_or_else(|| FileStoreError::IdBehind {
            folder: self.path.clone(),
            id,
            latest: latest.id,
        })
    }
}

/// Creates the folder durably, so that it survives a crash of the machine.
///
/// Each level is synced before the next is created. So if an earlier process was killed here, at most the
/// deepest level is not durable.
pub(crate) fn create(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        // Without the permission to open the parent, this program did not create the folder.
        let _ = sync_parent(folder);
        return Ok(());
    }
    folder.parent().map_or(Ok(()), create)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        other => other?,
    }
    sync_parent(folder)
}

fn read(slot: &Slot) -> Result<Content, FileStoreError> {
    slot.read().map_err(FileStoreError::io("read", &slot.path))
}

/// The slots to keep, and further slots that an earlier store with a larger number has left.
pub(crate) fn find_slots(folder: &Path, keep: u16) -> io::Result<Vec<Slot>> {
    let mut numbers: Vec<u16> = (0..keep).collect();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("slot-")?.parse().ok());
        numbers.extend(number.filter(|number| *number >= keep && *name == *slot_name(*number)));
    }
    let slots = numbers.into_iter().map(|number| {
        let path = folder.join(slot_name(number));
        Slot { path, holds: None }
    });
    Ok(slots.collect())
}

fn slot_name(number: u16) -> String {
    format!("slot-{number}")
}
