//! Random schedules of records, frontiers and answers: orders, capacity and frontiers hold in each.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use common::{Clock, Service, settle};
use inflight_core::{AsyncWait, Outcome, StartError};
use inflight_timely::{AsyncWaitOperator, EventTime};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::UnorderedInput;
use timely::dataflow::operators::{ActivateCapability, Probe, probe};
use timely::progress::timestamp::Refines;
use timely::worker::Worker;

/// A record: its number, which is the order in which they go in, and the time at which it is sent.
type Record<T> = (u64, T);
type Done<T> = Outcome<Record<T>, u64, &'static str>;

const CAPACITY: usize = 5;
const KEYS: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Ordered,
    Unordered,
    ByKey,
}

// O1, O2, O3, O5, C2, E2
#[test]
fn no_frontier_passes_a_record_in_flight_in_any_order() {
    for order in [Order::Ordered, Order::Unordered, Order::ByKey] {
        for seed in 0..150 {
            timely::execute_directly(move |worker| schedule(worker, order, seed, |time| time));
        }
    }
}

// O5: with other types of time, also at the ends of their ranges.
#[test]
fn times_of_any_integer_type_hold_a_frontier_back() {
    for seed in 0..50 {
        timely::execute_directly(move |worker| {
            schedule(worker, Order::Unordered, seed, |time| u64::MAX - 100 + time);
        });
        timely::execute_directly(move |worker| {
            schedule(worker, Order::Unordered, seed, |time| i64::MIN + time as i64);
        });
        timely::execute_directly(move |worker| {
            schedule(worker, Order::Unordered, seed, |time| time as u8);
        });
    }
}

/// What the sink has seen, and what went in.
struct Seen<T> {
    done: Vec<Record<T>>,
    in_flight: BTreeMap<u64, T>,
}

fn schedule<T: EventTime + Refines<()>>(
    worker: &mut Worker,
    order: Order,
    seed: u64,
    time_of: impl Fn(u64) -> T + 'static,
) {
    let mut random = SmallRng::seed_from_u64(seed);
    let service = Service::default();
    let seen = Rc::new(RefCell::new(Seen { done: Vec::new(), in_flight: BTreeMap::new() }));
    let (mut input, mut open, probe) = worker.dataflow::<T, _, _>(|scope| {
        let ((input, open), records) = scope.new_unordered_input();
        let done = wait(records, order, service.clone()).expect("the policy makes sense");
        let done = check(done, order, Rc::clone(&seen));
        (input, open, done.probe().0)
    });
    let (mut clock, mut sent) = (0, 0);
    for _ in 0..random.random_range(20..150) {
        match random.random_range(0..4) {
            0 => {
                let time = time_of(clock + random.random_range(0..4));
                let mut session = input.activate();
                let at = open.delayed(&time);
                let mut session = session.session(&at);
                for _ in 0..random.random_range(1..4) {
                    seen.borrow_mut().in_flight.insert(sent, time.clone());
                    session.give((sent, time.clone()));
                    sent += 1;
                }
            }
            1 => {
                clock = (clock + random.random_range(0..3)).min(96);
                open.downgrade(&time_of(clock));
            }
            2 => answer_one(&mut random, &service),
            _ => _ = worker.step(),
        }
        assert_held_back(&probe, &open, &seen.borrow());
    }
    finish(worker, &mut random, &service, &probe, open, &seen);
    assert_eq!(seen.borrow().done.len() as u64, sent, "seed {seed}");
    assert!(service.most() <= CAPACITY);
}

fn wait<'scope, T: EventTime>(
    records: StreamVec<'scope, T, Record<T>>,
    order: Order,
    service: Service,
) -> Result<StreamVec<'scope, T, Done<T>>, StartError> {
    let ask = move |record: &Record<T>| service.ask(record.0);
    let clock = Clock::default();
    match order {
        Order::Ordered => records.async_wait(AsyncWait::ordered(CAPACITY), ask, clock),
        Order::Unordered => records.async_wait(AsyncWait::unordered(CAPACITY), ask, clock),
        Order::ByKey => {
            let policy = AsyncWait::ordered_by_key(CAPACITY, |record: &Record<T>| record.0 % KEYS);
            records.async_wait(policy, ask, clock)
        }
    }
}

/// A sink that checks each record when it comes.
fn check<'scope, T: EventTime>(
    done: StreamVec<'scope, T, Done<T>>,
    order: Order,
    seen: Rc<RefCell<Seen<T>>>,
) -> StreamVec<'scope, T, ()> {
    done.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(
        Pipeline,
        "check",
        move |_, _| {
            move |(input, frontier), _output| {
                input.for_each(|capability, records| {
                    for outcome in records.drain(..) {
                        let (number, time) = outcome.input;
                        assert_eq!(
                            Some(&time),
                            capability.least(),
                            "{number} travels at another time"
                        );
                        assert!(frontier.less_equal(&time), "{number} comes behind the frontier");
                        let mut seen = seen.borrow_mut();
                        assert!(seen.in_flight.remove(&number).is_some(), "{number} comes twice");
                        let before = seen.done.iter().rev().find(|(one, _)| match order {
                            Order::Ordered => true,
                            Order::Unordered => false,
                            Order::ByKey => one % KEYS == number % KEYS,
                        });
                        assert!(
                            before.is_none_or(|(one, _)| *one < number),
                            "{number} is out of order"
                        );
                        seen.done.push((number, time));
                    }
                });
            }
        },
    )
}

fn answer_one(random: &mut SmallRng, service: &Service) {
    let asked = service.asked();
    if !asked.is_empty() {
        let number = asked[random.random_range(0..asked.len())];
        service.answer(number, if number.is_multiple_of(7) { Err("seven") } else { Ok(number) });
    }
}

/// The frontier behind the operator is held back by each record in flight, and by the frontier in front of it.
fn assert_held_back<T: EventTime>(
    probe: &probe::Handle<T>,
    open: &ActivateCapability<T>,
    seen: &Seen<T>,
) {
    for (number, time) in &seen.in_flight {
        assert!(probe.less_equal(time), "the frontier has passed {number}, which is in flight");
    }
    assert!(probe.less_equal(open.time()), "the frontier has passed that of the input");
}

/// Answers everything. Then the frontier is that of the input, and after the end of the input it is empty (O4).
fn finish<T: EventTime>(
    worker: &mut Worker,
    random: &mut SmallRng,
    service: &Service,
    probe: &probe::Handle<T>,
    open: ActivateCapability<T>,
    seen: &RefCell<Seen<T>>,
) {
    settle(worker);
    let may_end_before = random.random_bool(0.5);
    let mut open = Some(open).filter(|_| !may_end_before);
    while !seen.borrow().in_flight.is_empty() {
        assert!(!service.asked().is_empty(), "records are stuck");
        answer_one(random, service);
        settle(worker);
    }
    if let Some(open) = open.take() {
        probe.with_frontier(|frontier| assert_eq!(*frontier, [open.time().clone()]));
    }
    settle(worker);
    assert!(probe.done(), "the frontier is not empty after the end");
}
