//! Pauses by hand (A2).

use super::*;

#[test] // A2: from outside
fn in_a_pause_no_attempt_starts_in_any_way() {
    let mut b = bench(AsyncWait::unordered(4).retry(retry(1)));
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.op.pause(b.now);
    b.push([2]);
    let attempt = b.op.push_start(b.now, StreamElement::value(3)).expect("records are taken in");
    assert!(attempt.is_none() && b.op.is_paused());
    b.op.set_max_running(3).expect("it makes sense");
    assert_eq!(b.start(), [], "nor when a limit changes");
    // What runs goes on, with its retries, and outcomes leave.
    b.fail(1);
    b.pass(1);
    assert_eq!((b.judge(), b.start()), (vec![], vec![]));
    b.op.resume(b.now);
    assert_eq!(b.start(), [2, 3, 1], "in the order in which they began to wait");
    let _ = b.end(2, Ok(20));
    assert_eq!(b.outcome().result, Ok(20));
}

#[test] // A2: an outcome leaves also in a pause, and makes room
fn a_paused_operator_hands_on_and_takes_in() {
    let mut b = bench(AsyncWait::ordered(1));
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.op.pause(b.now);
    let _ = b.end(1, Ok(10));
    assert_eq!(b.op.room(b.now), 0);
    assert_eq!(b.outcome().result, Ok(10));
    assert_eq!(b.op.room(b.now), 1);
    b.push([2]);
    assert_eq!(b.start(), []);
}

#[test] // A2, F4
fn pauses_do_not_add_up() {
    let mut b = bench(AsyncWait::ordered(4));
    b.op.resume(b.now);
    assert!(!b.op.is_paused());
    b.op.pause(b.now);
    b.op.pause(b.now);
    b.op.resume(b.now);
    assert!(!b.op.is_paused());
    b.op.resume(b.now);
    b.push([1]);
    assert_eq!(b.start(), [1]);
}

#[test] // A2, C5: a record that waits for its first attempt has its whole time afterwards
fn no_time_passes_for_a_record_that_has_not_started() {
    let mut b = bench(AsyncWait::ordered(4).timeout(10 * MS));
    b.op.pause(b.now);
    b.push([1]);
    assert_eq!(b.due_in(), None);
    b.pass(3_600_000);
    assert_eq!(b.judge(), []);
    b.op.resume(b.now);
    assert_eq!(b.start(), [1]);
    assert_eq!(b.time_left(1), Some(10 * MS));
    b.pass(10);
    assert_eq!(b.judge(), [(1, true)]);
    assert_eq!(b.outcome().elapsed, 10 * MS);
}

#[test] // A2: the backoff outlasts the pause
fn the_time_of_a_call_in_backoff_stands_still() {
    let mut b = bench(AsyncWait::ordered(4).timeout(10 * MS).retry(retry(50)));
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.pass(4);
    b.fail(1);
    b.op.pause(b.now);
    b.pass(30);
    assert_eq!(b.judge(), []);
    assert_eq!(b.due_in(), Some(20), "the backoff passes");
    b.op.resume(b.now);
    assert_eq!(b.due_in(), Some(6), "of ten four were taken");
    b.pass(6);
    assert_eq!(b.judge(), [(u32::MAX, true)]);
    let outcome = b.outcome();
    assert_eq!(
        (outcome.result, outcome.attempts, outcome.elapsed),
        (Err(Failure::TimedOut), 1, 10 * MS)
    );
}

#[test] // A2: the backoff begins in the pause and outlasts it
fn a_backoff_that_begins_in_a_pause_takes_only_the_time_after_it() {
    let mut b = bench(AsyncWait::ordered(4).timeout(100 * MS).retry(retry(50)));
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.op.pause(b.now);
    b.pass(10); // the attempt runs on, and this counts
    b.fail(1);
    b.pass(20);
    b.op.resume(b.now);
    b.pass(30);
    assert_eq!(b.judge(), []);
    assert_eq!(b.start(), [1]);
    assert_eq!(
        b.time_left(1),
        Some(60 * MS),
        "ten ran, and thirty of the backoff were not in the pause"
    );
}

#[test] // A2, F1: without a timeout the outcome tells the same time
fn a_pause_is_no_time_spent() {
    let mut b = bench(AsyncWait::ordered(4).retry(retry(50)));
    b.push([1, 2]);
    assert_eq!(b.start(), [1, 2]);
    b.fail(1);
    b.pass(5);
    b.op.pause(b.now);
    b.pass(10);
    b.fail(2);
    b.pass(10);
    b.op.resume(b.now);
    assert_eq!(b.next_start(), (25, vec![1]));
    assert_eq!(b.next_start(), (15, vec![2]));
    let _ = (b.end(1, Ok(1)), b.end(2, Ok(2)));
    // Fifty of backoff, of which twenty were in the pause, and fifteen of the second attempt.
    assert_eq!(b.outcome().elapsed, 45 * MS);
    // Fifteen of an attempt, and forty of backoff after the pause.
    assert_eq!(b.outcome().elapsed, 55 * MS);
}

#[test] // A2: backoffs pass, and no retry is used up by waiting
fn backoffs_that_end_in_a_pause_start_after_it_in_their_order() {
    let mut b = bench(AsyncWait::unordered(4).timeout(10 * MS).retry(retry(3)));
    b.push([1, 2, 3]);
    assert_eq!(b.start(), [1, 2, 3]);
    b.fail(3);
    b.pass(1);
    b.fail(1);
    b.op.pause(b.now);
    b.pass(1);
    b.fail(2);
    b.pass(100);
    b.op.resume(b.now);
    assert_eq!(b.judge(), []);
    assert_eq!(b.start(), [3, 1, 2]);
    assert_eq!([3, 1, 2].map(|record| b.time_left(record)), [9, 9, 8].map(|left| Some(left * MS)));
    assert!(b.running.iter().all(|(.., info)| info.number == 2));
}

#[test] // A2: nobody has looked at the clock in the pause
fn a_deadline_from_before_a_pause_ends_no_backoff() {
    let mut b = bench(AsyncWait::ordered(4).timeout(10 * MS).retry(retry(100)));
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.fail(1);
    b.pass(5);
    b.op.pause(b.now);
    b.pass(15);
    b.op.resume(b.now);
    assert_eq!(b.start(), [], "its backoff has 80 ms to go");
    assert_eq!(b.due_in(), Some(5), "and its call 5 ms");
}

#[test] // A2, T2: it times out as ever, whatever the clock says
fn the_end_of_a_pause_leaves_running_attempts_alone() {
    let at_once = |_: &u32| Some(Duration::ZERO);
    let mut b = bench(AsyncWait::ordered(4).timeout_by(at_once));
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.op.pause(b.now);
    b.op.resume(b.now);
    assert_eq!((b.op.running(), b.start()), (1, vec![]));
    assert_eq!(b.judge(), [(1, true)]);

    let mut b = bench(AsyncWait::ordered(4).timeout(10 * MS).attempt_timeout(5 * MS));
    b.push([1, 2]);
    assert_eq!(b.start(), [1, 2]);
    b.op.pause(b.now);
    b.pass(5);
    assert_eq!(b.judge(), [(1, false), (2, false)]);
}

#[test] // A2, K5: it is restored in backoff into an operator that is paused already
fn a_record_restored_in_a_pause_has_all_of_its_time() {
    let policy = AsyncWait::ordered(4).timeout(10 * MS).retry(retry(50));
    let mut b = bench(policy);
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.pass(4);
    b.fail(1);
    let mut next = b.restored_into(policy, Some(7));
    next.pass(20);
    next.op.resume(next.now);
    assert_eq!(next.due_in(), Some(6));
}

#[test] // K1, A2: a snapshot holds no pause, and no time that stood still
fn a_snapshot_in_a_pause_holds_the_time_before_it() {
    let policy = AsyncWait::ordered(4).timeout(10 * MS).retry(retry(50));
    let mut b = bench(policy);
    b.push([1, 2]);
    assert_eq!(b.start(), [1, 2]);
    b.pass(4);
    b.fail(1);
    b.op.pause(b.now);
    b.pass(3);
    b.fail(2);
    b.pass(20);
    let mut next = b.restored_into(policy, None);
    assert!(!next.op.is_paused());
    assert_eq!(next.due_in(), Some(3), "the second one ran in the pause");
    next.pass(3);
    assert_eq!(next.judge(), [(u32::MAX, true)]);
    assert_eq!(next.due_in(), Some(3));
}

#[test] // K1, C5: nobody has looked at the clock since its backoff was over
fn a_snapshot_holds_no_time_after_a_backoff() {
    let policy = AsyncWait::ordered(4).timeout(30 * MS).retry(retry(5));
    let mut b = bench(policy);
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.fail(1);
    b.pass(25);
    let mut next = b.restored_into(policy, None);
    assert_eq!((next.judge(), next.start()), (vec![], vec![1]));
    assert_eq!(next.time_left(1), Some(25 * MS));
}

#[test] // L3, A2
fn a_shutdown_in_a_pause_fails_everything() {
    let mut b = bench(AsyncWait::ordered(4).retry(retry(5)));
    b.push([1, 2, 3]);
    let running: Vec<_> =
        (0..2).map(|_| b.op.poll_attempt(b.now).map(|attempt| attempt.id)).collect();
    b.pass(3);
    let _ = b.op.handle_completion(b.now, running[0].expect("it runs"), Err(Failure::Error(None)));
    b.op.pause(b.now);
    b.pass(10);
    b.op.shut_down(b.now);
    for elapsed in [3, 13, 0] {
        let outcome = b.outcome();
        assert_eq!((outcome.result, outcome.elapsed), (Err(Failure::ShutDown), elapsed * MS));
    }
    assert!(b.op.is_empty());
    b.op.resume(b.now);
    assert_eq!(b.start(), []);
}

#[test] // R5, A2
fn a_last_attempt_waits_for_the_end_of_a_pause() {
    let policy = AsyncWait::ordered(4).finish_policy(FinishPolicy::LastAttempt).timeout(10 * MS);
    let mut b = bench(policy.retry(retry(50)));
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.pass(2);
    b.fail(1);
    b.op.pause(b.now);
    b.op.finish(b.now);
    b.pass(20);
    assert_eq!((b.judge(), b.start()), (vec![], vec![]));
    b.op.resume(b.now);
    assert_eq!(b.start(), [1]);
    assert_eq!(b.time_left(1), Some(8 * MS));
    assert_eq!(b.end(1, Err(None)), Completion::Outcome);
}

#[test] // A2, T4: nobody has looked at the clock before the pause
fn a_deadline_that_has_passed_before_a_pause_has_passed() {
    for in_pause in [false, true] {
        let mut b = bench(AsyncWait::ordered(4).timeout(10 * MS).retry(retry(30)));
        b.push([1]);
        assert_eq!(b.start(), [1]);
        b.fail(1);
        b.pass(12);
        b.op.pause(b.now);
        b.pass(50);
        if !in_pause {
            b.op.resume(b.now);
        }
        assert_eq!(b.judge(), [(u32::MAX, true)]);
    }
}
