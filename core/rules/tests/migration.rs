//! The calls of a migration function during a restore.

#![cfg(feature = "alloc")]

use std::cell::Cell;

use inflight_core::{
    AsyncWait, Checkpoint, CheckpointId, Checkpointing, Heap, Instant, NoRetry, Operator,
    RestoreError, StreamElement, Unkeyed,
};

type Numbers = Operator<(u32, u32, (), NoRetry, Unkeyed, ()), Heap>;

const RECORDS: u32 = 5;

thread_local! {
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

/// Refuses the last record.
fn all_but_the_last(_: u32, bytes: &[u8]) -> Option<u32> {
    CALLS.set(CALLS.get() + 1);
    postcard::from_bytes(bytes).ok().filter(|number| *number + 1 < RECORDS)
}

fn all(_: u32, bytes: &[u8]) -> Option<u32> {
    CALLS.set(CALLS.get() + 1);
    postcard::from_bytes(bytes).ok()
}

fn numbers(how: Checkpointing<u32, u32, ()>) -> Numbers {
    let policy = AsyncWait::ordered(RECORDS as usize);
    policy.build_core().expect("a sound policy").checkpointed_with(how)
}

const fn schema(version: u32) -> Checkpointing<u32, u32, ()> {
    Checkpointing::new("numbers", version)
}

fn snapshot() -> Checkpoint {
    let mut operator = numbers(schema(1));
    for number in 0..RECORDS {
        operator.push(Instant::ZERO, StreamElement::value(number)).expect("room");
    }
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    operator.snapshot(Instant::ZERO, &mut checkpoint).expect("a snapshot");
    checkpoint
}

#[test] // K6, K7: a restore takes up all records, or none.
fn each_record_is_migrated_twice_so_that_nothing_is_half_restored() {
    let checkpoint = snapshot();
    CALLS.set(0);
    let mut operator = numbers(schema(2).migrating(all_but_the_last));
    let refused = operator.restore(Instant::ZERO, &checkpoint);
    assert_eq!(refused, Err(RestoreError::Migration { found: 1, expected: 2 }));
    assert_eq!(CALLS.get(), RECORDS, "found out in the first round");
    assert!(operator.is_empty());
    assert!(operator.poll_attempt(Instant::ZERO).is_none());

    CALLS.set(0);
    let mut operator = numbers(schema(2).migrating(all));
    operator.restore(Instant::ZERO, &checkpoint).expect("a restore");
    assert_eq!(CALLS.get(), 2 * RECORDS, "once to look, once to take it up");
    for number in 0..RECORDS {
        assert_eq!(operator.poll_attempt(Instant::ZERO).map(|call| *call.input), Some(number));
    }
}
