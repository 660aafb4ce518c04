//! A medium that is full, fails or goes away.

use std::error::Error;
use std::fs;
use std::io::ErrorKind;

use inflight_core::{CheckpointId, Loaded};
use inflight_store_file::{FileStore, FileStoreError};
use tempfile::TempDir;

fn store_with(checkpoints: &[&[u8]]) -> (TempDir, FileStore) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(folder.path()).unwrap();
    for (id, bytes) in (1..).zip(checkpoints) {
        store.save_blocking(CheckpointId(id), bytes).unwrap();
    }
    (folder, store)
}

fn load(store: &mut FileStore) -> Option<(u64, Vec<u8>, usize)> {
    let loaded = store.load_latest_blocking().unwrap();
    loaded.map(|Loaded { id, bytes, damaged }| (id.0, bytes, damaged))
}

/// An error of the file system that names the file and the remedy, and has the cause as its source.
#[track_caller]
fn assert_io(error: &FileStoreError, file: &str) {
    let FileStoreError::Io { path, source, .. } = error else { panic!("{error:?}") };
    assert!(path.ends_with(file), "{path:?}");
    assert_eq!(error.source().unwrap().to_string(), source.to_string());
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()) && text.contains("try again"), "{text}");
}

/// Replaces a slot by a device.
#[cfg(target_os = "linux")]
fn put_device(device: &str, folder: &TempDir, name: &str) {
    let path = folder.path().join(name);
    let _ = fs::remove_file(&path);
    std::os::unix::fs::symlink(device, path).unwrap();
}

// K9: the medium is full while a slot is overwritten.
#[cfg(target_os = "linux")]
#[test]
fn a_full_medium_leaves_the_newest_checkpoint() {
    let (folder, mut store) = store_with(&[b"one", b"two"]);
    put_device("/dev/full", &folder, "slot-0");
    for _ in 0..3 {
        let refused = store.save_blocking(CheckpointId(3), b"three").unwrap_err();
        assert_io(&refused, "slot-0");
        let FileStoreError::Io { source, .. } = refused else { unreachable!() };
        assert_eq!(source.kind(), ErrorKind::StorageFull);
        assert_eq!(load(&mut store), Some((2, b"two".to_vec(), 1)));
    }

    // There is room again.
    fs::remove_file(folder.path().join("slot-0")).unwrap();
    store.save_blocking(CheckpointId(3), b"three").unwrap();
    assert_eq!(load(&mut store), Some((3, b"three".to_vec(), 0)));
}

// K9: the medium is full while a slot is created.
#[cfg(target_os = "linux")]
#[test]
fn a_medium_that_is_full_from_the_start_holds_nothing_damaged() {
    for device in ["/dev/full", "/dev/null"] {
        let (folder, mut store) = store_with(&[]);
        put_device(device, &folder, "slot-new");
        assert_io(&store.save_blocking(CheckpointId(1), b"one").unwrap_err(), "slot-0");
        assert_eq!(load(&mut store), None);
        drop(store);

        let mut store = FileStore::open(folder.path()).unwrap();
        assert_eq!(load(&mut store), None);
        store.save_blocking(CheckpointId(1), b"one").unwrap();
        assert_eq!(load(&mut store), Some((1, b"one".to_vec(), 0)));
    }
}

// K9: after a failed sync the slot is not trusted, however intact it looks, and it is written again.
#[cfg(target_os = "linux")]
#[test]
fn a_slot_whose_sync_failed_is_not_trusted() {
    let (saved, _) = store_with(&[b"one", b"two", b"three"]);
    let looks_whole = fs::read(saved.path().join("slot-0")).unwrap();

    let (folder, mut store) = store_with(&[b"one", b"two"]);
    // It accepts every write and refuses to sync.
    put_device("/dev/null", &folder, "slot-0");
    assert_io(&store.save_blocking(CheckpointId(3), b"three").unwrap_err(), "slot-0");

    // The system may show such a slot as complete, although the medium has none of it.
    fs::remove_file(folder.path().join("slot-0")).unwrap();
    fs::write(folder.path().join("slot-0"), looks_whole).unwrap();
    assert_eq!(load(&mut store), Some((2, b"two".to_vec(), 1)));

    store.save_blocking(CheckpointId(3), b"three, again").unwrap();
    assert!(fs::read(folder.path().join("slot-1")).unwrap().ends_with(b"two"));
    assert_eq!(load(&mut store), Some((3, b"three, again".to_vec(), 0)));
}

// K9: a slot that cannot even be opened keeps its content.
#[test]
fn a_slot_that_cannot_be_opened_is_an_error_and_costs_nothing() {
    let (folder, mut store) = store_with(&[b"one", b"two"]);
    let (slot, aside) = (folder.path().join("slot-0"), folder.path().join("aside"));
    fs::rename(&slot, &aside).unwrap();
    fs::create_dir(&slot).unwrap();
    assert_io(&store.save_blocking(CheckpointId(3), b"three").unwrap_err(), "slot-0");
    assert_io(&store.load_latest_blocking().unwrap_err(), "slot-0");
    fs::remove_dir(&slot).unwrap();
    fs::rename(&aside, &slot).unwrap();
    assert_eq!(load(&mut store), Some((2, b"two".to_vec(), 0)));
    store.save_blocking(CheckpointId(3), b"three").unwrap();
    assert_eq!(load(&mut store), Some((3, b"three".to_vec(), 0)));
}

// K9
#[test]
fn a_folder_that_vanishes_is_an_error_until_it_is_back() {
    let above = tempfile::tempdir().unwrap();
    let (folder, elsewhere) = (above.path().join("folder"), above.path().join("elsewhere"));
    let mut store = FileStore::open(&folder).unwrap();
    store.save_blocking(CheckpointId(1), b"one").unwrap();

    fs::rename(&folder, &elsewhere).unwrap();
    for _ in 0..2 {
        assert_io(&store.save_blocking(CheckpointId(2), b"two").unwrap_err(), "folder/lock");
        assert_io(&store.load_latest_blocking().unwrap_err(), "folder/lock");
    }
    // A mount point without its medium is the wrong place.
    assert!(!folder.exists());

    fs::rename(&elsewhere, &folder).unwrap();
    assert_eq!(load(&mut store), Some((1, b"one".to_vec(), 0)));
    store.save_blocking(CheckpointId(2), b"two").unwrap();
    assert_eq!(load(&mut store), Some((2, b"two".to_vec(), 0)));
}

// K9: a folder that replaces the old one counts, and the old one does not.
#[test]
fn another_folder_in_its_place_is_opened_anew() {
    let above = tempfile::tempdir().unwrap();
    let (folder, other) = (above.path().join("folder"), above.path().join("other"));
    let mut store = FileStore::open(&folder).unwrap();
    for id in [6, 7] {
        store.save_blocking(CheckpointId(id), b"here").unwrap();
    }

    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    assert_eq!(load(&mut store), None);
    store.save_blocking(CheckpointId(1), b"afresh").unwrap();
    assert_eq!(load(&mut store), Some((1, b"afresh".to_vec(), 0)));

    let mut owner = FileStore::open(&other).unwrap();
    owner.save_blocking(CheckpointId(3), b"of another").unwrap();
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&other, &folder).unwrap();
    let refused = store.save_blocking(CheckpointId(4), b"must not").unwrap_err();
    assert!(matches!(refused, FileStoreError::Owned { .. }), "{refused:?}");
    drop(owner);
    assert_eq!(load(&mut store), Some((3, b"of another".to_vec(), 0)));
}

// K9: a slot that another program deletes is created again.
#[test]
fn a_deleted_slot_is_made_again() {
    let (folder, mut store) = store_with(&[b"one", b"two"]);
    for id in 3..=6 {
        fs::remove_file(folder.path().join(format!("slot-{}", id % 2))).unwrap();
        store.save_blocking(CheckpointId(id), b"next").unwrap();
        assert_eq!(load(&mut store), Some((id, b"next".to_vec(), 0)));
    }
}
