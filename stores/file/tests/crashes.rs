//! The machine crashes between any two steps of the file system.
#![cfg(target_os = "linux")]

use inflight_core::{CheckpointId, Loaded};
use inflight_crashes::{Crash, Recording, folder, mark};
use inflight_store_file::FileStore;

/// A folder that does not exist, in another one that does not exist.
const CHECKPOINTS: &str = "of/a job";

/// Longer and shorter ones in turn.
fn bytes(id: u64) -> Vec<u8> {
    vec![id as u8; [40, 3, 5000, 17][id as usize % 4]]
}

#[test]
#[ignore = "the other side of the tests below"]
fn saves_and_relies_on_what_it_finds_and_has_saved() {
    let Some(folder) = folder() else { return };
    let mut store = FileStore::open(folder.join(CHECKPOINTS)).unwrap();
    let mut id = CheckpointId(0);
    if let Some(latest) = store.load_latest_blocking().unwrap() {
        id = latest.id;
        mark(id.0);
    }
    for _ in 0..3 {
        id = id.next();
        store.save_blocking(id, &bytes(id.0)).unwrap();
        mark(id.0);
    }
}

const VICTIM: &str = "saves_and_relies_on_what_it_finds_and_has_saved";

/// The marked checkpoint is there, or a later one, and intact; and the store can save again.
#[track_caller]
fn check(crash: &Crash) {
    let folder = crash.folder();
    let relied_on = crash.marks.last().map(|id| id.parse::<u64>().unwrap());
    let mut store = FileStore::open(folder.path().join(CHECKPOINTS)).unwrap();
    let found = store.load_latest_blocking();
    let found = found.unwrap_or_else(|error| panic!("{relied_on:?}, {}: {error}", crash.when));
    let id = found.as_ref().map(|found| found.id.0);
    assert!(id >= relied_on, "{id:?} instead of {relied_on:?} {}", crash.when);
    if let Some(Loaded { id, bytes: found, .. }) = found {
        assert!(found == bytes(id.0), "{id} is another one {}", crash.when);
    }
    let next = CheckpointId(id.unwrap_or(0) + 1);
    store.save_blocking(next, b"next").unwrap();
    assert_eq!(store.load_latest_blocking().unwrap().unwrap().id, next);
}

// K9: a save that has returned survives a crash of the machine; a save under way damages no other checkpoint.
#[test]
fn a_crash_between_any_two_steps_loses_nothing_that_was_saved() {
    let recording = Recording::new();
    assert!(recording.run(VICTIM, None));
    assert_eq!(recording.marks(), ["1", "2", "3"]);
    recording.each_crash(check);
}

// K9: a process relies on the checkpoint that it finds; so that survives a crash of the machine from then on,
// however the previous process has ended.
#[test]
fn what_a_killed_process_has_left_is_relied_on_only_when_it_is_safe() {
    for steps in 0.. {
        let recording = Recording::new();
        if recording.run(VICTIM, Some(steps)) {
            assert!(steps > 10);
            break;
        }
        assert!(recording.run(VICTIM, None));
        recording.each_crash(check);
    }
}

#[test]
#[ignore = "the other side of the test below"]
fn clears_what_it_has_saved() {
    let Some(folder) = folder() else { return };
    let mut store = FileStore::open(folder).unwrap();
    for id in 1..=3 {
        store.save_blocking(CheckpointId(id), &bytes(id)).unwrap();
    }
    mark("saved");
    store.clear_blocking().unwrap();
    mark("cleared");
}

// K9: cleared checkpoints do not come back, and during the clearing there is the latest one or none.
#[test]
fn a_crash_between_any_two_steps_does_not_bring_back_what_was_cleared() {
    let recording = Recording::new();
    assert!(recording.run("clears_what_it_has_saved", None));
    recording.each_crash(|crash| {
        let folder = crash.folder();
        let found = FileStore::open(folder.path()).unwrap().load_latest_blocking().unwrap();
        let found = found.map(|found| found.id.0);
        match crash.marks.last().map(String::as_str) {
            Some("cleared") => assert_eq!(found, None, "{}", crash.when),
            Some(_) => assert!(found.is_none_or(|id| id == 3), "{found:?} {}", crash.when),
            None => {}
        }
    });
}
