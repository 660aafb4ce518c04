//! tower services under a stage, on tokio's paused clock.

use std::future::{Future, Ready, pending, ready};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{StreamExt, stream};
use inflight::Tokio;
use inflight::from_service;
use inflight::{AsyncWait, AsyncWaitExt, Failure, FixedDelay, Outcome};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tower::limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let limit = tokio::time::timeout(Duration::from_secs(3600), test);
        limit.await.expect("nothing hangs for an hour of simulated time")
    })
}

/// Takes as many milliseconds as it is asked for, and notes how many are in it at once.
async fn take(millis: u32, now: Arc<AtomicUsize>, most: Arc<AtomicUsize>) -> Result<u32, ()> {
    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
    sleep(millis * MS).await;
    now.fetch_sub(1, SeqCst);
    Ok(millis)
}

fn results<In, Out, E>(outcomes: Vec<Outcome<In, Out, E>>) -> Vec<Result<Out, Failure<E>>> {
    outcomes.into_iter().map(|done| done.result).collect()
}

/// Ready for one call at a time, and only when it was asked. Breaks when a caller does not keep to that.
struct Strict {
    permits: Arc<Semaphore>,
    reserved: bool,
    asked: Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Strict {
    fn new(permits: usize) -> (Self, Arc<Semaphore>) {
        let permits = Arc::new(Semaphore::new(permits));
        (Self { permits: permits.clone(), reserved: false, asked: None }, permits)
    }
}

impl Service<u32> for Strict {
    type Response = u32;
    type Error = ();
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<u32, ()>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        assert!(!self.reserved, "asked again, and not called: a permit is held and not used");
        let permits = self.permits.clone();
        let asked = self.asked.get_or_insert_with(|| {
            Box::pin(async move { permits.acquire_owned().await.expect("open").forget() })
        });
        let ready = asked.as_mut().poll(cx);
        if ready.is_ready() {
            (self.asked, self.reserved) = (None, true);
        }
        ready.map(Ok)
    }

    fn call(&mut self, millis: u32) -> Self::Future {
        assert!(std::mem::take(&mut self.reserved), "called without having said that it is ready");
        let returned = Return(self.permits.clone());
        Box::pin(async move {
            sleep(millis * MS).await;
            drop(returned);
            Ok(millis)
        })
    }
}

struct Return(Arc<Semaphore>);

impl Drop for Return {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

#[test]
fn a_call_starts_only_on_a_service_that_said_ready_and_uses_one_permit() {
    run(async {
        let (strict, permits) = Strict::new(3);
        // Some calls time out while they wait, some while they run, some never.
        let times = (0..300).map(|n| (n * 7919) % 40);
        let policy = AsyncWait::unordered(8).timeout(50 * MS);
        let stage = stream::iter(times).async_wait_with(policy, from_service(strict, |n, _| *n));
        let outcomes: Vec<_> = stage.spawn(Tokio).unwrap().collect().await;
        let timed_out = outcomes.iter().filter(|done| done.result.is_err()).count();
        assert_eq!(outcomes.len(), 300);
        assert!((50..250).contains(&timed_out), "{timed_out} timed out");
        assert_eq!(permits.available_permits(), 3, "all permits are back");
    });
}

#[test]
fn a_concurrency_limit_bounds_what_runs_and_nothing_hangs() {
    run(async {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = (now, most.clone());
        let service = ServiceBuilder::new().concurrency_limit(2).service_fn(move |millis| {
            let (now, most) = counted.clone();
            take(millis, now, most)
        });
        let stage = stream::iter([10; 20])
            .async_wait_with(AsyncWait::ordered(10), from_service(service, |n: &u32, _| *n));
        let start = Instant::now();
        let outcomes: Vec<_> = stage.spawn(Tokio).unwrap().collect().await;
        assert_eq!(results(outcomes), [Ok(10); 20]);
        assert_eq!(most.load(SeqCst), 2);
        assert_eq!(start.elapsed(), 100 * MS, "ten times two");
    });
}

#[test]
fn a_rate_limit_which_cannot_be_cloned_is_kept_to() {
    run(async {
        let service = ServiceBuilder::new()
            .rate_limit(5, Duration::from_secs(1))
            .service_fn(|n: u32| ready(Ok::<_, ()>((n, Instant::now()))));
        let stage = stream::iter(0..20_u32)
            .async_wait_with(AsyncWait::unordered(20), from_service(service, |n, _| *n));
        let start = Instant::now();
        let outcomes: Vec<_> = stage.spawn(Tokio).unwrap().collect().await;
        let seconds: Vec<_> = results(outcomes)
            .into_iter()
            .map(|result| result.map(|(n, at)| (n, (at - start).as_secs())).unwrap())
            .collect();
        let expected: Vec<_> = (0..20).map(|n| (n, u64::from(n / 5))).collect();
        assert_eq!(seconds, expected, "five a second, first come first served");
    });
}

#[test]
fn calls_that_time_out_while_they_wait_hold_nobody_up() {
    run(async {
        let (strict, permits) = Strict::new(1);
        // The first takes a second; those behind it give up; what comes later is served.
        let slow_then_quick = stream::iter([1000, 1, 1, 1]).chain(stream::once(async {
            sleep(2000 * MS).await;
            1
        }));
        let policy = AsyncWait::ordered(10).timeout(1001 * MS).attempt_timeout(1000 * MS);
        let stage = slow_then_quick.async_wait_with(policy, from_service(strict, |n, _| *n));
        let outcomes: Vec<_> = stage.spawn(Tokio).unwrap().collect().await;
        let late = Err(Failure::AttemptTimedOut);
        let outcomes = results(outcomes);
        assert_eq!(outcomes, [Ok(1000), late, late, late, Ok(1)]);
        assert_eq!(permits.available_permits(), 1);
    });
}

#[test]
fn whoever_leaves_the_line_the_next_one_moves_up() {
    run(async {
        let (strict, _) = Strict::new(1);
        let mut function = from_service(strict, |n: &u32, _| *n);
        let mut place = |millis| {
            let attempt =
                inflight::AttemptInfo { number: 1, retry: 0, request_id: 0, time_left: None };
            inflight::AsyncFunction::invoke(&mut function, &millis, attempt)
        };
        let running = tokio::spawn(place(100));
        let first = tokio::spawn(place(1));
        let middle = tokio::spawn(place(2));
        let last = tokio::spawn(place(3));
        sleep(MS).await;
        middle.abort();
        sleep(MS).await;
        first.abort();
        assert_eq!(last.await.unwrap(), Ok(3));
        assert_eq!(running.await.unwrap(), Ok(100));
        assert!(first.await.is_err() && middle.await.is_err(), "they were aborted");
    });
}

/// A stage whose two calls have timed out, the second while it waited for the permit that the first had. The stage
/// goes on waiting for input. Returns what a user of the same limit outside gets then.
async fn outsider(releasing: bool) -> Result<u32, tokio::time::error::Elapsed> {
    let limit = GlobalConcurrencyLimitLayer::new(1);
    let serve = service_fn(|millis: u32| async move {
        sleep(millis * MS).await;
        Ok::<_, ()>(millis)
    });
    let service: ConcurrencyLimit<_> = limit.layer(serve);
    let mut others = service.clone();
    let mut function = from_service(service, |millis: &u32, _| *millis);
    if releasing {
        function = function.releasing();
    }
    let source = stream::iter([1000, 1]).chain(stream::pending());
    let policy = AsyncWait::ordered(2).timeout(50 * MS);
    let mut stage = source.async_wait_with(policy, function).spawn(Tokio).unwrap();
    let (first, second) = (stage.next().await.unwrap(), stage.next().await.unwrap());
    assert_eq!([first.result, second.result], [Err(Failure::TimedOut); 2]);
    let answer = async { others.ready().await.unwrap().call(7).await.unwrap() };
    tokio::time::timeout(1000 * MS, answer).await
}

#[test]
fn a_shared_limit_gets_back_what_nobody_is_left_to_use() {
    assert_eq!(run(outsider(true)), Ok(7));
    // What `releasing` is for: without it, the permit waits in the service for the stage's next record.
    assert!(run(outsider(false)).is_err());
}

/// Is ready every second time it is asked.
struct Moody {
    asked: u32,
}

impl Service<u32> for Moody {
    type Response = u32;
    type Error = &'static str;
    type Future = Ready<Result<u32, &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        self.asked += 1;
        Poll::Ready(if self.asked.is_multiple_of(2) { Ok(()) } else { Err("not now") })
    }

    fn call(&mut self, n: u32) -> Self::Future {
        ready(Ok(n))
    }
}

#[test]
fn a_service_that_will_not_be_ready_fails_the_attempt_which_can_be_retried() {
    let outcomes = |policy: AsyncWait<_>| {
        run(async {
            let stage = stream::iter(0..2)
                .async_wait_with(policy, from_service(Moody { asked: 0 }, |n, _| *n));
            results(stage.spawn(Tokio).unwrap().collect().await)
        })
    };
    let retries = |n| AsyncWait::ordered(1).retry(FixedDelay::new(MS).max_retries(n));
    assert_eq!(outcomes(retries(1)), [Ok(0), Ok(1)]);
    let never = run(async {
        let stage = stream::iter(0..2)
            .async_wait_with(AsyncWait::ordered(1), from_service(Moody { asked: 0 }, |n, _| *n));
        results(stage.spawn(Tokio).unwrap().collect().await)
    });
    assert_eq!(never, [Err(Failure::Error("not now")), Ok(1)]);
}

#[test] // F3: as for every request on a task of its own
fn a_service_that_panics_fails_one_record() {
    run(async {
        let service = ServiceBuilder::new().concurrency_limit(1).service_fn(|n: u32| {
            assert_ne!(n, 1, "a bug in the service");
            async move {
                sleep(MS).await;
                Ok::<_, ()>(n)
            }
        });
        let stage = stream::iter(0..4)
            .async_wait_with(AsyncWait::ordered(4), from_service(service, |n, _| *n))
            .spawn_requests(Tokio);
        let outcomes: Vec<_> = stage.spawn(Tokio).unwrap().collect().await;
        assert_eq!(results(outcomes), [Ok(0), Err(Failure::Panicked), Ok(2), Ok(3)]);
    });
}

#[test]
fn the_request_is_told_its_attempt() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let asked = seen.clone();
    run(async move {
        let service = service_fn(move |(n, attempt): (u32, u32)| {
            asked.lock().unwrap().push((n, attempt));
            ready(if attempt < 3 { Err("busy") } else { Ok(n) })
        });
        let policy = AsyncWait::ordered(1).retry(FixedDelay::new(MS).max_retries(2));
        let function = from_service(service, |n: &u32, attempt| (*n, attempt.number));
        let stage = stream::iter([5]).async_wait_with(policy, function);
        let outcomes: Vec<_> = stage.spawn(Tokio).unwrap().collect().await;
        assert_eq!(results(outcomes), [Ok(5)]);
    });
    assert_eq!(*seen.lock().unwrap(), [(5, 1), (5, 2), (5, 3)]);
}

#[test] // L2
fn a_stage_that_is_dropped_takes_the_line_and_the_service_with_it() {
    run(async {
        let alive = Arc::new(());
        let held = alive.clone();
        let service = ServiceBuilder::new().concurrency_limit(1).service_fn(move |_: u32| {
            let held = held.clone();
            async move {
                let _held = held;
                pending::<Result<(), ()>>().await
            }
        });
        let stage = stream::iter(0..10)
            .async_wait_with(AsyncWait::ordered(10), from_service(service, |n, _| *n));
        let mut stage = stage.spawn(Tokio).unwrap();
        assert!(tokio::time::timeout(MS, stage.next()).await.is_err());
        drop(stage);
        sleep(MS).await;
        assert_eq!(Arc::strong_count(&alive), 1);
    });
}
