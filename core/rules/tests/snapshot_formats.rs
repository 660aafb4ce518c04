//! Snapshots of format 1 are still read, and those of a format that is not known yet have an error of their own (K6).

#![cfg(feature = "alloc")]

use std::time::Duration;

use inflight_core::envelope::{self, FormatError, HEADER_LEN};
use inflight_core::{
    AsyncWait, AttemptId, Call, Checkpoint, CheckpointError, CheckpointId, Checkpointing, Expired,
    Failure, FixedDelay, GivenKey, Heap, Instant, Operator, RestoreError, Status, StreamElement,
    TimeoutAction, Timestamp, merge_snapshots, split_snapshot,
};

/// A checkpoint with everything that a snapshot of format 1 can hold. The last commit that wrote format 1 (d5b6d95) made it: there
/// these bytes were what `checkpoint(&mut in_flight())` returned, with the two functions of this file.
const FORMAT_1: &[u8] = include_bytes!("../../tests/fixtures/format_1.checkpoint");

type Numbers = Operator<(u64, String, String, FixedDelay, GivenKey, ()), Heap>;

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis as i64 * 1_000_000)
}

fn empty() -> Numbers {
    let policy = AsyncWait::ordered(40).with_given_key().timeout(Duration::from_secs(2));
    let op = policy.retry(FixedDelay::new(Duration::from_millis(40))).build_core();
    op.expect("a sound policy")
        .checkpointed_with(Checkpointing::new("numbers", 1).keeping_results())
}

/// An operator with everything in flight that a snapshot can hold.
fn in_flight() -> Numbers {
    let mut op = empty();
    let mut running: Vec<AttemptId> = Vec::new();
    let mut push = |op: &mut Numbers, millis, key, element| {
        op.push_with_key(at(millis), key, element).expect("there is room");
        running.extend(op.poll_attempt(at(millis)).map(|attempt| attempt.id));
    };
    let record = |value, millis: Option<i64>| StreamElement::Record {
        value,
        timestamp: millis.map(Timestamp::from_millis),
    };
    push(&mut op, 1, 0, record(7, None));
    push(&mut op, 2, 3, record(u64::MAX, Some(1_700_000_000_123)));
    push(&mut op, 3, u64::MAX, record(300, Some(-5)));
    push(&mut op, 3, 0, StreamElement::Watermark(Timestamp::from_millis(i64::MAX)));
    push(&mut op, 3, 0, StreamElement::Status(Status::Idle));
    push(&mut op, 4, 9, record(0, Some(i64::MIN)));
    push(&mut op, 4, 0, StreamElement::Status(Status::Active));
    for value in 1000..1008 {
        push(&mut op, value, value, record(value, None));
    }
    // The first call has timed out and leaves without an outcome. The next ones: a long result, two failures, a second attempt,
    // a backoff.
    let Some(Expired::Call(late)) = op.handle_deadline(at(2001)) else { panic!("it is late") };
    assert!(late == running[0] && op.resolve_timeout(late, |_| TimeoutAction::Drop));
    let _ = op.handle_completion(at(2001), running[1], Ok("x".repeat(300)));
    let _ = op.handle_completion(at(2001), running[2], Err(Failure::Cancelled));
    let _ = op.handle_completion(at(1950), running[3], Err(Failure::Error("busy".into())));
    let _ = op.handle_completion(at(2001), running[4], Err(Failure::Error("busy".into())));
    while op.handle_deadline(at(2041)).is_some() {} // one more call is late, and one backoff is over
    assert!(op.poll_attempt(at(2041)).is_some());
    let _ = op.handle_completion(at(2042), running[5], Err(Failure::Error("busy".into())));
    op.push_with_key(at(2050), 1007, record(1008, None)).expect("there is room"); // its attempt waits
    op
}

fn checkpoint(op: &mut Numbers) -> Vec<u8> {
    let mut checkpoint = Checkpoint::new(CheckpointId(9));
    op.snapshot(at(2050), &mut checkpoint).expect("a snapshot");
    checkpoint.bytes().expect("it is whole").to_vec()
}

fn restored(bytes: &[u8]) -> Numbers {
    let mut op = empty();
    op.restore(at(2050), &Checkpoint::from_bytes(bytes).expect("it is whole")).expect("a restore");
    op
}

#[test] // K6: of an older format everything is read, and it means the same.
fn a_checkpoint_of_format_1_restores_what_was_in_flight() {
    let saved_now = checkpoint(&mut in_flight());
    assert_eq!(checkpoint(&mut restored(FORMAT_1)), saved_now);
    assert_eq!(checkpoint(&mut restored(&saved_now)), saved_now, "the newest format restores too");
    assert!(saved_now.len() < FORMAT_1.len(), "{}", saved_now.len());
}

#[test] // K6, K8
fn a_snapshot_of_format_1_is_split_and_merged() {
    let saved = |bytes: &[u8]| section(&Checkpoint::from_bytes(bytes).expect("it is whole"));
    let (old, new) = (saved(FORMAT_1), saved(&checkpoint(&mut in_flight())));
    let split = |section: &[u8]| split_snapshot(section, 3, |key| key as usize).expect("parts");
    assert_eq!(split(&old), split(&new));
    let merge = |sections: &[&[u8]]| merge_snapshots(sections.iter().copied()).expect("a whole");
    assert_eq!(merge(&[&old, &new]), merge(&[&new, &new]));
    assert_eq!(format_of(&split(&old)[0]), 2);
    assert_eq!(format_of(&merge(&[&old])), 2);
}

#[test] // K6: also where nothing but the format differs.
fn a_newer_format_is_an_error_of_its_own() {
    let mut checkpoint = Checkpoint::new(CheckpointId(9));
    in_flight().snapshot(at(2050), &mut checkpoint).expect("a snapshot");
    let mut newer = section(&checkpoint);
    let magic = *newer.first_chunk().expect("a magic");
    envelope::seal_as(&mut newer, magic, 3, 1);
    let refused = RestoreError::Format(FormatError::Newer { found: 3, supported: 2 });

    let mut checkpoint = Checkpoint::new(CheckpointId(9));
    checkpoint.put("numbers", &newer).expect("room");
    let mut op = empty();
    assert_eq!(op.restore(at(2050), &checkpoint), Err(refused));
    assert!(op.is_empty());
    assert_eq!(split_snapshot(&newer, 2, |key| key as usize), Err(refused));
    assert_eq!(merge_snapshots([&newer[..]]), Err(refused));
    // The checkpoint around it keeps its format, so an older program gets as far as this error.
    assert_eq!(format_of(checkpoint.bytes().expect("it is whole")), 1);
}

#[test] // K6: under a right checksum, too.
fn damage_in_either_format_is_a_typed_error() {
    let saved_now = checkpoint(&mut in_flight());
    for whole in [FORMAT_1, &saved_now] {
        let whole = section(&Checkpoint::from_bytes(whole).expect("it is whole"));
        let magic = *whole.first_chunk().expect("a magic");
        let opened = envelope::open_up_to(&whole, magic, 2);
        let (format, schema, body) = opened.expect("it is whole");
        let restore = |body: &[u8]| {
            let mut frame = [&[0; HEADER_LEN], body].concat();
            envelope::seal_as(&mut frame, magic, format, schema);
            let mut checkpoint = Checkpoint::new(CheckpointId(9));
            checkpoint.put("numbers", &frame).expect("room");
            let mut op = empty();
            let restored = op.restore(at(2050), &checkpoint);
            let split = split_snapshot(&frame, 2, |key| key as usize);
            assert!(split.is_ok() || restored.is_err(), "what can be restored can be split");
            assert!(restored.is_ok() || op.is_empty(), "half restored");
            restored
        };
        for length in 0..body.len() {
            assert_eq!(restore(&body[..length]), Err(RestoreError::Damaged), "{length} bytes");
        }
        for at in 0..body.len() {
            for with in [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff] {
                let mut changed = body.to_vec();
                changed[at] = with;
                let restored = restore(&changed);
                assert!(matches!(restored, Ok(()) | Err(RestoreError::Damaged)), "{restored:?}");
            }
        }
    }
}

#[test] // K1, K6: around the length from which on a length takes more bytes; without an allocator as with one.
fn records_of_any_length_fit_into_a_buffer_of_their_size() {
    for length in [0, 1, 252, 253, 254, 255, 256, 300, 70_000] {
        let op = AsyncWait::ordered(4).build_fixed::<String, (), (), 4>().expect("a sound policy");
        let mut op = op.checkpointed("numbers", 1);
        for text in ["x".repeat(length), "y".repeat(length)] {
            op.push(Instant::ZERO, StreamElement::value(text)).expect("there is room");
        }
        let mut whole = Checkpoint::new(CheckpointId(1));
        op.snapshot(Instant::ZERO, &mut whole).expect("a snapshot");
        let needed = whole.bytes().expect("it is whole").len();
        for short in (1..20.min(needed - 40)).chain([needed - 40]) {
            let mut small = buffer(needed - short);
            let refused = op.snapshot(Instant::ZERO, &mut small);
            assert_eq!(refused, Err(CheckpointError::BufferFull { needed }));
            assert_eq!(small, buffer(needed - short), "nothing half");
        }
        let mut exact = buffer(needed);
        op.snapshot(Instant::ZERO, &mut exact).expect("there is room");
        assert_eq!(exact, whole);

        let again = AsyncWait::ordered(4).build_fixed::<String, (), (), 4>();
        let mut again = again.expect("a sound policy").checkpointed("numbers", 1);
        again.restore(Instant::ZERO, &exact).expect("a restore");
        for letter in ["x", "y"] {
            let attempt = again.poll_attempt(Instant::ZERO).expect("a record waits");
            assert_eq!(*attempt.input, letter.repeat(length));
        }
    }
}

fn buffer(length: usize) -> Checkpoint {
    Checkpoint::in_buffer(CheckpointId(1), Box::leak(vec![0; length].into_boxed_slice()))
}

/// Records without keys and timestamps, each first attempt running.
fn running(values: impl Iterator<Item = u64>) -> usize {
    let op = AsyncWait::ordered(1000).build_core::<u64, (), ()>().expect("a sound policy");
    let mut op = op.checkpointed("numbers", 1);
    let empty = bytes_of(&mut op);
    for (micros, value) in (0..).zip(values) {
        let now = Instant::from_nanos(micros * 1_001);
        op.push(now, StreamElement::value(value)).expect("there is room");
        assert!(op.poll_attempt(now).is_some());
    }
    (bytes_of(&mut op) - empty) / op.in_flight()
}

fn bytes_of<C: Call>(op: &mut Operator<C, Heap>) -> usize {
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    op.snapshot(Instant::ZERO, &mut checkpoint).expect("a snapshot");
    section(&checkpoint).len()
}

#[test] // K1, in few bytes: a tag, a length, and two for the time spent.
fn a_record_takes_four_bytes_beside_its_own() {
    assert_eq!(running(0..100), 1 + 4);
    assert_eq!(running((0..1000).map(|n| n << 40)), 7 + 4); // as many as postcard's
    assert_eq!(running((0..1000).map(|n| u64::MAX - n)), 10 + 4);
}

fn section(checkpoint: &Checkpoint) -> Vec<u8> {
    checkpoint.section("numbers").expect("the section").to_vec()
}

fn format_of(frame: &[u8]) -> u16 {
    u16::from_le_bytes([frame[4], frame[5]])
}
