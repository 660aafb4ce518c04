//! Jobs over partitions survive whatever happens to their workers, to their engine and to the log, at **every** step: workers are
//! killed, frozen and woken, leave and come; the engine moves partitions, and gives one to two workers; the broker forgets everything
//! that is not committed: calls that are under way, answers, and who has which partition.
//!
//! In the end each partition has the output of each of its records once, in the order of its keys.
//!
//! For each seed the job runs once without an event, which counts its steps. Then it runs anew for each of these steps and each kind of
//! event, meets it there, perhaps another one soon after, and goes on until all partitions have finished.
//!
//! `INFLIGHT_SCHEDULES=N` runs N seeds; `INFLIGHT_SEED=S` runs one of them and prints the step of the failure.

#[allow(dead_code, reason = "used by the stage's simulation")]
#[path = "../../../core/tests/stage_simulation/clock.rs"]
mod clock;
mod engine;
mod executor;
#[path = "../../../core/tests/common/join.rs"]
mod join;
mod log;
mod plan;
#[allow(dead_code, reason = "used by other simulations")]
#[path = "../../../core/tests/simulation/random.rs"]
mod random;
mod seeds;
mod stages;
#[path = "../../../core/tests/common/virtual_timer.rs"]
mod virtual_timer;
mod worker;
mod world;

use crate::plan::{Event, Flaw, Plan};
use crate::seeds::{every_event, of_all_seeds};

/// The number of seeds that a plain `cargo test` runs.
const SEEDS: u64 = 6;

#[test] // P3, P4, K10, K15, K17, C9
fn workers_that_are_killed_or_frozen_at_any_step_lose_nothing_and_double_nothing() {
    of_all_seeds(SEEDS, |plan| every_event(plan, &[Event::Kill, Event::Freeze]));
}

#[test] // P3, P4, K15, K16
fn partitions_that_move_at_any_step_lose_nothing_and_double_nothing() {
    let events = [Event::Move, Event::Leave, Event::Join];
    of_all_seeds(SEEDS, |plan| every_event(plan, &events));
}

#[test] // P4, K15
fn an_engine_that_decides_wrongly_and_a_broker_that_forgets_delay_and_do_not_damage() {
    let events = [Event::AssignTwice, Event::Forget];
    of_all_seeds(SEEDS, |plan| every_event(plan, &events));
}

#[test] // P4, K16
fn a_worker_that_leaves_in_the_right_order_is_never_fenced() {
    let events = [Event::Leave, Event::Join, Event::Move];
    let tally = of_all_seeds(SEEDS, |plan| every_event(&plan.calm(), &events));
    assert!(tally.handed_over > 0, "{tally:?}");
    assert_eq!(tally.fenced, 0, "{tally:?}");
}

/// The control: it is a delay and no damage, but each of these fences is work done twice.
#[test] // P4
fn a_worker_that_is_seen_dead_before_it_has_handed_over_is_fenced() {
    let plan = |plan: &Plan| plan.calm().with(Flaw::SeenDeadFirst);
    let tally = of_all_seeds(SEEDS, |of| every_event(&plan(of), &[Event::Leave]));
    assert!(tally.fenced > 0, "{tally:?}");
}

/// The controls: the simulation must find each fault that is planted.
#[test]
fn planted_faults_are_found() {
    let all = [Event::Kill, Event::Freeze, Event::Move, Event::AssignTwice, Event::Forget];
    for flaw in [Flaw::NoFence, Flaw::OutputsFirst, Flaw::AcknowledgesFirst] {
        let is_found = |seed| every_event(&Plan::random(seed).with(flaw), &all).is_err();
        assert!((0..10).any(is_found), "{flaw:?}");
    }
}
