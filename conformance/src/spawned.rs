//! The rules of `Spawner`, one by one, and stages on tasks.

use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use inflight_core::{
    AsyncFunction, AsyncWait, AsyncWaitExt, AttemptInfo, Driver, Failure, InPlace, JoinError,
    NoRetry, Runtime, Spawner, SpawningRequests, StageError, Unkeyed, Values,
};

use crate::Harness;
use crate::kit::{Counter, Gauge, MS, Numbers, Refused, assert_took, numbers, run, sleep, timer};

/// A future of the tests on a task of its own.
pub type Job = Pin<Box<dyn Future<Output = u32> + Send>>;

/// A request of the tests.
pub type Request = Pin<Box<dyn Future<Output = Result<u32, Refused>> + Send>>;

/// The types of the tests' stages.
pub type Lookup = (Numbers, u32, Values, Ask, NoRetry, Unkeyed, (), InPlace);

/// A stage of the tests on a task of its own.
pub type StageOf<Rt> = Driver<Lookup, <Rt as Runtime>::Timer>;

/// The same with a task for each request.
pub type StageWithTasksOf<Rt> = Driver<SpawningRequests<Lookup, Rt>, <Rt as Runtime>::Timer>;

/// A runtime that can spawn every future of the tests.
pub trait Spawns:
    Runtime<Timer: Send>
    + Clone
    + Send
    + Spawner<Job>
    + Spawner<Request>
    + Spawner<StageOf<Self>>
    + Spawner<StageWithTasksOf<Self>>
{
}

impl<Rt> Spawns for Rt where
    Rt: Runtime<Timer: Send>
        + Clone
        + Send
        + Spawner<Job>
        + Spawner<Request>
        + Spawner<StageOf<Rt>>
        + Spawner<StageWithTasksOf<Rt>>
{
}

/// The function of the tests with a named type, because the bounds name a task's future.
#[allow(missing_debug_implementations)]
pub struct Ask(Box<dyn FnMut(u32) -> Request + Send>);

impl Ask {
    pub(crate) fn new<Fut>(mut ask: impl FnMut(u32) -> Fut + Send + 'static) -> Self
    where
        Fut: Future<Output = u32> + Send + 'static,
    {
        Self(Box::new(move |number| {
            let request = ask(number);
            Box::pin(async move { Ok(request.await) })
        }))
    }
}

impl AsyncFunction<u32> for Ask {
    type Output = u32;
    type Error = Refused;
    type Future = Request;

    fn invoke(&mut self, input: &u32, _: AttemptInfo) -> Request {
        (self.0)(*input)
    }
}

/// Checks how a runtime spawns: the rules of spawners, and stages on tasks of their own.
///
/// # Panics
///
/// If the runtime violates a rule.
pub fn spawner<H>(harness: &H)
where
    H: Harness<Runtime: Spawns>,
{
    macro_rules! all {
        ($($test:ident),+) => {$(
            run(harness, stringify!($test), async |runtime| $test(harness, runtime).await);
        )+};
    }
    all!(
        a_task_runs_by_itself,
        dropping_a_handle_cancels,
        a_panic_is_told,
        requests_progress_while_the_consumer_is_busy,
        outcomes_keep_their_order,
        dropping_the_stream_cancels,
        stopping_drains,
        stopping_has_a_limit,
        a_panic_reaches_the_consumer,
        a_panic_on_a_task_is_a_failure,
        the_capacity_changes
    );
    run(harness, "a consumer that blocks its thread", async |runtime| {
        crate::busy::on_tasks(harness, runtime).await;
    });
}

/// Rule 1 of spawners.
async fn a_task_runs_by_itself<H: Harness<Runtime: Spawns>>(_: &H, runtime: H::Runtime) {
    let (ran, wait) = (Counter::default(), sleep(timer(&runtime), MS));
    let up = ran.clone();
    let job: Job = Box::pin(async move {
        wait.await;
        up.up();
        7
    });
    let handle = runtime.spawn(job);
    ran.reaches(1).await;
    assert_eq!(handle.await, Ok(7), "what the task returned");
}

/// Rule 2 of spawners.
async fn dropping_a_handle_cancels<H: Harness<Runtime: Spawns>>(_: &H, runtime: H::Runtime) {
    let (started, dropped) = (Counter::default(), Counter::default());
    let (up, guard) = (started.clone(), dropped.guard());
    let job: Job = Box::pin(async move {
        let _guard = guard;
        up.up();
        pending().await
    });
    let handle = runtime.spawn(job);
    started.reaches(1).await;
    drop(handle);
    dropped.reaches(1).await;

    // The same for a task that has not begun.
    let guard = dropped.guard();
    let job: Job = Box::pin(async move {
        let _guard = guard;
        pending().await
    });
    drop(runtime.spawn(job));
    dropped.reaches(2).await;
}

/// Rule 3 of spawners.
async fn a_panic_is_told<H: Harness<Runtime: Spawns>>(_: &H, runtime: H::Runtime) {
    let job: Job = Box::pin(async { panic!("as planned") });
    assert_eq!(runtime.spawn(job).await, Err(JoinError::Panicked), "(rule 3)");
    let job: Job = Box::pin(ready(3));
    assert_eq!(runtime.spawn(job).await, Ok(3), "the runtime goes on after a panic (rule 3)");
}

/// L1
async fn requests_progress_while_the_consumer_is_busy<H>(_: &H, runtime: H::Runtime)
where
    H: Harness<Runtime: Spawns>,
{
    let done = Counter::default();
    let (up, clock) = (done.clone(), runtime.clone());
    let ask = Ask::new(move |number| {
        let (up, request) = (up.clone(), sleep(timer(&clock), number * MS / 2));
        async move {
            request.await;
            up.up();
            number
        }
    });
    let stage = numbers(8).async_wait_with(AsyncWait::ordered(8), ask);
    let mut stage = stage.spawn(runtime).expect("it makes sense");
    assert_eq!(stage.next().await.map(|outcome| outcome.input), Some(1));
    // The stream is not polled meanwhile.
    done.reaches(8).await;
    for input in 2..=8 {
        assert_eq!(stage.next().await.map(|outcome| outcome.input), Some(input));
    }
    assert!(stage.next().await.is_none());
    assert_eq!(stage.end(), Some(Ok(())));
}

/// O1, O2: each request completes after the one behind it.
async fn outcomes_keep_their_order<H: Harness<Runtime: Spawns>>(_: &H, runtime: H::Runtime) {
    let ask = || {
        let done = Counter::default();
        Ask::new(move |number| {
            let done = done.clone();
            async move {
                done.reaches(20 - number as usize).await;
                done.up();
                number * 2
            }
        })
    };
    for (policy, ordered) in [(AsyncWait::ordered(20), true), (AsyncWait::unordered(20), false)] {
        let stage = numbers(20).async_wait_with(policy, ask());
        let mut stage = stage.spawn(runtime.clone()).expect("it makes sense");
        let mut inputs = Vec::new();
        while let Some(outcome) = stage.next().await {
            assert_eq!(outcome.result, Ok(outcome.input * 2));
            inputs.push(outcome.input);
        }
        let in_order = (1..=20).eq(inputs.iter().copied());
        let in_reverse = (1..=20).rev().eq(inputs.iter().copied());
        assert!(if ordered { in_order } else { in_reverse }, "{inputs:?} (O1, O2)");
    }
}

/// L2
async fn dropping_the_stream_cancels<H: Harness<Runtime: Spawns>>(_: &H, runtime: H::Runtime) {
    let (started, dropped) = (Counter::default(), Counter::default());
    let (up, guards) = (started.clone(), dropped.clone());
    let ask = Ask::new(move |_| {
        up.up();
        let guard = guards.guard();
        async move {
            let _guard = guard;
            pending().await
        }
    });
    let stage = numbers(100).async_wait_with(AsyncWait::ordered(8), ask);
    let stage = stage.spawn(runtime).expect("it makes sense");
    started.reaches(8).await;
    drop(stage);
    dropped.reaches(8).await;
}

/// L3
async fn stopping_drains<H: Harness<Runtime: Spawns>>(_: &H, runtime: H::Runtime) {
    let clock = runtime.clone();
    let ask = Ask::new(move |number| {
        let request = sleep(timer(&clock), MS);
        async move {
            request.await;
            number
        }
    });
    let stage = numbers(u32::MAX).async_wait_with(AsyncWait::ordered(8), ask);
    let mut stage = stage.spawn(runtime).expect("it makes sense");
    let mut inputs = vec![stage.next().await.expect("an outcome").input];
    stage.handle().stop();
    while let Some(outcome) = stage.next().await {
        assert_eq!(outcome.result, Ok(outcome.input), "what is in flight finishes (L3)");
        inputs.push(outcome.input);
    }
    assert!((1..=inputs.len() as u32).eq(inputs.iter().copied()), "{inputs:?}");
    assert_eq!(stage.end(), Some(Ok(())));
}

/// L3
async fn stopping_has_a_limit<H: Harness<Runtime: Spawns>>(harness: &H, runtime: H::Runtime) {
    let started = Counter::default();
    let up = started.clone();
    let ask = Ask::new(move |_| {
        up.up();
        pending()
    });
    let stage = numbers(u32::MAX).async_wait_with(AsyncWait::ordered(4), ask);
    let mut stage = stage.spawn(runtime).expect("it makes sense");
    started.reaches(4).await;
    let start = harness.now();
    stage.handle().stop_within(10 * MS);
    for _ in 0..4 {
        let outcome = stage.next().await.expect("an outcome");
        assert_eq!(outcome.result, Err(Failure::ShutDown), "(F2, L3)");
    }
    assert!(stage.next().await.is_none());
    assert_took(harness, start, 10 * MS, "the time to stop in (L3)");
}

/// F3
async fn a_panic_reaches_the_consumer<H: Harness<Runtime: Spawns>>(_: &H, runtime: H::Runtime) {
    let ask = Ask::new(|number| async move {
        assert!(number < 3, "as planned");
        number
    });
    let stage = numbers(4).async_wait_with(AsyncWait::ordered(1), ask);
    let mut stage = stage.spawn(runtime).expect("it makes sense");
    let mut inputs = Vec::new();
    let mut poll = |cx: &mut Context<'_>| {
        let next = std::pin::pin!(stage.next());
        match catch_unwind(AssertUnwindSafe(|| next.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(item)) => Poll::Ready(Ok(item)),
            Err(_) => Poll::Ready(Err(())),
        }
    };
    loop {
        match poll_fn(&mut poll).await {
            Ok(Some(outcome)) => inputs.push(outcome.input),
            Ok(None) => panic!("the panic looks like the end (F3)"),
            Err(()) => break,
        }
    }
    assert_eq!(inputs, [1, 2], "what was done before comes out");
    assert_eq!(stage.end(), Some(Err(&StageError::Panicked)));
}

/// F3: a panic in the future, and one in the closure that creates it (rule 4 of spawners).
async fn a_panic_on_a_task_is_a_failure<H: Harness<Runtime: Spawns>>(_: &H, runtime: H::Runtime) {
    let clock = runtime.clone();
    let ask = Ask::new(move |number| {
        assert!(number != 5, "as planned");
        let request = sleep(timer(&clock), MS);
        async move {
            request.await;
            assert!(number != 3, "as planned");
            number
        }
    });
    let stage = numbers(6).async_wait_with(AsyncWait::ordered(3), ask);
    let stage = stage.spawn_requests(runtime.clone());
    let mut stage = stage.spawn(runtime).expect("it makes sense");
    for number in 1..=6 {
        let expected = if [3, 5].contains(&number) { Err(Failure::Panicked) } else { Ok(number) };
        assert_eq!(stage.next().await.expect("an outcome").result, expected, "(F3)");
    }
    assert!(stage.next().await.is_none());
}

/// C8
async fn the_capacity_changes<H: Harness<Runtime: Spawns>>(harness: &H, runtime: H::Runtime) {
    let gauge = Gauge::default();
    let (inside, clock) = (gauge.clone(), runtime.clone());
    let ask = Ask::new(move |number| {
        let (inside, request) = (inside.enter(), sleep(timer(&clock), MS));
        async move {
            let _inside = inside;
            request.await;
            number
        }
    });
    let policy = AsyncWait::unordered(2).max_capacity(9);
    let stage = numbers(u32::MAX).async_wait_with(policy, ask);
    let mut stage = stage.spawn(runtime).expect("it makes sense");
    let handle = stage.handle();
    for capacity in [2, 9, 3] {
        handle.set_capacity(capacity).expect("it makes sense");
        // The records in flight under the earlier capacity leave.
        for _ in 0..40 {
            stage.next().await.expect("an outcome");
        }
        gauge.take_most();
        for _ in 0..40 {
            stage.next().await.expect("an outcome");
        }
        let most = gauge.take_most();
        let least = if harness.resolution().is_some() { capacity - 1 } else { capacity / 4 };
        assert!((least..=capacity).contains(&most), "{most} in flight for {capacity} (C8)");
    }
    assert!(handle.set_capacity(10).is_err(), "more than the policy allows (C8)");
}
