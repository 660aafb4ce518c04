//! Pauses that an error asks for (A2).

use super::*;

#[test] // A2: one `Retry-After` for all
fn a_mistake_holds_back_everybody_for_as_long_as_it_says() {
    let policy = AsyncWait::unordered(8).timeout(100 * MS).retry(retry(1)).pause_on(retry_after);
    let mut b = bench(policy);
    b.push([1, 2, 3]);
    assert_eq!(b.start(), [1, 2, 3]);
    assert_eq!(b.end(1, Err(Some(40))), Completion::Retry);
    b.push([4]);
    assert!(b.op.is_paused());
    assert_eq!(b.start(), []);
    // What runs goes on, and a mistake that says nothing changes nothing.
    let _ = b.end(2, Ok(20));
    b.pass(1);
    b.fail(3);
    b.pass(38);
    assert_eq!((b.judge(), b.start(), b.due_in()), (vec![], vec![], Some(1)));
    b.pass(1);
    assert_eq!(b.judge(), []);
    assert!(!b.op.is_paused());
    assert_eq!(b.start(), [4, 1, 3]);
    assert_eq!(b.time_left(1), Some(100 * MS), "no time has passed, and no retry but its own");
    assert!(b.running.iter().all(|(_, record, info)| (info.retry == 0) == (*record == 4)));
}

#[test] // A2: an earlier end changes nothing, a later one does
fn of_several_pauses_the_one_that_ends_last_counts() {
    let mut b = bench(AsyncWait::unordered(8).retry(retry(1)).pause_on(retry_after));
    b.push([1, 2, 3, 4]);
    assert_eq!(b.start(), [1, 2, 3, 4]);
    let _ = b.end(1, Err(Some(30)));
    let _ = b.end(2, Err(Some(10)));
    b.pass(20);
    assert_eq!((b.judge(), b.start()), (vec![], vec![]));
    let _ = b.end(3, Err(Some(20)));
    b.pass(10);
    assert_eq!((b.judge(), b.start(), b.due_in()), (vec![], vec![], Some(10)));
    b.pass(10);
    assert_eq!((b.judge(), b.start()), (vec![], vec![1, 2, 3]));
    // Two parts that ask: the longer pause counts.
    let twice =
        AsyncWait::unordered(8).pause_on(retry_after).pause_on(|_: &Failure<Refused>| Some(7 * MS));
    let mut b = bench(twice);
    b.push([1, 2]);
    assert_eq!(b.start(), [1, 2]);
    let _ = b.end(1, Err(None));
    assert_eq!(b.due_in(), Some(7));
    let _ = b.end(2, Err(Some(9)));
    assert_eq!(b.due_in(), Some(9));
}

#[test] // A2: each kind of pause is ended by who has begun it
fn a_resume_does_not_end_a_pause_that_a_mistake_has_asked_for() {
    let mut b = bench(AsyncWait::unordered(8).retry(retry(1)).pause_on(retry_after));
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.op.pause(b.now);
    let _ = b.end(1, Err(Some(10)));
    b.op.resume(b.now);
    assert!(b.op.is_paused());
    b.op.pause(b.now);
    b.pass(10);
    assert_eq!((b.judge(), b.start()), (vec![], vec![]));
    assert_eq!(b.due_in(), None, "only a resume ends this");
    b.op.resume(b.now);
    assert_eq!(b.start(), [1]);
}

#[test] // A2, T2, T3: an attempt that the timeout has cancelled has failed, and a call in backoff has no attempt that could
fn a_timeout_can_ask_for_a_pause() {
    let on_timeout = |failure: &Failure<Refused>| failure.is_timeout().then_some(5 * MS);
    let policy = AsyncWait::ordered(8).timeout(10 * MS).pause_on(on_timeout);
    let mut b = bench(policy.attempt_timeout(6 * MS).retry(retry(1)));
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.pass(6);
    assert_eq!(b.judge(), [(1, false)]);
    assert!(b.op.is_paused());

    let mut b = bench(policy);
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.pass(10);
    assert_eq!((b.judge(), b.op.is_paused()), (vec![(1, true)], true));

    let mut b = bench(policy.retry(retry(50)));
    b.push([1]);
    assert_eq!(b.start(), [1]);
    b.fail(1);
    b.pass(10);
    assert_eq!((b.judge(), b.op.is_paused()), (vec![(u32::MAX, true)], false));
}

#[test] // A2, T1: nobody has looked at the clock for a while
fn a_pause_ends_when_it_ends_and_not_when_that_is_noticed() {
    let policy = AsyncWait::unordered(8).timeout(30 * MS).retry(retry(100));
    let mut b = bench(policy.pause_on(retry_after));
    b.push([1, 2]);
    assert_eq!(b.start(), [1, 2]);
    b.pass(5);
    let _ = b.end(1, Err(Some(10)));
    b.push([3]);
    b.pass(20);
    assert_eq!(b.start(), [3]);
    assert_eq!(b.due_in(), Some(5), "the second call's, which runs");
    let _ = b.end(2, Ok(20));
    assert_eq!(b.due_in(), Some(15), "of the first one's thirty five and ten have passed");
    // Nor does another pause begin before it is asked for.
    let _ = b.end(3, Err(Some(1)));
    b.pass(51);
    assert_eq!(b.judge(), [(u32::MAX, true), (u32::MAX, true)]);
    assert_eq!(b.due_in(), None);
}

#[test] // A2
fn a_pause_of_no_time_is_none() {
    let mut b = bench(AsyncWait::unordered(8).pause_on(retry_after));
    b.push([1, 2]);
    assert_eq!(b.start(), [1, 2]);
    let _ = b.end(1, Err(Some(0)));
    assert!(!b.op.is_paused());
}
