//! One owner at a time, and saves whose futures are dropped.

use std::path::Path;

use futures_lite::future::{block_on, poll_once};
use inflight_core::{CheckpointId, CheckpointStore};
use inflight_store_file::{FileStore, FileStoreError};

#[track_caller]
fn assert_owned(folder: &Path) {
    let refused = FileStore::open(folder).unwrap_err();
    let FileStoreError::Owned { folder: named } = &refused else { panic!("{refused:?}") };
    assert_eq!(named, folder);
    assert!(refused.to_string().contains(folder.to_str().unwrap()), "{refused}");
}

// K9: two stores never write into one folder.
#[test]
fn a_second_owner_is_refused_until_the_first_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = FileStore::open(folder.path()).unwrap();
    assert_owned(folder.path());
    first.save_blocking(CheckpointId(1), b"one").unwrap();
    assert_owned(folder.path());
    drop(first);
    let mut second = FileStore::open(folder.path()).unwrap();
    assert_eq!(second.load_latest_blocking().unwrap().unwrap().bytes, b"one");
}

// K9: a folder that could not be opened has no owner.
#[test]
fn a_refusal_leaves_no_owner_behind() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("slot-1")).unwrap();
    let refused = FileStore::open(folder.path()).unwrap_err();
    assert!(matches!(refused, FileStoreError::Io { .. }), "{refused:?}");
    std::fs::remove_dir(folder.path().join("slot-1")).unwrap();
    FileStore::open(folder.path()).unwrap();
}

// K9: a child process inherits the open lock file until it executes its own program.
#[test]
fn a_child_process_that_is_being_started_is_no_owner() {
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let starts = std::thread::spawn(move || {
        for _ in 0..100 {
            std::process::Command::new(&program).arg("--list").output().unwrap();
        }
    });
    while !starts.is_finished() {
        FileStore::open(folder.path()).unwrap();
        // Also when the lock was taken and opening failed afterwards.
        std::fs::create_dir(folder.path().join("slot-1")).unwrap();
        let refused = FileStore::open(folder.path()).unwrap_err();
        assert!(matches!(refused, FileStoreError::Io { .. }), "{refused:?}");
        std::fs::remove_dir(folder.path().join("slot-1")).unwrap();
    }
    starts.join().unwrap();
}

// K9: a save that is dropped after its first poll is done completely or not at all, and never after the next
// one.
#[test]
fn a_dropped_save_does_not_race_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = FileStore::open(folder.path()).unwrap();
    for id in (1..100).map(CheckpointId) {
        block_on(async {
            // Small enough to be under way, large enough not to be finished.
            let dropped = vec![1; 1 << 16];
            poll_once(store.save(id, &dropped)).await;
            match id.0 % 3 {
                // The same id again, as a pipeline does when it tries again.
                0 => store.save(id, b"saved").await.unwrap(),
                1 => store.save(id.next(), b"saved").await.unwrap(),
                _ => {
                    // A loaded checkpoint stays loaded.
                    let latest = store.load_latest().await.unwrap();
                    assert_eq!(store.load_latest().await.unwrap(), latest);
                    store.save(id, b"saved").await.unwrap();
                }
            }
            let latest = store.load_latest().await.unwrap().unwrap();
            let expected = if id.0 % 3 == 1 { id.next() } else { id };
            assert_eq!((latest.id, latest.bytes, latest.damaged), (expected, b"saved".to_vec(), 0));
        });
    }
}

// K9: the result of a dropped save in the background is intact for the next process too.
#[test]
fn a_store_dropped_after_a_dropped_save_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    for id in (1..50).map(CheckpointId) {
        let mut store = loop {
            // The save that was dropped below may still be under way.
            match FileStore::open(folder.path()) {
                Err(FileStoreError::Owned { .. }) => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        let latest = store.load_latest_blocking().unwrap();
        assert!(
            latest.is_none_or(|latest| latest.damaged == 0 && latest.bytes == vec![7; 1 << 16])
        );
        block_on(poll_once(store.save(id, &[7; 1 << 16])));
    }
}
