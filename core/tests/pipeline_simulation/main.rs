//! Whole pipelines survive whatever happens to them, at **every** step: crashes between pre-commit, save, commit and
//! acknowledgement, while records flow, and during recovery; owners that are frozen, lose the job, and go on; panics and cancelled
//! tasks; drains, hand-overs, and checkpoints that are asked for. Stores fail, tear, delay and are slower than the interval, sinks and
//! sources fail, stages are full, and some requests are never answered. Checkpoints keep records or positions, or one life the
//! former and the next one the latter.
//!
//! In the end the sink always holds the output of a model: the outcome of each record, once. An oracle for progress (`process.rs`)
//! looks at each step of the clock whether all that must have happened by then has happened.
//!
//! For each seed the pipeline runs once without an event, which counts its steps. Then it runs anew for each of these steps, meets an
//! event there, and goes on in further lives until the job is done. Further lives die at random. In a test of its own they
//! die at every step of their recovery: of the first recovery, of the second one after a first that died, or of the third in a row.
//!
//! `INFLIGHT_SCHEDULES=N` runs N seeds; `INFLIGHT_SEED=S` runs one of them and prints the step of the failure.

#![cfg(feature = "alloc")]

mod batches;
mod beside;
#[allow(dead_code)] // used by the stage's simulation only
#[path = "../stage_simulation/clock.rs"]
mod clock;
mod executor;
mod jobs;
#[path = "../common/join.rs"]
mod join;
mod life;
mod model;
mod plan;
mod process;
#[allow(dead_code)]
#[path = "../simulation/random.rs"]
mod random;
mod sinks;
mod source;
mod stages;
mod store;
#[path = "../common/virtual_timer.rs"]
mod virtual_timer;
mod world;

use crate::jobs::{every_crash, every_crash_in_recovery, every_event, job, of_all_seeds};
use crate::plan::{Event, Flaw, Plan};
use crate::world::Fate;

/// The numbers of seeds that a plain `cargo test` runs, about as long in each test.
const SEEDS: u64 = 200;
const SEEDS_IN_RECOVERY: u64 = 100;
const SEEDS_WITH_EVENTS: u64 = 40;

#[test] // K3, K4, K5, K10, K11, K13, K14, K17, R6
fn a_crash_at_any_step_loses_nothing_and_doubles_nothing() {
    of_all_seeds(SEEDS, |plan| every_crash(plan, None));
}

#[test] // K5, K9, K10
fn a_crash_at_any_step_of_a_recovery_loses_nothing_and_doubles_nothing() {
    of_all_seeds(SEEDS_IN_RECOVERY, every_crash_in_recovery);
}

#[test] // K15
fn an_owner_that_was_frozen_at_any_step_changes_nothing_when_it_goes_on() {
    of_all_seeds(SEEDS_WITH_EVENTS, |plan| every_event(plan, &[Event::Freeze]));
}

#[test] // K11, K16
fn a_job_ends_in_each_way_at_any_step() {
    let ends = [Event::Drain, Event::HandOver, Event::CheckpointNow];
    of_all_seeds(SEEDS_WITH_EVENTS, |plan| every_event(plan, &ends));
}

#[test] // F3, K14
fn a_panic_and_a_cancelled_task_at_any_step_are_crashes() {
    of_all_seeds(SEEDS_WITH_EVENTS, |plan| every_event(plan, &[Event::Panic, Event::Cancel]));
}

/// A job whose requests are refused more often than a life can ask, commits its attempts, and the next life goes on with them (K13).
#[test]
fn a_job_whose_requests_only_retry_advances_over_its_lives() {
    let (mut lives, mut jobs) = (0, 0);
    for seed in 0..200 {
        let plan = Plan::random(seed).calm().that_only_retries();
        let fate = Fate { every: Some(40), ..Fate::default() };
        let (tally, _) = job(&plan, &fate).unwrap_or_else(|error| panic!("{seed}: {error}"));
        (lives, jobs) = (lives + tally.lives, jobs + 1);
    }
    assert!(lives > 3 * jobs, "{lives} lives of {jobs} jobs were too few to show anything");
}

/// A control: the simulation must find each fault that is planted.
fn is_found(flaw: Flaw, seeds: u64, run: impl Fn(&Plan) -> bool) {
    assert!((0..seeds).any(|seed| run(&Plan::random(seed).with(flaw))), "{flaw:?}");
}

#[test]
fn planted_faults_are_found() {
    for flaw in [
        Flaw::CommitsBeforeTheSave,
        Flaw::SavesTooLittle,
        Flaw::ForgetsFailedCheckpoints,
        Flaw::TellsAPositionTooFar,
        Flaw::GivesOutNewRequestIds,
        Flaw::SavesTooLate,
    ] {
        is_found(flaw, 500, |plan| every_crash(plan, None).is_err());
    }
}

/// The control for owners that were frozen: these three faults do harm only with a second owner.
#[test]
fn faults_planted_in_fences_are_found() {
    for flaw in [Flaw::SavesForAnyOwner, Flaw::CallsTheFenceAPassingError, Flaw::CommitsForAnyOwner]
    {
        let unnoticed = |seed| every_crash(&Plan::random(seed).with(flaw), None).is_ok();
        assert!((0..20).all(unnoticed), "{flaw:?} shows without that");
        is_found(flaw, 500, |plan| every_event(plan, &[Event::Freeze]).is_err());
    }
}

/// The control for recoveries: these three faults do harm only in a life that dies during its recovery.
#[test]
fn faults_planted_in_recoveries_are_found() {
    for flaw in
        [Flaw::CommitsInTwoSteps, Flaw::RewritesWhatItLoads, Flaw::GoesOnBehindAnEarlierSeek]
    {
        let plan = |seed| Plan::random(seed).calm().with(flaw);
        let unnoticed = |seed| every_crash(&plan(seed), Some(Vec::new())).is_ok();
        assert!((0..50).all(unnoticed), "{flaw:?} shows without that");
        let noticed = |seed| every_crash_in_recovery(&plan(seed)).is_err();
        assert!((0..200).any(noticed), "{flaw:?}");
    }
}
