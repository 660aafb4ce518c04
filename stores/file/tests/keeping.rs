//! Saved checkpoints are loaded, the newest first.

use std::fs;
use std::path::Path;

use futures_lite::future::block_on;
use inflight_core::{CheckpointId, CheckpointStore, Loaded};
use inflight_store_file::{FileStore, FileStoreError};

fn load(store: &mut FileStore) -> Option<(u64, Vec<u8>, usize)> {
    let loaded = store.load_latest_blocking().unwrap();
    loaded.map(|Loaded { id, bytes, damaged }| (id.0, bytes, damaged))
}

fn slots(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut slots: Vec<_> = names.filter(|name| name.starts_with("slot")).collect();
    slots.sort();
    slots
}

// K9
#[test]
fn a_checkpoint_round_trips_and_the_newest_wins_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let long = vec![7; 100_000];
    let checkpoints: [&[u8]; 6] = [b"first", b"", &long, b"shorter again", &long, b"x"];
    for (id, bytes) in (1..).zip(checkpoints) {
        let mut store = FileStore::open(folder.path()).unwrap();
        block_on(store.save(CheckpointId(id), bytes)).unwrap();
        assert_eq!(load(&mut store), Some((id, bytes.to_vec(), 0)));
        drop(store);

        let mut store = FileStore::open(folder.path()).unwrap();
        let loaded = block_on(store.load_latest()).unwrap().unwrap();
        assert_eq!(loaded, Loaded { id: CheckpointId(id), bytes: bytes.to_vec(), damaged: 0 });
    }
}

// K9
#[test]
fn nothing_saved_is_none_and_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(folder.path()).unwrap();
    assert_eq!(load(&mut store), None);
}

#[test]
fn the_folder_is_made_with_all_above_it() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("a/b/c");
    let mut store = FileStore::open(&folder).unwrap();
    store.save_blocking(CheckpointId(1), b"one").unwrap();
    assert_eq!(slots(&folder), ["slot-0"]);
}

// K9: it keeps the last n.
#[test]
fn the_last_n_are_kept() {
    for keep in [2, 3, 5_u16] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = FileStore::options().keep(keep).open(folder.path()).unwrap();
        for id in 1..=12 {
            store.save_blocking(CheckpointId(id), &[id as u8; 40]).unwrap();
        }
        assert_eq!(slots(folder.path()).len(), usize::from(keep));
        for lost in 0..usize::from(keep) {
            let id = 12 - lost as u64;
            assert_eq!(load(&mut store), Some((id, vec![id as u8; 40], lost)));
            damage_the_slot_with(&[id as u8; 40], folder.path());
        }
        let refused = store.load_latest_blocking();
        assert!(matches!(refused, Err(FileStoreError::AllDamaged { .. })), "{refused:?}");
    }
}

fn damage_the_slot_with(bytes: &[u8], folder: &Path) {
    for slot in slots(folder) {
        let path = folder.join(slot);
        let mut found = fs::read(&path).unwrap();
        if found.ends_with(bytes) {
            *found.last_mut().unwrap() ^= 1;
            fs::write(path, found).unwrap();
        }
    }
}

// K9: a store with fewer slots than the folder loses nothing.
#[test]
fn a_folder_with_more_slots_goes_on_using_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::options().keep(4).open(folder.path()).unwrap();
    for id in 1..=4 {
        store.save_blocking(CheckpointId(id), b"four slots").unwrap();
    }
    drop(store);
    let mut store = FileStore::open(folder.path()).unwrap();
    assert_eq!(load(&mut store), Some((4, b"four slots".to_vec(), 0)));
    for id in 5..=9 {
        store.save_blocking(CheckpointId(id), b"two slots").unwrap();
        assert_eq!(load(&mut store), Some((id, b"two slots".to_vec(), 0)));
    }
}

#[test]
fn fewer_than_two_slots_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for keep in [0, 1] {
        let refused = FileStore::options().keep(keep).open(folder.path()).unwrap_err();
        assert!(matches!(refused, FileStoreError::TooFewSlots { minimum: 2, .. }), "{refused:?}");
        assert!(refused.to_string().contains(folder.path().to_str().unwrap()), "{refused}");
    }
    assert_eq!(slots(folder.path()), [""; 0]);
}

// K9: a second save of an id replaces the checkpoint, which stays intact until then.
#[test]
fn the_latest_id_saved_again_replaces_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(folder.path()).unwrap();
    for id in [1, 2] {
        store.save_blocking(CheckpointId(id), b"x").unwrap();
    }
    for again in 0..5 {
        store.save_blocking(CheckpointId(2), &[again]).unwrap();
        assert_eq!(load(&mut store), Some((2, vec![again], 0)));
        drop(store);
        store = FileStore::open(folder.path()).unwrap();
        assert_eq!(load(&mut store), Some((2, vec![again], 0)));
    }
    // A crash could have torn the slot that was written last.
    damage_the_slot_with(&[4], folder.path());
    assert_eq!(load(&mut store), Some((2, vec![3], 1)));
}

// K9: a checkpoint that would never be loaded is not silently accepted.
#[test]
fn an_id_behind_the_latest_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(folder.path()).unwrap();
    for id in [4, 7] {
        store.save_blocking(CheckpointId(id), b"kept").unwrap();
    }
    for id in [0, 4, 6] {
        let refused = store.save_blocking(CheckpointId(id), b"behind").unwrap_err();
        let FileStoreError::IdBehind { id: told, latest, .. } = &refused else {
            panic!("{refused:?}")
        };
        assert_eq!((told.0, latest.0), (id, 7));
        assert!(refused.to_string().contains(folder.path().to_str().unwrap()), "{refused}");
        assert_eq!(load(&mut store), Some((7, b"kept".to_vec(), 0)));
    }
    store.save_blocking(CheckpointId(u64::MAX), b"the last of all").unwrap();
    assert_eq!(load(&mut store), Some((u64::MAX, b"the last of all".to_vec(), 0)));
}

// K9: other files in the folder are not changed, and do not matter.
#[test]
fn files_of_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let others = [
        "slot-",
        "slot-x",
        "slot-65536",
        "slot-07",
        "slot--1",
        "slot-+5",
        "slot-0.bak",
        "notes",
        "Slot-9",
    ];
    for name in others {
        fs::write(folder.path().join(name), name).unwrap();
    }
    fs::create_dir(folder.path().join("sub-folder")).unwrap();

    let mut store = FileStore::open(folder.path()).unwrap();
    assert_eq!(load(&mut store), None);
    for id in 1..=5 {
        store.save_blocking(CheckpointId(id), b"ours").unwrap();
    }
    assert_eq!(load(&mut store), Some((5, b"ours".to_vec(), 0)));
    // Nor do they count as slots.
    assert!(!folder.path().join("slot-5").exists() && !folder.path().join("slot-7").exists());
    for name in others {
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), name);
    }
}

// A store over files can be spawned on a multi-threaded runtime.
#[test]
fn its_futures_are_send() {
    fn is_send(_: &impl Send) {}
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(folder.path()).unwrap();
    is_send(&store.save(CheckpointId(1), b""));
    is_send(&store.load_latest());
    is_send(&store);
}

// K9: cleared checkpoints are gone for the next process too, damaged or not, and no other file is.
#[test]
fn a_cleared_folder_is_as_new() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes"), "of somebody").unwrap();
    let mut store = FileStore::open(folder.path()).unwrap();
    store.clear_blocking().unwrap();
    for id in [6, 7] {
        store.save_blocking(CheckpointId(id), b"x").unwrap();
    }
    fs::write(folder.path().join("slot-0"), b"damaged").unwrap();
    store.clear_blocking().unwrap();
    assert_eq!(load(&mut store), None);
    drop(store);
    let mut store = FileStore::open(folder.path()).unwrap();
    assert_eq!(load(&mut store), None);
    store.save_blocking(CheckpointId(1), b"afresh").unwrap();
    assert_eq!(load(&mut store), Some((1, b"afresh".to_vec(), 0)));
    assert_eq!(fs::read_to_string(folder.path().join("notes")).unwrap(), "of somebody");
}
