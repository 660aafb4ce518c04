//! The operator on real threads: requests of tokio wake workers that sleep, also on tasks of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inflight_core::{AsyncWait, AsyncWaitExt, Failure, Outcome};
use inflight_timely::{AsyncWaitOperator, Throttle};
use inflight_tokio::Tokio;
use timely::Config;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::vec::Input;
use timely::dataflow::operators::{Inspect, Probe};
use timely::worker::Worker;

const RECORDS: u64 = 3_000;

// E2, L6, F3: two workers that sleep whenever they can, with records exchanged by their key. Nothing is lost, and a panic of a request
// on a task of its own is the failure of its record.
#[test]
fn requests_of_a_runtime_wake_the_workers() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let tokio = tokio.expect("a runtime");
    let handle = tokio.handle().clone();
    let done = Arc::new(Mutex::new(BTreeMap::new()));
    let seen = Arc::clone(&done);
    let workers = timely::execute(Config::process(2), move |worker| {
        let _inside = handle.enter();
        let index = worker.index();
        let seen = Arc::clone(&seen);
        let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, records) = scope.new_input();
            let done = records.async_stages(Exchange::new(|n| *n / 7), "ask", |records| {
                let policy = AsyncWait::unordered(50);
                records.async_wait(policy, ask).spawn_requests(Tokio).in_place(Tokio)
            });
            let done = done.expect("the policy makes sense and there is a runtime");
            let (probe, _) = done
                .inspect(move |one: &Outcome<u64, u64, ()>| {
                    let mut seen = seen.lock().expect("nobody has panicked");
                    assert_eq!(seen.insert(one.input, (index, one.result)), None);
                })
                .probe();
            (input, probe)
        });
        let mut throttle = Throttle::new(&probe, 200);
        for n in (0..RECORDS).filter(|n| *n as usize % 2 == index) {
            while throttle.room() == 0 {
                step(worker);
            }
            input.send(n);
            throttle.fed(input.time(), 1);
            input.advance_to(n);
        }
        input.close();
        while !probe.done() {
            step(worker);
        }
    });
    workers.expect("it starts").join().into_iter().for_each(|worker| worker.expect("it ends well"));
    let done = done.lock().expect("nobody has panicked");
    assert!(done.keys().copied().eq(0..RECORDS));
    for (n, (worker, result)) in &*done {
        assert_eq!(*worker as u64, *n / 7 % 2);
        assert_eq!(*result, if n % 100 == 99 { Err(Failure::Panicked) } else { Ok(n * 2) });
    }
}

/// A step, or a sleep that something has to end.
fn step(worker: &mut Worker) {
    const LONG: Duration = Duration::from_secs(30);
    let before = Instant::now();
    worker.step_or_park(Some(LONG));
    assert!(before.elapsed() < LONG, "a wake-up was lost");
}

/// Answers some at once, and most after a while.
async fn answer(n: u64) -> Result<u64, ()> {
    assert!(n % 100 != 99, "a panic that belongs to the test");
    if !n.is_multiple_of(5) {
        tokio::time::sleep(Duration::from_micros(n % 5 * 700)).await;
    }
    Ok(n * 2)
}

fn ask(n: &u64) -> impl Future<Output = Result<u64, ()>> + Send + use<> {
    answer(*n)
}
