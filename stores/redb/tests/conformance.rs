//! The suite for all stores, over a database on a medium that can be torn, damaged, full and gone.

use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, OnceLock};

use inflight_core::CheckpointId;
use inflight_store_conformance::{Capabilities, Check, Image, Medium, Owners, check};
use inflight_store_redb::{RedbFile, RedbStore, RedbStoreError};
use redb::StorageBackend;

#[derive(Debug, Default)]
struct Disk {
    bytes: Vec<u8>,
    /// The power fails after so many bytes were changed. Bytes that stay the same do not count, because
    /// before and after them the medium is the same.
    power: Option<usize>,
    is_full: bool,
    is_gone: bool,
}

#[derive(Clone, Debug, Default)]
struct Backend(Arc<Mutex<Disk>>);

impl Backend {
    fn with<T>(&self, work: impl FnOnce(&mut Disk) -> Result<T>) -> Result<T> {
        let mut disk = self.0.lock().unwrap();
        if disk.is_gone || disk.power == Some(0) {
            return Err(Error::new(ErrorKind::NotFound, "gone"));
        }
        work(&mut disk)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64> {
        self.with(|disk| Ok(disk.bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.with(|disk| {
            let rest = disk.bytes.get(offset as usize..).unwrap_or_default();
            let found = rest.get(..out.len()).ok_or(ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(found);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.with(|disk| {
            if disk.is_full && len as usize > disk.bytes.len() {
                return Err(ErrorKind::StorageFull.into());
            }
            disk.bytes.resize(len as usize, 0);
            Ok(())
        })
    }

    fn sync_data(&self) -> Result<()> {
        self.with(|_| Ok(()))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.with(|disk| {
            if disk.is_full {
                return Err(ErrorKind::StorageFull.into());
            }
            let end = offset as usize + data.len();
            let place = disk.bytes.get_mut(offset as usize..end).ok_or(ErrorKind::UnexpectedEof)?;
            for (old, new) in place.iter_mut().zip(data).filter(|(old, new)| old != new) {
                match &mut disk.power {
                    Some(0) => return Err(Error::other("the power has failed")),
                    Some(left) => *left -= 1,
                    None => {}
                }
                *old = *new;
            }
            Ok(())
        })
    }
}

/// A new medium, with an empty database on it, because creating one takes longer than the rest.
struct Chip(Backend);

impl Chip {
    fn new() -> Self {
        static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();
        let bytes = EMPTY.get_or_init(|| {
            let mut chip = Self(Backend::default());
            drop(chip.open().unwrap());
            chip.image().remove(0).1
        });
        let chip = Self(Backend::default());
        chip.0.0.lock().unwrap().bytes.clone_from(bytes);
        chip
    }
}

/// A bit is flipped at one position in so many: the crate's page describes the effect at one of the others.
const FLIPS: usize = 89;

/// A commit changes some 7,500 bytes. All of them are tried with `INFLIGHT_EVERY_BYTE=1`, which takes a
/// minute without debug assertions; one in so many otherwise.
fn stride() -> usize {
    if std::env::var_os("INFLIGHT_EVERY_BYTE").is_some() { 1 } else { FLIPS }
}

impl Medium for Chip {
    type Store = RedbStore;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keeps: 3,
            durable: true,
            largest: None,
            owners: Owners::Unchecked,
            damages: true,
            // A flip in the database's own pages may be an error.
            survives_flips: false,
            tears: true,
            flips: true,
            fills: true,
            // After a failure the store opens the database again, and the repair writes.
            loads_when_full: false,
            vanishes: true,
        }
    }

    fn open(&mut self) -> std::result::Result<RedbStore, RedbStoreError> {
        let backend = self.0.clone();
        RedbFile::open_backend(move || Ok(backend.clone()))?.job("job", 3)
    }

    /// The last byte of the newest intact checkpoint.
    fn damage_newest(&mut self) {
        let newest = self.open().unwrap().load_latest_blocking().unwrap().unwrap();
        let mut disk = self.0.0.lock().unwrap();
        let mut wanted = newest.id.0.to_le_bytes().to_vec();
        wanted.extend_from_slice(&3_u64.to_le_bytes());
        wanted.extend_from_slice(b"job");
        wanted.extend_from_slice(&newest.bytes);
        // Pages that are no longer in use may contain it too.
        let places: Vec<usize> = (0..disk.bytes.len() - wanted.len())
            .filter(|at| disk.bytes[*at..].starts_with(&wanted))
            .collect();
        assert!(!places.is_empty());
        for at in places {
            disk.bytes[at + wanted.len() - 1] ^= 1;
        }
    }

    fn save_torn(&mut self, id: CheckpointId, bytes: &[u8], at: usize) -> bool {
        let mut store = self.open().unwrap();
        self.0.0.lock().unwrap().power = Some(at * stride());
        let saved = store.save_blocking(id, bytes);
        drop(store);
        let left = self.0.0.lock().unwrap().power.take();
        assert!(saved.is_ok() || left == Some(0), "{saved:?}");
        left == Some(0)
    }

    fn image(&mut self) -> Image {
        vec![("file".into(), self.0.0.lock().unwrap().bytes.clone())]
    }

    fn put_back(&mut self, image: &Image) {
        self.0.0.lock().unwrap().bytes.clone_from(&image[0].1);
    }

    /// Most of the file is unused.
    fn places(&self, image: &Image) -> Vec<(usize, usize)> {
        let bytes = image[0].1.iter().enumerate();
        bytes.filter(|(_, byte)| **byte != 0).map(|(at, _)| (0, at)).step_by(FLIPS).collect()
    }

    fn fill(&mut self) {
        self.0.0.lock().unwrap().is_full = true;
    }

    fn make_room(&mut self) {
        self.0.0.lock().unwrap().is_full = false;
    }

    fn take_away(&mut self) {
        self.0.0.lock().unwrap().is_gone = true;
    }

    fn bring_back(&mut self) {
        self.0.0.lock().unwrap().is_gone = false;
    }
}

// K9
#[test]
fn a_database_on_a_medium_that_fails() {
    // The output of the database's panics over damage is caught, and does not matter here.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = std::panic::catch_unwind(|| check(Chip::new));
    std::panic::set_hook(hook);
    let report = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let report = report.unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(report.skipped, [Check::Owners, Check::Limit]);
}
