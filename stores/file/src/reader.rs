//! Reads a folder without owning it, while an owner may be writing to it.

use std::path::{Path, PathBuf};
use std::{fs, io};

use inflight_core::Loaded;

use crate::error::FileStoreError;
use crate::folder::find_slots;
use crate::slot::{Content, Version, read_content};

/// The most looks at a folder. A slot that a save is just writing looks damaged, until the save has ended.
const LOOKS: usize = 8;

/// The slots of a folder at one time.
struct Look {
    latest: Option<(Version, Vec<u8>)>,
    damaged: Vec<(PathBuf, io::Error)>,
}

/// The latest intact checkpoint in a folder. It takes no lock and changes nothing.
pub(crate) fn read_latest(folder: &Path) -> Result<Option<Loaded>, FileStoreError> {
    let mut latest = None;
    let mut looks = 0;
    let damaged = loop {
        looks += 1;
        let found = look(folder)?;
        // An intact checkpoint that an earlier look has found counts, though its slot may be written again by now.
        latest = latest.max(found.latest);
        if found.damaged.is_empty() || looks == LOOKS {
            break found.damaged;
        }
    };
    match latest {
        Some((Version { id, .. }, bytes)) => Ok(Some(Loaded { id, bytes, damaged: damaged.len() })),
        None if damaged.is_empty() => Ok(None),
        None => Err(FileStoreError::AllDamaged { folder: folder.into(), slots: damaged }),
    }
}

fn look(folder: &Path) -> Result<Look, FileStoreError> {
    let slots = find_slots(folder, 0).map_err(FileStoreError::io("list", folder))?;
    let mut look = Look { latest: None, damaged: Vec::new() };
    for slot in slots {
        match read(&slot.path).map_err(FileStoreError::io("read", &slot.path))? {
            Content::Nothing => {}
            Content::Damaged(reason) => look.damaged.push((slot.path, reason)),
            Content::Intact(version, bytes) => {
                look.latest = look.latest.max(Some((version, bytes)))
            }
        }
    }
    Ok(look)
}

fn read(path: &Path) -> io::Result<Content> {
    match fs::File::open(path) {
        Ok(mut file) => Ok(read_content(&mut file)),
        // The owner has removed its checkpoints.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::Nothing),
        Err(error) => Err(error),
    }
}
