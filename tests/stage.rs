//! A stage over real runtimes, on tokio's paused clock: no test waits for real time.

use std::cell::Cell;
use std::future::{Future, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc;
use futures::stream;
use inflight::prelude::*;
use inflight::{
    Completion, InPlace, NoRuntime, RestoreError, Runtime, StageError, Timer, TokioTimer,
};
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

/// A service that answers ten times the number after that many milliseconds.
fn ask(n: &u32) -> impl Future<Output = Result<u32, &'static str>> + use<> {
    let n = *n;
    async move {
        sleep(n * MS).await;
        Ok(n * 10)
    }
}

fn paused() -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().expect("a runtime")
}

/// Runs a test on the paused clock, inside a `LocalSet`.
fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().block_on(&paused(), test)
}

fn inputs<In, Out, E>(outcomes: &[Outcome<In, Out, E>]) -> Vec<In>
where
    In: Copy,
{
    outcomes.iter().map(|outcome| outcome.input).collect()
}

// ---- order, however requests run ------------------------------------------------------------------

#[test] // O1, O2, E2
fn outcomes_come_in_order_or_in_completion_order() {
    let numbers = || stream::iter([9, 3, 6, 1]);
    run(async {
        let (ordered, unordered) = (AsyncWait::ordered(4), AsyncWait::unordered(4));
        for (policy, expected) in [(ordered, [9, 3, 6, 1]), (unordered, [1, 3, 6, 9])] {
            let start = Instant::now();
            let ways: [Vec<_>; 5] = [
                numbers().async_wait(policy, ask).in_place(Tokio).unwrap().collect().await,
                numbers().async_wait(policy, ask).spawn(Tokio).unwrap().collect().await,
                numbers().async_wait(policy, ask).spawn(TokioLocal).unwrap().collect().await,
                numbers()
                    .async_wait(policy, ask)
                    .spawn_requests(Tokio)
                    .in_place(Tokio)
                    .unwrap()
                    .collect()
                    .await,
                numbers()
                    .async_wait(policy, ask)
                    .spawn_requests(Tokio)
                    .spawn(Tokio)
                    .unwrap()
                    .collect()
                    .await,
            ];
            for outcomes in &ways {
                assert_eq!(inputs(outcomes), expected);
                assert!(outcomes.iter().all(|done| done.result == Ok(done.input * 10)));
            }
            assert_eq!(start.elapsed(), 5 * 9 * MS, "all four at once, each way");
        }
    });
}

#[test] // O1, O2 on smol, Send and not
fn outcomes_come_in_order_on_smol() {
    let offset = Rc::new(1);
    let executor = async_executor::Executor::new();
    let local = async_executor::LocalExecutor::new();
    let numbers = || futures_lite::stream::iter(1..=1000_u32);
    let (sent, kept) = futures_lite::future::block_on(local.run(executor.run(async {
        let sent = numbers()
            .async_wait(AsyncWait::ordered(10), |n| ready(Ok::<_, ()>(*n + 1)))
            .spawn(Smol(&executor))
            .unwrap();
        let kept = numbers()
            .async_wait(AsyncWait::ordered(10), |n| {
                let (n, offset) = (*n, offset.clone());
                async move { Ok::<_, ()>(n + *offset) }
            })
            .spawn(SmolLocal(&local))
            .unwrap();
        (sent.collect::<Vec<_>>().await, kept.collect::<Vec<_>>().await)
    })));
    assert_eq!(inputs(&sent), (1..=1000).collect::<Vec<_>>());
    assert_eq!(sent, kept);
}

#[test] // O4, O5, E1: elements in, elements out
fn control_elements_keep_their_place() {
    run(async {
        let elements = [
            StreamElement::record(9, Timestamp::from_millis(1)),
            StreamElement::record(3, Timestamp::from_millis(2)),
            StreamElement::Watermark(Timestamp::from_millis(2)),
            StreamElement::value(1),
            StreamElement::Status(Status::Idle),
        ];
        let mut stage = stream::iter(elements)
            .async_wait(AsyncWait::unordered(8), |n: &u32| ask(n))
            .spawn(Tokio)
            .unwrap();
        let mut story = Vec::new();
        while let Some(element) = stage.next().await {
            story.push(match element {
                StreamElement::Record { value, timestamp } => {
                    format!("{}@{:?}", value.input, timestamp.map(Timestamp::as_millis))
                }
                StreamElement::Watermark(at) => format!("W{}", at.as_millis()),
                other => format!("{:?}", other.map(|_| ())),
            });
        }
        assert_eq!(story, ["3@Some(2)", "9@Some(1)", "W2", "1@None", "Status(Idle)"]);
        assert_eq!(stage.end(), Some(Ok(())));
    });
}

// ---- progress ------------------------------------------------------------------------------------

/// Counts the timeouts of 50 requests to a service that answers in 10 ms, with a timeout of 60 ms and a consumer that
/// takes 40 ms for each answer.
const PATIENCE: Duration = Duration::from_millis(60);

async fn digest() {
    sleep(40 * MS).await;
}

#[test] // L1: the trap. `buffered` polls its requests only while it is polled itself.
fn requests_starve_behind_a_busy_consumer_when_buffered() {
    let lost = run(async {
        let answers = stream::iter(0..50)
            .map(|_| {
                tokio::time::timeout(PATIENCE, async {
                    sleep(10 * MS).await;
                    sleep(MS).await
                })
            })
            .buffered(10);
        let mut answers = pin!(answers);
        let mut lost = 0;
        while let Some(answer) = answers.next().await {
            lost += usize::from(answer.is_err());
            digest().await;
        }
        lost
    });
    assert!(lost > 0, "`buffered` has learned it, and this comparison can go");
}

#[test] // L1: a stage in the same setting.
fn requests_make_progress_while_the_consumer_is_busy() {
    run(async {
        let policy = AsyncWait::ordered(10).timeout(PATIENCE);
        let mut stage = stream::iter(0..50)
            .async_wait(policy, |_| async {
                sleep(10 * MS).await;
                sleep(MS).await;
                Ok::<_, ()>(())
            })
            .spawn(Tokio)
            .unwrap();
        while let Some(done) = stage.next().await {
            assert_eq!((done.result, done.elapsed), (Ok(()), 11 * MS));
            digest().await;
        }
    });
}

/// Counts live objects, and the most that were alive at once.
#[derive(Clone, Default)]
struct Census {
    alive: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    ever: Arc<AtomicUsize>,
}

struct Alive(Census);

impl Census {
    fn enter(&self) -> Alive {
        self.ever.fetch_add(1, SeqCst);
        self.most.fetch_max(self.alive.fetch_add(1, SeqCst) + 1, SeqCst);
        Alive(self.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

#[test] // C2, C4: outcomes that the consumer has not taken count too
fn a_consumer_that_takes_nothing_stops_the_source() {
    run(async {
        let census = Census::default();
        let pulled = Arc::new(AtomicUsize::new(0));
        let source = stream::iter(0..1000).inspect({
            let pulled = pulled.clone();
            move |_| _ = pulled.fetch_add(1, SeqCst)
        });
        let requests = census.clone();
        let mut stage = source
            .async_wait(AsyncWait::unordered(16), move |_| {
                let alive = requests.enter();
                async move {
                    sleep(MS).await;
                    drop(alive);
                    Ok::<_, ()>(())
                }
            })
            .spawn(Tokio)
            .unwrap();
        sleep(100 * MS).await;
        assert_eq!(pulled.load(SeqCst), 16);
        let mut taken = 0;
        while stage.next().await.is_some() {
            taken += 1;
            tokio::task::yield_now().await;
            assert!(pulled.load(SeqCst) <= taken + 16);
        }
        assert_eq!((taken, census.most.load(SeqCst)), (1000, 16));
    });
}

#[test] // L2
fn dropping_the_stream_cancels_everything() {
    for own_task in [true, false] {
        run(async {
            let census = Census::default();
            let requests = census.clone();
            let unstarted = stream::iter(0..10).async_wait(AsyncWait::ordered(5), move |_| {
                let alive = requests.enter();
                async move {
                    pending::<()>().await;
                    drop(alive);
                    Ok::<_, ()>(())
                }
            });
            let next = Duration::from_secs(1);
            if own_task {
                let mut stage = unstarted.spawn(Tokio).unwrap();
                assert!(tokio::time::timeout(next, stage.next()).await.is_err());
                assert_eq!(census.alive.load(SeqCst), 5);
            } else {
                let mut stage = unstarted.in_place(Tokio).unwrap();
                assert!(tokio::time::timeout(next, stage.next()).await.is_err());
                assert_eq!(census.alive.load(SeqCst), 5);
            }
            tokio::task::yield_now().await;
            assert_eq!(census.alive.load(SeqCst), 0);
        });
    }
}

#[test] // L5: a stage of always-ready requests yields to its neighbours, also in place
fn a_busy_stage_does_not_starve_its_neighbours() {
    let turns = run(async {
        let turns = Rc::new(Cell::new(0));
        let neighbour = turns.clone();
        tokio::task::spawn_local(async move {
            loop {
                neighbour.set(neighbour.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        let stage = stream::iter(0..100_000_u32)
            .async_wait(AsyncWait::ordered(100), |n| ready(Ok::<_, ()>(*n)))
            .in_place(Tokio)
            .unwrap();
        assert_eq!(stage.count().await, 100_000);
        turns.get()
    });
    assert!(turns > 200, "{turns} turns in 100,000 records");
}

// ---- timeouts and retries ------------------------------------------------------------------------

#[test] // T1, T2, T3, T7
fn timeouts_are_exact_and_cancel_the_request() {
    run(async {
        let census = Census::default();
        let requests = census.clone();
        let policy = AsyncWait::ordered(4)
            .timeout(105 * MS)
            .attempt_timeout(20 * MS)
            .retry(FixedDelay::new(10 * MS).max_retries(2));
        let mut stage = stream::iter([5_u32, 1000, 19])
            .async_wait(policy, move |n| {
                let (alive, answer) = (requests.enter(), ask(n));
                async move {
                    let _alive = alive;
                    answer.await
                }
            })
            .spawn(Tokio)
            .unwrap();
        let mut next = async || stage.next().await.expect("an outcome");
        assert_eq!(next().await.elapsed, 5 * MS);
        let failed = next().await;
        assert_eq!(failed.result, Err(Failure::AttemptTimedOut));
        assert_eq!((failed.attempts, failed.elapsed), (3, 80 * MS));
        assert_eq!(next().await.elapsed, 19 * MS);
        assert_eq!((census.alive.load(SeqCst), census.ever.load(SeqCst)), (0, 5));
    });
}

#[test] // T6
fn a_ready_request_is_not_timed_out_by_a_late_poll() {
    run(async {
        let mut stage = stream::iter([10_u32])
            .async_wait(AsyncWait::ordered(1).timeout(20 * MS), ask)
            .in_place(Tokio)
            .unwrap();
        assert!(poll_once(stage.next()).is_pending());
        sleep(500 * MS).await; // the stage is not polled, and both instants pass
        assert_eq!(stage.next().await.expect("an outcome").result, Ok(100));
    });
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// tokio with a count of how often its timer is armed.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

struct CountingTimer(Pin<Box<TokioTimer>>, Counting);

impl Runtime for Counting {
    type Timer = CountingTimer;

    fn timer(&self) -> Result<CountingTimer, NoRuntime> {
        Ok(CountingTimer(Box::pin(Tokio.timer()?), self.clone()))
    }
}

impl Timer for CountingTimer {
    fn now(&self) -> inflight::Instant {
        self.0.now()
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<inflight::Instant>) {
        self.1.0.fetch_add(1, SeqCst);
        self.0.as_mut().arm(at);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

#[test] // T7: the runtime's timer is armed about once a timeout, not once a record
fn one_timer_serves_all_records() {
    run(async {
        let armed = Counting::default();
        let policy = AsyncWait::unordered(10).timeout(Duration::from_secs(1));
        let stage = stream::iter(0..20_000_u32)
            .async_wait(policy, |_| async {
                sleep(MS).await;
                Ok::<_, ()>(())
            })
            .in_place(armed.clone())
            .unwrap();
        let start = Instant::now();
        assert_eq!(stage.count().await, 20_000);
        assert_eq!(start.elapsed(), Duration::from_secs(2));
        let armed = armed.0.load(SeqCst);
        assert!((2..=4).contains(&armed), "armed {armed} times in two timeouts");
    });
}

#[test] // L6: a wake-up polls its request and no other
fn a_request_is_polled_when_it_is_woken() {
    run(async {
        let polls = Arc::new(AtomicUsize::new(0));
        let counter = polls.clone();
        let numbers = stream::iter((0..1000_u32).map(|n| n % 97));
        let stage = numbers
            .async_wait(AsyncWait::ordered(200).timeout(Duration::from_secs(9)), move |n| {
                let (mut answer, counter) = (Box::pin(ask(n)), counter.clone());
                std::future::poll_fn(move |cx| {
                    counter.fetch_add(1, SeqCst);
                    answer.as_mut().poll(cx)
                })
            })
            .spawn(Tokio)
            .unwrap();
        assert_eq!(stage.count().await, 1000);
        let in_vain = polls.load(SeqCst) - 1000;
        // One poll starts a request and one finishes it; the requests of 0 ms are ready at once.
        assert!(in_vain <= 1000, "{in_vain} polls that were not the last");
    });
}

#[test] // R1, R6
fn retries_follow_the_backoff() {
    run(async {
        let start = Instant::now();
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = told.clone();
        let policy = AsyncWait::ordered(1)
            .timeout(Duration::from_secs(1))
            .retry(ExponentialBackoff::new(100 * MS).max_retries(2));
        let mut stage = stream::iter([7_u32])
            .async_wait_with(
                policy,
                with_attempt(move |_: &u32, attempt: AttemptInfo| {
                    log.lock().unwrap().push((attempt.number, attempt.time_left));
                    ready(Err::<(), _>("busy"))
                }),
            )
            .spawn(Tokio)
            .unwrap();
        let outcome = stage.next().await.expect("an outcome");
        assert_eq!((outcome.result, outcome.attempts), (Err(Failure::Error("busy")), 3));
        assert_eq!(start.elapsed(), 300 * MS);
        let left = |used: u32| Some(Duration::from_secs(1) - used * MS);
        assert_eq!(*told.lock().unwrap(), [(1, left(0)), (2, left(100)), (3, left(300))]);
    });
}

// ---- panics --------------------------------------------------------------------------------------

#[test] // R6
fn a_function_that_takes_its_record_gets_a_clone_for_each_attempt() {
    async fn greet(mut name: String) -> Result<String, String> {
        let is_first = name == "Ada" && !ASKED.swap(true, SeqCst);
        name.push('!'); // its own clone: the next attempt does not see it
        if is_first { Err(name) } else { Ok(name) }
    }
    static ASKED: AtomicBool = AtomicBool::new(false);
    let outcomes = run(async {
        let policy = AsyncWait::ordered(4).retry(FixedDelay::new(MS));
        let names = stream::iter(["Ada", "Bob"].map(String::from));
        let stage = names.async_wait_owned(policy, greet).spawn(Tokio).unwrap();
        stage
            .map(|done| (done.input, done.result.unwrap(), done.attempts))
            .collect::<Vec<_>>()
            .await
    });
    let done = |name: &str, attempts| (name.to_owned(), format!("{name}!"), attempts);
    assert_eq!(outcomes, [done("Ada", 2), done("Bob", 1)]);
}

async fn explode(n: u32) -> Result<u32, ()> {
    assert!(n != 3, "three");
    Ok(n)
}

#[test] // F2, F3
fn a_panic_of_a_spawned_request_is_that_records_failure() {
    run(async {
        let outcomes: Vec<_> = stream::iter(1..=5_u32)
            .async_wait(AsyncWait::ordered(5), |n| explode(*n))
            .spawn_requests(Tokio)
            .spawn(Tokio)
            .unwrap()
            .collect()
            .await;
        assert_eq!(inputs(&outcomes), [1, 2, 3, 4, 5]);
        for outcome in outcomes {
            let expected =
                if outcome.input == 3 { Err(Failure::Panicked) } else { Ok(outcome.input) };
            assert_eq!(outcome.result, expected);
        }
    });
}

#[test] // F3
#[should_panic(expected = "the stage's task has panicked")]
fn a_panic_in_place_reaches_the_consumer_of_a_task() {
    run(async {
        let stage = stream::iter(1..=5_u32)
            .async_wait(AsyncWait::ordered(1), |n| explode(*n))
            .spawn(Tokio)
            .unwrap();
        stage.count().await
    });
}

#[test] // F3
fn a_panic_in_place_never_looks_like_the_end() {
    run(async {
        let mut stage = stream::iter(1..=5_u32)
            .async_wait(AsyncWait::ordered(1), |n| explode(*n))
            .in_place(Tokio)
            .unwrap();
        let mut panics = 0;
        for _ in 0..6 {
            let polled = AssertUnwindSafe(|| poll_once(stage.next()));
            match catch_unwind(polled) {
                Ok(polled) => assert!(!matches!(polled, Poll::Ready(None))),
                Err(_) => panics += 1,
            }
        }
        assert!(panics > 1, "the panic itself, and each poll after it");
    });
}

#[test] // F2: the runtime of the requests shuts down before the stage
fn a_cancelled_task_is_a_failure_of_its_own() {
    let other = paused();
    run(async {
        struct On(tokio::runtime::Handle);
        impl<F> inflight::Spawner<F> for On
        where
            F: Future + Send + 'static,
            F::Output: Send + 'static,
        {
            type Handle = inflight::TokioHandle<F::Output>;
            fn spawn(&self, future: F) -> Self::Handle {
                let _inside = self.0.enter();
                inflight::Spawner::spawn(&Tokio, future)
            }
        }
        let mut stage = stream::iter([1_u32])
            .async_wait(AsyncWait::ordered(1), |_| pending::<Result<(), ()>>())
            .spawn_requests(On(other.handle().clone()))
            .spawn(Tokio)
            .unwrap();
        assert!(tokio::time::timeout(MS, stage.next()).await.is_err());
        other.shutdown_background();
        let outcome = stage.next().await.expect("an outcome");
        assert_eq!(outcome.result, Err(Failure::Cancelled));
    });
}

#[test] // F3: a stage whose runtime is shut down does not claim to have finished
fn a_cancelled_stage_reports_its_cancellation() {
    let other = paused();
    let numbers = stream::iter([1_u32]).chain(stream::pending());
    let mut stage = other
        .block_on(async { numbers.async_wait(AsyncWait::ordered(1), ask).spawn(Tokio) })
        .unwrap();
    drop(other);
    run(async {
        assert_eq!(stage.next().await, None);
        assert_eq!(stage.end(), Some(Err(&StageError::Cancelled)));
    });
}

#[test] // F6: for a stage on a task of its own, also with a task for each request
fn a_failure_that_ends_the_job_does_not_wait() {
    let ask = |number: &u32| {
        let number = *number;
        async move {
            tokio::time::sleep(if number == 1 { 60_000 * MS } else { number * MS }).await;
            if number == 3 { Err("fatal") } else { Ok(number) }
        }
    };
    for on_tasks in [false, true] {
        run(async {
            let start = tokio::time::Instant::now();
            let stage = stream::iter(1..).async_wait(AsyncWait::ordered(8), ask);
            let stage = stage.fail_fast(|failure| failure.error().is_some());
            let mut stage = match on_tasks {
                true => stage.spawn_requests(Tokio).spawn(Tokio).unwrap(),
                false => stage.spawn(Tokio).unwrap(),
            };
            let last = stage.next().await.expect("an outcome");
            assert_eq!((last.input, last.result), (3, Err(Failure::Error("fatal"))));
            assert!(start.elapsed() < 10 * MS);
            assert_eq!(stage.next().await, None);
            assert_eq!(stage.end(), Some(Err(&StageError::Failed)));
            let m = stage.metrics();
            assert_eq!((m.emitted, m.failed, m.dropped, m.in_flight), (1, 1, 7, 0));
        });
    }
}

// ---- starting ------------------------------------------------------------------------------------

#[test] // C1
fn a_stage_that_cannot_start_returns_the_reason() {
    let numbers = || stream::iter([1_u32]);
    let no_runtime = numbers().async_wait(AsyncWait::ordered(1), ask).spawn(Tokio);
    assert_eq!(no_runtime.map(|_| ()), Err(StartError::NoRuntime(NoRuntime)));
    run(async {
        let empty = numbers().async_wait(AsyncWait::ordered(0), ask).spawn(Tokio);
        assert_eq!(empty.map(|_| ()), Err(StartError::Config(ConfigError::ZeroCapacity)));
        let checkpoint = Checkpoint::new(CheckpointId(1));
        let unnamed = numbers()
            .async_wait(AsyncWait::ordered(1), ask)
            .restore(Some(&checkpoint))
            .in_place(Tokio);
        let expected = StartError::Restore(RestoreError::NotCheckpointed);
        assert_eq!(unnamed.map(|_| ()), Err(expected));
        let message = StartError::Config(ConfigError::ZeroCapacity).to_string();
        assert_eq!(message, "the stage's policy: the capacity is zero; it must be at least 1");
    });
}

// ---- checkpoints ---------------------------------------------------------------------------------

#[test] // K1, K3, K4, K5
fn a_barrier_carries_records_in_flight_into_the_next_life() {
    run(async {
        let policy = AsyncWait::ordered(4);
        let barrier = Barrier::snapshot(Checkpoint::new(CheckpointId(1)));
        let first_life = stream::iter([1_u32, 50, 60].map(StreamElement::value))
            .chain(stream::once(async {
                sleep(10 * MS).await;
                StreamElement::Barrier(barrier)
            }))
            .chain(stream::pending());
        let mut stage = Box::pin(first_life)
            .async_wait(policy, |n: &u32| ask(n))
            .checkpointed("stage", 1)
            .spawn(Tokio)
            .unwrap();
        let Some(StreamElement::Record { value, .. }) = stage.next().await else { panic!() };
        assert_eq!(value.input, 1);
        let Some(StreamElement::Barrier(barrier)) = stage.next().await else { panic!() };
        drop(stage); // the crash

        let second_life = stream::iter([70_u32, 80, 90].map(StreamElement::value));
        let mut stage = second_life
            .async_wait(AsyncWait::ordered(1), |n: &u32| ask(n))
            .checkpointed("stage", 1)
            .restore(Some(&barrier.checkpoint))
            .spawn(Tokio)
            .unwrap();
        let mut story = Vec::new();
        while let Some(StreamElement::Record { value, .. }) = stage.next().await {
            story.push((value.input, value.attempts));
        }
        assert_eq!(story, [(50, 2), (60, 2), (70, 1), (80, 1), (90, 1)]);
    });
}

#[test] // C2, K5: restored records do not exceed the capacity either
fn a_restore_into_less_capacity_keeps_to_it() {
    run(async {
        let barrier = Barrier::snapshot(Checkpoint::new(CheckpointId(1)));
        let first_life = stream::iter((0..50_u32).map(StreamElement::value))
            .chain(stream::once(async { StreamElement::Barrier(barrier) }));
        let mut stage = Box::pin(first_life)
            .async_wait(AsyncWait::ordered(60), |_: &u32| pending::<Result<(), ()>>())
            .checkpointed("stage", 1)
            .spawn(Tokio)
            .unwrap();
        let Some(StreamElement::Barrier(barrier)) = stage.next().await else { panic!() };

        let started = Arc::new(AtomicUsize::new(0));
        let counter = started.clone();
        let second_life = stream::iter([StreamElement::value(50_u32)]);
        let mut stage = second_life
            .async_wait(AsyncWait::ordered(4), move |n: &u32| {
                counter.fetch_add(1, SeqCst);
                ready(Ok::<_, ()>(*n))
            })
            .checkpointed("stage", 1)
            .restore(Some(&barrier.checkpoint))
            .spawn(Tokio)
            .unwrap();
        for n in 0..=50_u32 {
            sleep(MS).await;
            assert!(started.load(SeqCst) <= n as usize + 4, "{n} taken");
            let Some(StreamElement::Record { value, .. }) = stage.next().await else { panic!() };
            assert_eq!(value.input, n);
        }
    });
}

/// A checkpoint of a stage with one record done, twenty after it that their timeout handler has dropped, and two that
/// run.
fn with_dropped_records() -> Checkpoint {
    let at = |millis: u32| inflight::Instant::ZERO + millis * MS;
    let mut op = AsyncWait::ordered(80)
        .timeout(10 * MS)
        .build_core::<u32, u32, ()>()
        .expect("a sound policy")
        .checkpointed_with(Checkpointing::new("stage", 1).keeping_results());
    let mut push = |at, values: std::ops::Range<u32>| {
        values.for_each(|value| op.push(at, StreamElement::value(value)).expect("room"));
        std::iter::from_fn(|| op.poll_attempt(at).map(|call| call.id)).collect::<Vec<_>>()
    };
    let first = push(at(0), 0..21);
    push(at(5), 21..23);
    assert_eq!(op.handle_completion(at(1), first[0], Ok(0)), Completion::Outcome);
    while let Some(expired) = op.handle_deadline(at(10)) {
        assert!(op.resolve_timeout(expired.id(), |_| TimeoutAction::Drop));
    }
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    op.snapshot(at(10), &mut checkpoint).expect("a snapshot");
    checkpoint
}

#[test] // L6, T3: a dropped record makes room although no outcome leaves for it
fn dropped_records_do_not_block_a_stage() {
    let checkpoint = with_dropped_records();
    for capacity in [1, 2, 5, 30] {
        run(async {
            let mut stage = stream::iter([23_u32, 24])
                .async_wait(AsyncWait::ordered(capacity), |n| ready(Ok::<_, ()>(*n)))
                .checkpointed_with(Checkpointing::new("stage", 1).keeping_results())
                .restore(Some(&checkpoint))
                .spawn(Tokio)
                .unwrap();
            let mut story = Vec::new();
            let all = async {
                while let Some(done) = stage.next().await {
                    story.push(done.input);
                }
            };
            let ended = tokio::time::timeout(Duration::from_secs(60), all).await;
            assert!(ended.is_ok(), "capacity {capacity}: it sleeps for ever after {story:?}");
            assert_eq!(story, [0, 21, 22, 23, 24]);
        });
    }
}

#[test] // E1: two stages in a row, with plain values
fn stages_can_be_chained() {
    run(async {
        let mut chained = stream::iter([3_u32, 1, 2])
            .async_wait(AsyncWait::ordered(2), ask)
            .spawn(Tokio)
            .unwrap()
            .filter_map(|done| ready(done.result.ok()))
            .async_wait(AsyncWait::unordered(2), ask)
            .in_place(Tokio)
            .unwrap();
        let mut sum = 0;
        while let Some(done) = chained.next().await {
            sum += done.result.expect("an answer");
        }
        assert_eq!(sum, 600);
        let _: InPlace; // the default way to run requests has a name
    });
}

// ---- life ----------------------------------------------------------------------------------------

/// A function that logs its calls; opening and closing take 5 ms each.
struct Diary {
    log: Arc<Mutex<Vec<String>>>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    opens: Result<(), &'static str>,
}

impl Diary {
    fn new(opens: Result<(), &'static str>) -> (Self, Arc<Mutex<Vec<String>>>) {
        let log = Arc::new(Mutex::new(Vec::new()));
        (Self { log: log.clone(), pause: None, opens }, log)
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(5 * MS)));
        let polled = pause.as_mut().poll(cx);
        if polled.is_ready() {
            self.pause = None;
        }
        polled
    }

    fn note(&self, what: impl Into<String>) {
        self.log.lock().expect("the log").push(what.into());
    }
}

impl AsyncFunction<u32> for Diary {
    type Output = u32;
    type Error = &'static str;
    type Future = Pin<Box<dyn Future<Output = Result<u32, &'static str>> + Send>>;

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        std::task::ready!(self.poll_pause(cx));
        self.note("open");
        Poll::Ready(self.opens)
    }

    fn invoke(&mut self, input: &u32, _: AttemptInfo) -> Self::Future {
        self.note(input.to_string());
        Box::pin(ask(input))
    }

    fn on_timeout(
        &mut self,
        TimedOutCall { input, .. }: TimedOutCall<'_, u32, u32, Self::Error>,
    ) -> TimeoutAction<u32, Self::Error> {
        self.note(format!("{input} timed out"));
        if *input > 100 { TimeoutAction::Drop } else { TimeoutAction::Output(0) }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        std::task::ready!(self.poll_pause(cx));
        self.note("close");
        Poll::Ready(())
    }
}

#[test] // L4, T3
fn a_function_is_opened_and_closed_once() {
    run(async {
        let (diary, log) = Diary::new(Ok(()));
        let policy = AsyncWait::ordered(9).timeout(20 * MS);
        let start = Instant::now();
        let mut stage =
            stream::iter([3_u32, 50, 500]).async_wait_with(policy, diary).spawn(Tokio).unwrap();
        assert_eq!(stage.next().await.expect("an outcome").result, Ok(30));
        assert_eq!(stage.next().await.expect("an outcome").result, Ok(0), "the fallback");
        assert_eq!(stage.next().await, None, "500 was dropped");
        assert_eq!(stage.next().await, None);
        assert_eq!((stage.end(), start.elapsed()), (Some(Ok(())), 30 * MS));
        let story = ["open", "3", "50", "500", "50 timed out", "500 timed out", "close"];
        assert_eq!(*log.lock().unwrap(), story);
        for metrics in [stage.metrics(), stage.handle().metrics()] {
            assert_eq!((metrics.records_in, metrics.emitted, metrics.dropped), (3, 2, 1));
        }
    });
}

#[test] // L4: it is closed also after opening has failed
fn a_function_that_cannot_be_opened_ends_the_stage() {
    run(async {
        for own_task in [true, false] {
            let (diary, log) = Diary::new(Err("no such host"));
            let unstarted = stream::iter([1_u32]).async_wait_with(AsyncWait::ordered(1), diary);
            let expected = Some(Err(StageError::Open("no such host")));
            if own_task {
                let mut stage = unstarted.spawn(Tokio).unwrap();
                assert_eq!(stage.next().await, None);
                assert_eq!(stage.end().map(|end| end.map_err(Clone::clone)), expected);
            } else {
                let mut stage = unstarted.in_place(Tokio).unwrap();
                assert_eq!(stage.next().await, None);
                assert_eq!(stage.end().map(|end| end.map_err(Clone::clone)), expected);
            }
            assert_eq!(*log.lock().unwrap(), ["open", "close"]);
        }
    });
}

#[test] // L3
fn a_stage_stops_within_a_limit() {
    run(async {
        let source = || stream::iter([1_u32, 30, 500]).chain(stream::pending());
        let policy = AsyncWait::ordered(9);
        let start = Instant::now();
        let mut stage = source().async_wait(policy, ask).spawn(Tokio).unwrap();
        let handle = stage.handle();
        assert_eq!(stage.next().await.expect("an outcome").input, 1);
        handle.stop_within(50 * MS);
        assert_eq!(stage.next().await.expect("an outcome").result, Ok(300));
        assert_eq!(stage.next().await.expect("an outcome").result, Err(Failure::ShutDown));
        assert_eq!(stage.next().await, None);
        assert_eq!(start.elapsed(), 51 * MS);

        let mut stage = source().async_wait(policy, ask).in_place(Tokio).unwrap();
        assert_eq!(stage.next().await.expect("an outcome").input, 1);
        std::pin::Pin::new(&mut stage).stop();
        let rest: Vec<_> = stage.collect().await;
        assert_eq!(inputs(&rest), [30, 500], "without a limit all finish");
    });
}

/// A channel that has accepted the numbers from 1 to 9.
fn accepted() -> mpsc::UnboundedReceiver<u32> {
    let (sender, receiver) = mpsc::unbounded();
    (1..10).for_each(|n| sender.unbounded_send(n).unwrap());
    receiver
}

#[test] // L3
fn a_stopped_stage_hands_back_what_it_has_not_taken() {
    run(async {
        for limit in [None, Some(MS)] {
            let (numbers, mut lender) = accepted().lend();
            let mut stage = numbers.async_wait(AsyncWait::ordered(3), ask).spawn(Tokio).unwrap();
            let first = stage.next().await.unwrap().input;
            assert!(lender.take_back().is_none(), "the stage has it");
            match limit {
                None => stage.handle().stop(),
                Some(limit) => stage.handle().stop_within(limit),
            }
            let taken: Vec<_> = stage.by_ref().map(|done| done.input).collect().await;
            assert_eq!((first, taken.len(), stage.end()), (1, 2, Some(Ok(()))));
            let mut rest = lender.take_back().expect("the stage has ended");
            rest.close();
            assert_eq!(rest.collect::<Vec<_>>().await, [4, 5, 6, 7, 8, 9]);
            assert!(lender.take_back().is_none(), "it was taken back");
        }
    });
}

#[test] // L3
fn a_stage_that_ends_otherwise_hands_its_source_back_too() {
    let rest = |mut lender: inflight::Lender<mpsc::UnboundedReceiver<u32>>| async move {
        let mut rest = lender.take_back().expect("the stage is done with it");
        rest.close();
        rest.collect::<Vec<_>>().await
    };
    run(async {
        // It cannot start.
        let (numbers, lender) = accepted().lend();
        assert!(numbers.async_wait(AsyncWait::ordered(0), ask).spawn(Tokio).is_err());
        assert_eq!(rest(lender).await.len(), 9);
        // A failure ends the job.
        let (numbers, lender) = accepted().lend();
        let fail = |_: &u32| ready(Err::<u32, _>("down"));
        let stage = numbers.async_wait(AsyncWait::ordered(3), fail).fail_fast(|_| true);
        assert_eq!(stage.spawn(Tokio).unwrap().count().await, 1);
        assert_eq!(rest(lender).await, [2, 3, 4, 5, 6, 7, 8, 9]);
        // It is dropped.
        let (numbers, lender) = accepted().lend();
        let mut stage = numbers.async_wait(AsyncWait::ordered(3), ask).in_place(Tokio).unwrap();
        assert_eq!(stage.next().await.unwrap().input, 1);
        drop(stage);
        assert_eq!(rest(lender).await, [4, 5, 6, 7, 8, 9]);
    });
}

#[test] // L2, L3: also when a request panics, or nobody takes the stage's outcomes any more
fn a_stage_that_breaks_off_hands_its_source_back_too() {
    run(async {
        let (numbers, mut lender) = accepted().lend();
        let broken = |_: &u32| -> std::future::Ready<Result<u32, &str>> { panic!("planned") };
        let mut stage = numbers.async_wait(AsyncWait::ordered(3), broken).spawn(Tokio).unwrap();
        let next = std::panic::AssertUnwindSafe(async { stage.next().await });
        let panicked = futures::FutureExt::catch_unwind(next).await;
        assert!(panicked.is_err(), "{panicked:?}");
        let mut rest = lender.take_back().expect("the stage is gone");
        rest.close();
        assert_eq!(rest.count().await, 8);

        let (numbers, mut lender) = accepted().lend();
        let mut stage = numbers.async_wait(AsyncWait::ordered(3), ask).spawn(Tokio).unwrap();
        assert_eq!(stage.next().await.unwrap().input, 1);
        drop(stage);
        sleep(MS).await; // on the paused clock: the runtime drops the task
        assert!(lender.take_back().is_some());
    });
}

#[test] // L3, L4: an opening that never ends delays a stop only up to its limit
fn a_stage_that_is_still_opening_stops_within_a_limit() {
    struct NeverOpen;
    impl AsyncFunction<u32> for NeverOpen {
        type Output = ();
        type Error = ();
        type Future = std::future::Ready<Result<(), ()>>;
        fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
            Poll::Pending
        }
        fn invoke(&mut self, _: &u32, _: AttemptInfo) -> Self::Future {
            unreachable!("it was never opened")
        }
    }
    run(async {
        let source = stream::iter([1_u32]);
        let mut stage =
            source.async_wait_with(AsyncWait::ordered(1), NeverOpen).spawn(Tokio).unwrap();
        let start = Instant::now();
        stage.handle().stop_within(7 * MS);
        assert_eq!(stage.next().await.map(|done| done.input), None);
        assert_eq!((stage.end(), start.elapsed()), (Some(Ok(())), 7 * MS));
    });
}

#[test] // C7, C8
fn limits_change_while_a_stage_runs() {
    run(async {
        let census = Census::default();
        let requests = census.clone();
        let policy = AsyncWait::unordered(4).max_capacity(32).max_running(2);
        let mut stage = stream::iter(0..200_u32)
            .async_wait(policy, move |_| {
                let alive = requests.enter();
                async move {
                    sleep(MS).await;
                    drop(alive);
                    Ok::<_, ()>(())
                }
            })
            .spawn(Tokio)
            .unwrap();
        let handle = stage.handle();
        let mut take = async |n| {
            for _ in 0..n {
                assert!(stage.next().await.is_some());
            }
        };
        take(20).await;
        assert_eq!((census.most.load(SeqCst), handle.metrics().capacity), (2, 4));
        assert_eq!(handle.set_max_running(100), Ok(()));
        take(40).await;
        assert_eq!(census.most.load(SeqCst), 4);
        assert_eq!(handle.set_capacity(32), Ok(()));
        take(140).await;
        assert_eq!((census.most.load(SeqCst), handle.metrics().capacity), (32, 32));
        let too_large = ConfigError::CapacityTooLarge { capacity: 33, maximum: 32 };
        assert_eq!(handle.set_capacity(33), Err(too_large));
    });
}

#[test] // O3
fn keys_run_one_at_a_time_or_overlap() {
    run(async {
        let readings = || stream::iter([("a", 9_u32), ("b", 5), ("a", 1), ("b", 1)]);
        let ask_for = |reading: &(&'static str, u32)| ask(&reading.1);
        let key = |reading: &(&'static str, u32)| reading.0;
        let serial = AsyncWait::ordered_by_key(9, key);
        let start = Instant::now();
        let outcomes: Vec<_> =
            readings().async_wait(serial, ask_for).spawn(Tokio).unwrap().collect().await;
        assert_eq!(inputs(&outcomes), [("b", 5), ("b", 1), ("a", 9), ("a", 1)]);
        assert_eq!(start.elapsed(), 10 * MS);
        let overlapping = AsyncWait::ordered_by_key(9, key).overlapping();
        let start = Instant::now();
        let outcomes: Vec<_> =
            readings().async_wait(overlapping, ask_for).in_place(Tokio).unwrap().collect().await;
        assert_eq!(inputs(&outcomes), [("b", 5), ("b", 1), ("a", 9), ("a", 1)]);
        assert_eq!(start.elapsed(), 9 * MS);
    });
}

#[test] // M1
fn numbers_can_be_read_while_a_stage_runs() {
    run(async {
        let mut stage = stream::iter([10_u32, 20, 500])
            .chain(stream::pending())
            .async_wait(AsyncWait::ordered(3), ask)
            .spawn(Tokio)
            .unwrap();
        let handle = stage.handle();
        assert_eq!(stage.next().await.expect("an outcome").input, 10);
        sleep(100 * MS).await;
        let metrics = handle.metrics();
        assert_eq!((metrics.records_in, metrics.in_flight, metrics.running), (3, 1, 1));
        assert_eq!((metrics.emitted, metrics.attempts, metrics.failed), (2, 3, 0));
        drop(stage);
        tokio::task::yield_now().await;
        assert_eq!(handle.metrics().records_in, 3, "also when the stage is gone");
    });
}

#[test] // R5
fn the_end_of_the_input_may_start_one_last_attempt() {
    run(async {
        let policy = AsyncWait::ordered(9)
            .retry(FixedDelay::new(Duration::from_secs(60)).max_retries(9))
            .finish_policy(FinishPolicy::LastAttempt);
        let start = Instant::now();
        let stage = stream::iter([1_u32])
            .chain(stream::once(async {
                sleep(9 * MS).await;
                2
            }))
            .async_wait(policy, |_| ready(Err::<(), _>("busy")));
        let mut stage = std::pin::pin!(stage.in_place(Tokio).unwrap());
        let mut attempts = Vec::new();
        while let Some(done) = stage.next().await {
            attempts.push((done.input, done.attempts));
        }
        assert_eq!((attempts, start.elapsed()), (vec![(1, 2), (2, 2)], 9 * MS));
    });
}
