//! Timeouts of the records' own (T9), and what takes no time of a call (C5).

use super::*;

/// Even records have a timeout of their own, as many milliseconds as they are.
fn own_timeout(record: &u32) -> Option<Duration> {
    record.is_multiple_of(2).then_some(*record * MS)
}

#[test] // T9
fn a_timeout_of_the_records_own_replaces_the_stages() {
    let mut b = bench(AsyncWait::unordered(8).timeout(10 * MS).timeout_by(own_timeout));
    b.push([30, 1, 2, 3, 0]);
    assert_eq!(b.start(), [30, 1, 2, 3, 0]);
    let left = [30, 1, 2, 3, 0].map(|record| b.time_left(record).map(|left| left.as_millis()));
    assert_eq!(left, [30, 10, 2, 10, 0].map(Some));
    assert_eq!(b.judge(), [(0, true)]);
    assert_eq!(b.due_in(), Some(2));
    b.pass(2);
    assert_eq!(b.judge(), [(2, true)]);
    b.pass(8);
    let mut over = b.judge();
    over.sort_unstable();
    assert_eq!(over, [(1, true), (3, true)]);
    assert_eq!(b.due_in(), Some(20));
    b.pass(20);
    assert_eq!(b.judge(), [(30, true)]);
}

#[test] // T9: without one of the stage's
fn a_record_may_be_the_only_one_with_a_timeout() {
    let mut b = bench(AsyncWait::unordered(8).timeout_by(own_timeout));
    b.push([1]);
    assert_eq!((b.start(), b.due_in(), b.time_left(1)), (vec![1], None, None));
    b.push([2]);
    assert_eq!((b.start(), b.due_in()), (vec![2], Some(2)));
}

#[test] // T9, T1: all attempts and backoffs
fn a_timeout_of_the_records_own_bounds_the_whole_call() {
    let mut b = bench(AsyncWait::unordered(8).timeout_by(own_timeout).retry(retry(3)));
    b.push([10]);
    assert_eq!(b.start(), [10]);
    b.pass(1);
    b.fail(10);
    assert_eq!(b.next_start(), (3, vec![10]));
    assert_eq!(b.time_left(10), Some(6 * MS));
    b.pass(5);
    b.fail(10);
    assert_eq!(b.due_in(), Some(1), "in its backoff");
    b.pass(1);
    assert_eq!(b.judge(), [(u32::MAX, true)]);
    assert_eq!(b.outcome().elapsed, 10 * MS);
}

#[test] // T9, K5, A2
fn a_timeout_of_the_records_own_counts_on_after_a_restore_and_a_pause() {
    let policy = AsyncWait::unordered(8).timeout_by(own_timeout).retry(retry(50));
    let mut b = bench(policy);
    b.push([20]);
    assert_eq!(b.start(), [20]);
    b.pass(5);
    b.fail(20);
    let mut next = b.restored_into(policy, None);
    assert_eq!(next.due_in(), Some(15));
    next.pass(5);
    next.op.pause(next.now);
    next.pass(10);
    next.op.resume(next.now);
    assert_eq!(next.due_in(), Some(10));
}

#[test] // T9
fn of_two_functions_the_last_one_decides() {
    let ones = |record: &u32| (*record == 1).then_some(MS);
    let mut b = bench(AsyncWait::unordered(8).timeout_by(|_: &u32| Some(5 * MS)).timeout_by(ones));
    b.push([1, 2]);
    assert_eq!(b.start(), [1, 2]);
    assert_eq!([1, 2].map(|record| b.time_left(record)), [Some(MS), Some(5 * MS)]);
}

#[test] // C5, C7: the queue behind a limit, before a second attempt
fn waiting_for_others_takes_no_time_of_a_call() {
    let mut b = bench(AsyncWait::unordered(8).max_running(1).timeout(10 * MS).retry(retry(2)));
    b.push([1, 2]);
    assert_eq!(b.start(), [1]);
    b.pass(3);
    b.fail(1);
    assert_eq!(b.start(), [2]);
    b.pass(8);
    assert_eq!(b.judge(), []);
    assert_eq!(b.due_in(), Some(2), "the second call's");
    let _ = b.end(2, Ok(20));
    assert_eq!(b.start(), [1]);
    assert_eq!(b.time_left(1), Some(5 * MS), "three of an attempt and two of a backoff");
}
