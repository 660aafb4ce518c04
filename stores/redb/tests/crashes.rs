//! The machine crashes between any two steps of the file system.
#![cfg(target_os = "linux")]

use std::path::Path;

use inflight_core::{CheckpointId, Loaded};
use inflight_crashes::{Crash, Recording, folder, mark};
use inflight_store_redb::{RedbFile, RedbStore};

fn bytes(id: u64) -> Vec<u8> {
    vec![id as u8; [40, 3, 5000, 17][id as usize % 4]]
}

fn open(folder: &Path, when: &str) -> RedbStore {
    let file = RedbFile::open(folder.join("checkpoints"));
    let file = file.unwrap_or_else(|error| panic!("{when}: {error:?}"));
    file.job("job", 2).expect("nobody else has it")
}

#[test]
#[ignore = "the other side of the tests below"]
fn saves_and_relies_on_what_it_finds_and_has_saved() {
    let Some(folder) = folder() else { return };
    let mut store = open(&folder, "");
    let mut id = CheckpointId(0);
    if let Some(latest) = store.load_latest_blocking().expect("it can be read") {
        id = latest.id;
        mark(id.0);
    }
    for _ in 0..3 {
        id = id.next();
        store.save_blocking(id, &bytes(id.0)).expect("it is saved");
        mark(id.0);
    }
}

const VICTIM: &str = "saves_and_relies_on_what_it_finds_and_has_saved";

/// The marked checkpoint is there, or a later one, and intact; and the store can save again.
fn check(crash: &Crash) {
    let folder = crash.folder();
    let relied_on = crash.marks.last().map(|id| id.parse::<u64>().expect("a number"));
    let mut store = open(folder.path(), &crash.when);
    let found = store.load_latest_blocking();
    let found = found.unwrap_or_else(|error| panic!("{relied_on:?}, {}: {error}", crash.when));
    let id = found.as_ref().map(|found| found.id.0);
    assert!(id >= relied_on, "{id:?} instead of {relied_on:?} {}", crash.when);
    if let Some(Loaded { id, bytes: found, .. }) = found {
        assert!(found == bytes(id.0), "{id} is another one {}", crash.when);
    }
    store.save_blocking(CheckpointId(id.unwrap_or(0) + 1), b"next").expect("it is saved");
}

// K9: a save that has returned survives a crash of the machine; a save under way damages no other checkpoint.
#[test]
fn a_crash_between_any_two_steps_loses_nothing_that_was_saved() {
    let recording = Recording::new();
    assert!(recording.run(VICTIM, None));
    assert_eq!(recording.marks(), ["1", "2", "3"]);
    recording.each_crash(check);
}
