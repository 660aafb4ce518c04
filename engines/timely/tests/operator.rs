//! The operator in a dataflow, rule by rule, on a clock and with requests that the test controls.

mod common;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use common::{Clock, Service, settle};
use inflight_core::{
    AsyncFunction, AsyncWait, AsyncWaitExt, AttemptInfo, ConfigError, Failure, FixedDelay, Outcome,
    StartError,
};
use inflight_timely::{AsyncWaitOperator, Records, Throttle};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::Input;
use timely::dataflow::operators::{Inspect, Probe, probe};
use timely::dataflow::{InputHandleVec, StreamVec};
use timely::worker::Worker;

type Done = Outcome<u64, u64, &'static str>;

/// A dataflow with one operator, and what has come out of it.
struct Flow<O> {
    input: InputHandleVec<u64, u64>,
    probe: probe::Handle<u64>,
    done: Rc<RefCell<Vec<(u64, O)>>>,
}

impl<O: Clone + 'static> Flow<O> {
    fn new(
        worker: &mut Worker,
        operator: impl for<'scope> FnOnce(StreamVec<'scope, u64, u64>) -> StreamVec<'scope, u64, O>,
    ) -> Self {
        let done = Rc::default();
        let seen: Rc<RefCell<Vec<(u64, O)>>> = Rc::clone(&done);
        let (input, probe) = worker.dataflow(|scope| {
            let (input, records) = scope.new_input();
            let outcomes = operator(records);
            let (probe, _) = outcomes
                .inspect_core(move |event| {
                    let Ok((stamp, batch)) = event else { return };
                    let time = *stamp.least().expect("it travels at a time");
                    seen.borrow_mut().extend(batch.iter().map(|one| (time, one.clone())));
                })
                .probe();
            (input, probe)
        });
        Self { input, probe, done }
    }
}

/// A flow that asks the service.
fn asking<R>(
    worker: &mut Worker,
    policy: AsyncWait<R>,
    service: &Service,
    clock: &Clock,
) -> Flow<Done>
where
    R: inflight_core::RetryStrategy<u64, u64, &'static str> + 'static,
{
    let (service, clock) = (service.clone(), clock.clone());
    Flow::new(worker, move |records| {
        let ask = move |n: &u64| service.ask(*n);
        records.async_wait(policy, ask, clock).expect("the policy makes sense")
    })
}

// T1, T3, T4: a call that times out fails, its request is cancelled, and until then it holds the frontier back.
#[test]
fn a_call_times_out() {
    timely::execute_directly(|worker| {
        let (service, clock) = (Service::default(), Clock::default());
        let policy = AsyncWait::unordered(10).timeout(Duration::from_millis(50));
        let mut flow = asking(worker, policy, &service, &clock);
        flow.input.send(1);
        flow.input.send(2);
        flow.input.advance_to(9);
        settle(worker);
        service.answer(2, Ok(20));
        clock.advance(Duration::from_millis(49));
        settle(worker);
        assert_eq!(service.asked(), [1]);
        assert!(flow.probe.less_equal(&0));

        clock.advance(Duration::from_millis(1));
        settle(worker);
        assert_eq!(service.asked(), []);
        assert!(!flow.probe.less_than(&9));
        let done = flow.done.take();
        let results: Vec<_> = done.into_iter().map(|(_, one)| (one.input, one.result)).collect();
        assert_eq!(results, [(2, Ok(20)), (1, Err(Failure::TimedOut))]);
    });
}

// R2, R3: a record in backoff keeps its place, and the frontier behind it.
#[test]
fn a_call_is_tried_again() {
    timely::execute_directly(|worker| {
        let (service, clock) = (Service::default(), Clock::default());
        let policy = AsyncWait::ordered(10).retry(FixedDelay::new(Duration::from_millis(10)));
        let mut flow = asking(worker, policy, &service, &clock);
        flow.input.send(1);
        flow.input.advance_to(1);
        flow.input.send(2);
        flow.input.advance_to(2);
        settle(worker);
        service.answer(2, Ok(20));
        for _ in 0..2 {
            service.answer(1, Err("busy"));
            settle(worker);
            assert_eq!(service.asked(), []);
            clock.advance(Duration::from_millis(10));
            settle(worker);
            assert_eq!(service.asked(), [1]);
        }
        assert!(flow.done.borrow().is_empty() && flow.probe.less_equal(&0));
        service.answer(1, Ok(10));
        settle(worker);
        let done = flow.done.take();
        let done: Vec<_> =
            done.into_iter().map(|(at, one)| (at, one.input, one.attempts)).collect();
        assert_eq!(done, [(0, 1, 3), (1, 2, 1)]);
    });
}

// C2, C4: no more requests than the capacity, whatever waits in front of the stage.
#[test]
fn a_full_stage_lets_records_wait() {
    timely::execute_directly(|worker| {
        let (service, clock) = (Service::default(), Clock::default());
        let mut flow = asking(worker, AsyncWait::ordered(3), &service, &clock);
        (0..10).for_each(|n| flow.input.send(n));
        flow.input.advance_to(1);
        settle(worker);
        assert_eq!(service.asked(), [0, 1, 2]);
        for n in 0..10 {
            service.answer(n, Ok(n));
            settle(worker);
        }
        assert_eq!((service.most(), flow.done.borrow().len()), (3, 10));
    });
}

// F3: a panic in a request that the stage polls comes out of the worker's step, and the frontier never passes its record.
#[test]
fn a_panic_ends_the_worker() {
    timely::execute_directly(|worker| {
        let mut flow = Flow::new(worker, |records| {
            let panics = |n: &u64| {
                let n = *n;
                async move { if n == 1 { panic!("it was one") } else { Ok::<_, ()>(n) } }
            };
            records.async_wait(AsyncWait::ordered(3), panics, Clock::default()).expect("it starts")
        });
        flow.input.send(0);
        flow.input.send(1);
        flow.input.advance_to(1);
        let stepped = catch_unwind(AssertUnwindSafe(|| settle(worker)));
        let panic = stepped.expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&"it was one"));
        assert!(flow.probe.less_equal(&0));
        worker.drop_dataflow(0);
    });
}

/// A function that cannot be opened.
struct Closed;

impl AsyncFunction<u64> for Closed {
    type Output = u64;
    type Error = &'static str;
    type Future = std::future::Ready<Result<u64, &'static str>>;

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Err("closed"))
    }

    fn invoke(&mut self, input: &u64, _: AttemptInfo) -> Self::Future {
        std::future::ready(Ok(*input))
    }
}

// F6, L4: stages that end before their input never look like the end of the stream.
#[test]
fn stages_that_end_early_panic() {
    let ends_the_job = |failure: &Failure<&'static str>| failure.error() == Some(&"fatal");
    let failing = move |records: Records<u64>| {
        records
            .async_wait(AsyncWait::unordered(3), |n: &u64| match *n {
                0 => Box::pin(std::future::pending()) as Answer,
                _ => Box::pin(std::future::ready(Err("fatal"))),
            })
            .fail_fast(ends_the_job)
            .in_place(Clock::default())
    };
    ends_early(failing);
    ends_early(|records| {
        records.async_wait_with(AsyncWait::ordered(3), Closed).in_place(Clock::default())
    });
}

type Answer = std::pin::Pin<Box<dyn Future<Output = Result<u64, &'static str>>>>;

fn ends_early<S>(stages: impl FnOnce(Records<u64>) -> Result<S, StartError> + Send + Sync + 'static)
where
    S: futures_core::Stream<Item = inflight_core::StreamElement<Done>> + 'static,
{
    timely::execute_directly(|worker| {
        let mut flow = Flow::new(worker, |records| {
            records.async_stages(Pipeline, "fails", stages).expect("it starts")
        });
        flow.input.send(0);
        flow.input.send(1);
        // Also when the input has ended: the record before the fatal one is lost.
        flow.input.close();
        let stepped = catch_unwind(AssertUnwindSafe(|| settle(worker)));
        let panic = stepped.expect_err("it panics");
        let message = panic.downcast_ref::<&str>().copied().unwrap_or_default();
        assert!(message.contains("ended before their input"), "{message}");
        assert!(flow.probe.less_equal(&0));
        worker.drop_dataflow(0);
    });
}

// L2: nothing of an operator is left when its dataflow is dropped.
#[test]
fn dropping_the_dataflow_cancels_requests() {
    timely::execute_directly(|worker| {
        let (service, clock) = (Service::default(), Clock::default());
        let mut flow = asking(worker, AsyncWait::ordered(3), &service, &clock);
        (0..10).for_each(|n| flow.input.send(n));
        flow.input.flush();
        settle(worker);
        assert_eq!(service.asked(), [0, 1, 2]);
        worker.drop_dataflow(0);
        assert_eq!(service.asked(), []);
    });
}

// C1: a setting that makes no sense is an error, before the dataflow runs.
#[test]
fn a_wrong_policy_is_an_error() {
    timely::execute_directly(|worker| {
        worker.dataflow::<u64, _, _>(|scope| {
            let (_, records) = scope.new_input::<u64>();
            let ask = |n: &u64| std::future::ready(Ok::<_, ()>(*n));
            let refused = records.async_wait(AsyncWait::ordered(0), ask, Clock::default());
            assert_eq!(refused.err(), Some(StartError::Config(ConfigError::ZeroCapacity)));
        });
        worker.drop_dataflow(0);
    });
}

// O5: a chain of two stages in one operator holds the frontier back as one.
#[test]
fn a_chain_of_stages_is_one_operator() {
    timely::execute_directly(|worker| {
        let (first, second) = (Service::default(), Service::default());
        let (to_first, to_second) = (first.clone(), second.clone());
        let mut flow = Flow::new(worker, move |records| {
            let stages = |records: Records<u64>| {
                let clock = Clock::default();
                records
                    .async_wait(AsyncWait::ordered(2), move |n: &u64| to_first.ask(*n))
                    .in_place(clock.clone())?
                    .async_wait(AsyncWait::ordered(2), move |one: &Done| to_second.ask(one.input))
                    .in_place(clock)
            };
            records.async_stages(Pipeline, "two", stages).expect("it starts")
        });
        flow.input.send(7);
        flow.input.advance_to(5);
        settle(worker);
        first.answer(7, Ok(1));
        settle(worker);
        assert_eq!(second.asked(), [7]);
        assert!(flow.probe.less_equal(&0));
        second.answer(7, Ok(1));
        settle(worker);
        assert_eq!(flow.done.borrow().len(), 1);
        assert!(!flow.probe.less_than(&5));
    });
}

// C2: a throttled source never has more in the dataflow than its limit.
#[test]
fn a_throttle_bounds_what_is_fed() {
    timely::execute_directly(|worker| {
        let (service, clock) = (Service::default(), Clock::default());
        let mut flow = asking(worker, AsyncWait::unordered(2), &service, &clock);
        let mut throttle = Throttle::new(&flow.probe, 4);
        let mut fed = 0;
        while flow.done.borrow().len() < 20 {
            while throttle.room() > 0 {
                flow.input.send(fed);
                throttle.fed(flow.input.time(), 1);
                fed += 1;
                flow.input.advance_to(fed);
                assert!(fed < 100, "there is always room");
            }
            settle(worker);
            let done = flow.done.borrow().len() as u64;
            assert!(fed - done <= 4, "{fed} were fed, and {done} are done");
            let asked = *service.asked().first().expect("the source goes on");
            service.answer(asked, Ok(asked));
            settle(worker);
        }
        worker.drop_dataflow(0);
    });
}
