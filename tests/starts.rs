//! Pauses and rates of stages over a real runtime, on tokio's paused clock: no test waits for real time.

use std::cell::RefCell;
use std::future::{Future, Ready, ready};
use std::rc::Rc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use futures::stream;
use futures::{FutureExt as _, StreamExt as _};
use inflight::prelude::*;
use inflight::{Extras, Unkeyed};
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

/// Runs a test on the paused clock, inside a `LocalSet`.
fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

/// The records of which an attempt has started, each with the milliseconds since the beginning.
#[derive(Clone)]
struct Starts(Rc<RefCell<Vec<(u32, u128)>>>, Instant);

impl Starts {
    fn new() -> Self {
        Self(Rc::default(), Instant::now())
    }

    fn note(&self, record: u32) {
        self.0.borrow_mut().push((record, self.1.elapsed().as_millis()));
    }

    fn take(&self) -> Vec<(u32, u128)> {
        self.0.take()
    }

    /// Notes each record, and answers with it at once.
    fn answer(&self) -> impl Fn(&u32) -> Ready<Result<u32, ()>> + use<> {
        let starts = self.clone();
        move |n| {
            starts.note(*n);
            ready(Ok(*n))
        }
    }

    /// Notes each record, and answers with it after this time.
    fn answer_after(
        &self,
        time: Duration,
    ) -> impl Fn(&u32) -> LocalBoxFuture<'static, Result<u32, ()>> + use<> {
        let answer = self.answer();
        move |n| {
            let answer = answer(n);
            sleep(time).then(|()| answer).boxed_local()
        }
    }
}

#[test] // A2, T1: from the handle of a stage on a task of its own
fn a_spawned_stage_is_paused_and_resumed() {
    run(async {
        let starts = Starts::new();
        let ask = starts.answer_after(10 * MS);
        let policy = AsyncWait::ordered(8).max_running(1).timeout(15 * MS);
        let mut stage = stream::iter(0..3).async_wait(policy, ask).spawn(TokioLocal).unwrap();
        let handle = stage.handle();
        assert_eq!(stage.next().await.unwrap().input, 0);
        handle.pause();
        // The second one runs already, and comes out; the third one waits, and has all of its time then.
        assert_eq!(stage.next().await.unwrap().input, 1);
        sleep(500 * MS).await;
        assert!(stage.next().now_or_never().is_none());
        assert_eq!(handle.metrics().waiting(), 1);
        handle.resume();
        let last = stage.next().await.unwrap();
        assert_eq!((last.result, last.elapsed), (Ok(2), 10 * MS));
        assert_eq!(starts.take(), [(0, 0), (1, 10), (2, 520)]);
        assert!(stage.next().await.is_none());
    });
}

#[test] // A2: the last command counts, also where the stage has not heard of the first
fn commands_that_follow_each_other_leave_a_stage_running() {
    run(async {
        let ask = |n: &u32| ready(Ok::<_, ()>(*n));
        let stage = stream::iter(0..50).async_wait(AsyncWait::ordered(4), ask).spawn(TokioLocal);
        let mut stage = stage.unwrap();
        let handle = stage.handle();
        let mut taken = 0;
        while let Some(outcome) = stage.next().await {
            assert_eq!(outcome.input, taken);
            taken += 1;
            handle.pause();
            handle.resume();
        }
        assert_eq!(taken, 50);
    });
}

#[test] // A2: records that are ready at once need no slot, and a pause holds them back all the same
fn a_stage_in_place_is_paused_between_two_records_that_bypass_the_slots() {
    run(async {
        let starts = Starts::new();
        let ask = starts.answer();
        let mut stage = Box::pin(
            stream::iter(0..100).async_wait(AsyncWait::ordered(4), ask).in_place(Tokio).unwrap(),
        );
        for expected in 0..20 {
            assert_eq!(stage.next().await.unwrap().input, expected);
        }
        let before = starts.take().len();
        stage.as_mut().pause();
        // What was answered before still comes out.
        for expected in 20..before as u32 {
            assert_eq!(stage.next().await.unwrap().input, expected);
        }
        for _ in 0..3 {
            assert!(stage.next().now_or_never().is_none());
        }
        assert_eq!((starts.take(), stage.metrics().waiting()), (vec![], 4), "a window is taken in");
        stage.as_mut().resume();
        let rest: Vec<_> = stage.map(|outcome| outcome.input).collect().await;
        assert_eq!(rest, (before.max(20) as u32..100).collect::<Vec<_>>());
    });
}

#[derive(Clone, Debug, PartialEq)]
struct TooMany {
    retry_after: Duration,
}

#[test] // A2, R7: of all that waits nobody runs into it as well
fn one_retry_after_holds_back_all() {
    run(async {
        let starts = Starts::new();
        let noted = starts.clone();
        let from = Instant::now();
        // The service takes nothing between 20 ms and 120 ms, and says so.
        let ask = with_attempt(move |n: &u32, attempt: AttemptInfo| {
            noted.note(*n);
            let retry = attempt.retry;
            async move {
                sleep(5 * MS).await;
                let now = from.elapsed();
                match (20 * MS..120 * MS).contains(&now) {
                    true => Err(TooMany { retry_after: 120 * MS - now }),
                    false => Ok(retry),
                }
            }
        });
        let policy = AsyncWait::unordered(8)
            .max_running(1)
            .timeout(60 * MS)
            .retry(FixedDelay::new(MS).max_retries(1))
            .pause_on(|failure: &Failure<TooMany>| Some(failure.error()?.retry_after));
        let stage = stream::iter(0..8).async_wait_with(policy, ask).spawn(TokioLocal).unwrap();
        let outcomes: Vec<_> = stage.collect().await;
        // Records 0 to 2 are before it. The fourth is refused, and is the only one that uses its retry up.
        let mut retries: Vec<_> =
            outcomes.iter().map(|done| (done.input, done.result.clone())).collect();
        retries.sort_by_key(|(n, _)| *n);
        let expected = [0, 0, 0, 1, 0, 0, 0, 0].into_iter().map(Ok);
        assert_eq!(retries, (0..).zip(expected).collect::<Vec<_>>());
        let starts: Vec<_> = starts.take().into_iter().map(|(_, at)| at).collect();
        assert_eq!(starts, [0, 5, 10, 15, 120, 125, 130, 135, 140]);
        // Its time is that of two attempts and of a backoff that was in the pause.
        let refused = outcomes.iter().find(|done| done.input == 3).unwrap();
        assert_eq!((refused.attempts, refused.elapsed), (2, 10 * MS));
    });
}

#[test] // A2: exact instants, in both ways to run a stage
fn requests_start_at_the_rate_after_a_burst() {
    let policy = || AsyncWait::ordered(16).rate(Rate::per(100 * MS, 10).burst(3)).timeout(5 * MS);
    for spawned in [false, true] {
        run(async {
            let starts = Starts::new();
            let ask = starts.answer_after(4 * MS);
            let numbers = stream::iter(0..7).async_wait(policy(), ask);
            let outcomes: Vec<_> = match spawned {
                true => numbers.spawn(TokioLocal).unwrap().collect().await,
                false => numbers.in_place(Tokio).unwrap().collect().await,
            };
            let at: Vec<_> = starts.take().into_iter().map(|(_, at)| at).collect();
            assert_eq!(at, [0, 0, 0, 10, 20, 30, 40]);
            let is_quick = |done: &Outcome<_, _, _>| done.result.is_ok() && done.elapsed == 4 * MS;
            assert!(outcomes.len() == 7 && outcomes.iter().all(is_quick), "waiting took no time");
        });
    }
}

#[test] // A2: nobody bypasses the rate
fn requests_that_are_ready_at_once_start_at_the_rate_too() {
    run(async {
        let starts = Starts::new();
        let ask = starts.answer();
        let policy = AsyncWait::unordered(4)
            .rate_by(Rate::per(10 * MS, 10).burst(2), |n: &u32| u64::from(*n));
        let stage =
            stream::iter([1, 1, 2, 5, 0, 1]).async_wait(policy, ask).in_place(Tokio).unwrap();
        assert_eq!(stage.count().await, 6);
        assert_eq!(starts.take(), [(1, 0), (1, 0), (2, 2), (5, 4), (0, 7), (1, 8)]);
    });
}

/// A policy with all kinds of optional parts, whose type is not written out.
fn policy() -> AsyncWait<FixedDelay, Unkeyed, impl Extras<u32, u32, TooMany> + Send> {
    AsyncWait::ordered(4)
        .retry(FixedDelay::new(MS).max_retries(1))
        .rate(Rate::per(10 * MS, 1))
        .limit(Aimd::between(1, 4))
        .timeout_by(|_: &u32| Some(50 * MS))
}

#[test] // A1, A2, T9: such a policy can come from a function, and its stage can be sent to another thread
fn a_policy_with_parts_can_come_from_a_function() {
    run(async {
        let ask = |n: &u32| std::future::ready(Ok(*n));
        let stage = stream::iter(0..3).async_wait(policy(), ask).spawn(Tokio).unwrap();
        let outcomes: Vec<_> = stage.map(|done| done.result).collect().await;
        assert_eq!(outcomes, [Ok(0), Ok(1), Ok(2)]);
    });
}
