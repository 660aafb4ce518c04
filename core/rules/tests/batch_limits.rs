//! Batches where attempts are bounded (B4): by time, by number, by a rate, by the end of the job; and across a restart.
#![cfg(all(feature = "alloc", feature = "checkpoint"))]

use std::time::Duration;

use inflight_core::*;

const MS: Duration = Duration::from_millis(1);
const START: Instant = Instant::ZERO;

fn at(millis: u32) -> Instant {
    START + millis * MS
}

type Answer = Result<u32, Failure<&'static str>>;

/// What the tests do with an operator, whatever its policy.
trait Batching {
    fn start(&mut self, now: Instant) -> Vec<(BatchId, Vec<u32>)>;
    fn answer(&mut self, now: Instant, id: BatchId, answers: &[Answer]) -> Completion;
    fn outcomes(&mut self) -> Vec<(u32, Answer)>;
    fn fill(&mut self, now: Instant, records: impl IntoIterator<Item = u32>);
}

impl<R, K, X, S> Batching for Operator<(u32, u32, &'static str, R, K, X), S>
where
    R: RetryStrategy<u32, u32, &'static str>,
    K: KeySelector<u32>,
    X: Extras<u32, u32, &'static str>,
    S: Storage,
{
    fn start(&mut self, now: Instant) -> Vec<(BatchId, Vec<u32>)> {
        let mut started = Vec::new();
        while let Some(batch) = self.poll_batch(now) {
            started.push((batch.id(), batch.inputs().copied().collect()));
        }
        started
    }

    fn answer(&mut self, now: Instant, id: BatchId, answers: &[Answer]) -> Completion {
        self.handle_batch_completion(now, id, answers.iter().copied())
    }

    fn outcomes(&mut self) -> Vec<(u32, Answer)> {
        let elements = std::iter::from_fn(|| self.poll_output());
        let records = elements.filter_map(|element| match element {
            StreamElement::Record { value, .. } => Some((value.input, value.result)),
            _ => None,
        });
        records.collect()
    }

    fn fill(&mut self, now: Instant, records: impl IntoIterator<Item = u32>) {
        for record in records {
            self.push(now, StreamElement::value(record)).expect("there is room");
        }
    }
}

const BUSY: Answer = Err(Failure::Error("busy"));

#[test] // B4, C7, C8, M1
fn max_running_counts_batches() {
    let policy = AsyncWait::ordered(20).max_running(2).batch(BatchSize::records(3));
    let mut op = policy.build_core::<u32, u32, &str>().unwrap();
    op.fill(START, 0..8);
    let started = op.start(START);
    assert_eq!(started.len(), 2);
    let metrics = op.metrics(START);
    assert_eq!((op.running_requests(), metrics.running, metrics.waiting()), (2, 6, 2));
    // The batch that waits goes on filling.
    op.fill(START, 8..10);
    let ok = [Ok(0); 3];
    assert_eq!(op.answer(START, started[0].0, &ok), Completion::Outcome);
    let third = op.start(START);
    assert_eq!(third.iter().map(|batch| &batch.1[..]).collect::<Vec<_>>(), [[6, 7, 8]]);
    op.set_max_running(3).unwrap();
    assert_eq!(op.start(START)[0].1, [9]);
}

#[test] // B4
fn a_rate_counts_batches_or_what_they_weigh() {
    let second = Duration::from_secs(1);
    let size = BatchSize::records(4);
    let policy = AsyncWait::ordered(20).rate(Rate::per(second, 1)).batch(size);
    let mut op = policy.build_core::<u32, u32, &str>().unwrap();
    op.fill(START, 0..8);
    assert_eq!((op.start(START).len(), op.poll_deadline()), (1, Some(at(1_000))));
    assert_eq!(op.start(at(1_000)).len(), 1);

    let weight = |record: &u32| u64::from(*record);
    let policy = AsyncWait::ordered(20).rate_by(Rate::per(second, 10), weight).batch(size);
    let mut op = policy.build_core::<u32, u32, &str>().unwrap();
    op.fill(START, 1..9);
    // 1 + 2 + 3 + 4 are there. Of those behind them no two have ever room in the bucket.
    assert_eq!(op.start(START)[0].1, [1, 2, 3, 4]);
    for (record, millis) in [(5, 500), (6, 1_100), (7, 1_800), (8, 2_600)] {
        assert_eq!(op.poll_deadline(), Some(at(millis)));
        let started = op.start(at(millis));
        assert_eq!((started.len(), &started[0].1[..]), (1, &[record][..]));
    }
    op.fill(at(2_600), [2, 3, 20, 1]);
    assert_eq!(op.poll_deadline(), Some(at(3_100)));
    assert_eq!(op.start(at(3_100))[0].1, [2, 3]);
    // A record that weighs more than the bucket holds goes alone, when it is full.
    assert_eq!(op.poll_deadline(), Some(at(4_100)));
    assert_eq!(op.start(at(4_100))[0].1, [20]);
}

#[test] // B4, A2
fn one_record_can_hold_back_all_batches() {
    let pause = |failure: &Failure<&'static str>| failure.error().map(|_| 100 * MS);
    let size = BatchSize::records(2).within(10 * MS);
    let mut op = AsyncWait::ordered(20).pause_on(pause).batch(size).build_core().unwrap();
    op.fill(START, 0..4);
    let started = op.start(START);
    assert_eq!(op.answer(at(1), started[0].0, &[Ok(0), BUSY]), Completion::Outcome);
    op.fill(at(2), 4..7);
    assert!(op.is_paused() && op.start(at(2)).is_empty());
    assert_eq!(op.poll_deadline(), Some(at(101)));
    assert_eq!(op.handle_deadline(at(101)), None);
    let records: Vec<_> = op.start(at(101)).into_iter().map(|batch| batch.1).collect();
    assert_eq!(records, [vec![4, 5], vec![6]]);

    op.pause(at(101));
    op.fill(at(101), 7..10);
    assert!(op.start(at(120)).is_empty() && op.poll_deadline().is_none());
    op.resume(at(120));
    assert_eq!(op.start(at(120)).len(), 2);
}

#[test] // T3, T5, B1
fn a_record_that_runs_out_of_time_leaves_its_batch() {
    let timeout = |record: &u32| Some(*record * MS);
    let policy = AsyncWait::ordered(20).timeout_by(timeout).batch(BatchSize::records(4));
    let mut op = policy.build_core::<u32, u32, &str>().unwrap();
    op.fill(START, 10..14);
    let (id, _) = op.start(START).remove(0);
    let Some(Expired::Call(attempt)) = op.handle_deadline(at(10)) else { panic!() };
    assert_eq!((op.batch_of(attempt), op.take_abandoned_batch()), (None, None));
    assert_eq!(op.batch_in(id.number()), Some(id));
    let answers = [Ok(1), Ok(2), Ok(3), Ok(4)];
    assert_eq!(op.answer(at(10), id, &answers), Completion::Outcome);
    let expected = [(10, Err(Failure::TimedOut)), (11, Ok(2)), (12, Ok(3)), (13, Ok(4))];
    assert_eq!(op.outcomes(), expected);
    assert_eq!(op.metrics(at(10)).late_completions, 1);
}

#[test] // T3, T5, T6
fn members_leave_in_any_order() {
    let timeouts = |record: &u32| Some(MS * [3, 1, 9, 2, 9][*record as usize]);
    let policy = AsyncWait::unordered(20).timeout_by(timeouts).batch(BatchSize::records(5));
    let mut op = policy.build_core::<u32, u32, &str>().unwrap();
    op.fill(START, 0..5);
    let (id, _) = op.start(START).remove(0);
    // The slot of a record that has left is used by another one.
    assert!(op.handle_deadline(at(1)).is_some() && op.handle_deadline(at(1)).is_none());
    assert_eq!(op.outcomes(), [(1, Err(Failure::TimedOut))]);
    op.fill(at(1), 4..5);
    let (other, _) = op.start(at(1)).remove(0);
    assert_ne!(id.number(), other.number());
    let mut looks = 0;
    while let Some(expired) = op.expire(at(3), at(3), |op, attempt| {
        assert_eq!(op.batch_of(attempt), Some(id));
        looks += 1;
    }) {
        assert_eq!((op.batch_of(expired.id()), op.take_abandoned_batch()), (None, None));
    }
    assert_eq!((looks, op.outcomes().len()), (2, 2));
    let answers = [0, 10, 20, 30, 40].map(Ok);
    assert_eq!(op.answer(at(3), id, &answers), Completion::Outcome);
    assert_eq!(op.outcomes(), [(2, Ok(20)), (4, Ok(40))]);
    assert_eq!(op.answer(at(3), other, &[Ok(50)]), Completion::Outcome);
    assert_eq!(op.outcomes(), [(4, Ok(50))]);
}

#[test] // T3, B4
fn a_batch_without_records_is_over() {
    abandons(
        AsyncWait::ordered(4)
            .timeout(10 * MS)
            .max_running(1)
            .batch(BatchSize::records(2))
            .build_core()
            .unwrap(),
        at(10),
    );
    let fixed = AsyncWait::ordered(4).timeout(10 * MS).max_running(1).batch(BatchSize::records(2));
    abandons(fixed.build_fixed::<_, _, _, 4>().unwrap(), at(10));

    fn abandons<S: Storage>(
        mut op: Operator<(u32, u32, &'static str, NoRetry, Unkeyed, ((), BatchSize)), S>,
        late: Instant,
    ) {
        op.fill(START, 0..4);
        let (id, _) = op.start(START).remove(0);
        assert!(op.handle_deadline(late).is_some());
        assert_eq!(op.take_abandoned_batch(), None);
        assert!(op.handle_deadline(late).is_some());
        assert_eq!(op.take_abandoned_batch(), Some(id));
        assert_eq!((op.take_abandoned_batch(), op.batch_in(id.number())), (None, None));
        assert_eq!((op.handle_deadline(late), op.running_requests()), (None, 0));
        // Its number is used again, and its late answer finds nothing.
        let (next, records) = op.start(late).remove(0);
        assert_eq!((next.number(), records), (id.number(), vec![2, 3]));
        assert_eq!(op.answer(late, id, &[Ok(0), Ok(0)]), Completion::Late);
        assert_eq!(op.answer(late, next, &[Ok(20), Ok(30)]), Completion::Outcome);
        let timed_out = Err(Failure::TimedOut);
        assert_eq!(op.outcomes(), [(0, timed_out), (1, timed_out), (2, Ok(20)), (3, Ok(30))]);
        assert!(op.is_empty());
    }
}

#[test] // T2, B3
fn attempts_that_time_out_are_tried_again_in_another_batch() {
    let policy = AsyncWait::ordered(4).attempt_timeout(10 * MS).retry(FixedDelay::new(5 * MS));
    let mut op = policy.batch(BatchSize::records(2)).build_core::<u32, u32, &str>().unwrap();
    op.fill(START, 0..2);
    let (id, _) = op.start(START).remove(0);
    assert!(matches!(op.handle_deadline(at(10)), Some(Expired::Attempt(_))));
    assert!(matches!(op.handle_deadline(at(10)), Some(Expired::Attempt(_))));
    assert_eq!((op.take_abandoned_batch(), op.handle_deadline(at(10))), (Some(id), None));
    assert_eq!(op.handle_deadline(at(15)), None);
    assert_eq!(op.start(at(15))[0].1, [0, 1]);
}

#[test] // T4, T6
fn the_last_look_ends_a_whole_batch() {
    let policy = AsyncWait::ordered(4).timeout(10 * MS).batch(BatchSize::records(3));
    let mut op = policy.build_core::<u32, u32, &str>().unwrap();
    op.fill(START, 0..3);
    op.start(START);
    let expired = op.expire(at(10), at(10), |op, attempt| {
        let id = op.batch_of(attempt).expect("it is in a batch");
        let _ = op.handle_batch_completion(at(10), id, [Ok(1), Ok(2), Ok(3)]);
    });
    assert_eq!((expired, op.outcomes().len()), (None, 3));
}

#[test] // L3, F6
fn all_batches_are_over_at_the_end_of_the_job() {
    let policy = AsyncWait::ordered(8).max_running(2).batch(BatchSize::records(2));
    let mut op = policy.build_core::<u32, u32, &'static str>().unwrap();
    op.fill(START, 0..6);
    let started = op.start(START);
    op.shut_down(START);
    assert!(op.running_requests() == 0 && !op.has_batch() && op.start(START).is_empty());
    assert_eq!(op.answer(START, started[0].0, &[Ok(0), Ok(0)]), Completion::Late);
    assert_eq!(op.batch_in(started[1].0.number()), None);
    assert_eq!(op.outcomes(), [0, 1, 2, 3, 4, 5].map(|record| (record, Err(Failure::ShutDown))));
    assert!(op.is_empty());

    let op = policy.build_core::<u32, u32, &'static str>().unwrap();
    let mut op = op.fail_fast(|failure| failure.error() == Some(&"fatal"));
    op.fill(START, 0..6);
    let started = op.start(START);
    let answers = [Err(Failure::Error("fatal")), Ok(7)];
    assert_eq!(op.answer(START, started[1].0, &answers), Completion::Final);
    assert!(op.has_failed() && op.running_requests() == 0 && op.start(START).is_empty());
    assert_eq!(op.answer(START, started[0].0, &[Ok(0), Ok(0)]), Completion::Late);
    assert_eq!(op.outcomes(), [(2, Err(Failure::Error("fatal")))]);
    assert!(op.is_empty());
    let metrics = op.metrics(START);
    assert_eq!((metrics.emitted, metrics.dropped, metrics.running), (1, 5, 0));
}

#[test] // R5, B2
fn the_last_attempts_make_batches_too() {
    let policy = AsyncWait::ordered(8).finish_policy(FinishPolicy::LastAttempt);
    let policy = policy.retry(FixedDelay::new(1_000 * MS)).batch(BatchSize::records(8));
    let mut op = policy.build_core::<u32, u32, &'static str>().unwrap();
    op.fill(START, 0..2);
    let (id, _) = op.start(START).remove(0);
    assert_eq!(op.answer(START, id, &[BUSY; 2]), Completion::Retry);
    op.fill(START, 2..3);
    op.finish(at(1));
    let (id, records) = op.start(at(1)).remove(0);
    assert_eq!(records, [2, 0, 1]);
    assert_eq!(op.answer(at(1), id, &[BUSY; 3]), Completion::Outcome);
    assert_eq!(op.outcomes().len(), 3);
}

#[test] // K1, K5, B1, B2
fn a_snapshot_holds_each_record_of_a_batch() {
    let policy = |capacity| {
        let size = BatchSize::records(4).within(1_000 * MS);
        let op = AsyncWait::ordered(capacity).timeout(50 * MS).batch(size).build_core();
        op.expect("it makes sense").checkpointed("stage", 1)
    };
    let mut op = policy(6);
    op.fill(START, 0..5);
    assert_eq!(op.start(START).len(), 1);
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    op.snapshot(at(20), &mut checkpoint).expect("a snapshot");

    let mut op = policy(6);
    op.restore(START, &checkpoint).expect("it can be restored");
    let batch = op.poll_batch(START).expect("it is full");
    let attempts: Vec<_> = batch.iter().map(|attempt| (*attempt.input, attempt.info)).collect();
    assert!(attempts.iter().map(|(record, _)| *record).eq(0..4));
    for (record, info) in attempts {
        assert_eq!((info.number, info.retry, info.request_id), (2, 0, u64::from(record)));
        assert_eq!(info.time_left, Some(30 * MS));
    }
    assert_eq!(op.start(START), []); // the last one waits for others

    // With a backlog it does not: nothing new can join it.
    let mut op = policy(2);
    op.restore(START, &checkpoint).expect("it can be restored");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let started = op.start(START);
        assert_eq!(started.len(), 1);
        let answers: Vec<_> = started[0].1.iter().map(|record| Ok(*record)).collect();
        assert_eq!(op.answer(START, started[0].0, &answers), Completion::Outcome);
        seen.extend(op.outcomes());
        if seen.len() == 4 {
            break;
        }
    }
    assert_eq!(seen.len(), 4);
}
