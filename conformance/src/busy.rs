//! T6 where time passes by itself: a consumer blocks its thread after each outcome, for longer than the
//! timeout. A request whose answer arrives in time is not late, however late its stage is polled; a request
//! without an answer is.
//!
//! These tests sleep, because they are about blocked threads. Virtual time stands still while a thread is
//! blocked, so there they have nothing to check.

use std::future::{Future, pending, poll_fn, ready};
use std::pin::pin;
use std::thread;
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, Failure, FixedDelay, NoRetry, Outcome, StageStorage, Timer, Unkeyed,
};

use crate::Harness;
use crate::kit::{MS, Refused, in_every_storage, numbers, timer};
use crate::spawned::{Ask, Spawns};

in_every_storage!(calls_are_not_late_in_place, attempts_are_not_late_in_place, run_is_not_late);

const RECORDS: u32 = 6;

const CAPACITY: usize = 4;

/// The slow answers' delay plus the time that a loaded machine may lose between reading the clock and
/// invoking.
const TIMEOUT: Duration = Duration::from_millis(60);

/// The time for which the consumer blocks its thread.
const BLOCKS: Duration = Duration::from_millis(80);

/// The delay of a request's answer from its invocation: none, short, or infinite.
fn answered_after(number: u32) -> Option<Duration> {
    match number % 4 {
        0 => None,
        1 => Some(MS),
        _ => Some(10 * MS),
    }
}

/// An answer is sent once, and a task that begins to wait for it later still gets it, as a request's own task
/// may.
fn answer<T: Timer>(timer: T, number: u32) -> impl Future<Output = ()> {
    let time = answered_after(number);
    let at = time.map(|time| timer.now() + time);
    async move {
        let mut timer = pin!(timer);
        timer.as_mut().arm(at);
        match at {
            Some(_) => poll_fn(|cx| timer.as_mut().poll(cx)).await,
            None => pending().await,
        }
    }
}

fn calls() -> AsyncWait<NoRetry, Unkeyed> {
    AsyncWait::unordered(CAPACITY).timeout(TIMEOUT)
}

fn attempts() -> AsyncWait<FixedDelay, Unkeyed> {
    let retry = FixedDelay::new(MS).max_retries(1);
    AsyncWait::unordered(CAPACITY).attempt_timeout(TIMEOUT).retry(retry)
}

/// The inputs that were answered in time, and the others, as the policies above expect them.
struct Seen {
    late: Failure<Refused>,
    attempts: u32,
    outcomes: u32,
}

impl Seen {
    fn of_calls() -> Self {
        Self { late: Failure::TimedOut, attempts: 1, outcomes: 0 }
    }

    fn of_attempts() -> Self {
        Self { late: Failure::AttemptTimedOut, attempts: 2, outcomes: 0 }
    }

    fn take(&mut self, way: &str, done: &Outcome<u32, u32, Refused>) {
        let (expected, attempts) = match answered_after(done.input) {
            Some(_) => (Ok(done.input), 1),
            None => (Err(self.late), self.attempts),
        };
        assert_eq!(done.result, expected, "{way}, after {:?}: {done:?} (T6)", done.elapsed);
        assert_eq!(done.attempts, attempts, "{way}: {done:?} (T2, T6)");
        self.outcomes += 1;
        thread::sleep(BLOCKS);
    }

    async fn take_all<S>(mut self, way: &str, stage: S)
    where
        S: Stream<Item = Outcome<u32, u32, Refused>>,
    {
        let mut stage = pin!(stage);
        while let Some(done) = poll_fn(|cx| stage.as_mut().poll_next(cx)).await {
            self.take(way, &done);
        }
        assert_eq!(self.outcomes, RECORDS, "{way} (E2)");
    }
}

/// Runs a stage in place with a policy, if time passes by itself.
macro_rules! stage {
    ($harness:ident, $runtime:ident, $storage:ident, $policy:expr) => {{
        if $harness.resolution().is_some() {
            return;
        }
        let ask = |number: &u32| {
            let (number, answer) = (*number, answer(timer(&$runtime), *number));
            async move {
                answer.await;
                Ok::<u32, Refused>(number)
            }
        };
        let stage = numbers(RECORDS).async_wait($policy, ask);
        stage.in_place_over(&$runtime, $storage).expect("it makes sense")
    }};
}

async fn calls_are_not_late_in_place<H, S>(harness: &H, runtime: H::Runtime, storage: S)
where
    H: Harness,
    S: StageStorage,
{
    Seen::of_calls().take_all("in place", stage!(harness, runtime, storage, calls())).await;
}

async fn attempts_are_not_late_in_place<H, S>(harness: &H, runtime: H::Runtime, storage: S)
where
    H: Harness,
    S: StageStorage,
{
    Seen::of_attempts().take_all("in place", stage!(harness, runtime, storage, attempts())).await;
}

async fn run_is_not_late<H: Harness, S: StageStorage>(
    harness: &H,
    runtime: H::Runtime,
    storage: S,
) {
    let mut seen = Seen::of_calls();
    let run = stage!(harness, runtime, storage, calls()).run(|done| {
        seen.take("run", &done);
        ready(())
    });
    assert_eq!(run.await, Ok(()));
    assert_eq!(seen.outcomes, RECORDS, "(E2)");
}

/// The same for stages and requests on tasks of their own. An answer that arrives by way of its request's
/// task is delivered in time for certain only where one thread runs all tasks in order: otherwise the stage
/// may be polled twice before that task is.
pub(crate) async fn on_tasks<H: Harness<Runtime: Spawns>>(harness: &H, runtime: H::Runtime) {
    if harness.resolution().is_some() {
        return;
    }
    let ask = || {
        let clock = runtime.clone();
        Ask::new(move |number| {
            let answer = answer(timer(&clock), number);
            async move {
                answer.await;
                number
            }
        })
    };
    let source = || numbers(RECORDS);
    let stage = source().async_wait_with(calls(), ask());
    let stage = stage.spawn(runtime.clone()).expect("it makes sense");
    Seen::of_calls().take_all("spawned", stage).await;
    if !harness.is_one_thread() {
        return;
    }

    let stage = source().async_wait_with(calls(), ask()).spawn_requests(runtime.clone());
    let stage = stage.in_place(&runtime).expect("it makes sense");
    Seen::of_calls().take_all("requests spawned", stage).await;

    let stage = source().async_wait_with(attempts(), ask()).spawn_requests(runtime.clone());
    let stage = stage.in_place(&runtime).expect("it makes sense");
    Seen::of_attempts().take_all("requests spawned, attempts", stage).await;

    let stage = source().async_wait_with(calls(), ask()).spawn_requests(runtime.clone());
    let stage = stage.spawn(runtime).expect("it makes sense");
    Seen::of_calls().take_all("both spawned", stage).await;
}
