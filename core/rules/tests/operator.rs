//! The operator, rule by rule, on a clock that the test sets.
#![cfg(feature = "alloc")]

use core::time::Duration;

use inflight_core::*;

const MS: Duration = Duration::from_millis(1);

type Op<R = NoRetry, K = Unkeyed> = Operator<(u32, u32, &'static str, R, K, ()), Heap>;

/// An operator with its outside world: it runs attempts and prints outputs, so that a test reads as a sequence of
/// events.
struct Bench<R: RetryStrategy<u32, u32, &'static str>, K = Unkeyed> {
    op: Op<R, K>,
    now: Instant,
    /// Attempts that run: the input, and the attempt's id and info.
    running: Vec<(AttemptId, u32, AttemptInfo)>,
    /// Attempts that have expired.
    cancelled: Vec<u32>,
}

fn bench<R: RetryStrategy<u32, u32, &'static str>, K>(policy: AsyncWait<R, K>) -> Bench<R, K> {
    let op = policy.build_core().expect("a sound policy").checkpointed("stage", 1);
    Bench { op, now: Instant::ZERO, running: Vec::new(), cancelled: Vec::new() }
}

impl<R: RetryStrategy<u32, u32, &'static str>, K: KeySelector<u32>> Bench<R, K> {
    /// Pushes a record, and starts the attempts that may run.
    fn push(&mut self, value: u32) -> bool {
        self.push_element(StreamElement::value(value))
    }

    fn push_all(&mut self, values: impl IntoIterator<Item = u32>) {
        values.into_iter().for_each(|value| assert!(self.push(value), "no room for {value}"));
    }

    fn mark(&mut self, at: i64) -> bool {
        self.push_element(StreamElement::Watermark(Timestamp::from_millis(at)))
    }

    fn push_element(&mut self, element: StreamElement<u32>) -> bool {
        let taken = self.op.push(self.now, element).is_ok();
        self.start();
        taken
    }

    fn start(&mut self) {
        while let Some(call) = self.op.poll_attempt(self.now) {
            self.running.push((call.id, *call.input, call.info));
        }
    }

    /// The running attempt of a record.
    fn attempt(&self, value: u32) -> (AttemptId, AttemptInfo) {
        let found = self.running.iter().find(|(_, input, _)| *input == value);
        let (id, _, attempt) = found.unwrap_or_else(|| panic!("{value} is not running"));
        (*id, *attempt)
    }

    fn complete(&mut self, value: u32, result: Result<u32, &'static str>) -> Completion {
        let (id, _) = self.attempt(value);
        self.running.retain(|(running, ..)| *running != id);
        let answer = self.op.handle_completion(self.now, id, result.map_err(Failure::Error));
        self.start();
        answer
    }

    fn ok(&mut self, value: u32) -> Completion {
        self.complete(value, Ok(value * 10))
    }

    fn fail(&mut self, value: u32) -> Completion {
        self.complete(value, Err("no"))
    }

    /// Moves the clock, in one step.
    fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
        while let Some(expired) = self.op.handle_deadline(self.now) {
            let gone = self.running.iter().position(|(id, ..)| *id == expired.id());
            if let Some(gone) = gone {
                self.cancelled.push(self.running.remove(gone).1);
            }
        }
        self.start();
    }

    /// Everything that comes out now: `10` is the output of record 1, `1!no` its failure, `W5` a watermark.
    fn out(&mut self) -> String {
        let mut story = Vec::new();
        while let Some(element) = self.op.poll_output() {
            story.push(match element {
                StreamElement::Record { value: outcome, .. } => match outcome.result {
                    Ok(output) => output.to_string(),
                    Err(failure) => format!("{}!{failure}", outcome.input),
                },
                StreamElement::Watermark(at) => format!("W{}", at.as_millis()),
                StreamElement::Status(status) => format!("{status:?}"),
                StreamElement::Barrier(barrier) => format!("B{}", barrier.checkpoint.id()),
            });
            self.start();
        }
        story.join(" ")
    }

    fn outcome(&mut self) -> Outcome<u32, u32, &'static str> {
        match self.op.poll_output() {
            Some(StreamElement::Record { value, .. }) => value,
            other => panic!("an outcome expected, not {other:?}"),
        }
    }

    fn snapshot(&mut self) -> Checkpoint {
        let mut checkpoint = Checkpoint::new(CheckpointId(1));
        self.op.snapshot(self.now, &mut checkpoint).expect("a snapshot");
        checkpoint
    }
}

// ---- capacity --------------------------------------------------------------------------------

#[test] // C1, T8, R2
fn invalid_settings_are_refused() {
    fn refusal<R: RetryStrategy<u32, u32, ()>>(policy: AsyncWait<R>) -> ConfigError {
        policy.build_core::<u32, u32, ()>().map(|_| ()).unwrap_err()
    }
    let sound = AsyncWait::ordered(1);
    assert_eq!(refusal(AsyncWait::ordered(0)), ConfigError::ZeroCapacity);
    assert_eq!(refusal(sound.timeout(Duration::ZERO)), ConfigError::ZeroTimeout);
    assert_eq!(refusal(sound.attempt_timeout(Duration::ZERO)), ConfigError::ZeroAttemptTimeout);
    let shrinking = ExponentialBackoff::new(MS).factor(0.5);
    assert_eq!(refusal(sound.retry(shrinking)), ConfigError::BackoffFactor);
    let unlimited = refusal(AsyncWait::ordered(usize::MAX));
    assert!(matches!(unlimited, ConfigError::CapacityTooLarge { .. }), "{unlimited}");
    let fixed = AsyncWait::ordered(5).build_fixed::<u32, u32, (), 4>().map(|_| ());
    assert_eq!(fixed, Err(ConfigError::CapacityTooLarge { capacity: 5, maximum: 4 }));
}

#[test] // C2: a record that is done and waits for records before it counts.
fn the_window_is_bounded_behind_a_stalled_head() {
    let mut b = bench(AsyncWait::ordered(3));
    b.push_all(1..=3);
    let _ = (b.ok(2), b.ok(3));
    assert_eq!((b.out().as_str(), b.op.in_flight()), ("", 3));
    assert!(!b.push(4));
    let _ = b.ok(1);
    assert_eq!(b.out(), "10 20 30");
    assert!(b.push(4));
}

#[test] // C3
fn control_elements_take_no_place_of_a_record() {
    let mut b = bench(AsyncWait::ordered(2));
    b.push_all([1]);
    assert!(b.mark(1) && b.push_element(StreamElement::Status(Status::Idle)));
    assert!(b.push(2), "two control elements have not filled it");
    assert!(!b.push_element(StreamElement::Status(Status::Active)), "their own bound has");
    let _ = (b.ok(1), b.ok(2));
    assert_eq!(b.out(), "10 W1 Idle 20");
}

#[test] // C3
fn at_the_bound_adjacent_watermarks_merge_into_the_later_one() {
    let mut b = bench(AsyncWait::unordered(2));
    b.push_all([1]);
    assert!(b.mark(1) && b.mark(5) && b.mark(3) && b.mark(9));
    assert!(b.push(2));
    assert!(!b.mark(10), "a record is between them");
    let _ = (b.ok(2), b.ok(1));
    assert_eq!(b.out(), "10 W1 W9 20");
}

#[test] // C4
fn an_element_that_does_not_fit_comes_back() {
    let mut b = bench(AsyncWait::ordered(1));
    b.push_all([1]);
    let refused = b.op.push(b.now, StreamElement::record(2, Timestamp::from_millis(7)));
    assert_eq!(refused, Err(PushError::Full(StreamElement::record(2, Timestamp::from_millis(7)))));
}

#[test] // C5
fn waiting_for_a_place_does_not_count_against_the_timeout() {
    let mut b = bench(AsyncWait::ordered(1).timeout(10 * MS));
    b.push_all([1]);
    assert!(!b.push(2));
    b.pass(9 * MS);
    let _ = b.ok(1);
    assert_eq!(b.out(), "10");
    assert!(b.push(2), "offered again");
    b.pass(9 * MS);
    let _ = b.ok(2);
    assert_eq!(b.out(), "20");
}

#[test] // C6, E3: the snapshot barrier overtakes
fn a_snapshot_can_be_taken_when_the_operator_is_full() {
    let mut b = bench(AsyncWait::ordered(2));
    b.push_all([1, 2]);
    let barrier = Barrier::snapshot(Checkpoint::new(CheckpointId(4)));
    assert!(b.push_element(StreamElement::Barrier(barrier)));
    assert_eq!(b.out(), "B4", "and overtakes the record in flight");
}

// ---- order and event time --------------------------------------------------------------------

#[test] // O1, E3
fn ordered_keeps_the_order_of_the_inputs() {
    let mut b = bench(AsyncWait::ordered(4));
    b.push_all([1, 2]);
    b.mark(5);
    b.push_all([3, 4]);
    let _ = (b.ok(4), b.fail(3), b.ok(2));
    assert_eq!(b.out(), "");
    let _ = b.ok(1);
    assert_eq!(b.out(), "10 20 W5 3!no 40");
}

#[test] // O2, E3
fn unordered_is_completion_order_but_for_control_elements() {
    let mut b = bench(AsyncWait::unordered(6));
    b.push_all([1, 2]);
    b.mark(5);
    b.push_all([3, 4]);
    b.push_element(StreamElement::Status(Status::Idle));
    b.push_all([5]);
    let _ = (b.ok(5), b.ok(4), b.ok(2), b.ok(3));
    assert_eq!(b.out(), "20");
    let _ = b.ok(1);
    assert_eq!(b.out(), "10 W5 40 30 Idle 50");
}

#[test] // O4
fn a_control_element_leaves_when_everything_before_it_has() {
    for policy in [AsyncWait::ordered(4), AsyncWait::unordered(4)] {
        let mut b = bench(policy);
        b.mark(1);
        assert_eq!(b.out(), "W1", "at once, from an empty operator");
        b.push_all([1]);
        b.mark(2);
        b.push_element(StreamElement::Status(Status::Active));
        let _ = b.ok(1);
        assert_eq!(b.out(), "10 W2 Active", "without another push or completion");
    }
}

#[test] // O5
fn no_record_becomes_late() {
    let mut b = bench(AsyncWait::unordered(8));
    for at in 1..=4_i64 {
        b.push_element(StreamElement::record(at as u32, Timestamp::from_millis(at)));
        b.mark(at);
    }
    let _ = (b.ok(4), b.ok(2), b.ok(3), b.ok(1));
    assert_eq!(b.out(), "10 W1 20 W2 30 W3 40 W4");
}

#[test] // O6: the work of a record depends neither on the capacity nor on the order of completion.
fn completions_in_reverse_cost_no_more() {
    for policy in [AsyncWait::ordered(100_000), AsyncWait::unordered(100_000)] {
        // Quadratic work would take hours.
        let mut b = bench(policy.timeout(MS));
        for value in 0..100_000 {
            b.op.push(b.now, StreamElement::value(value)).unwrap();
        }
        b.start();
        while let Some((id, value, _)) = b.running.pop() {
            assert_eq!(b.op.handle_completion(b.now, id, Ok(value)), Completion::Outcome);
        }
        let mut left = 0;
        while b.op.poll_output().is_some() {
            left += 1;
        }
        assert_eq!(left, 100_000);
    }
}

#[test] // E2
fn the_timestamp_comes_out_with_the_outcome() {
    let mut b = bench(AsyncWait::ordered(1));
    let at = Timestamp::from_millis(-3);
    b.push_element(StreamElement::record(1, at));
    let _ = b.ok(1);
    let Some(StreamElement::Record { timestamp, .. }) = b.op.poll_output() else { panic!() };
    assert_eq!(timestamp, Some(at));
}

// ---- timeouts --------------------------------------------------------------------------------

fn patient(retries: u32) -> FixedDelay {
    FixedDelay::new(10 * MS).max_retries(retries)
}

#[test] // T1
fn the_timeout_bounds_attempts_and_backoffs_together() {
    let mut b = bench(AsyncWait::ordered(1).timeout(25 * MS).retry(patient(9)));
    b.push_all([1]);
    b.pass(2 * MS);
    let _ = b.fail(1);
    b.pass(10 * MS);
    let _ = b.fail(1); // at 12 ms; the next attempt would start at 22 ms
    b.pass(10 * MS);
    let (_, attempt) = b.attempt(1);
    assert_eq!((attempt.number, attempt.time_left), (3, Some(3 * MS))); // R6
    b.pass(3 * MS);
    assert_eq!(b.cancelled, [1]);
    let outcome = b.outcome();
    assert_eq!(outcome.result, Err(Failure::TimedOut));
    assert_eq!((outcome.attempts, outcome.elapsed), (3, 25 * MS));
}

#[test] // T1: also in the middle of a backoff.
fn the_timeout_passes_in_a_backoff() {
    let mut b = bench(AsyncWait::ordered(1).timeout(5 * MS).retry(patient(9)));
    b.push_all([1]);
    let _ = b.fail(1);
    assert_eq!(b.op.poll_deadline(), Some(Instant::ZERO + 5 * MS));
    b.pass(5 * MS);
    assert_eq!(b.out(), "1!the call timed out");
}

#[test] // T2
fn an_attempt_that_times_out_is_retried() {
    let policy = AsyncWait::ordered(1).attempt_timeout(5 * MS).retry(patient(1));
    let mut b = bench(policy);
    b.push_all([1]);
    b.pass(5 * MS);
    assert_eq!(b.cancelled, [1]);
    assert_eq!((b.running.len(), b.out().as_str()), (0, ""));
    b.pass(10 * MS);
    b.pass(5 * MS);
    let outcome = b.outcome();
    assert_eq!((outcome.result, outcome.attempts), (Err(Failure::AttemptTimedOut), 2));
}

#[test] // T3, T4: just before, at and just after the deadline.
fn exactly_one_outcome_around_the_deadline() {
    let nano = Duration::from_nanos(1);
    for (passed, expected) in [(MS - nano, "10"), (MS, "1!the call timed out")] {
        let mut b = bench(AsyncWait::ordered(1).timeout(MS));
        b.push_all([1]);
        let (id, _) = b.attempt(1);
        b.pass(passed);
        let answer = b.op.handle_completion(b.now, id, Ok(10));
        assert_eq!(answer == Completion::Late, passed == MS);
        b.pass(2 * MS);
        assert_eq!(b.out(), expected);
        assert!(b.op.is_empty());
    }
    // The completion comes late, but before the deadline is judged: it wins.
    let mut b = bench(AsyncWait::ordered(1).timeout(MS));
    b.push_all([1]);
    b.now = b.now + 9 * MS;
    assert_eq!(b.ok(1), Completion::Outcome);
    b.pass(MS);
    assert_eq!(b.out(), "10");
}

#[test] // T5, F4
fn completions_of_other_attempts_have_no_effect() {
    let policy = AsyncWait::ordered(2).attempt_timeout(5 * MS).retry(patient(3));
    let mut b = bench(policy);
    b.push_all([1]);
    let (first, _) = b.attempt(1);
    b.pass(5 * MS);
    assert_eq!(b.op.handle_completion(b.now, first, Ok(7)), Completion::Late, "in backoff");
    b.pass(10 * MS);
    assert_eq!(b.op.handle_completion(b.now, first, Ok(7)), Completion::Late, "attempt 2 runs");
    let (second, _) = b.attempt(1);
    let _ = b.ok(1);
    assert_eq!(b.op.handle_completion(b.now, second, Ok(7)), Completion::Late, "twice");
    assert_eq!(b.out(), "10");
    b.push_all([2]);
    assert_eq!(b.op.handle_completion(b.now, second, Ok(7)), Completion::Late, "slot reused");
    // An id of another operator, with a slot that this operator never had.
    let mut other = bench(AsyncWait::ordered(9));
    other.push_all(1..=9);
    let (foreign, _) = other.attempt(9);
    assert_eq!(b.op.handle_completion(b.now, foreign, Ok(7)), Completion::Late);
    let _ = b.ok(2);
    assert_eq!(b.out(), "20");
}

#[test] // T7
fn poll_deadline_returns_the_earliest_deadline() {
    let policy = AsyncWait::unordered(9).timeout(100 * MS).retry(patient(3));
    let mut b = bench(policy);
    assert_eq!(b.op.poll_deadline(), None);
    b.push_all([1]);
    b.pass(MS);
    b.push_all([2, 3]);
    assert_eq!(b.op.poll_deadline(), Some(Instant::ZERO + 100 * MS));
    let _ = b.fail(3);
    assert_eq!(b.op.poll_deadline(), Some(Instant::ZERO + 11 * MS));
    let _ = (b.ok(1), b.ok(2));
    b.pass(10 * MS);
    assert_eq!(b.op.poll_deadline(), Some(Instant::ZERO + 101 * MS));
    let _ = b.ok(3);
    assert_eq!(b.op.poll_deadline(), None);
}

#[test] // T8
fn durations_are_exact_to_the_nanosecond() {
    let odd = Duration::from_nanos(1_234_567_891);
    let mut b = bench(AsyncWait::ordered(1).timeout(odd));
    b.push_all([1]);
    b.pass(odd - Duration::from_nanos(1));
    assert_eq!(b.out(), "");
    b.pass(Duration::from_nanos(1));
    assert_eq!(b.outcome().elapsed, odd);
    // An infinite timeout does not wrap around.
    let mut b = bench(AsyncWait::ordered(1).timeout(Duration::MAX));
    b.now = b.now + Duration::from_secs(1 << 33);
    b.push_all([1]);
    assert_eq!(b.op.poll_deadline(), Some(Instant::FAR_FUTURE));
}

#[test] // F4: time going backwards.
fn an_earlier_now_counts_as_the_latest_one_seen() {
    let mut b = bench(AsyncWait::ordered(2).timeout(10 * MS));
    b.now = b.now + 100 * MS;
    b.push_all([1]);
    b.now = Instant::ZERO;
    b.push_all([2]);
    b.pass(50 * MS);
    assert_eq!(b.op.poll_deadline(), Some(Instant::ZERO + 110 * MS));
    b.pass(60 * MS);
    assert_eq!(b.out(), "1!the call timed out 2!the call timed out");
}

// ---- retries ---------------------------------------------------------------------------------

#[test] // R1
fn calls_that_overlap_do_not_disturb_each_others_backoff() {
    let backoff = ExponentialBackoff::new(100 * MS).max_retries(9);
    let mut b = bench(AsyncWait::unordered(2).retry(backoff));
    b.push_all([1, 2]);
    let delays = [1, 1, 2, 1, 2, 2].map(|value| {
        assert_eq!(b.fail(value), Completion::Retry);
        let next = b.op.poll_deadline().expect("a backoff");
        let delay = next - b.now;
        b.pass(delay);
        delay.as_millis()
    });
    assert_eq!(delays, [100, 200, 100, 400, 200, 400]);
}

#[test] // R2, R4
fn predicates_select_the_results_that_are_retried() {
    let strategy = FixedDelay::new(MS)
        .max_retries(1)
        .when_error(|error: &&str| *error == "busy")
        .when_output(|output: &u32| *output == 0);
    let mut b = bench(AsyncWait::ordered(4).retry(strategy));
    b.push_all(1..=4);
    assert_eq!(b.complete(1, Err("busy")), Completion::Retry);
    assert_eq!(b.complete(2, Err("broken")), Completion::Outcome);
    assert_eq!(b.complete(3, Ok(0)), Completion::Retry);
    assert_eq!(b.complete(4, Ok(40)), Completion::Outcome);
    b.pass(MS);
    assert_eq!(b.complete(1, Err("busy")), Completion::Outcome, "one retry is all");
    assert_eq!(b.complete(3, Ok(0)), Completion::Outcome);
    assert_eq!(b.out(), "1!busy 2!broken 0 40", "also an output that was not liked");
}

#[test] // R2: what is said of outputs says nothing of errors
fn a_predicate_on_outputs_leaves_errors_as_they_were() {
    let zero = |output: &u32| *output == 0;
    let mut b = bench(AsyncWait::ordered(4).retry(FixedDelay::new(MS).when_output(zero)));
    b.push_all([1, 2, 3]);
    assert_eq!(b.complete(1, Ok(0)), Completion::Retry);
    assert_eq!(b.complete(2, Err("broken")), Completion::Retry, "every error, as without it");
    assert_eq!(b.complete(3, Ok(30)), Completion::Outcome);

    let outputs_alone = FixedDelay::new(MS).when_output(zero).when_error(|_: &&str| false);
    let mut b = bench(AsyncWait::ordered(4).retry(outputs_alone));
    b.push_all([1, 2]);
    assert_eq!(b.complete(1, Ok(0)), Completion::Retry);
    assert_eq!(b.complete(2, Err("broken")), Completion::Outcome);
}

#[test] // R3
fn a_record_in_backoff_keeps_its_slot_and_does_not_run() {
    let mut b = bench(AsyncWait::unordered(1).retry(patient(3)));
    b.push_all([1]);
    let _ = b.fail(1);
    assert_eq!((b.op.in_flight(), b.op.running()), (1, 0));
    assert!(!b.push(2));
    b.pass(10 * MS);
    assert_eq!((b.op.in_flight(), b.op.running()), (1, 1));
}

#[test] // R6
fn every_attempt_receives_its_number_and_the_time_left() {
    let mut b = bench(AsyncWait::ordered(2).timeout(100 * MS).retry(patient(3)));
    b.push_all([7, 8]);
    let (_, told) = b.attempt(8);
    assert_eq!(told, AttemptInfo { number: 1, retry: 0, request_id: 1, time_left: Some(100 * MS) });
    b.pass(5 * MS);
    let _ = b.fail(8);
    b.pass(10 * MS);
    let (_, told) = b.attempt(8);
    assert_eq!(told, AttemptInfo { number: 2, retry: 1, request_id: 1, time_left: Some(85 * MS) });
}

// ---- failures --------------------------------------------------------------------------------

#[test] // F1, F2
fn a_failure_carries_input_attempts_and_time() {
    let mut b = bench(AsyncWait::ordered(1).retry(patient(1)));
    b.push_all([1]);
    b.pass(MS);
    let _ = b.fail(1);
    b.pass(10 * MS);
    let _ = b.fail(1);
    let expected =
        Outcome { input: 1, result: Err(Failure::Error("no")), attempts: 2, elapsed: 11 * MS };
    assert_eq!(b.outcome(), expected);
}

// ---- checkpoints -----------------------------------------------------------------------------

#[test] // K1, K2
fn a_snapshot_holds_attempts_time_and_backoff() {
    for policy in [AsyncWait::ordered(6), AsyncWait::unordered(6)] {
        let policy = policy.timeout(100 * MS).retry(patient(3));
        let mut b = bench(policy);
        b.push_all([1]);
        b.pass(7 * MS);
        b.push_all([2]);
        b.mark(5);
        b.push_all([3]);
        let _ = (b.fail(2), b.ok(3));
        b.pass(4 * MS);
        let checkpoint = b.snapshot();

        let mut b = bench(policy);
        b.op.restore(b.now, &checkpoint).expect("a restore");
        b.start();
        assert_eq!(b.op.in_flight(), 3);
        let (_, told) = b.attempt(1); // it was running, with 11 ms spent
        assert_eq!((told.number, told.time_left), (2, Some(89 * MS)));
        let (_, told) = b.attempt(3); // it was done, and is called anew
        assert_eq!((told.number, told.time_left, told.request_id), (1, Some(100 * MS), 2));
        b.pass(6 * MS); // 2 was in backoff, with 4 of 10 ms over
        let (_, told) = b.attempt(2);
        assert_eq!((told.number, told.time_left), (2, Some(90 * MS)));
        b.push_all([4]);
        assert_eq!(b.attempt(4).1.request_id, 3, "request ids go on");
        let _ = (b.ok(4), b.ok(3), b.ok(2), b.ok(1));
        let story = b.out();
        assert!(["10 20 W5 30 40", "20 10 W5 40 30"].contains(&story.as_str()), "{story}");
    }
}

#[test] // K1: in push order, deterministically, in every mode.
fn the_same_state_gives_the_same_bytes() {
    let state = |finished_first: [u32; 2]| {
        let mut b = bench(AsyncWait::unordered(4));
        b.push_all([1, 2, 3]);
        b.mark(1);
        finished_first.into_iter().for_each(|value| assert_eq!(b.ok(value), Completion::Outcome));
        let bytes = b.snapshot().bytes().expect("bytes").to_vec();
        (bytes, b)
    };
    let (one, _) = state([3, 2]);
    let (other, _) = state([2, 3]);
    assert_eq!(one, other);
}

#[test] // K5
fn restoring_into_a_smaller_capacity_loses_nothing() {
    let mut b = bench(AsyncWait::ordered(8));
    b.push_all([1, 2, 3]);
    b.mark(3);
    b.push_all([4, 5]);
    let checkpoint = b.snapshot();

    let mut b = bench(AsyncWait::ordered(2));
    b.op.restore(b.now, &checkpoint).expect("a restore");
    b.start();
    assert_eq!(b.op.in_flight(), 2);
    assert!(!b.push(9), "not before the restored records");
    // A snapshot during the restore also holds the records that have no slot yet.
    let mut again = bench(AsyncWait::ordered(8));
    again.op.restore(again.now, &b.snapshot()).expect("a restore");
    again.start();
    assert_eq!(again.op.in_flight(), 5);
    for mut b in [b, again] {
        let mut story = String::new();
        for value in 1..=5 {
            let _ = b.ok(value);
            story += &b.out();
            story += " ";
        }
        assert_eq!(story, "10 20 30 W3 40 50 ");
        assert!(b.push(9));
    }
}

#[test] // K6, K7: and nothing is half restored.
fn an_unreadable_snapshot_is_a_typed_error() {
    let mut b = bench(AsyncWait::ordered(4));
    b.push_all([1, 2]);
    let checkpoint = b.snapshot();
    let section = checkpoint.section("stage").expect("the section").to_vec();

    let restore = |bytes: &[u8]| {
        let mut checkpoint = Checkpoint::new(CheckpointId(1));
        checkpoint.put("stage", bytes).expect("room");
        let mut b = bench(AsyncWait::ordered(4));
        let restored = b.op.restore(b.now, &checkpoint);
        assert!(restored.is_ok() || b.op.is_empty(), "half restored");
        restored
    };
    assert_eq!(restore(&section), Ok(()));
    let source = restore(&[]).expect_err("it is empty");
    assert!(std::error::Error::source(&source).is_some(), "the fault in the bytes");
    for length in 0..section.len() {
        let cut = restore(&section[..length]);
        assert!(matches!(cut, Err(RestoreError::Format(_))), "{length}: {cut:?}");
    }
    for bit in 0..section.len() * 8 {
        let mut flipped = section.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(restore(&flipped).is_err(), "bit {bit}");
    }
    // The same faults under a right checksum: some of the records can be read.
    let magic = *section.first_chunk().expect("a magic");
    let opened = envelope::open_up_to(&section, magic, 2);
    let (format, schema, body) = opened.expect("a section");
    for body in (0..body.len()).map(|length| &body[..length]).chain([&[body, body].concat()[..]]) {
        let mut frame = [&[0; envelope::HEADER_LEN], body].concat();
        envelope::seal_as(&mut frame, magic, format, schema);
        assert_eq!(restore(&frame), Err(RestoreError::Damaged), "{} bytes", body.len());
    }

    let mut small = AsyncWait::ordered(1).build_fixed::<u32, u32, (), 1>().unwrap();
    small = small.checkpointed("stage", 1);
    let too_many = small.restore(Instant::ZERO, &checkpoint);
    assert_eq!(too_many, Err(RestoreError::TooMany { found: 2, room: 1 }));
    assert!(small.is_empty());
    let mut exact = AsyncWait::ordered(2).build_fixed::<u32, u32, (), 2>().unwrap();
    exact = exact.checkpointed("stage", 1);
    assert_eq!(exact.restore(Instant::ZERO, &checkpoint), Ok(()));

    let mut other = AsyncWait::ordered(4).build_core::<u32, u32, ()>().unwrap();
    assert_eq!(other.restore(Instant::ZERO, &checkpoint), Err(RestoreError::NotCheckpointed));
    let mut other = other.checkpointed("stage", 2);
    let newer = other.restore(Instant::ZERO, &checkpoint);
    assert_eq!(newer, Err(RestoreError::Schema { found: 1, expected: 2 }));
    let mut other = other.checkpointed("elsewhere", 1);
    let missing = other.restore(Instant::ZERO, &checkpoint);
    assert_eq!(missing, Err(RestoreError::Missing { name: "elsewhere" }));
    assert_eq!(b.op.restore(b.now, &checkpoint), Err(RestoreError::NotEmpty));
    // The same schema version with another type: the records' lengths do not match.
    let mut other =
        AsyncWait::ordered(4).build_core::<(u32, u32), u32, ()>().unwrap().checkpointed("stage", 1);
    assert_eq!(other.restore(Instant::ZERO, &checkpoint), Err(RestoreError::Damaged));
}

#[test] // K3
fn a_barrier_fails_at_a_stage_without_snapshots() {
    let mut op = AsyncWait::ordered(1).build_core::<u32, u32, ()>().unwrap();
    let barrier = Barrier::snapshot(Checkpoint::new(CheckpointId(1)));
    op.push(Instant::ZERO, StreamElement::Barrier(barrier)).unwrap();
    let Some(StreamElement::Barrier(barrier)) = op.poll_output() else { panic!() };
    assert_eq!(barrier.checkpoint.failure(), Err(CheckpointError::NotCheckpointed));
}

#[test] // K3
fn a_drain_barrier_keeps_its_position() {
    let mut b = bench(AsyncWait::unordered(4));
    b.push_all([1]);
    let barrier = Barrier::drain(Checkpoint::new(CheckpointId(6)));
    b.push_element(StreamElement::Barrier(barrier));
    b.push_all([2]);
    let _ = b.ok(2);
    assert_eq!(b.out(), "");
    let _ = b.ok(1);
    assert_eq!(b.out(), "10 B6 20");
}

/// Panics when it is called for the first time.
struct Panics(core::cell::Cell<bool>);

impl RetryStrategy<u32, u32, &'static str> for Panics {
    fn next_delay(
        &self,
        _: AttemptInfo,
        _: &u32,
        _: &Result<u32, Failure<&'static str>>,
    ) -> Option<Duration> {
        assert!(self.0.replace(true), "as planned");
        None
    }
}

#[test] // F4: after a caught panic of a strategy, the operator's counts are as before
fn a_panic_of_the_retry_strategy_leaves_the_call_as_it_was() {
    let mut b = bench(AsyncWait::ordered(2).max_running(1).retry(Panics(Default::default())));
    b.push_all([1, 2]);
    let (id, _) = b.attempt(1);
    let complete = |op: &mut Op<Panics>| op.handle_completion(Instant::ZERO, id, Ok(10));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| complete(&mut b.op)));
    assert!(panic.is_err());
    assert_eq!(b.op.running(), 1);
    assert_eq!(complete(&mut b.op), Completion::Outcome);
    b.start();
    assert_eq!(b.running(), [1, 2]);
    assert_eq!((b.ok(2), b.out().as_str(), b.op.running()), (Completion::Outcome, "10 20", 0));
}

// ---- by key ----------------------------------------------------------------------------------

type Tens = KeyBy<fn(&u32) -> u32>;

/// The key of a value, as stored in a checkpoint.
fn key(value: u32) -> u64 {
    hash_key(&(value / 10))
}

/// The tens digit that has this key.
fn tens(of: u64) -> usize {
    (0..12).find(|tens| key(10 * tens) == of).expect("a key of a value") as usize
}

fn by_key(capacity: usize) -> AsyncWait<NoRetry, Tens> {
    AsyncWait::ordered_by_key(capacity, |value: &u32| value / 10)
}

impl<R: RetryStrategy<u32, u32, &'static str>, K> Bench<R, K> {
    fn running(&self) -> Vec<u32> {
        self.running.iter().map(|(_, input, _)| *input).collect()
    }
}

#[test] // O3, one attempt at a time
fn the_next_record_of_a_key_is_invoked_after_the_previous_outcome() {
    let mut b = bench(by_key(9).retry(patient(1)));
    b.push_all([11, 12, 21, 13]);
    assert_eq!(b.running(), [11, 21]);
    let _ = b.fail(11);
    assert_eq!(b.running(), [21], "a record in backoff has no outcome");
    b.pass(10 * MS);
    let _ = (b.ok(11), b.ok(12));
    assert_eq!(b.running(), [21, 13]);
    assert_eq!(b.out(), "110 120");
    let _ = (b.ok(13), b.ok(21));
    assert_eq!(b.out(), "130 210");
}

#[test] // O3, overlapping
fn overlapping_calls_of_a_key_leave_in_order() {
    let mut b = bench(by_key(9).overlapping());
    b.push_all([11, 12, 21, 13]);
    assert_eq!(b.running(), [11, 12, 21, 13]);
    let _ = (b.ok(13), b.ok(12), b.ok(21));
    assert_eq!(b.out(), "210");
    let _ = b.ok(11);
    assert_eq!(b.out(), "110 120 130");
}

#[test] // O3, O5: a key's chain continues after a watermark, but no record crosses it.
fn records_of_a_key_keep_their_order_across_watermarks() {
    let mut b = bench(by_key(9).overlapping());
    b.push_all([11, 21]);
    b.mark(5);
    b.push_all([12, 31]);
    let _ = (b.ok(31), b.ok(12), b.ok(11));
    assert_eq!(b.out(), "110");
    let _ = b.ok(21);
    assert_eq!(b.out(), "210 W5 310 120");
}

#[test] // O3, K1: a restore keeps what is held back.
fn a_restore_keeps_the_order_of_a_key() {
    let mut b = bench(by_key(9));
    b.push_all([11, 12, 21]);
    let checkpoint = b.snapshot();
    let mut b = bench(by_key(9));
    b.op.restore(b.now, &checkpoint).expect("a restore");
    b.start();
    assert_eq!(b.running(), [11, 21]);
    let _ = (b.ok(21), b.ok(11), b.ok(12));
    assert_eq!(b.out(), "210 110 120");
}

/// Restores three records of one key: the first is done and is called anew, the second is in backoff.
fn restored_with_a_backoff_in_the_middle() -> Bench<FixedDelay, Tens> {
    restored_with_a_backoff_before([13], 25)
}

/// Restores two records of one key, the first done and the second in a backoff of 10 ms, and those in `behind` after them. The second
/// one's call has taken 5 ms of its timeout.
fn restored_with_a_backoff_before(
    behind: impl IntoIterator<Item = u32>,
    timeout: u32,
) -> Bench<FixedDelay, Tens> {
    let policy = || by_key(9).timeout(timeout * MS).retry(patient(1));
    let mut before = bench(policy());
    before.push_all([11, 12].into_iter().chain(behind));
    let _ = before.ok(11);
    before.pass(5 * MS);
    assert_eq!(before.fail(12), Completion::Retry);
    let checkpoint = before.snapshot();
    let mut b = bench(policy());
    b.op.restore(b.now, &checkpoint).expect("a restore");
    b.start();
    assert_eq!(b.running(), [11]);
    b
}

#[test] // O3, K5: a restored backoff that is over still waits for the previous record of its key
fn a_restored_backoff_does_not_overtake_its_key() {
    let mut b = restored_with_a_backoff_in_the_middle();
    b.pass(10 * MS);
    assert_eq!(b.running(), [11], "12 is due, but waits for 11");
    let _ = b.ok(11);
    assert_eq!(b.running(), [12]);
    let _ = b.ok(12);
    assert_eq!(b.running(), [13]);
    let _ = b.ok(13);
    assert_eq!(b.out(), "110 120 130");
}

#[test] // O3, T1: a record that times out before its attempt may start does not let the next record of its key overtake
fn a_timeout_before_the_attempt_lets_no_record_of_the_key_overtake() {
    let mut b = restored_with_a_backoff_before([13], 12);
    b.pass(8 * MS); // the time of 12 counts from before the restore, that of 11 anew
    assert_eq!(
        (b.running(), b.out()),
        (vec![11], String::new()),
        "12 has timed out, 13 has to wait"
    );
    b.push_all([14]);
    assert_eq!(b.running(), [11]);
    let _ = b.ok(11);
    assert_eq!((b.running(), b.out()), (vec![13], "110 12!the call timed out".into()));
    let _ = (b.ok(13), b.ok(14));
    assert_eq!(b.out(), "130 140");
    assert!(b.op.is_empty());
}

#[test] // O3, T1: nor one that is pushed after the timeout
fn a_record_pushed_after_a_timeout_before_its_attempt_waits_for_its_key() {
    let mut b = restored_with_a_backoff_before([], 12);
    b.pass(8 * MS);
    b.push_all([13]);
    assert_eq!((b.running(), b.out()), (vec![11], String::new()));
    let _ = b.ok(11);
    assert_eq!((b.running(), b.out()), (vec![13], "110 12!the call timed out".into()));
    let _ = b.ok(13);
    assert_eq!(b.out(), "130");
    assert!(b.op.is_empty());
}

// ---- limits ----------------------------------------------------------------------------------

#[test] // C7
fn a_limit_below_the_window_bounds_the_running_attempts() {
    let mut b = bench(AsyncWait::ordered(9).max_running(2).retry(patient(1)));
    b.push_all([1, 2, 3, 4]);
    assert_eq!((b.running(), b.op.in_flight()), (vec![1, 2], 4));
    let _ = b.fail(1);
    assert_eq!(b.running(), [2, 3], "a record in backoff does not run");
    b.pass(10 * MS);
    assert_eq!(b.running(), [2, 3], "and waits until fewer run afterwards");
    let _ = b.ok(2);
    assert_eq!(b.running(), [3, 4]);
    let _ = b.ok(3);
    assert_eq!(b.running(), [4, 1]);
}

#[test] // C7, C5, T1: its clock stands still from the end of its backoff on
fn a_call_that_waits_to_run_again_takes_no_time() {
    let policy = AsyncWait::unordered(9).max_running(1).timeout(20 * MS);
    let mut b = bench(policy.retry(patient(2)));
    b.push_all([1]);
    b.pass(2 * MS);
    let _ = b.fail(1);
    b.push_all([2, 3, 4]);
    b.pass(10 * MS); // 1 has taken 12 ms, and waits behind 3 and 4
    for (next, running) in [(2, 3), (3, 4), (4, 1)] {
        b.pass(9 * MS);
        let _ = b.ok(next);
        assert_eq!(b.running(), [running]);
    }
    assert_eq!(b.out(), "20 30 40");
    b.pass(7 * MS);
    assert_eq!(b.out(), "");
    b.pass(MS);
    assert_eq!(b.out(), "1!the call timed out");
}

#[test] // C8
fn capacity_changes_while_running() {
    let mut b = bench(AsyncWait::ordered(2).max_capacity(4));
    b.push_all([1, 2]);
    assert!(!b.push(3));
    assert_eq!(b.op.set_capacity(4), Ok(()));
    b.push_all([3, 4]);
    assert_eq!(b.op.set_capacity(1), Ok(()));
    assert_eq!(b.op.in_flight(), 4, "none is dropped");
    let _ = (b.ok(1), b.ok(2), b.ok(3));
    assert_eq!(b.out(), "10 20 30");
    assert!(!b.push(5), "one is left, and one is the capacity");
    assert_eq!(b.op.set_capacity(0), Err(ConfigError::ZeroCapacity));
    let too_large = ConfigError::CapacityTooLarge { capacity: 5, maximum: 4 };
    assert_eq!(b.op.set_capacity(5), Err(too_large));
    assert_eq!(b.op.set_max_running(0), Err(ConfigError::ZeroMaxRunning));
}

#[test] // C3
fn a_full_window_leaves_room_for_control_elements() {
    let mut b = bench(AsyncWait::ordered(1));
    b.push_all([1]);
    assert!(b.mark(1) && b.mark(2), "the second one merges");
    let _ = b.ok(1);
    assert_eq!(b.out(), "10 W2");
}

// ---- timeouts with another end, retries with a budget ----------------------------------------

#[test] // T3
fn a_timeout_handler_may_give_an_output_or_drop_the_record() {
    let mut b = bench(AsyncWait::ordered(9).timeout(MS));
    b.push_all([1, 2, 3, 4]);
    b.now = b.now + MS;
    while let Some(expired) = b.op.handle_deadline(b.now) {
        let Expired::Call(id) = expired else { panic!("{expired:?}") };
        let mut asked = 0;
        let resolved = b.op.resolve_timeout(id, |call| {
            asked = *call.input;
            match call.input {
                1 => TimeoutAction::Output(7),
                2 => TimeoutAction::Drop,
                _ => TimeoutAction::Fail,
            }
        });
        assert!(resolved && asked > 0);
        assert!(!b.op.resolve_timeout(id, |_| TimeoutAction::Drop), "once only");
    }
    assert_eq!(b.out(), "7 3!the call timed out 4!the call timed out");
    let metrics = b.op.metrics(b.now);
    assert_eq!((metrics.emitted, metrics.dropped, metrics.timed_out), (3, 1, 2));
    assert_eq!(metrics.records_in, 4);
    assert!(b.op.is_empty());
}

#[test] // T3, F4
fn only_a_call_that_timed_out_can_be_resolved() {
    let mut b = bench(AsyncWait::ordered(9));
    b.push_all([1, 2]);
    let (id, _) = b.attempt(1);
    assert!(!b.op.resolve_timeout(id, |_| TimeoutAction::Drop), "it runs");
    let _ = b.fail(1);
    assert!(!b.op.resolve_timeout(id, |_| TimeoutAction::Drop), "it failed by itself");
    let _ = b.ok(2);
    assert_eq!(b.out(), "1!no 20");
}

#[test] // R7
fn a_budget_bounds_the_retries_of_all_records() {
    let budget = RetryBudget::new(2, 0.5);
    let mut b = bench(AsyncWait::unordered(9).retry(patient(9)).retry_budget(budget));
    b.push_all([1, 2, 3, 4, 5]);
    assert_eq!(
        [1, 2, 3].map(|value| b.fail(value)).map(|c| c == Completion::Retry),
        [true, true, false]
    );
    let _ = b.ok(4);
    assert_eq!(b.fail(5), Completion::Outcome, "half a token is none");
    b.push_all([6, 7]);
    let _ = b.ok(6);
    assert_eq!(b.fail(7), Completion::Retry);
    let refused = AsyncWait::ordered(1).retry_budget(RetryBudget::new(1, 1.5));
    let refused = refused.build_core::<u32, u32, ()>().map(|_| ()).unwrap_err();
    assert_eq!(refused, ConfigError::RetryBudget);
}

#[test] // R2
fn the_error_may_dictate_the_delay() {
    let strategy =
        FixedDelay::new(MS).retry_after(|error: &&str| (*error == "later").then_some(50 * MS));
    let mut b = bench(AsyncWait::unordered(9).retry(strategy));
    b.push_all([1, 2]);
    let _ = b.complete(1, Err("later"));
    assert_eq!(b.op.poll_deadline(), Some(Instant::ZERO + 50 * MS));
    let _ = b.fail(2);
    assert_eq!(b.op.poll_deadline(), Some(Instant::ZERO + MS));
}

// ---- the end ---------------------------------------------------------------------------------

#[test] // R5
fn after_the_input_calls_have_all_retries_or_one_last_attempt() {
    for (policy, expected) in [(FinishPolicy::AllRetries, 3), (FinishPolicy::LastAttempt, 2)] {
        let policy = AsyncWait::ordered(9).retry(patient(2)).finish_policy(policy);
        let mut b = bench(policy);
        b.push_all([1, 2]);
        let _ = b.fail(1);
        b.op.finish(b.now);
        b.start();
        assert!(!b.push(3), "there is no more input");
        let at_once = b.running() == [2, 1];
        assert_eq!(at_once, expected == 2);
        let _ = b.ok(2);
        while !b.op.has_output() {
            b.pass(10 * MS);
            let _ = b.fail(1);
        }
        assert_eq!(b.outcome().attempts, expected);
    }
}

#[test] // R5, K5: a record that gets its slot only after the end of the input does not wait for its backoff either.
fn a_restored_backoff_ends_with_the_input() {
    let policy =
        || AsyncWait::ordered(2).retry(patient(5)).finish_policy(FinishPolicy::LastAttempt);
    let mut before = bench(policy());
    before.push_all([1, 2]);
    let _ = (before.fail(1), before.fail(2));
    let checkpoint = before.snapshot();

    let mut b = bench(policy());
    b.op.set_capacity(1).expect("a sound capacity");
    b.op.restore(b.now, &checkpoint).expect("a restore");
    b.op.finish(b.now);
    for value in [1, 2] {
        b.start();
        assert_eq!(b.attempt(value).1.number, 2, "at once");
        assert_eq!(b.fail(value), Completion::Outcome, "and not again");
        assert_eq!(b.outcome().attempts, 2);
    }
    assert!(b.op.is_empty());
}

#[test] // L3
fn a_shutdown_fails_records_without_an_outcome() {
    let mut b = bench(AsyncWait::ordered(4).max_running(2).retry(patient(1)));
    b.push_all([1, 2, 3, 4]);
    let _ = (b.fail(1), b.ok(2));
    b.op.shut_down(b.now);
    assert_eq!(b.op.poll_deadline(), None);
    assert_eq!((b.op.running(), b.op.poll_attempt(b.now).is_none()), (0, true));
    let metrics = b.op.metrics(b.now);
    assert_eq!((metrics.done, metrics.in_backoff), (4, 0));
    let ends = "1!the stage was shut down 20 3!the stage was shut down 4!the stage was shut down";
    assert_eq!(b.out(), ends);
    assert!(b.op.is_empty());
}

// ---- checkpoints, further --------------------------------------------------------------------

#[test] // K2
fn results_can_be_kept() {
    type Kept = Operator<(u32, u32, String, NoRetry, Unkeyed, ()), Heap>;
    let build = || -> Kept {
        let op = AsyncWait::ordered(9).build_core().expect("a sound policy");
        op.checkpointed_with(Checkpointing::new("stage", 1).keeping_results())
    };
    let mut op = build();
    for value in 1..=3 {
        op.push(Instant::ZERO, StreamElement::value(value)).expect("room");
    }
    let calls: Vec<AttemptId> =
        std::iter::from_fn(|| op.poll_attempt(Instant::ZERO).map(|call| call.id)).collect();
    let now = Instant::ZERO + 5 * MS;
    let failure = Failure::Error(String::from("no"));
    assert_eq!(op.handle_completion(now, calls[1], Ok(20)), Completion::Outcome);
    assert_eq!(op.handle_completion(now, calls[2], Err(failure.clone())), Completion::Outcome);
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    op.snapshot(now, &mut checkpoint).expect("a snapshot");

    let mut op = build();
    op.restore(Instant::ZERO, &checkpoint).expect("a restore");
    let call = op.poll_attempt(Instant::ZERO).expect("one is called again");
    assert_eq!((call.info.number, *call.input), (2, 1));
    let id = call.id;
    assert!(op.poll_attempt(Instant::ZERO).is_none());
    assert_eq!(op.handle_completion(Instant::ZERO, id, Ok(10)), Completion::Outcome);
    let results: Vec<_> = std::iter::from_fn(|| op.poll_output())
        .map(|element| match element {
            StreamElement::Record { value, .. } => (value.result, value.elapsed),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(results, [(Ok(10), 5 * MS), (Ok(20), 5 * MS), (Err(failure), 5 * MS)]);

    // An operator that does not keep results calls finished records again, with all their time.
    let mut forgetful = AsyncWait::ordered(9)
        .timeout(9 * MS)
        .build_core::<u32, u32, String>()
        .expect("a sound policy")
        .checkpointed("stage", 1);
    forgetful.restore(Instant::ZERO, &checkpoint).expect("a restore");
    let called: Vec<_> = std::iter::from_fn(|| {
        let AttemptInfo { number, time_left, .. } = forgetful.poll_attempt(Instant::ZERO)?.info;
        Some((number, time_left))
    })
    .collect();
    assert_eq!(called, [(2, Some(4 * MS)), (1, Some(9 * MS)), (1, Some(9 * MS))]);

    // Results of an older version cannot be read, because only inputs are migrated.
    let migrate = |_, bytes: &[u8]| bytes.first().copied().map(u32::from);
    let mut newer = AsyncWait::ordered(9).build_core::<u32, u32, String>().expect("a sound policy");
    let how = Checkpointing::new("stage", 2).keeping_results().migrating(migrate);
    newer = newer.checkpointed_with(how);
    newer.restore(Instant::ZERO, &checkpoint).expect("a restore");
    let called = std::iter::from_fn(|| newer.poll_attempt(Instant::ZERO).map(|call| *call.input));
    assert_eq!(called.collect::<Vec<_>>(), [1, 2, 3]);
}

#[test] // K3
fn a_drain_past_its_limit_fails_its_checkpoint_and_nothing_else() {
    let mut b = bench(AsyncWait::ordered(4));
    b.push_all([1]);
    let barrier = Barrier::drain(Checkpoint::new(CheckpointId(6))).within(5 * MS);
    b.push_element(StreamElement::Barrier(barrier));
    b.push_all([2]);
    let _ = b.ok(2);
    assert_eq!(b.op.poll_deadline(), Some(Instant::ZERO + 5 * MS));
    b.pass(5 * MS);
    let Some(StreamElement::Barrier(barrier)) = b.op.poll_output() else { panic!() };
    assert_eq!(barrier.checkpoint.failure(), Err(CheckpointError::DrainTimedOut));
    assert_eq!((b.op.poll_deadline(), b.out().as_str()), (None, ""));
    let _ = b.ok(1);
    assert_eq!(b.out(), "10 20");
    assert!(b.op.is_empty());
}

#[test] // K3: there is no state to migrate, and request ids go on.
fn a_drained_checkpoint_restores_nothing() {
    let mut b = bench(AsyncWait::ordered(4));
    b.push_all([1, 2]);
    let _ = (b.ok(1), b.ok(2));
    let _ = b.out();
    b.push_element(StreamElement::Barrier(Barrier::drain(Checkpoint::new(CheckpointId(6)))));
    let Some(StreamElement::Barrier(barrier)) = b.op.poll_output() else { panic!() };
    let mut op = AsyncWait::ordered(4)
        .build_core::<u64, u32, ()>()
        .expect("a sound policy")
        .checkpointed("stage", 9); // another type, with another version
    op.restore(Instant::ZERO, &barrier.checkpoint).expect("nothing to restore");
    assert!(op.is_empty());
    op.push(Instant::ZERO, StreamElement::value(3)).expect("room");
    assert_eq!(op.poll_attempt(Instant::ZERO).expect("a call").info.request_id, 2);
}

#[test] // K7
fn records_of_an_older_version_are_migrated_or_refused() {
    let mut b = bench(AsyncWait::ordered(4));
    b.push_all([1, 300]);
    let checkpoint = b.snapshot();
    type New = Operator<((u32, bool), u32, (), NoRetry, Unkeyed, ()), Heap>;
    let build = |migrate: Option<fn(u32, &[u8]) -> Option<(u32, bool)>>| -> New {
        let how = Checkpointing::new("stage", 2);
        let how = migrate.map_or(how, |migrate| how.migrating(migrate));
        AsyncWait::ordered(4).build_core().expect("a sound policy").checkpointed_with(how)
    };
    let mut op = build(Some(|version, bytes| {
        assert_eq!(version, 1);
        let old: u32 = postcard::from_bytes(bytes).ok()?;
        Some((old, old > 255))
    }));
    op.restore(Instant::ZERO, &checkpoint).expect("a restore");
    assert_eq!(*op.poll_attempt(Instant::ZERO).expect("a call").input, (1, false));
    assert_eq!(*op.poll_attempt(Instant::ZERO).expect("a call").input, (300, true));

    let versions = (1, 2);
    let (found, expected) = versions;
    let mut op = build(None);
    let refused = op.restore(Instant::ZERO, &checkpoint);
    assert_eq!(refused, Err(RestoreError::Schema { found, expected }));
    let mut op = build(Some(|_, _| None));
    let refused = op.restore(Instant::ZERO, &checkpoint);
    assert_eq!(refused, Err(RestoreError::Migration { found, expected }));
    assert!(op.is_empty());
    let mut older = AsyncWait::ordered(4)
        .build_core::<u32, u32, ()>()
        .expect("a sound policy")
        .checkpointed_with(Checkpointing::new("stage", 0).migrating(|_, _| Some(0)));
    let refused = older.restore(Instant::ZERO, &checkpoint);
    assert_eq!(refused, Err(RestoreError::Schema { found: 1, expected: 0 }), "a newer one");
}

#[test] // K8
fn a_snapshot_is_split_by_key_and_merged_again() {
    let mut b = bench(by_key(99));
    for value in 0..60 {
        b.push_all([value]);
        if value % 20 == 19 {
            b.mark(i64::from(value));
        }
    }
    let _ = (b.ok(0), b.ok(10));
    let whole = b.snapshot();
    let section = whole.section("stage").expect("the section");
    let parts = split_snapshot(section, 3, tens).expect("parts");

    let mut ids = Vec::new();
    let mut stages: Vec<Bench<_, _>> = parts.iter().map(|part| restored(part)).collect();
    for (instance, b) in stages.iter_mut().enumerate() {
        let marks: Vec<_> = run_through(b);
        let expected: Vec<_> = (0..60).filter(|value| tens(key(*value)) % 3 == instance).collect();
        let records: Vec<_> = marks.iter().filter_map(|m| m.parse().ok()).collect::<Vec<u32>>();
        for tens in 0..6 {
            let of_key = |values: &[u32]| -> Vec<u32> {
                values.iter().copied().filter(|value| value / 10 == tens).collect()
            };
            assert_eq!(of_key(&records), of_key(&expected), "order of key {tens}");
        }
        assert_eq!(marks.iter().filter(|m| m.starts_with('W')).count(), 3);
        b.push_all([100, 110]);
        ids.extend(b.running.iter().map(|(_, _, attempt)| attempt.request_id));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6, "request ids of different instances do not clash: {ids:?}");

    let merged = merge_snapshots(parts.iter().map(Vec::as_slice)).expect("one again");
    let mut b = restored(&merged);
    let story = run_through(&mut b);
    let mut mark = -1;
    let mut seen = 0;
    for word in story {
        match word.strip_prefix('W') {
            Some(at) => {
                let before = std::mem::replace(&mut mark, at.parse().expect("a watermark"));
                assert!(mark > before, "{mark} says nothing after {before}");
            }
            None => {
                let value: i64 = word.parse().expect("a record");
                assert!(value > mark, "{value} comes after the watermark {mark}");
                seen += 1;
            }
        }
    }
    assert_eq!((seen, mark), (60, 59));
    assert_eq!(split_snapshot(section, 0, |_| 0), Err(RestoreError::NoParts));
    assert_eq!(merge_snapshots([]), Err(RestoreError::NoParts));
}

#[test] // K8: the key is the caller's, whether the order is by it or not
fn snapshots_of_other_orders_are_split_by_key_too() {
    let by_tens: fn(&u32) -> u32 = |value| value / 10;
    for policy in [AsyncWait::ordered(9), AsyncWait::unordered(9)] {
        let mut b = bench(policy.with_key(by_tens));
        b.push_all([70, 80]); // their slots are reused, with other keys
        let _ = (b.ok(70), b.ok(80), b.out());
        b.push_all([10, 20, 11, 30]);
        b.push_all([0, 1]);
        let whole = b.snapshot();
        let section = whole.section("stage").expect("the section");
        let parts = split_snapshot(section, 4, tens).expect("parts");
        let records = parts.iter().map(|part| run_through(&mut restored(part)).join(" "));
        assert_eq!(records.collect::<Vec<_>>(), ["0 1", "10 11", "20", "30"]);
    }
}

#[test] // O3, K5: keys are the policy's, also of records that were saved under another one
fn a_restore_computes_keys_with_the_policys_function() {
    let mut before = bench(AsyncWait::ordered(9));
    before.push_all([11, 12, 21]);
    let mut b = bench(by_key(9));
    b.op.restore(b.now, &before.snapshot()).expect("a restore");
    b.start();
    assert_eq!(b.running(), [11, 21]);
}

#[test] // O3: keys are the policy's, also where the operator is built when the program is compiled
fn an_operator_in_a_static_has_the_policys_keys() {
    static OP: std::sync::Mutex<Operator<(u32, u32, (), NoRetry, Tens, ()), Fixed<9>>> =
        std::sync::Mutex::new(
            AsyncWait::ordered_by_key(9, (|value| value / 10) as fn(&u32) -> u32)
                .build_static(NoRetry)
                .checkpointed("stage", 1),
        );
    let mut op = OP.lock().expect("no panic");
    for value in [11, 12, 21] {
        op.push(Instant::ZERO, StreamElement::value(value)).expect("room");
    }
    let running = std::iter::from_fn(|| op.poll_attempt(Instant::ZERO).map(|call| *call.input));
    assert_eq!(running.collect::<Vec<_>>(), [11, 21]);
}

#[test] // O3, K1, K8: keys that the engine passes are saved and restored
fn given_keys_survive_a_restore() {
    let build = || {
        let op = AsyncWait::ordered_by_given_key(9).build_core::<u32, u32, ()>();
        op.expect("a sound policy").checkpointed("stage", 1)
    };
    let running = |op: &mut Operator<(u32, u32, (), NoRetry, GivenKey, ()), Heap>| {
        std::iter::from_fn(|| op.poll_attempt(Instant::ZERO).map(|call| *call.input))
            .collect::<Vec<_>>()
    };
    let mut op = build();
    for (key, value) in [(5, 1), (5, 2), (0, 3)] {
        op.push_with_key(Instant::ZERO, key, StreamElement::value(value)).expect("room");
    }
    assert_eq!(running(&mut op), [1, 3]);
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    op.snapshot(Instant::ZERO, &mut checkpoint).expect("a snapshot");
    let mut op = build();
    op.restore(Instant::ZERO, &checkpoint).expect("a restore");
    assert_eq!(running(&mut op), [1, 3]);
}

#[test] // K8, K6: the ids' step grows with every split, beyond any bound.
fn a_part_can_be_split_again_and_again() {
    let mut b = bench(by_key(1));
    b.push_all([7]);
    let mut part = b.snapshot().section("stage").expect("the section").to_vec();
    for _ in 0..10 {
        part = split_snapshot(&part, 256, |_| 255).expect("parts").pop().expect("the last one");
    }
    let mut b = restored(&part);
    let _ = b.ok(7);
    assert_eq!(b.out(), "70");
    b.push_all([8, 9]);
    let _ = b.ok(8);
    assert_eq!(b.out(), "80");
}

fn restored(part: &[u8]) -> Bench<NoRetry, Tens> {
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    checkpoint.put("stage", part).expect("room");
    let mut b = bench(by_key(99));
    b.op.restore(b.now, &checkpoint).expect("a restore");
    b.start();
    b
}

/// Completes everything, the latest first. Returns everything that came out, with inputs in place of outputs.
fn run_through(b: &mut Bench<NoRetry, Tens>) -> Vec<String> {
    let mut story = Vec::new();
    while !b.op.is_empty() {
        if let Some((_, value, _)) = b.running.last().copied() {
            let _ = b.complete(value, Ok(value));
        }
        story.extend(b.out().split_whitespace().map(String::from));
    }
    story
}

// ---- numbers ---------------------------------------------------------------------------------

#[test] // M1
fn the_numbers_add_up() {
    let policy = AsyncWait::ordered(4).timeout(50 * MS).retry(patient(1));
    let mut b = bench(policy);
    b.push_all([1, 2, 3, 4]); // full from now on
    b.pass(3 * MS);
    let _ = (b.fail(1), b.ok(2));
    let (late, _) = b.attempt(3);
    let m = b.op.metrics(b.now);
    assert_eq!((m.in_flight, m.running, m.in_backoff, m.done, m.capacity), (4, 2, 1, 1, 4));
    assert_eq!((m.oldest, m.blocked), (Some(3 * MS), 3 * MS));
    b.pass(10 * MS);
    let _ = (b.ok(1), b.fail(4));
    assert_eq!(b.out(), "10 20");
    b.pass(10 * MS); // 4 is tried again
    b.pass(30 * MS);
    let _ = b.op.handle_completion(b.now, late, Ok(0));
    assert_eq!(b.out(), "3!the call timed out 4!the call timed out");
    let m = b.op.metrics(b.now);
    assert_eq!((m.records_in, m.emitted, m.failed, m.timed_out), (4, 4, 2, 2));
    assert_eq!((m.attempts, m.retried, m.late_completions, m.blocked), (6, 2, 1, 13 * MS));
    assert_eq!((m.in_flight, m.running, m.in_backoff, m.done, m.oldest), (0, 0, 0, 0, None));
    assert_eq!((m.call_time.count(), m.ordering_delay.count()), (4, 4));
    assert!(m.call_time.quantile(0.1) >= 3 * MS && m.call_time.quantile(1.0) >= 50 * MS);
    let waited = m.ordering_delay.quantile(1.0);
    assert!(waited >= 10 * MS && waited < 40 * MS, "record 2 waited 10 ms: {waited:?}");
}

/// A letter and the number of attempts for each record in flight.
fn window<R: RetryStrategy<u32, u32, &'static str>, K>(b: &Bench<R, K>) -> String {
    let cells = b.op.window(b.now).map(|cell| {
        let state = match cell.state {
            CellState::Waiting => 'w',
            CellState::Running => 'r',
            CellState::Backoff => 'b',
            CellState::Done => 'd',
        };
        format!("{state}{}", cell.attempts)
    });
    cells.collect::<Vec<_>>().join(" ")
}

#[test] // M2
fn the_window_shows_each_record_in_the_order_in_which_they_came() {
    let mut b = bench(AsyncWait::ordered(9).max_running(4).retry(patient(1)));
    b.push_all([1, 2, 3, 4, 5]);
    b.pass(3 * MS);
    let _ = (b.fail(2), b.ok(3));
    assert_eq!(window(&b), "r1 b1 d1 r1 r1");
    b.push_all([6, 7]);
    b.pass(10 * MS); // 2 waits to be tried again, behind 7
    assert_eq!(window(&b), "r1 w1 d1 r1 r1 r1 w0");
    let _ = b.ok(6);
    assert_eq!(window(&b), "r1 w1 d1 r1 r1 d1 r1");
    let ages: Vec<_> = b.op.window(b.now + MS).map(|cell| cell.age).collect();
    assert_eq!(ages, [14 * MS, 14 * MS, 14 * MS, 14 * MS, 11 * MS, 11 * MS, MS]);
    assert_eq!(b.op.metrics(b.now + MS).oldest, Some(14 * MS));
}

#[test] // M2, O4: slots that are used again are in the window's order all the same, and so are segments
fn the_window_has_no_order_of_slots() {
    let mut b = bench(AsyncWait::unordered(4));
    b.push_all([1, 2, 3]);
    let _ = b.ok(2);
    assert_eq!(b.out(), "20");
    b.pass(MS);
    assert!(b.mark(5));
    b.push_all([4]); // in the slot of 2
    let _ = (b.ok(1), b.ok(4));
    assert_eq!(window(&b), "d1 r1 d1");
    let ages: Vec<_> = b.op.window(b.now).map(|cell| cell.age).collect();
    assert_eq!(ages, [MS, MS, Duration::ZERO]);
}

#[test] // M2: the oldest records are found among many
fn a_window_shows_the_oldest_records() {
    for policy in [AsyncWait::ordered(10_000), AsyncWait::unordered(10_000)] {
        let mut b = bench(policy);
        // Later records get lower slots, since the slots of the first ones are used again from the last one on.
        b.push_all(0..5000);
        (0..5000).for_each(|record| _ = b.ok(record));
        while b.op.poll_output().is_some() {}
        for age in 0..5000 {
            b.push_all([age]);
            b.now = b.now + MS;
        }
        let ages: Vec<_> = b.op.window(b.now).map(|cell| cell.age).collect();
        assert!(ages.into_iter().eq((0..1024).map(|record| (5000 - record) * MS)));
    }
}

#[test] // M1, T3: a failure counts when the call ends, not when its outcome leaves
fn a_failure_behind_a_slow_head_is_counted_at_once() {
    let failures = |b: &Bench<NoRetry>| {
        let m = b.op.metrics(b.now);
        [m.failed, m.timed_out, m.emitted]
    };
    let mut b = bench(AsyncWait::ordered(9).timeout(MS));
    b.push_all([1, 2]);
    let _ = b.fail(2);
    assert_eq!(failures(&b), [1, 0, 0]);
    b.now = b.now + MS;
    let expired = b.op.handle_deadline(b.now).expect("time is up for the first");
    assert_eq!(failures(&b), [2, 1, 0]);
    assert!(b.op.resolve_timeout(expired.id(), |_| TimeoutAction::Output(7)));
    assert_eq!(failures(&b), [1, 0, 0], "it has not failed after all");
    assert_eq!(b.out(), "7 2!no");
    assert_eq!(failures(&b), [1, 0, 2]);
}

#[test] // M1, O3, C7: records wait for their key, or for the limit of running attempts
fn waiting_records_are_counted() {
    let mut b = bench(by_key(9).max_running(2));
    b.push_all([11, 12, 13, 21, 31]);
    let m = b.op.metrics(b.now);
    assert_eq!((m.in_flight, m.running, m.waiting()), (5, 2, 3), "12 and 13 for 11, 31 for both");
    let _ = b.ok(11);
    let m = b.op.metrics(b.now);
    assert_eq!((m.in_flight, m.running, m.done, m.waiting()), (5, 2, 1, 2));
    assert_eq!(Metrics::default().waiting(), 0);
}

#[test] // K5, R2: a process that is killed often does not use up its calls' retries.
fn an_attempt_that_a_crash_interrupts_has_not_failed() {
    let policy = AsyncWait::ordered(1).retry(ExponentialBackoff::new(10 * MS).max_retries(1));
    let mut b = bench(policy);
    b.push_all([1]);
    for crashes in 1..=5 {
        let checkpoint = b.snapshot();
        b = bench(policy);
        b.op.restore(b.now, &checkpoint).expect("a restore");
        b.start();
        let (_, told) = b.attempt(1);
        assert_eq!((told.number, told.retry), (crashes + 1, 0));
    }
    assert_eq!(b.fail(1), Completion::Retry);
    assert_eq!(
        b.op.poll_deadline(),
        Some(Instant::ZERO + 10 * MS),
        "the first delay, not the sixth"
    );
    b.pass(10 * MS);
    assert_eq!((b.attempt(1).1.number, b.attempt(1).1.retry), (7, 1));
    assert_eq!(b.fail(1), Completion::Outcome);
    assert_eq!(b.outcome().attempts, 7);
}

#[test] // K5, R2: the snapshot counts up to 255 interruptions; further ones count as failed attempts.
fn interruptions_beyond_the_counters_range_count_as_failed() {
    let policy = AsyncWait::ordered(1).retry(ExponentialBackoff::new(10 * MS).max_retries(1));
    let mut b = bench(policy);
    b.push_all([1]);
    let mut told = Vec::new();
    for _ in 1..=258 {
        let checkpoint = b.snapshot();
        b = bench(policy);
        b.op.restore(b.now, &checkpoint).expect("a restore");
        b.start();
        told.push(b.attempt(1).1.retry);
    }
    assert_eq!(told[253..], [0, 0, 1, 2, 3]);
}

#[test] // M1
fn the_time_without_room_begins_and_ends_with_the_last_slot() {
    let mut b = bench(AsyncWait::ordered(3));
    b.push_all([1, 2]);
    b.pass(5 * MS);
    assert_eq!(b.op.metrics(b.now).blocked, Duration::ZERO);
    b.push_all([3]);
    b.pass(3 * MS);
    b.op.set_capacity(1).expect("a sound capacity");
    let _ = (b.ok(1), b.ok(2));
    assert_eq!(b.out(), "10 20");
    b.pass(4 * MS);
    assert_eq!(b.op.metrics(b.now).blocked, 7 * MS, "one is left, and one is the capacity");
    let _ = b.ok(3);
    assert_eq!(b.out(), "30");
    b.pass(9 * MS);
    assert_eq!(b.op.metrics(b.now).blocked, 7 * MS);
}

#[test] // M1, C8
fn the_time_without_room_begins_and_ends_with_the_capacity() {
    let mut b = bench(AsyncWait::ordered(3));
    b.push_all([1, 2]);
    let mut change = |capacity, blocked: u32| {
        b.op.set_capacity(capacity).expect("a sound capacity");
        b.pass(MS);
        assert_eq!(b.op.metrics(b.now).blocked, blocked * MS, "with capacity {capacity}");
    };
    change(3, 0);
    change(2, 1);
    change(1, 2);
    change(3, 2);
    change(3, 2);
    change(2, 3);
}

#[test] // K5, L3: restored records that have no slot yet are shut down like the others.
fn a_shutdown_also_fails_restored_records_without_a_slot() {
    let mut before = bench(AsyncWait::ordered(3));
    before.push_all([1, 2, 3]);
    before.mark(5);
    let checkpoint = before.snapshot();
    for shut_down_first in [false, true] {
        let mut b = bench(AsyncWait::ordered(1));
        if shut_down_first {
            b.op.shut_down(b.now);
        }
        b.op.restore(b.now, &checkpoint).expect("a restore");
        if !shut_down_first {
            b.op.shut_down(b.now);
        }
        let story = b.out().replace("the stage was shut down", "shut");
        assert_eq!(story, "1!shut 2!shut 3!shut W5");
        assert!(b.running.is_empty() && b.op.is_empty());
        assert_eq!(b.op.metrics(b.now).attempts, 0);
    }
}

#[test] // K8: an instance that is idle does not hold the merged watermark back.
fn an_idle_instance_does_not_hold_the_watermark_back() {
    let mut idle = bench(AsyncWait::unordered(9));
    idle.push_element(StreamElement::Status(Status::Idle));
    assert_eq!(idle.out(), "Idle");
    idle.push_all([1]);
    let mut active = bench(AsyncWait::unordered(9));
    active.mark(5);
    assert_eq!(active.out(), "W5");
    active.push_all([2]);
    active.mark(9);
    let parts = [idle.snapshot(), active.snapshot()];
    let merged = merge_snapshots(parts.iter().filter_map(|part| part.section("stage")));
    let mut b = restored(&merged.expect("one again"));
    assert!(run_through(&mut b).contains(&String::from("W9")));
}

#[test] // K3, C4: a barrier that is refused comes back as it was, and can be pushed again.
fn a_drain_barrier_that_is_refused_is_unchanged() {
    let mut b = bench(AsyncWait::ordered(1));
    b.push_all([1]);
    b.mark(1);
    let barrier = StreamElement::Barrier(Barrier::drain(Checkpoint::new(CheckpointId(2))));
    let Err(PushError::Full(StreamElement::Barrier(barrier))) = b.op.push(b.now, barrier) else {
        panic!()
    };
    assert_eq!(barrier.checkpoint.sections().count(), 0);
    let _ = b.ok(1);
    assert_eq!(b.out(), "10 W1");
    assert!(b.push_element(StreamElement::Barrier(barrier)));
    let Some(StreamElement::Barrier(barrier)) = b.op.poll_output() else { panic!() };
    assert_eq!(barrier.checkpoint.failure(), Ok(()));
    assert!(barrier.checkpoint.section("stage").is_some());
}

/// The section that `checkpointed("stage", 1)` saves for an operator with this record alone.
fn saved(value: u32) -> Vec<u8> {
    let mut op = AsyncWait::ordered(4)
        .build_core::<u32, u32, ()>()
        .expect("a sound policy")
        .checkpointed("stage", 1);
    op.push(Instant::ZERO, StreamElement::value(value)).expect("room");
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    op.snapshot(Instant::ZERO, &mut checkpoint).expect("a snapshot");
    checkpoint.section("stage").expect("it was saved").to_vec()
}

/// An operator with one slot that has restored `checkpoint`, the id of its first attempt, which has timed out, and the present. The
/// record has left.
fn after_its_first_record(
    checkpoint: &Checkpoint,
) -> (Operator<(u32, u32, (), NoRetry, Unkeyed, ()), Heap>, AttemptId, Instant) {
    let mut op = AsyncWait::ordered(1)
        .timeout(1000 * MS)
        .build_core::<u32, u32, ()>()
        .expect("a sound policy")
        .checkpointed("stage", 1);
    op.restore(Instant::ZERO, checkpoint).expect("a restore");
    let first = op.poll_attempt(Instant::ZERO).expect("a call").id;
    let now = op.poll_deadline().expect("a timeout");
    assert!(op.handle_deadline(now).is_some() && op.poll_output().is_some());
    (op, first, now)
}

#[test] // T5: two instances have used the same request ids, and their records use one slot after the other.
fn records_of_merged_checkpoints_have_distinct_attempt_ids() {
    let (one, other) = (saved(10), saved(20));
    let whole = merge_snapshots([one.as_slice(), other.as_slice()]).expect("they fit");
    let mut checkpoint = Checkpoint::new(CheckpointId(2));
    checkpoint.put("stage", &whole).expect("room");
    let (mut op, first, now) = after_its_first_record(&checkpoint);
    let second = op.poll_attempt(now).expect("a call").id;
    assert_eq!(op.handle_completion(now, first, Ok(10)), Completion::Late);
    assert_eq!(op.handle_completion(now, second, Ok(20)), Completion::Outcome);
}

#[test] // T5
fn a_record_that_is_restored_twice_has_two_attempt_ids() {
    let mut checkpoint = Checkpoint::new(CheckpointId(2));
    checkpoint.put("stage", &saved(10)).expect("room");
    let (mut op, first, now) = after_its_first_record(&checkpoint);
    op.restore(now, &checkpoint).expect("a restore");
    let second = op.poll_attempt(now).expect("a call").id;
    assert_eq!(op.handle_completion(now, first, Ok(10)), Completion::Late);
    assert_eq!(op.handle_completion(now, second, Ok(20)), Completion::Outcome);
}
