//! A stage in several instances, on random schedules: tasks are polled in any order, answers come in any order, the process dies and
//! begins again with another number of instances. What comes out must be what one stage may hand out.
//!
//! `INFLIGHT_SCHEDULES=N` runs so many schedules, `INFLIGHT_SEED=S` one of them.

#![cfg(feature = "alloc")]

#[allow(dead_code)] // used by the stage's simulation only
#[path = "../stage_simulation/clock.rs"]
mod clock;
mod directed;
mod executor;
mod function;
#[path = "../common/join.rs"]
mod join;
mod judge;
mod plan;
#[path = "../simulation/random.rs"]
mod random;
mod source;
#[path = "../common/virtual_timer.rs"]
mod virtual_timer;
mod world;

use crate::plan::Plan;
use crate::random::Random;
use crate::world::World;

const SCHEDULES: u64 = 20_000;

#[test] // P1, P2, E2, E3, O1, O2, O3, T6, K3, K5, K11, L2, L4
fn several_instances_are_one_stage() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    if let Some(seed) = number("INFLIGHT_SEED") {
        return run(seed);
    }
    let schedules = number("INFLIGHT_SCHEDULES").unwrap_or(SCHEDULES);
    (0..schedules).for_each(run);
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let plan = Plan::random(seed, &mut random);
    let mut world = World::new(plan, random);
    if let Err(what) = world.run() {
        panic!("{}\n{what}", world.plan);
    }
}

/// A negative control: the judge finds an element that has left its place.
#[test] // O1, O2, O3
fn the_judge_finds_what_is_out_of_place() {
    use crate::judge::{Out, is_in_order};
    use crate::plan::Order;
    let records = |numbers: &[u32]| -> Vec<_> {
        numbers.iter().map(|number| Out::Record { number: *number, key: number % 2 }).collect()
    };
    let plan = |order| Plan { order, ..Plan::random(1, &mut Random::new(1)) };
    let (ordered, unordered) = (plan(Order::Ordered), plan(Order::Unordered));
    let by_key = plan(Order::ByKey);
    assert!(is_in_order(&ordered, &records(&[2, 1])).is_err());
    assert!(is_in_order(&by_key, &records(&[2, 1])).is_ok());
    assert!(is_in_order(&by_key, &records(&[3, 1])).is_err());
    assert!(is_in_order(&unordered, &records(&[3, 1])).is_ok());
    let watermark = (0..).find(|number| unordered.element(*number).is_record() && *number > 2);
    let control = Out::Control(watermark.expect("there are records"));
    // A watermark that goes ahead of a record before it, and one that a later record has overtaken: a merger that does not align.
    let mut early = vec![control];
    early.extend(records(&[1]));
    assert!(is_in_order(&unordered, &early).is_err());
    let mut late = records(&[1_000]);
    late.push(control);
    assert!(is_in_order(&unordered, &late).is_err());
}
