//! One pool of permits over several stages (C9), on tokio's paused clock; at the end also on real threads.

use std::future::{Future, pending, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use inflight::prelude::*;
use inflight::{BarrierSignal, ConfigError, FixedDelay, Permits};
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

/// Counts requests that run, in all stages that it is given to.
#[derive(Clone, Default)]
struct Service(Arc<Counts>);

#[derive(Default)]
struct Counts {
    running: AtomicUsize,
    most: AtomicUsize,
    asked: AtomicUsize,
}

/// A request that runs from its start until it ends or is cancelled.
struct Running(Arc<Counts>);

impl Service {
    /// A request, which runs from this call on: a stage calls this for each attempt.
    fn start(&self) -> Running {
        let running = self.0.running.fetch_add(1, SeqCst) + 1;
        self.0.most.fetch_max(running, SeqCst);
        self.0.asked.fetch_add(1, SeqCst);
        Running(Arc::clone(&self.0))
    }

    /// Answers ten times the number after `time`.
    fn ask(
        &self,
        time: Duration,
    ) -> impl Fn(&u32) -> Pin<Box<dyn Future<Output = Result<u32, ()>> + Send>> + Clone + Send + use<>
    {
        let service = self.clone();
        move |number| {
            let (number, running) = (*number, service.start());
            Box::pin(async move {
                sleep(time).await;
                drop(running);
                Ok(number * 10)
            })
        }
    }

    fn running(&self) -> usize {
        self.0.running.load(SeqCst)
    }

    fn most(&self) -> usize {
        self.0.most.load(SeqCst)
    }

    fn asked(&self) -> usize {
        self.0.asked.load(SeqCst)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

/// Runs a test on the paused clock.
fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().expect("a runtime").block_on(test)
}

fn pool(permits: usize) -> Permits {
    Permits::new(permits).expect("more than zero")
}

fn inputs<Out, E>(outcomes: &[Outcome<u32, Out, E>]) -> Vec<u32> {
    outcomes.iter().map(|outcome| outcome.input).collect()
}

/// Polls a stage that has no output yet, until it has nothing to do.
fn poll<St: Stream>(mut stage: Pin<&mut St>) {
    for _ in 0..3 {
        assert!(stage.as_mut().poll_next(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

type Outcomes = BoxStream<'static, Outcome<u32, u32, ()>>;

/// A stage over the numbers, in each way in which it can run.
fn stage(way: usize, pool: &Permits, service: &Service, numbers: u32) -> Outcomes {
    let (numbers, ask) = (stream::iter(0..numbers), service.ask(10 * MS));
    match way {
        0 => numbers
            .async_wait(AsyncWait::ordered(8), ask)
            .permits(pool)
            .in_place(Tokio)
            .unwrap()
            .boxed(),
        1 => numbers
            .async_wait(AsyncWait::unordered(8), ask)
            .permits(pool)
            .spawn(Tokio)
            .unwrap()
            .boxed(),
        2 => {
            let policy = AsyncWait::ordered_by_key(8, |n: &u32| n % 3);
            numbers.async_wait(policy, ask).permits(pool).spawn(Tokio).unwrap().boxed()
        }
        3 => {
            let builder = numbers.async_wait(AsyncWait::ordered(8), ask).permits(pool);
            builder.spawn_requests(Tokio).spawn(Tokio).unwrap().boxed()
        }
        4 => {
            let builder = numbers.async_wait(AsyncWait::unordered(8), ask).permits(pool);
            Box::pin(builder.in_place_over(Tokio, Fixed::<8>).unwrap())
        }
        _ => {
            let (send, receive) = futures::channel::mpsc::unbounded();
            let builder = numbers.async_wait(AsyncWait::ordered(8), ask).permits(pool);
            let run = builder.in_place(Tokio).unwrap().run(move |outcome| {
                send.unbounded_send(outcome).expect("the test listens");
                ready(())
            });
            tokio::spawn(run);
            receive.boxed()
        }
    }
}

#[test] // C9, O1, O2, O3, E2
fn no_more_requests_run_than_there_are_permits() {
    for (way, other) in [(0, 0), (1, 2), (3, 3), (4, 4), (5, 0), (1, 4), (5, 3)] {
        run(async {
            let (pool, service) = (pool(3), Service::default());
            let start = Instant::now();
            let stages = [way, other].map(|way| stage(way, &pool, &service, 30));
            let [first, second] = stages.map(|stage| stage.collect::<Vec<_>>());
            let (first, second) = futures::join!(first, second);
            for (way, outcomes) in [(way, first), (other, second)] {
                let mut numbers = inputs(&outcomes);
                if [1, 2, 4].contains(&way) {
                    numbers.sort_unstable();
                }
                assert!(numbers.into_iter().eq(0..30), "{way}");
                assert!(outcomes.iter().all(|done| done.result == Ok(done.input * 10)));
            }
            assert_eq!(
                (service.most(), service.asked(), pool.in_use()),
                (3, 60, 0),
                "{way} {other}"
            );
            assert_eq!(start.elapsed(), 20 * 10 * MS, "all permits are in use all the time");
        });
    }
}

#[test] // C9: first come, first served
fn a_stage_with_much_to_do_does_not_starve_another() {
    run(async {
        let (pool, service) = (pool(1), Service::default());
        let busy = stream::iter(0..).async_wait(AsyncWait::unordered(64), service.ask(MS));
        let busy = busy.permits(&pool).spawn(Tokio).unwrap();
        let draining = tokio::spawn(busy.for_each(|_| ready(())));
        sleep(10 * MS).await;
        let start = Instant::now();
        let other = stream::iter(0..10).async_wait(AsyncWait::ordered(4), service.ask(MS));
        let outcomes: Vec<_> = other.permits(&pool).spawn(Tokio).unwrap().collect().await;
        assert_eq!(outcomes.len(), 10);
        let took = start.elapsed();
        assert!(took <= 22 * MS, "every second request is its own: {took:?}");
        assert_eq!(service.most(), 1);
        draining.abort();
    });
}

#[test] // C9, C5, T1
fn waiting_for_a_permit_costs_no_timeout() {
    run(async {
        let (pool, service) = (pool(1), Service::default());
        let first = stream::iter([1]).async_wait(AsyncWait::ordered(1), service.ask(100 * MS));
        let mut first = first.permits(&pool).spawn(Tokio).unwrap();
        tokio::task::yield_now().await;
        let policy = AsyncWait::ordered(2).timeout(10 * MS).attempt_timeout(10 * MS);
        let second = stream::iter([2, 3]).async_wait(policy, service.ask(5 * MS));
        let mut second = second.permits(&pool).in_place(Tokio).unwrap();
        let start = Instant::now();
        for at in [105, 110] {
            let outcome = second.next().await.unwrap();
            assert_eq!(outcome.result, Ok(outcome.input * 10));
            assert_eq!((outcome.elapsed, start.elapsed()), (5 * MS, at * MS));
        }
        assert!(first.next().await.is_some());
    });
}

#[test] // C9, R3: a record in backoff holds no permit
fn a_backoff_holds_no_permit() {
    run(async {
        let (pool, service) = (pool(1), Service::default());
        let fails = {
            let service = service.clone();
            move |_: &u32| {
                drop(service.start());
                ready(Err::<u32, ()>(()))
            }
        };
        let retry = FixedDelay::new(100 * MS).max_retries(1);
        let policy = AsyncWait::ordered(1).retry(retry);
        let failing = stream::iter([1]).async_wait(policy, fails).permits(&pool);
        let mut failing = failing.spawn(Tokio).unwrap();
        tokio::task::yield_now().await;
        let start = Instant::now();
        let other = stream::iter([2]).async_wait(AsyncWait::ordered(1), service.ask(5 * MS));
        let outcomes: Vec<_> = other.permits(&pool).spawn(Tokio).unwrap().collect().await;
        assert_eq!((outcomes.len(), start.elapsed()), (1, 5 * MS));
        assert_eq!(failing.next().await.unwrap().attempts, 2);
    });
}

#[test] // C9, L2
fn a_stage_that_is_dropped_gives_its_permits_back_and_its_turn_on() {
    run(async {
        let (pool, service) = (pool(2), Service::default());
        let [holds, waits, last] = [(); 3].map(|()| {
            let stage = stream::iter(0..2).async_wait(AsyncWait::ordered(2), service.ask(MS));
            Box::pin(stage.permits(&pool).in_place(Tokio).unwrap())
        });
        let (mut holds, mut waits, mut last) = (holds, waits, last);
        for stage in [&mut holds, &mut waits, &mut last] {
            poll(stage.as_mut());
        }
        assert_eq!((service.running(), service.asked(), pool.in_use()), (2, 2, 2));
        drop(holds);
        // The stage that waits has been granted one permit, and is never polled again.
        assert_eq!((service.running(), pool.in_use()), (0, 2));
        drop(waits);
        assert_eq!(last.collect::<Vec<_>>().await.len(), 2);
        assert_eq!((service.asked(), pool.in_use()), (4, 0));
    });
}

#[test] // C9, L3, F6
fn a_stage_that_ends_early_gives_its_permits_back() {
    run(async {
        let service = Service::default();
        for is_failing in [false, true] {
            let pool = pool(2);
            let ask = {
                let service = service.clone();
                move |number: &u32| {
                    let (fails, running) = (*number == 1 && is_failing, service.start());
                    async move {
                        if !fails {
                            pending::<()>().await;
                        }
                        drop(running);
                        Err::<u32, ()>(())
                    }
                }
            };
            // It is kept after its end, and it is in line for a third permit when it ends.
            let stage = stream::iter(0..).async_wait(AsyncWait::ordered(4), ask);
            let mut stage = stage.permits(&pool).fail_fast(|_| true).in_place(Tokio).unwrap();
            if !is_failing {
                poll(Pin::new(&mut stage));
                assert_eq!((service.running(), pool.in_use()), (2, 2));
                Pin::new(&mut stage).stop_within(5 * MS);
            }
            while stage.next().await.is_some() {}
            assert_eq!((service.running(), pool.in_use()), (0, 0));
            let other = stream::iter(0..3).async_wait(AsyncWait::ordered(3), service.ask(MS));
            let outcomes: Vec<_> = other.permits(&pool).spawn(Tokio).unwrap().collect().await;
            assert_eq!(outcomes.len(), 3);
        }
    });
}

#[test] // C9, C8
fn the_limit_can_change_at_any_time() {
    run(async {
        let (pool, service) = (pool(1), Service::default());
        let endless =
            || stream::iter(0..).async_wait(AsyncWait::unordered(8), service.ask(10 * MS));
        let _draining = [endless(), endless()].map(|stage| {
            let stage = stage.permits(&pool).spawn(Tokio).unwrap();
            tokio::spawn(stage.for_each(|_| ready(())))
        });
        for (limit, running) in [(1, 1), (5, 5), (100, 16), (2, 2), (7, 7)] {
            pool.set_limit(limit).unwrap();
            sleep(15 * MS).await;
            assert_eq!(service.running(), running, "{limit}");
            assert_eq!((pool.limit(), pool.in_use()), (limit, running));
        }
    });
}

#[test] // C9, C1
fn a_pool_has_at_least_one_permit() {
    assert_eq!(Permits::new(0).unwrap_err(), ConfigError::ZeroPermits);
    let pool = pool(2);
    assert_eq!(pool.set_limit(0), Err(ConfigError::ZeroPermits));
    assert_eq!(pool.limit(), 2);
}

#[test] // C9, C7
fn the_limit_of_a_stage_holds_too() {
    run(async {
        let (pool, service) = (pool(10), Service::default());
        let policy = AsyncWait::unordered(8).max_running(2);
        let limited = stream::iter(0..20).async_wait(policy, service.ask(10 * MS)).permits(&pool);
        let outcomes: Vec<_> = limited.spawn(Tokio).unwrap().collect().await;
        assert_eq!((outcomes.len(), service.most(), pool.in_use()), (20, 2, 0));
    });
}

#[test] // C9: no record starts beside the permits because its request would be ready at once
fn requests_that_are_ready_at_once_need_permits() {
    run(async {
        let (pool, service) = (pool(1), Service::default());
        let ready_at_once = {
            let service = service.clone();
            move |number: &u32| {
                drop(service.start());
                ready(Ok::<_, ()>(*number))
            }
        };
        let quick = stream::iter(0..100).async_wait(AsyncWait::ordered(8), ready_at_once);
        let mut quick = pin!(quick.permits(&pool).in_place(Tokio).unwrap());
        let slow = stream::iter(0..1).async_wait(AsyncWait::ordered(1), service.ask(MS));
        let slow = slow.permits(&pool).in_place(Tokio).unwrap();
        let mut slow = Box::pin(slow);
        assert!(quick.next().await.is_some());
        poll(slow.as_mut());
        let asked = service.asked();
        while let Ok(Some(_)) = timeout(MS / 2, quick.next()).await {}
        assert_eq!(service.asked(), asked, "the other stage has the only permit");
        assert!(slow.next().await.is_some());
        drop(slow);
        while quick.next().await.is_some() {}
        assert_eq!((service.most(), service.asked(), pool.in_use()), (1, 101, 0));
    });
}

#[test] // C9, K11
fn a_barrier_does_not_wait_for_a_permit() {
    run(async {
        let (pool, service) = (pool(1), Service::default());
        let holds = stream::iter([1]).async_wait(AsyncWait::ordered(1), service.ask(1000 * MS));
        let mut holds = pin!(holds.permits(&pool).in_place(Tokio).unwrap());
        poll(holds.as_mut());
        // With room, and without.
        for capacity in [1, 4] {
            let signal = BarrierSignal::new();
            let barrier =
                StreamElement::Barrier(Barrier::snapshot(Checkpoint::new(CheckpointId(1))));
            let elements = [2, 3].map(StreamElement::value).into_iter().chain([barrier]);
            let source = stream::iter(elements).chain(stream::pending());
            let waits = source
                .async_wait(AsyncWait::ordered(capacity), service.ask(MS))
                .checkpointed("waits", 1)
                .barriers(&signal)
                .permits(&pool);
            let mut waits = waits.spawn(Tokio).unwrap();
            tokio::task::yield_now().await;
            signal.announce();
            let start = Instant::now();
            let Some(StreamElement::Barrier(barrier)) = waits.next().await else { panic!() };
            assert_eq!((start.elapsed(), service.running()), (Duration::ZERO, 1));
            // Both records are in its snapshot.
            let restored = stream::empty::<StreamElement<u32>>()
                .async_wait(AsyncWait::ordered(capacity), service.ask(MS))
                .checkpointed("waits", 1)
                .restore(&barrier.checkpoint);
            assert_eq!(restored.spawn(Tokio).unwrap().count().await, 2);
        }
    });
}

#[test] // C9, L6, E2
fn stages_on_many_threads_share_permits() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let (pool, service) = (pool(3), Service::default());
    let ask = {
        let service = service.clone();
        move |number: &u32| {
            let (number, running) = (*number, service.start());
            async move {
                if !number.is_multiple_of(3) {
                    tokio::task::yield_now().await;
                }
                drop(running);
                Ok::<_, ()>(number)
            }
        }
    };
    let stages: Vec<_> = (0..6)
        .map(|which: usize| {
            let builder =
                stream::iter(0..5_000).async_wait(AsyncWait::ordered(1 + which), ask.clone());
            let builder = builder.permits(&pool);
            runtime.spawn(async move {
                let mut outcomes = match which {
                    0 | 1 => builder.in_place(Tokio).unwrap().boxed(),
                    2 => builder.spawn_requests(Tokio).spawn(Tokio).unwrap().boxed(),
                    _ => builder.spawn(Tokio).unwrap().boxed(),
                };
                // Two of them are dropped, in line or with permits.
                let wanted = if which < 4 { 5_000 } else { 2_000 };
                for number in 0..wanted {
                    assert_eq!(outcomes.next().await.unwrap().input, number);
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for stage in stages {
            stage.await.unwrap();
        }
    });
    drop(runtime); // all tasks are gone
    assert!(service.most() <= 3, "{}", service.most());
    assert_eq!((service.running(), pool.in_use()), (0, 0));
}
