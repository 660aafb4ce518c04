//! The suite for all stores, over a folder.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};

use inflight_core::CheckpointId;
use inflight_store_conformance::{Capabilities, Check, Image, Medium, Owners, check};
use inflight_store_file::{FileStore, FileStoreError};
use tempfile::TempDir;

struct Folder {
    above: TempDir,
    keep: u16,
}

impl Folder {
    fn new(keep: u16) -> Self {
        // In memory, if the machine has a file system there, because the suite makes thousands of syncs.
        let in_memory = Path::new("/dev/shm");
        let above =
            if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() };
        Self { above: above.unwrap(), keep }
    }

    fn path(&self) -> PathBuf {
        self.above.path().join("folder")
    }

    fn aside(&self) -> PathBuf {
        self.above.path().join("aside")
    }

    /// The slots that the suite has left intact, the oldest first.
    fn by_age(&self) -> Vec<PathBuf> {
        let mut slots: Vec<_> = slots(&self.path())
            .into_iter()
            .filter_map(|path| {
                let frame = fs::read(&path).unwrap();
                let (revision, body) = inflight_core::envelope::open(&frame, *b"ifFS").ok()?;
                let id = u64::from_le_bytes(*body.first_chunk().unwrap());
                Some(((id, revision), path))
            })
            .collect();
        slots.sort();
        slots.into_iter().map(|(_, path)| path).collect()
    }
}

fn slots(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut slots: Vec<_> = paths.filter(|path| name(path).starts_with("slot-")).collect();
    slots.sort();
    slots
}

impl Medium for Folder {
    type Store = FileStore;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keeps: self.keep.into(),
            durable: true,
            largest: None,
            owners: Owners::SecondRefused,
            damages: true,
            survives_flips: true,
            tears: true,
            flips: true,
            fills: true,
            loads_when_full: true,
            vanishes: true,
        }
    }

    fn open(&mut self) -> Result<FileStore, FileStoreError> {
        FileStore::options().keep(self.keep).open(self.path())
    }

    fn damage_newest(&mut self) {
        let newest = self.by_age().pop().unwrap();
        let mut frame = fs::read(&newest).unwrap();
        *frame.last_mut().unwrap() ^= 1;
        // The slot may be longer than its content.
        frame[20] ^= 1;
        fs::write(newest, frame).unwrap();
    }

    /// A save writes one slot, from its beginning; a new slot is written under another name first.
    fn save_torn(&mut self, id: CheckpointId, bytes: &[u8], at: usize) -> bool {
        let before = self.image();
        self.open().unwrap().save_blocking(id, bytes).unwrap();
        let after = self.image();
        let written = after.iter().find(|part| !before.contains(part)).unwrap();
        let content = &written.1[..(30 + bytes.len()).min(written.1.len())];
        if at >= content.len() {
            return false;
        }
        self.put_back(&before);
        match before.iter().find(|(name, _)| *name == written.0) {
            None => fs::write(self.path().join("slot-new"), &content[..at]).unwrap(),
            Some((name, old)) => {
                let mut torn = content[..at].to_vec();
                torn.extend_from_slice(old.get(at..).unwrap_or_default());
                fs::write(self.path().join(name), torn).unwrap();
            }
        }
        true
    }

    fn image(&mut self) -> Image {
        let part = |path: PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        };
        slots(&self.path()).into_iter().map(part).collect()
    }

    fn put_back(&mut self, image: &Image) {
        for path in slots(&self.path()) {
            fs::remove_file(path).unwrap();
        }
        for (name, bytes) in image {
            fs::write(self.path().join(name), bytes).unwrap();
        }
    }

    /// A device that is always full replaces the slot that is written next.
    fn fill(&mut self) {
        let oldest = self.by_age().remove(0);
        fs::remove_file(&oldest).unwrap();
        std::os::unix::fs::symlink("/dev/full", oldest).unwrap();
    }

    fn make_room(&mut self) {
        for path in slots(&self.path()) {
            if path.is_symlink() {
                fs::remove_file(path).unwrap();
            }
        }
    }

    fn take_away(&mut self) {
        fs::rename(self.path(), self.aside()).unwrap();
    }

    fn bring_back(&mut self) {
        fs::rename(self.aside(), self.path()).unwrap();
    }
}

// K9
#[test]
fn two_slots_and_four() {
    for keep in [2, 4] {
        let report = check(|| Folder::new(keep)).unwrap();
        assert_eq!(report.skipped, [Check::Limit], "files have no limit");
    }
}
