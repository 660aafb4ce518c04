//! R8: a function is told of each retry.
#![cfg(feature = "alloc")]

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use inflight_core::{
    AsyncWait, Completion, Failure, FinishPolicy, FixedDelay, Instant, NoRetry, RetriedCall,
    RetryBudget, StreamElement,
};

const MS: Duration = Duration::from_millis(1);

/// A retry as it was told: the record, the attempts made, the result of the last one, and the delay.
type Told = (u32, u32, Result<u32, Failure<&'static str>>, Duration);

/// The operator of a policy of which each retry is told, with the number 7 pushed.
macro_rules! operator {
    ($policy:expr) => {{
        let (tell, told) = channel::<Told>();
        let look = move |call: RetriedCall<'_, u32, u32, &'static str>| {
            let told = (*call.input, call.attempts, *call.result, call.delay);
            tell.send(told).expect("the test listens");
        };
        let policy = $policy.on_retry(look);
        let mut operator = policy.build_core::<u32, u32, &'static str>().expect("it makes sense");
        operator.push(Instant::ZERO, StreamElement::value(7)).expect("there is room");
        (operator, told)
    }};
}

/// Ends the attempt that starts at this millisecond.
macro_rules! end {
    ($operator:expr, $millis:expr, $result:expr) => {{
        let now = Instant::ZERO + $millis * MS;
        while $operator.handle_deadline(now).is_some() {}
        let id = $operator.poll_attempt(now).expect("an attempt starts").id;
        $operator.handle_completion(now, id, $result)
    }};
}

fn all(told: &Receiver<Told>) -> Vec<Told> {
    told.try_iter().collect()
}

#[test] // R8
fn each_retry_is_told_with_its_reason_and_delay() {
    let strategy = FixedDelay::new(5 * MS).max_retries(2).when_output(|n: &u32| *n == 0);
    let (mut operator, told) = operator!(AsyncWait::ordered(4).retry(strategy));
    let down = Err(Failure::Error("down"));
    assert_eq!(end!(operator, 0, down), Completion::Retry);
    assert_eq!(all(&told), [(7, 1, down, 5 * MS)]);
    assert_eq!(end!(operator, 5, Ok(0)), Completion::Retry);
    assert_eq!(all(&told), [(7, 2, Ok(0), 5 * MS)]);
    // The last attempt's result is the outcome, whatever it is.
    assert_eq!(end!(operator, 10, down), Completion::Outcome);
    assert_eq!(all(&told), []);
}

#[test] // R8, R5, R7
fn an_attempt_that_does_not_follow_is_not_told() {
    let down = Err(Failure::Error("down"));
    let strategy = FixedDelay::new(5 * MS);
    // No strategy.
    let (mut operator, told) = operator!(AsyncWait::ordered(4).retry(NoRetry));
    assert_eq!(end!(operator, 0, down), Completion::Outcome);
    assert_eq!(all(&told), []);
    // The budget has a token for one retry.
    let budget = RetryBudget::new(1, 0.0);
    let (mut operator, told) =
        operator!(AsyncWait::ordered(4).retry(strategy).retry_budget(budget));
    assert_eq!(end!(operator, 0, down), Completion::Retry);
    assert_eq!(end!(operator, 5, down), Completion::Outcome);
    assert_eq!(all(&told).len(), 1);
    // The input has ended, and these are the last attempts.
    let policy = AsyncWait::ordered(4).retry(strategy).finish_policy(FinishPolicy::LastAttempt);
    let (mut operator, told) = operator!(policy);
    operator.finish(Instant::ZERO);
    assert_eq!(end!(operator, 0, down), Completion::Outcome);
    assert_eq!(all(&told), []);
}

#[test] // R8
fn a_part_that_is_named_before_or_after_another_one_is_told_too() {
    let policy = AsyncWait::ordered(4).retry(FixedDelay::new(MS)).pausable();
    let (mut operator, told) = operator!(policy);
    let mut count = 0;
    assert_eq!(end!(operator, 0, Err(Failure::Error("down"))), Completion::Retry);
    assert_eq!(all(&told).len(), 1);
    // Two functions, and another part behind them.
    let mut counting = AsyncWait::ordered(4)
        .retry(FixedDelay::new(MS))
        .on_retry(|call: RetriedCall<'_, u32, u32, &'static str>| {
            assert_eq!(call.error(), Some(&"down"));
            count += 1;
        })
        .on_retry(|call: RetriedCall<'_, u32, u32, &'static str>| assert_eq!(call.attempts, 1))
        .pausable()
        .build_core()
        .expect("it makes sense");
    counting.push(Instant::ZERO, StreamElement::value(7)).expect("there is room");
    assert_eq!(end!(counting, 0, Err(Failure::Error("down"))), Completion::Retry);
    drop(counting);
    assert_eq!(count, 1);
}
