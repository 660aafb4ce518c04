//! Rates at which attempts start (A2).

use super::*;

#[test] // A2
fn attempts_start_at_the_rate() {
    // One token in 5 ms, and two at once.
    let policy = AsyncWait::unordered(8).rate(Rate::per(20 * MS, 4).burst(2));
    let mut b = bench(policy);
    let at_once = b.op.push_start(b.now, StreamElement::value(0)).expect("there is room");
    let started = at_once.is_some();
    b.push(1..5);
    let first = b.start();
    assert_eq!(first.len() + usize::from(started), 2);
    assert_eq!(b.due_in(), Some(5));
    assert_eq!(b.next_start(), (5, vec![2]));
    assert_eq!(b.next_start(), (5, vec![3]));
    // After a quiet time there is a burst again, and no more than that.
    b.pass(4);
    assert_eq!(b.start(), []);
    b.pass(100);
    assert_eq!(b.start(), [4]);
    b.push([5, 6]);
    assert_eq!(b.start(), [5]);
    assert_eq!(b.next_start(), (5, vec![6]));
}

#[test] // A2, T8: to the nanosecond, also where a token does not come after a whole number of them
fn a_rate_is_never_exceeded() {
    let third = Duration::from_nanos(10);
    let mut b = bench(AsyncWait::unordered(8).rate(Rate::per(third, 3).burst(1)));
    b.push([1, 2]);
    assert_eq!(b.start(), [1]);
    assert_eq!(b.op.poll_deadline(), Some(Instant::from_nanos(4)));
    b.now = Instant::from_nanos(3);
    assert_eq!(b.start(), []);
    b.now = Instant::from_nanos(4);
    assert_eq!(b.start(), [2]);
}

#[test] // A2: each attempt takes a token, and each time it starts
fn retries_take_tokens_too() {
    let mut b = bench(AsyncWait::unordered(8).rate(Rate::per(10 * MS, 1)).retry(retry(1)));
    b.push([1, 2]);
    assert_eq!(b.start(), [1]);
    b.fail(1);
    assert_eq!(b.next_start(), (10, vec![2]), "it has waited longer");
    assert_eq!(b.next_start(), (10, vec![1]));
}

#[test] // A2, C5, T1: neither before the first attempt nor before the second
fn waiting_for_the_rate_takes_no_time_of_a_call() {
    let policy = AsyncWait::ordered(8).rate(Rate::per(100 * MS, 1)).timeout(10 * MS);
    let mut b = bench(policy.retry(retry(1)));
    b.push([1, 2]);
    assert_eq!(b.start(), [1]);
    b.pass(4);
    b.fail(1);
    assert_eq!(b.next_start(), (96, vec![2]));
    assert_eq!(b.time_left(2), Some(10 * MS));
    let _ = b.end(2, Ok(20));
    assert_eq!(b.next_start(), (100, vec![1]));
    assert_eq!(b.time_left(1), Some(5 * MS), "four of an attempt and one of a backoff");
    let _ = b.end(1, Ok(10));
    assert_eq!(b.outcome().elapsed, 5 * MS);
    assert_eq!(b.outcome().elapsed, Duration::ZERO);
}

#[test] // A2: by what a record weighs, the record that has waited longest first
fn a_heavy_record_is_paid_for_and_not_overtaken() {
    let weight = |record: &u32| u64::from(*record);
    let mut b = bench(AsyncWait::unordered(8).rate_by(Rate::per(10 * MS, 10).burst(5), weight));
    b.push([3, 4, 1, 12, 0, 1]);
    assert_eq!(b.start(), [3]);
    assert_eq!(
        b.next_start(),
        (2, vec![4]),
        "two tokens are missing, though there is one for the third"
    );
    assert_eq!(b.next_start(), (1, vec![1]));
    assert_eq!(b.next_start(), (5, vec![12]), "for more than the bucket holds it has to be full");
    assert_eq!(b.next_start(), (7, vec![0]), "which takes no token, and none may be owed");
    assert_eq!(b.next_start(), (1, vec![1]));
}

#[test] // A2
fn two_rates_hold_both() {
    let policy = AsyncWait::unordered(8).rate(Rate::per(10 * MS, 1)).rate(Rate::per(100 * MS, 2));
    let mut b = bench(policy);
    b.push([1, 2, 3, 4]);
    assert_eq!(b.start(), [1]);
    assert_eq!(b.next_start(), (10, vec![2]));
    assert_eq!(b.next_start(), (40, vec![3]));
    assert_eq!(b.next_start(), (50, vec![4]));
}

#[test] // A2, C7, T7: the timer is not armed for a rate when something else is in the way
fn a_rate_is_no_deadline_for_what_could_not_start() {
    let rate = Rate::per(10 * MS, 1);
    let mut b = bench(AsyncWait::unordered(8).rate(rate).max_running(1));
    b.push([1, 2]);
    assert_eq!(b.start(), [1]);
    assert_eq!(b.due_in(), None);
    let _ = b.end(1, Ok(10));
    assert_eq!(b.due_in(), Some(10));
    b.op.pause(b.now);
    assert_eq!(b.due_in(), None);
    b.pass(10);
    b.op.resume(b.now);
    assert_eq!((b.start(), b.due_in()), (vec![2], None), "tokens come in a pause");
}

#[test] // C1
fn senseless_rates_are_refused() {
    let (some, none) = (Duration::from_secs(1), Duration::ZERO);
    for rate in [Rate::per(none, 1), Rate::per(some, 0).burst(1), Rate::per(some, 1).burst(0)] {
        let first = AsyncWait::ordered(4).rate(rate);
        assert_eq!(first.build_fixed::<u32, u32, Refused, 4>().err(), Some(ConfigError::ZeroRate));
        let second = AsyncWait::ordered(4)
            .rate(Rate::per(some, 1))
            .rate_by(rate, |_: &u32| 1)
            .timeout_by(|_: &u32| None);
        assert_eq!(second.build_fixed::<u32, u32, Refused, 4>().err(), Some(ConfigError::ZeroRate));
    }
}
