//! Batches (B1-B4), rule by rule, at the operator: one request for several records, each of which keeps its own call.
#![cfg(feature = "alloc")]

use std::time::Duration;

use inflight_core::*;

const MS: Duration = Duration::from_millis(1);
const START: Instant = Instant::ZERO;

type Op<R, K, X, S> = Operator<(u32, u32, &'static str, R, K, X), S>;

/// The batches that were started: each with its id and its records.
type Started = Vec<(BatchId, Vec<u32>)>;

fn at(millis: u32) -> Instant {
    START + millis * MS
}

fn build<R, K, X>(policy: AsyncWait<R, K, X>) -> Op<R, K, X, Heap>
where
    R: RetryStrategy<u32, u32, &'static str>,
    X: Extras<u32, u32, &'static str>,
{
    policy.build_core().expect("it makes sense")
}

fn push<R, K, X, S>(op: &mut Op<R, K, X, S>, now: Instant, records: impl IntoIterator<Item = u32>)
where
    R: RetryStrategy<u32, u32, &'static str>,
    K: KeySelector<u32>,
    X: Extras<u32, u32, &'static str>,
    S: Storage,
{
    for record in records {
        op.push(now, StreamElement::value(record)).expect("there is room");
    }
}

/// Starts all batches that are due.
fn start<R, K, X, S>(op: &mut Op<R, K, X, S>, now: Instant) -> Started
where
    R: RetryStrategy<u32, u32, &'static str>,
    X: Extras<u32, u32, &'static str>,
    S: Storage,
{
    let mut started = Vec::new();
    op.advance(now);
    while op.has_batch() {
        let batch = op.poll_batch(now).expect("it is due");
        assert_eq!(batch.iter().len(), batch.len());
        let inputs: Vec<_> = batch.inputs().copied().collect();
        assert_eq!(inputs.len(), batch.len());
        started.push((batch.id(), inputs));
    }
    assert!(op.poll_batch(now).is_none());
    started
}

fn records(started: &Started) -> Vec<&[u32]> {
    started.iter().map(|(_, records)| &records[..]).collect()
}

/// Answers a batch with ten times each record.
fn answer<R, K, X, S>(op: &mut Op<R, K, X, S>, now: Instant, batch: &(BatchId, Vec<u32>))
where
    R: RetryStrategy<u32, u32, &'static str>,
    X: Extras<u32, u32, &'static str>,
    S: Storage,
{
    let answers = batch.1.iter().map(|record| Ok(10 * record)).collect::<Vec<_>>();
    assert_eq!(op.handle_batch_completion(now, batch.0, answers), Completion::Outcome);
}

type Seen = Vec<(u32, Result<u32, Failure<&'static str>>, u32)>;

/// Takes the outcomes that may leave: input, result and attempts.
fn outcomes<R, K, X, S>(op: &mut Op<R, K, X, S>) -> Seen
where
    R: RetryStrategy<u32, u32, &'static str>,
    X: Extras<u32, u32, &'static str>,
    S: Storage,
{
    let elements = std::iter::from_fn(|| op.poll_output());
    let records = elements.filter_map(|element| match element {
        StreamElement::Record { value, .. } => Some((value.input, value.result, value.attempts)),
        _ => None,
    });
    records.collect()
}

fn inputs(seen: &Seen) -> Vec<u32> {
    seen.iter().map(|(input, ..)| *input).collect()
}

#[test] // B1
fn a_batch_is_what_is_there_up_to_its_size() {
    sized(build(AsyncWait::ordered(8).batch(BatchSize::records(3))));
    let fixed = AsyncWait::ordered(8).batch(BatchSize::records(3)).build_fixed::<_, _, _, 8>();
    sized(fixed.expect("it makes sense"));

    fn sized<S: Storage>(mut op: Op<NoRetry, Unkeyed, ((), BatchSize), S>) {
        assert!(!op.has_batch());
        push(&mut op, START, 0..2);
        assert!(op.has_batch() && !op.has_full_batch());
        push(&mut op, START, 2..7);
        assert!(op.has_full_batch());
        let started = start(&mut op, START);
        assert_eq!(records(&started), [&[0, 1, 2][..], &[3, 4, 5], &[6]]);
        assert_eq!((op.running_requests(), op.running()), (3, 7));
        for batch in started.iter().rev() {
            answer(&mut op, START, batch);
        }
        let seen = outcomes(&mut op);
        assert_eq!(inputs(&seen), [0, 1, 2, 3, 4, 5, 6]);
        assert!(
            seen.iter()
                .all(|(input, result, attempts)| { *result == Ok(10 * input) && *attempts == 1 })
        );
        assert_eq!((op.running_requests(), op.running(), op.is_empty()), (0, 0, true));
    }
}

#[test] // B1
fn a_batch_ends_before_a_record_that_is_too_heavy_for_it() {
    let size = BatchSize::records(5).weight(10, |record: &u32| u64::from(*record));
    let mut op = build(AsyncWait::unordered(20).batch(size));
    // As heavy as may be, too heavy with the next, too heavy at all, and by number.
    push(&mut op, START, [4, 6, 9, 2, 30, 1, 1, 1, 1, 1, 7]);
    assert!(op.has_full_batch());
    let started = start(&mut op, START);
    let expected: [&[u32]; 5] = [&[4, 6], &[9], &[2], &[30], &[1, 1, 1, 1, 1]];
    assert_eq!(records(&started)[..5], expected);
    assert_eq!(records(&started)[5], [7]);
}

#[test] // B1, T7
fn the_first_record_waits_for_others_for_a_time() {
    let size = BatchSize::records(3).within(5 * MS);
    let mut op = build(AsyncWait::ordered(20).timeout(50 * MS).batch(size));
    push(&mut op, at(1), [0]);
    push(&mut op, at(3), [1]);
    assert_eq!((start(&mut op, at(5)), op.poll_deadline()), (vec![], Some(at(6))));
    assert_eq!(records(&start(&mut op, at(6))), [[0, 1]]);
    // What is left behind a full batch waits since it came.
    push(&mut op, at(7), [2]);
    push(&mut op, at(8), [3, 4, 5]);
    assert_eq!(records(&start(&mut op, at(8))), [[2, 3, 4]]);
    assert_eq!(op.poll_deadline(), Some(at(13)));
    assert_eq!(records(&start(&mut op, at(13))), [[5]]);
    // C5: the wait took no time of the call's.
    assert_eq!(op.poll_deadline(), Some(at(56)));
}

#[test] // B2
fn a_batch_that_cannot_grow_goes_at_once() {
    let policy = AsyncWait::ordered(4).batch(BatchSize::records(10).within(1_000 * MS));
    let mut op = build(policy);
    push(&mut op, START, 0..3);
    assert_eq!(start(&mut op, START), []);
    push(&mut op, START, [3]); // the window is full
    assert!(op.has_full_batch());
    let started = start(&mut op, START);
    assert_eq!(records(&started), [[0, 1, 2, 3]]);
    answer(&mut op, START, &started[0]);
    assert_eq!(outcomes(&mut op).len(), 4);

    push(&mut op, START, [4]);
    assert_eq!(start(&mut op, START), []);
    op.finish(START); // the input has ended
    assert!(op.has_full_batch());
    assert_eq!(records(&start(&mut op, START)), [[4]]);
}

#[test] // B1, B2, C2: a window that is full for a moment makes no small batches
fn a_batch_waits_for_room_that_is_about_to_come() {
    let policy = AsyncWait::unordered(4).batch(BatchSize::records(3).within(50 * MS));
    let mut op = build(policy);
    push(&mut op, START, 0..4);
    let started = start(&mut op, START);
    assert_eq!(records(&started), [[0, 1, 2]], "the other one waits: three are running");
    answer(&mut op, START, &started[0]);
    assert!(start(&mut op, START).is_empty(), "outcomes are about to leave");
    assert_eq!(outcomes(&mut op).len(), 3);
    op.set_undelivered(3);
    assert!(start(&mut op, START).is_empty(), "they have not been taken");
    op.set_undelivered(1);
    push(&mut op, START, 4..6);
    assert_eq!(records(&start(&mut op, START)), [[3, 4, 5]]);

    let mut op = build(policy);
    push(&mut op, START, [6]);
    op.set_undelivered(3);
    assert_eq!(op.poll_deadline(), Some(START + 50 * MS), "but no longer than it may");
    assert_eq!(records(&start(&mut op, START + 50 * MS)), [[6]]);
}

fn drain() -> StreamElement<u32> {
    StreamElement::Barrier(Barrier::drain(Checkpoint::new(CheckpointId(1))))
}

#[test] // B2, O4
fn no_control_element_waits_for_a_batch_to_fill() {
    let watermark = || StreamElement::Watermark(Timestamp::from_millis(1));
    for control in [watermark, || StreamElement::Status(Status::Idle), drain] {
        let policy = AsyncWait::unordered(9).batch(BatchSize::records(10).within(1_000 * MS));
        let mut op = build(policy.retry(FixedDelay::new(3 * MS)));
        push(&mut op, START, 0..2);
        op.push(START, control()).unwrap();
        // Until the batch has started, others may join it.
        assert!(op.has_batch() && !op.has_full_batch());
        push(&mut op, START, [2]);
        let started = start(&mut op, START);
        assert_eq!(records(&started), [[0, 1, 2]]);
        // A record that is tried again is before the control element still.
        let answers = [Err(Failure::Error("busy")), Ok(10), Err(Failure::Error("busy"))];
        let _ = op.handle_batch_completion(START, started[0].0, answers);
        assert_eq!(op.handle_deadline(at(3)), None);
        let started = start(&mut op, at(3));
        assert_eq!(records(&started), [[0, 2]]);
        answer(&mut op, at(3), &started[0]);
        assert!(!outcomes(&mut op).is_empty() && op.is_empty());
        // Behind it they wait.
        push(&mut op, at(3), [3]);
        assert_eq!(start(&mut op, at(3)), []);
    }
}

#[test] // B2, K3
fn a_snapshot_barrier_cuts_no_batch_off() {
    let policy = AsyncWait::unordered(9).batch(BatchSize::records(10).within(1_000 * MS));
    let mut op = build(policy);
    push(&mut op, START, [0]);
    let barrier = Barrier::snapshot(Checkpoint::new(CheckpointId(1)));
    op.push(START, StreamElement::Barrier(barrier)).unwrap();
    assert_eq!(start(&mut op, START), []);
}

#[test] // B1, O1-O3
fn every_order_keeps_its_promise() {
    let key = |record: &u32| record % 3;
    let size = BatchSize::records(2);
    let orders = [
        (AsyncWait::ordered(8).with_key(key), [0, 1, 2, 3, 4, 5]),
        (AsyncWait::unordered(8).with_key(key), [4, 5, 2, 3, 0, 1]),
        (AsyncWait::ordered_by_key(8, key).overlapping(), [2, 5, 0, 1, 3, 4]),
    ];
    for (policy, expected) in orders {
        let mut op = build(policy.batch(size));
        push(&mut op, START, 0..6);
        let started = start(&mut op, START);
        assert_eq!(records(&started), [[0, 1], [2, 3], [4, 5]]);
        let mut left = Vec::new();
        for batch in started.iter().rev() {
            answer(&mut op, START, batch);
            left.extend(inputs(&outcomes(&mut op)));
        }
        assert_eq!(left, expected, "{:?}", policy.order());
    }
    // One attempt a key: a batch has a record of each key at most.
    let by_key = AsyncWait::ordered_by_key(8, |record: &u32| record % 2);
    let mut op = build(by_key.batch(size));
    push(&mut op, START, [1, 3, 5, 2]);
    for expected in [vec![1, 2], vec![3], vec![5]] {
        let started = start(&mut op, START);
        assert_eq!(records(&started), [&expected[..]]);
        answer(&mut op, START, &started[0]);
        assert_eq!(inputs(&outcomes(&mut op)), expected);
    }
}

#[test] // B1, O7
fn an_ordered_batch_has_one_attempt_of_each_key() {
    let policy = AsyncWait::ordered(8).with_key(|record: &u32| record % 2).one_attempt_per_key();
    let mut op = build(policy.batch(BatchSize::records(4)));
    push(&mut op, START, [1, 3, 2]);
    let started = start(&mut op, START);
    assert_eq!(records(&started), [[1, 2]]);
    answer(&mut op, START, &started[0]);
    let started = start(&mut op, START);
    assert_eq!(records(&started), [[3]]);
    answer(&mut op, START, &started[0]);
    assert_eq!(inputs(&outcomes(&mut op)), [1, 3, 2]);
}

#[test] // B3, R3, R6
fn what_is_tried_again_joins_later_batches() {
    let policy = AsyncWait::ordered(8).retry(FixedDelay::new(5 * MS).max_retries(1));
    let mut op = build(policy.batch(BatchSize::records(3)));
    push(&mut op, START, 0..3);
    let started = start(&mut op, START);
    let answers = [Ok(0), Err(Failure::Error("busy")), Err(Failure::Error("busy"))];
    assert_eq!(op.handle_batch_completion(at(1), started[0].0, answers), Completion::Outcome);
    push(&mut op, at(2), [3]);
    assert_eq!(op.handle_deadline(at(6)), None);
    op.advance(at(6));
    let batch = op.poll_batch(at(6)).expect("it is due");
    let attempts: Vec<_> = batch
        .into_iter()
        .map(|attempt| (*attempt.input, attempt.info.number, attempt.info.request_id))
        .collect();
    assert_eq!(attempts, [(3, 1, 3), (1, 2, 1), (2, 2, 2)]);
    let id = batch.id();
    let answers = [Ok(30), Ok(10), Err(Failure::Error("busy"))];
    assert_eq!(op.handle_batch_completion(at(7), id, answers), Completion::Outcome);
    let expected =
        [(0, Ok(0), 1), (1, Ok(10), 2), (2, Err(Failure::Error("busy")), 2), (3, Ok(30), 1)];
    assert_eq!(outcomes(&mut op), expected);
    assert_eq!(op.metrics(at(7)).retried, 2);
}

#[test] // B3
fn a_batch_fails_as_a_whole() {
    let policy = AsyncWait::ordered(8).retry(FixedDelay::new(5 * MS).max_retries(1));
    let mut op = build(policy.batch(BatchSize::records(3)));
    push(&mut op, START, 0..2);
    let started = start(&mut op, START);
    let failed = op.handle_batch_failure(START, started[0].0, Failure::Error("gone"));
    assert_eq!((failed, op.running_requests()), (Completion::Retry, 0));
    assert_eq!(op.handle_deadline(at(5)), None);
    let started = start(&mut op, at(5));
    assert_eq!(records(&started), [[0, 1]]);
    let failed = op.handle_batch_failure(at(5), started[0].0, Failure::Error("gone"));
    assert_eq!(failed, Completion::Outcome);
    let gone = Failure::Error("gone");
    assert_eq!(outcomes(&mut op), [(0, Err(gone), 2), (1, Err(gone), 2)]);
    // F4: it has ended.
    let late = op.handle_batch_failure(at(5), started[0].0, Failure::Error("gone"));
    assert_eq!((late, op.metrics(at(5)).late_completions), (Completion::Late, 1));
}

#[test] // B3, F2
fn a_wrong_number_of_answers_is_nobodys_answer() {
    for count in [0, 1, 3, 9] {
        let policy = AsyncWait::ordered(8).retry(FixedDelay::new(MS));
        let mut op = build(policy.batch(BatchSize::records(3)));
        push(&mut op, START, 0..2);
        let id = start(&mut op, START)[0].0;
        let answers = vec![Ok(7); count];
        assert_eq!(op.handle_batch_completion(START, id, answers), Completion::Outcome);
        let wrong = Failure::WrongAnswers;
        assert_eq!(outcomes(&mut op), [(0, Err(wrong), 1), (1, Err(wrong), 1)], "{count}");
    }
}

#[test] // B3
fn an_iterator_that_miscounts_leaves_no_record_behind() {
    struct Fewer(u32);
    impl Iterator for Fewer {
        type Item = Result<u32, Failure<&'static str>>;
        fn next(&mut self) -> Option<Self::Item> {
            self.0 = self.0.checked_sub(1)?;
            Some(Ok(7))
        }
    }
    impl ExactSizeIterator for Fewer {
        fn len(&self) -> usize {
            3
        }
    }
    let mut op = build(AsyncWait::ordered(8).batch(BatchSize::records(3)));
    push(&mut op, START, 0..3);
    let id = start(&mut op, START)[0].0;
    assert_eq!(op.handle_batch_completion(START, id, Fewer(2)), Completion::Outcome);
    assert_eq!(
        outcomes(&mut op),
        [(0, Ok(7), 1), (1, Ok(7), 1), (2, Err(Failure::WrongAnswers), 1)]
    );
}

#[test] // C1
fn a_batch_of_nothing_is_refused() {
    let weight = |_: &u32| 1;
    let none = AsyncWait::ordered(8).batch(BatchSize::records(0));
    let light = AsyncWait::ordered(8).batch(BatchSize::records(1).weight(0, weight));
    let refused = none.build_core::<u32, u32, ()>().map(|_| ());
    assert_eq!(refused, Err(ConfigError::ZeroBatch));
    let refused = light.build_core::<u32, u32, ()>().map(|_| ());
    assert_eq!(refused, Err(ConfigError::ZeroBatch));
}

#[test] // B1, F4
fn an_operator_with_batches_gives_no_attempt_alone() {
    let mut op = build(AsyncWait::ordered(8).batch(BatchSize::records(3)));
    let started = op.push_start(START, StreamElement::value(0)).expect("there is room");
    assert!(started.is_none());
    assert!(!op.has_attempt() && op.poll_attempt(START).is_none() && op.has_batch());
    // And one without has no batch.
    let mut op = build(AsyncWait::ordered(8));
    push(&mut op, START, [0]);
    assert!(!op.has_batch() && !op.has_full_batch() && op.poll_batch(START).is_none());
    let id = op.poll_attempt(START).expect("an attempt").id;
    assert_eq!((op.batch_of(id), op.batch_in(0), op.take_abandoned_batch()), (None, None, None));
}

#[test] // M1: batches and their size
fn the_numbers_tell_how_large_batches_are() {
    let mut op = build(AsyncWait::unordered(9).batch(BatchSize::records(4)));
    assert_eq!(op.metrics(START).batch_size(), 0.0);
    push(&mut op, START, 0..6);
    let started = start(&mut op, START);
    let earlier = op.metrics(START);
    assert_eq!((earlier.requests, earlier.attempts, earlier.batch_size()), (2, 6, 3.0));
    for batch in &started {
        answer(&mut op, START, batch);
    }
    assert_eq!(outcomes(&mut op).len(), 6);
    push(&mut op, START, 6..8);
    let _ = start(&mut op, START);
    let since = op.metrics(START).since(&earlier);
    assert_eq!((since.requests, since.batch_size()), (1, 2.0));
}
