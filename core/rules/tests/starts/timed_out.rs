//! What the handler of a timeout is told, and what it may answer (F5).

use super::*;

/// What the handler is told of the call that has just timed out.
type Told = (u32, u32, Option<Result<u32, Failure<Refused>>>);

fn told(call: &TimedOutCall<'_, u32, u32, Refused>) -> Told {
    (*call.input, call.attempts, call.last.copied())
}

#[test] // F5
fn the_handler_is_told_of_the_last_attempt_that_has_ended() {
    let mut b = bench(AsyncWait::unordered(8).timeout(10 * MS).retry(retry(3)));
    b.push([1, 2]);
    assert_eq!(b.start(), [1, 2]);
    for mistake in [Some(7), Some(8)] {
        let _ = b.end(1, Err(mistake));
        b.next_start();
    }
    b.pass(4);
    let mut seen = Vec::new();
    while let Some(expired) = b.op.handle_deadline(b.now) {
        let Expired::Call(id) = expired else { panic!("{expired:?}") };
        let resolved = b.op.resolve_timeout(id, |call| {
            seen.push((told(&call), call.last_error().copied()));
            TimeoutAction::FailWith(Some(9))
        });
        assert!(resolved);
        assert!(!b.op.resolve_timeout(id, |_| TimeoutAction::Drop), "once");
    }
    seen.sort_unstable_by_key(|(told, _)| told.0);
    let last = Some(Err(Failure::Error(Some(8))));
    assert_eq!(seen, [((1, 3, last), Some(Some(8))), ((2, 1, None), None)]);
    assert_eq!([b.outcome().result, b.outcome().result], [Err(Failure::Error(Some(9))); 2]);
    let numbers = b.op.metrics(b.now);
    assert_eq!((numbers.failed, numbers.timed_out), (2, 2), "they have timed out all the same");
}

#[test] // F5: the last attempt has ended with an output, or with a timeout of its own
fn the_handler_is_told_of_any_result() {
    let not_yet = |output: &u32| *output == 0;
    let policy = AsyncWait::unordered(8).timeout(10 * MS).attempt_timeout(4 * MS);
    let mut b = bench(policy.retry(retry(50).when_output(not_yet)));
    b.push([1, 2]);
    assert_eq!(b.start(), [1, 2]);
    assert_eq!(b.end(1, Ok(0)), Completion::Retry);
    b.pass(4);
    assert_eq!(b.judge(), [(2, false)]);
    b.pass(6);
    let mut seen = Vec::new();
    while let Some(expired) = b.op.handle_deadline(b.now) {
        b.op.resolve_timeout(expired.id(), |call| {
            seen.push(told(&call));
            TimeoutAction::Fail
        });
    }
    assert_eq!(seen, [(1, 1, Some(Ok(0))), (2, 1, Some(Err(Failure::AttemptTimedOut)))]);
}

#[test] // F5, F4: the engine collects what has timed out, and asks afterwards
fn the_handler_is_never_told_of_another_records_attempt() {
    let mut b = bench(AsyncWait::unordered(8).timeout(10 * MS).retry(retry(50)));
    b.push([1, 2]);
    assert_eq!(b.start(), [1, 2]);
    let (_, _) = (b.end(1, Err(Some(1))), b.end(2, Err(Some(2))));
    b.pass(10);
    let expired: Vec<_> = core::iter::from_fn(|| b.op.handle_deadline(b.now)).collect();
    for expired in expired {
        b.op.resolve_timeout(expired.id(), |call| {
            let own = Some(u64::from(*call.input));
            assert!(call.last.is_none() || call.last_error() == Some(&own), "{call:?}");
            TimeoutAction::Fail
        });
    }
}

#[test] // F5, F4: a mistake of the engine's takes nothing away
fn a_question_about_another_call_leaves_the_answer() {
    let mut b = bench(AsyncWait::unordered(8).timeout(10 * MS).retry(retry(50)));
    b.push([1, 2]);
    assert_eq!(b.start(), [1, 2]);
    let other = b.running[1].0;
    let _ = b.end(1, Err(Some(1)));
    b.pass(9);
    let _ = b.end(2, Ok(20));
    b.pass(1);
    let id = b.op.handle_deadline(b.now).expect("it has timed out").id();
    assert!(!b.op.resolve_timeout(other, |_| TimeoutAction::Fail));
    let mut seen = None;
    b.op.resolve_timeout(id, |call| {
        seen = Some(told(&call));
        TimeoutAction::Fail
    });
    assert_eq!(seen, Some((1, 1, Some(Err(Failure::Error(Some(1)))))));
}

#[test] // F5, K5: attempts are counted over restores, and what came of them in an earlier process is not known
fn the_handler_of_a_restored_call_is_told_its_attempts() {
    let policy = AsyncWait::unordered(8).timeout(10 * MS).retry(retry(50));
    let mut b = bench(policy);
    b.push([1]);
    assert_eq!(b.start(), [1]);
    let _ = b.end(1, Err(Some(1)));
    let mut next = b.restored_into(policy, None);
    next.pass(10);
    let id = next.op.handle_deadline(next.now).expect("it has timed out").id();
    let mut seen = None;
    next.op.resolve_timeout(id, |call| {
        seen = Some(told(&call));
        TimeoutAction::Fail
    });
    assert_eq!(seen, Some((1, 1, None)));
}

/// With a failure that ends the job, for which there has to be a heap.
#[cfg(feature = "alloc")]
mod on_the_heap {
    use super::*;

    #[test] // F5, F6: an error that the handler gives may end the job, like one of an attempt's
    fn an_error_of_the_handlers_may_end_the_job() {
        for (mistake, ends) in [(Some(1), false), (None, true)] {
            let policy = AsyncWait::unordered(8).timeout(10 * MS);
            let op = policy.build_core::<u32, u32, Refused>().expect("a sound policy");
            let mut op = op.fail_fast(|failure| matches!(failure, Failure::Error(None)));
            op.push(Instant::ZERO, StreamElement::value(1)).expect("there is room");
            assert!(op.poll_attempt(Instant::ZERO).is_some());
            let now = Instant::ZERO + 10 * MS;
            let id = op.handle_deadline(now).expect("it has timed out").id();
            op.resolve_timeout(id, |_| TimeoutAction::FailWith(mistake));
            assert_eq!(op.has_failed(), ends);
        }
    }

    #[test] // F6, K1, A2: what the end of the job has interrupted is saved with the time that it had taken
    fn a_job_that_ends_in_a_pause_saves_the_times_of_its_calls() {
        let policy = AsyncWait::unordered(8).timeout(20 * MS).retry(retry(50));
        let build = || {
            let op = policy.build_core::<u32, u32, Refused>().expect("a sound policy");
            op.checkpointed("stage", 1).fail_fast(|failure| matches!(failure, Failure::Panicked))
        };
        let (mut op, mut now) = (build(), Instant::ZERO);
        let ask = |op: &mut Operator<_, Heap>, record| {
            op.push_start(now, StreamElement::value(record))
                .ok()
                .flatten()
                .map(|attempt| attempt.id)
        };
        let (one, other) = (ask(&mut op, 1).expect("it runs"), ask(&mut op, 2).expect("it runs"));
        now = now + 5 * MS;
        let _ = op.handle_completion(now, one, Err(Failure::Error(None)));
        op.pause(now);
        now = now + 100 * MS;
        assert_eq!(op.handle_completion(now, other, Err(Failure::Panicked)), Completion::Final);
        let mut checkpoint = Checkpoint::new(CheckpointId(1));
        op.snapshot(now, &mut checkpoint).expect("it can be taken");

        let mut next = build();
        next.restore(Instant::ZERO, &checkpoint).expect("it can be restored");
        let attempt = next.poll_attempt(Instant::ZERO).expect("it goes on");
        assert_eq!((*attempt.input, attempt.info.time_left), (1, Some(15 * MS)));
    }
}
