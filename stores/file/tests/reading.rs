//! Reading the latest checkpoint without owning its folder.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use futures_lite::future::block_on;
use inflight_core::{CheckpointId, Loaded};
use inflight_store_file::{FileStore, FileStoreError};

fn loaded(id: u64, bytes: &[u8], damaged: usize) -> Option<Loaded> {
    Some(Loaded { id: CheckpointId(id), bytes: bytes.to_vec(), damaged })
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

// K9: a reader needs no lock, takes none, and sees the latest.
#[test]
fn a_folder_is_read_while_a_store_has_it_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(folder.path()).unwrap();
    assert_eq!(block_on(FileStore::read_latest(folder.path())).unwrap(), None);
    for id in 1..=5 {
        store.save_blocking(CheckpointId(id), &[id as u8; 10]).unwrap();
        let found = block_on(FileStore::read_latest(folder.path())).unwrap();
        assert_eq!(found, loaded(id, &[id as u8; 10], 0));
    }
    drop(store);
    let found = FileStore::read_latest_blocking(folder.path()).unwrap();
    assert_eq!(found, loaded(5, &[5; 10], 0));
}

// K9
#[test]
fn a_reader_creates_nothing_and_changes_nothing() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("checkpoints");
    let refused = FileStore::read_latest_blocking(&folder).unwrap_err();
    assert!(matches!(refused, FileStoreError::Io { .. }), "{refused:?}");
    assert!(!folder.exists());

    fs::create_dir(&folder).unwrap();
    assert_eq!(FileStore::read_latest_blocking(&folder).unwrap(), None);
    assert_eq!(names(&folder), [""; 0]);

    FileStore::open(&folder).unwrap().save_blocking(CheckpointId(1), b"one").unwrap();
    let slot = folder.join("slot-0");
    fs::set_permissions(&slot, {
        let mut permissions = fs::metadata(&slot).unwrap().permissions();
        permissions.set_readonly(true);
        permissions
    })
    .unwrap();
    assert_eq!(FileStore::read_latest_blocking(&folder).unwrap(), loaded(1, b"one", 0));
    assert_eq!(names(&folder), ["lock", "slot-0"]);
}

// K9: like a load, it falls back to the checkpoint before a damaged one, and says so.
#[test]
fn a_reader_sees_the_latest_intact_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::options().keep(3).open(folder.path()).unwrap();
    for id in 1..=3 {
        store.save_blocking(CheckpointId(id), &[id as u8; 10]).unwrap();
    }
    for (damage, expected) in [(2, loaded(2, &[2; 10], 1)), (1, loaded(1, &[1; 10], 2))] {
        fs::write(folder.path().join(format!("slot-{damage}")), "damaged").unwrap();
        assert_eq!(FileStore::read_latest_blocking(folder.path()).unwrap(), expected);
    }
    fs::write(folder.path().join("slot-0"), "damaged").unwrap();
    let refused = FileStore::read_latest_blocking(folder.path()).unwrap_err();
    assert!(matches!(&refused, FileStoreError::AllDamaged { slots, .. } if slots.len() == 3));
}

// K9: a slot that is being written is no reason to miss the checkpoint in the other one, nor to see an older one than before.
#[test]
fn a_reader_beside_a_busy_owner_always_finds_a_whole_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(folder.path()).unwrap();
    store.save_blocking(CheckpointId(1), &[1; 1 << 16]).unwrap();
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for id in 2..200_u64 {
                store.save_blocking(CheckpointId(id), &[id as u8; 1 << 16]).unwrap();
            }
            has_ended.store(true, Ordering::SeqCst);
        });
        let mut latest = 1;
        while !has_ended.load(Ordering::SeqCst) {
            let found = FileStore::read_latest_blocking(folder.path()).unwrap().unwrap();
            assert!(found.bytes == vec![found.id.0 as u8; 1 << 16], "{}", found.id);
            assert!(found.id.0 >= latest, "{} after {latest}", found.id);
            latest = found.id.0;
        }
    });
}
