//! One slot: a file that holds one checkpoint behind a checksummed header.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use inflight_core::CheckpointId;
use inflight_core::envelope::{self, FormatError, HEADER_LEN, Magic};

use crate::sync::sync_parent;

const MAGIC: Magic = *b"ifFS";

/// The bytes before a checkpoint's own: the header, then its number.
const PREFIX_LEN: usize = HEADER_LEN + 8;

/// A new slot is written under this name first.
const UNFINISHED: &str = "slot-new";

/// Orders the contents of slots: the later content is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) id: CheckpointId,
    /// The number of earlier saves of this id. It is stored in the header's schema version, which slots do
    /// not need for anything else.
    pub(crate) revision: u32,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) path: PathBuf,
    /// The content that is known to be on the medium, and not only in the system's memory. `None`: no
    /// content, or no reliable content.
    pub(crate) holds: Option<Version>,
}

/// The content of a slot, as it was read.
#[derive(Debug)]
pub(crate) enum Content {
    /// The slot was never written: it has no file.
    Nothing,
    Damaged(io::Error),
    Intact(Version, Vec<u8>),
}

/// The frame for a checkpoint, not sealed yet.
pub(crate) fn frame(id: CheckpointId, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PREFIX_LEN + bytes.len());
    frame.resize(HEADER_LEN, 0);
    frame.extend_from_slice(&id.0.to_le_bytes());
    frame.extend_from_slice(bytes);
    frame
}

pub(crate) fn seal(frame: &mut [u8], version: Version) {
    envelope::seal(frame, MAGIC, version.revision);
}

impl Slot {
    /// Replaces the content of the slot.
    pub(crate) fn write(&mut self, frame: &[u8], version: Version) -> io::Result<()> {
        match File::options().write(true).open(&self.path) {
            Ok(mut file) => {
                // From here on the old content is lost, even if the write fails.
                self.holds = None;
                overwrite(&mut file, frame, |file| file.sync_data())?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.holds = None;
                create(&self.path, frame)?;
            }
            Err(error) => return Err(error),
        }
        self.holds = Some(version);
        Ok(())
    }

    pub(crate) fn remove(&mut self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                self.holds = None;
                Ok(())
            }
        }
    }

    /// Reads the slot. It is an error if the file cannot be opened; a content that cannot be read is damaged.
    pub(crate) fn read(&self) -> io::Result<Content> {
        let mut file = match File::options().read(true).write(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Nothing),
            Err(error) => return Err(error),
        };
        // An earlier process may have been killed between its write and its sync, so that the content is only
        // in the system's memory. Sync it before relying on it and giving up the previous checkpoint.
        Ok(match file.sync_data() {
            Ok(()) => read_content(&mut file),
            Err(error) => Content::Damaged(error),
        })
    }
}

/// Reads a slot's open file. A content that cannot be read is damaged.
pub(crate) fn read_content(file: &mut File) -> Content {
    match read_frame(file) {
        Ok((version, bytes)) => Content::Intact(version, bytes),
        Err(error) => Content::Damaged(error),
    }
}

/// Overwrites a slot in place: a crash on the way damages only this slot, and the slot keeps its blocks when
/// the medium is full.
fn overwrite<F: Write + Seek>(
    slot: &mut F,
    frame: &[u8],
    sync: impl FnOnce(&mut F) -> io::Result<()>,
) -> io::Result<()> {
    let written = slot.write_all(frame).and_then(|()| sync(slot));
    if written.is_err() {
        // After a failed sync the system may return bytes that never reached the medium. Remove the header,
        // as far as possible, so that the next process does not take the slot for intact.
        let _ = slot.rewind().and_then(|()| slot.write_all(&[0; HEADER_LEN]));
    }
    written
}

/// Creates a slot. It gets its name when it is complete, so that there is no damaged checkpoint before the
/// very first one is saved.
fn create(path: &Path, frame: &[u8]) -> io::Result<()> {
    let unfinished = path.with_file_name(UNFINISHED);
    let made = write_new(&unfinished, frame)
        .and_then(|()| fs::rename(&unfinished, path))
        .and_then(|()| sync_parent(path));
    if made.is_err() {
        // Free the room; the next save creates the slot again.
        let _ = fs::remove_file(&unfinished);
        let _ = fs::remove_file(path);
    }
    made
}

fn write_new(path: &Path, frame: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(frame)?;
    file.sync_all()
}

fn read_frame(file: &mut File) -> io::Result<(Version, Vec<u8>)> {
    let mut frame = Vec::new();
    file.take(HEADER_LEN as u64).read_to_end(&mut frame)?;
    // The header claims the length of the frame: believe it only if the file is that long.
    if let Err(FormatError::Truncated { expected, .. }) = envelope::open(&frame, MAGIC)
        && expected <= file.metadata()?.len()
    {
        let rest = expected - frame.len() as u64;
        frame.try_reserve_exact(usize::try_from(rest).unwrap_or(usize::MAX))?;
        file.take(rest).read_to_end(&mut frame)?;
    }
    let (revision, body) = envelope::open(&frame, MAGIC).map_err(invalid)?;
    let (id, _) = body.split_first_chunk().ok_or_else(|| invalid(FormatError::Damaged))?;
    let id = CheckpointId(u64::from_le_bytes(*id));
    frame.drain(..PREFIX_LEN);
    Ok((Version { id, revision }, frame))
}

fn invalid(error: FormatError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn sealed(id: u64, bytes: &[u8]) -> Vec<u8> {
        let mut frame = frame(CheckpointId(id), bytes);
        seal(&mut frame, Version { id: CheckpointId(id), revision: 0 });
        frame
    }

    // K9: after a failed sync, the bytes in the system's memory do not count as intact later.
    #[test]
    fn a_failed_sync_leaves_nothing_that_looks_whole() {
        let mut slot = Cursor::new(sealed(1, b"older and longer"));
        let refused = overwrite(&mut slot, &sealed(3, b"newer"), |_| Err(io::Error::other("no")));
        assert_eq!(refused.unwrap_err().to_string(), "no");
        assert_eq!(envelope::open(slot.get_ref(), MAGIC), Err(FormatError::Foreign));
    }

    // K9: a slot is not relied on after a failed write.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_failed_write_leaves_nothing_to_rely_on() {
        let version = Version { id: CheckpointId(1), revision: 0 };
        let mut slot = Slot { path: PathBuf::from("/dev/full"), holds: Some(version) };
        slot.write(&sealed(2, b""), Version { id: CheckpointId(2), revision: 0 }).unwrap_err();
        assert_eq!(slot.holds, None);
    }

    // K6: allocates only as many bytes as the file has, even if the header claims more.
    #[test]
    fn a_header_that_promises_too_much_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slot-0");
        let mut frame = sealed(1, b"short");
        frame[10..18].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        fs::write(&path, frame).unwrap();
        let found = Slot { path, holds: None }.read().unwrap();
        let Content::Damaged(error) = found else { panic!("{found:?}") };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    // K6: a body that this store has sealed, but that is too short for a number.
    #[test]
    fn a_body_without_a_number_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slot-0");
        for length in HEADER_LEN..PREFIX_LEN {
            let mut frame = vec![0; length];
            envelope::seal(&mut frame, MAGIC, 0);
            fs::write(&path, frame).unwrap();
            let found = Slot { path: path.clone(), holds: None }.read().unwrap();
            assert!(matches!(found, Content::Damaged(_)), "{found:?}");
        }
    }
}
