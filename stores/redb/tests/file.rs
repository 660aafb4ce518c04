//! Databases in real files: their creation, their owners, and damage that redb does not detect.

use std::fs;
use std::path::Path;

use inflight_core::CheckpointId;
use inflight_store_redb::{RedbFile, RedbStore, RedbStoreError};
use redb::{Database, ReadableDatabase, TableDefinition};

const CHECKPOINTS: TableDefinition<'_, (&str, u64), &[u8]> =
    TableDefinition::new("inflight-checkpoints");

fn with_three_checkpoints(path: &Path) {
    let mut store = RedbFile::open(path).expect("it is made").job("job", 3).expect("it is free");
    for id in 1..=3 {
        store.save_blocking(CheckpointId(id), &[id as u8; 10]).expect("it is saved");
    }
}

#[test]
fn a_file_is_made_whole_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoints");
    // The remains of a process that died while it created a database.
    drop(Database::create(folder.path().join("checkpoints.new")).expect("a database"));
    with_three_checkpoints(&path);
    let names = fs::read_dir(folder.path()).expect("a folder");
    let names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["checkpoints"]);
}

#[test]
fn a_job_has_one_owner_and_a_file_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoints");
    let file = RedbFile::open(&path).expect("it is made");
    let store = file.job("job", 3).expect("it is free");
    assert!(matches!(file.job("job", 3), Err(RedbStoreError::Owned { job }) if job == "job"));
    assert!(file.job("another", 1).is_ok());
    assert!(matches!(RedbFile::open(&path), Err(RedbStoreError::Database(_))));
    drop((store, file));
    RedbFile::open(&path).expect("it is free").job("job", 3).expect("it is free");
}

// K9: a reader claims no job, neither inside the process that has the file open nor from another one.
#[test]
fn the_latest_checkpoint_is_read_without_claiming_its_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoints");
    let missing = RedbStore::read_latest_blocking(&path, "job");
    assert!(matches!(missing, Err(RedbStoreError::Database(_))), "{missing:?}");
    assert!(!path.exists());

    let file = RedbFile::open(&path).expect("it is made");
    let mut store = file.job("job", 3).expect("it is free");
    assert_eq!(file.read_latest_blocking("job").expect("it is empty"), None);
    for id in 1..=3 {
        store.save_blocking(CheckpointId(id), &[id as u8; 10]).expect("it is saved");
        let found = file.read_latest_blocking("job").expect("it is there").expect("there is one");
        assert_eq!(
            (found.id, found.bytes, found.damaged),
            (CheckpointId(id), vec![id as u8; 10], 0)
        );
    }
    assert_eq!(file.read_latest_blocking("another").expect("it is empty"), None);
    // redb lets no reader in beside a writer of another process (or another `RedbFile`, which is locked out in the same way).
    let refused = RedbStore::read_latest_blocking(&path, "job");
    let Err(RedbStoreError::Database(redb::Error::DatabaseAlreadyOpen)) = refused else {
        panic!("{refused:?}")
    };
    store.save_blocking(CheckpointId(4), b"4").expect("the owner goes on");
    drop((store, file));

    let before = fs::read(&path).expect("a file");
    let found = futures_lite::future::block_on(RedbStore::read_latest(&path, "job"));
    let found = found.expect("it is there").expect("there is one");
    assert_eq!((found.id, found.bytes), (CheckpointId(4), b"4".to_vec()));
    assert_eq!(RedbStore::read_latest_blocking(&path, "another").expect("it is empty"), None);
    assert_eq!(fs::read(&path).expect("a file"), before);
    remove(&path, 4);
    let found = RedbStore::read_latest_blocking(&path, "job").expect("an older one").expect("one");
    assert_eq!((found.id, found.damaged), (CheckpointId(3), 1));
}

#[test]
fn a_file_that_was_deleted_is_not_begun_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoints");
    let mut store = RedbFile::open(&path).expect("it is made").job("job", 3).expect("it is free");
    store.save_blocking(CheckpointId(1), b"1").expect("it is saved");
    fs::remove_file(&path).expect("it is there");
    if cfg!(unix) {
        assert!(store.save_blocking(CheckpointId(2), b"2").is_err());
        assert!(store.load_latest_blocking().is_err());
        assert!(!path.exists());
    }
}

// redb trusts its pages after a clean end, so it does not detect damage to them.
#[test]
fn a_checkpoint_that_cannot_be_found_is_told_as_damage() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoints");
    with_three_checkpoints(&path);
    remove(&path, 3);
    let mut store = RedbFile::open(&path).expect("it is there").job("job", 3).expect("it is free");
    let found = store.load_latest_blocking().expect("there is an older one").expect("there is one");
    assert_eq!((found.id, found.damaged), (CheckpointId(2), 1));
    store.save_blocking(CheckpointId(3), b"3").expect("it goes on");
    let found = store.load_latest_blocking().expect("it is there").expect("there is one");
    assert_eq!((found.id, found.damaged), (CheckpointId(3), 0));
    drop(store);

    (1..=3).for_each(|id| remove(&path, id));
    let mut store = RedbFile::open(&path).expect("it is there").job("job", 3).expect("it is free");
    let none = store.load_latest_blocking();
    assert!(matches!(none, Err(RedbStoreError::AllDamaged { damaged: 1, .. })), "{none:?}");
    store.clear_blocking().expect("it can be given up");
    assert_eq!(store.load_latest_blocking().expect("it is empty"), None);
}

fn remove(path: &Path, id: u64) {
    let database = Database::open(path).expect("a database");
    let transaction = database.begin_write().expect("a transaction");
    transaction.open_table(CHECKPOINTS).expect("a table").remove(("job", id)).expect("a removal");
    transaction.commit().expect("a commit");
}

#[test]
fn a_table_whose_name_has_changed_is_not_an_empty_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoints");
    with_three_checkpoints(&path);
    let mut bytes = fs::read(&path).expect("a file");
    let name = b"inflight-checkpoints";
    let places: Vec<_> =
        (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at] ^= 1;
    }
    fs::write(&path, bytes).expect("a file");
    assert!(Database::open(&path).expect("redb sees nothing").begin_read().is_ok());
    let refused = RedbFile::open(&path);
    assert!(matches!(refused, Err(RedbStoreError::NoTables)), "{refused:?}");
}
