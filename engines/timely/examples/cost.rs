//! What the operator costs: records a second through `map`, and through `async_wait` with a function that answers at once, and with one
//! that answers when it is polled for the second time.
//!
//! ```text
//! cargo run --release -p inflight-timely --example cost
//! ```

use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use inflight_core::{AsyncWait, Order, Outcome};
use inflight_timely::{AsyncWaitOperator, Throttle};
use inflight_tokio::Tokio;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::vec::{Input, Map};

const RECORDS: u64 = 4_000_000;
/// Records at one time.
const EPOCH: u64 = 1_000;
const CAPACITY: usize = 1_000;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _inside = runtime.enter();
    run("map", |records| records.map(outcome));
    for order in [Order::Ordered, Order::Unordered] {
        let policy = || match order {
            Order::Ordered => AsyncWait::ordered(CAPACITY),
            _ => AsyncWait::unordered(CAPACITY),
        };
        run(&format!("async_wait, {order:?}, at once"), |records| {
            records.async_wait(policy(), at_once, Tokio).expect("it starts")
        });
        run(&format!("async_wait, {order:?}, second poll"), |records| {
            records.async_wait(policy(), SecondPoll::new, Tokio).expect("it starts")
        });
    }
}

type Done = Outcome<u64, u64, ()>;

/// Runs a dataflow with this operator three times, and tells the best.
fn run(
    name: &str,
    operator: impl for<'scope> Fn(StreamVec<'scope, u64, u64>) -> StreamVec<'scope, u64, Done>,
) {
    let best = (0..3).map(|_| once(&operator)).fold(0.0, f64::max);
    println!("{name:35} {:>6.2} million records a second", best / 1e6);
}

fn once(
    operator: &impl for<'scope> Fn(StreamVec<'scope, u64, u64>) -> StreamVec<'scope, u64, Done>,
) -> f64 {
    use timely::communication::Allocator;
    use timely::communication::allocator::thread::Thread;
    use timely::worker::Worker;

    let allocator = Allocator::Thread(Thread::default());
    let mut worker = Worker::new(timely::WorkerConfig::default(), allocator, Some(Instant::now()));
    let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
        let (input, records) = scope.new_input::<u64>();
        (input, operator(records).probe().0)
    });
    let mut throttle = Throttle::new(&probe, 20 * EPOCH as usize);
    let start = Instant::now();
    for epoch in 0..RECORDS / EPOCH {
        throttle.wait(&mut worker);
        (epoch * EPOCH..(epoch + 1) * EPOCH).for_each(|n| input.send(n));
        throttle.fed(input.time(), EPOCH as usize);
        input.advance_to(epoch + 1);
    }
    input.close();
    while worker.step_or_park(None) {}
    RECORDS as f64 / start.elapsed().as_secs_f64()
}

fn outcome(n: u64) -> Done {
    Outcome { input: n, result: Ok(n + 1), attempts: 1, elapsed: std::time::Duration::ZERO }
}

fn at_once(n: &u64) -> Ready<Result<u64, ()>> {
    ready(Ok(*n + 1))
}

/// Wakes itself, and is ready then.
struct SecondPoll {
    n: u64,
    was_polled: bool,
}

impl SecondPoll {
    fn new(n: &u64) -> Self {
        Self { n: *n, was_polled: false }
    }
}

impl Future for SecondPoll {
    type Output = Result<u64, ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.was_polled, true) {
            return Poll::Ready(Ok(self.n + 1));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
