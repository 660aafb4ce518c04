//! Whole pipelines survive crashes at **every** step: between pre-commit, save, commit and acknowledgement, while
//! records flow, and during recovery; with stores that fail, tear and delay, and sinks and sources that fail. In the
//! end the sink always holds the output of a model: the outcome of each record, once.
//!
//! For each seed the pipeline runs once without a crash, which counts its steps. Then it runs anew for each of these
//! steps, dies there, and goes on in further lives until the job is done. Further lives die at random. In a test of
//! its own they die at every step of their recovery: of the first recovery, of the second one after a first that
//! died, or of the third in a row.
//!
//! `INFLIGHT_SCHEDULES=N` runs N seeds; `INFLIGHT_SEED=S` runs one of them and prints the step of the failure.

#![cfg(feature = "alloc")]

mod beside;
#[allow(dead_code)] // used by the stage's simulation only
#[path = "../stage_simulation/clock.rs"]
mod clock;
mod executor;
mod life;
mod plan;
#[allow(dead_code)]
#[path = "../simulation/random.rs"]
mod random;
mod sinks;
mod source;
mod store;
#[path = "../common/virtual_timer.rs"]
mod virtual_timer;
mod world;

use std::io::Write;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::plan::{Flaw, Plan};
use crate::random::Random;
use crate::world::{Deaths, World};

/// The number of seeds that a plain `cargo test` runs.
const SEEDS: u64 = 2_000;

/// The number of seeds in which recoveries die, which take twice the work.
const SEEDS_IN_RECOVERY: u64 = 800;

/// The most recoveries that die in a row.
const IN_A_ROW: usize = 3;

/// A bound on the lives of a job; a job that needs more makes no progress.
const MAX_LIVES: u32 = 40;

/// The counts of all jobs and their lives.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    runs: u64,
    steps: u64,
    lives: u64,
    /// The runs by the number of recoveries that died in a row, less one.
    in_a_row: [u64; IN_A_ROW],
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.lives += other.lives;
        (0..IN_A_ROW).for_each(|row| self.in_a_row[row] += other.in_a_row[row]);
    }
}

/// Runs a job to its end. Its processes die as planned. Returns the number of steps that each recovery took.
fn job(plan: &Plan, deaths: &Deaths) -> Result<(Tally, Vec<u64>), String> {
    let world = World::new(plan, deaths);
    for life in 1..=MAX_LIVES {
        let is_done = life::live(plan, &world).map_err(|error| format!("{deaths:?}: {error}"))?;
        if is_done {
            world.check_end().map_err(|error| format!("{deaths:?}: {error}"))?;
            let tally =
                Tally { runs: 1, steps: world.steps(), lives: u64::from(life), ..Tally::default() };
            return Ok((tally, world.recoveries()));
        }
        world.next_life(life);
    }
    Err(format!("{deaths:?}: it is not done after {MAX_LIVES} lives"))
}

/// Runs the job without a crash, and with one at each of its steps. The following processes die at random, if asked
/// for, or not at all.
fn every_crash(plan: &Plan, recoveries: Option<Vec<u64>>) -> Result<Tally, String> {
    let (mut tally, _) = job(plan, &Deaths::default())?;
    for step in 1..=tally.steps {
        tally += job(plan, &Deaths { first: Some(step), recoveries: recoveries.clone() })?.0;
    }
    Ok(tally)
}

/// Crashes the job at every fourth step, and then at each step of its recovery; or of the recovery from such a crash,
/// or of the recovery after that. The seed selects the steps and the number of recoveries.
fn every_crash_in_recovery(plan: &Plan) -> Result<Tally, String> {
    let (mut tally, _) = job(plan, &Deaths::default())?;
    for first in (1 + plan.seed % 4..=tally.steps).step_by(4) {
        let random = &mut Random::new(plan.seed ^ first);
        let before = random.below(IN_A_ROW);
        let mut recoveries = Vec::new();
        let steps = loop {
            let deaths = Deaths { first: Some(first), recoveries: Some(recoveries.clone()) };
            let (more, took) = job(plan, &deaths)?;
            tally += more;
            match took.get(recoveries.len()) {
                None => break 0, // the job was done already
                Some(steps) if recoveries.len() == before => break *steps,
                Some(steps) => recoveries.push(1 + random.below(*steps as usize) as u64),
            }
        };
        for step in 1..=steps {
            let recoveries = [&recoveries[..], &[step]].concat();
            tally += job(plan, &Deaths { first: Some(first), recoveries: Some(recoveries) })?.0;
            tally.in_a_row[before] += 1;
        }
    }
    Ok(tally)
}

/// Runs that many seeds, or the one that the environment names, on all processors.
fn of_all_seeds(seeds: u64, run: impl Fn(&Plan) -> Result<Tally, String> + Sync) {
    if let Some(seed) = number("INFLIGHT_SEED") {
        let plan = Plan::random(seed);
        say(&format!("{plan:#?}"));
        return assert_eq!(run(&plan).map(|_| ()), Ok(()), "INFLIGHT_SEED={seed}");
    }
    let seeds = number("INFLIGHT_SCHEDULES").unwrap_or(seeds);
    let next = AtomicU64::new(0);
    let tally = thread::scope(|scope| {
        let worker = || {
            let mut tally = Tally::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return tally;
                }
                match run(&Plan::random(seed)) {
                    Ok(more) => tally += more,
                    Err(error) => panic!("INFLIGHT_SEED={seed} fails: {error}"),
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut tally = Tally::default();
        workers.into_iter().for_each(|worker| tally += worker.join().expect("no seed fails"));
        tally
    });
    let Tally { runs, lives, steps, in_a_row: [once, twice, thrice] } = tally;
    let again = lives - runs;
    say(&format!("pipelines: {seeds}, runs: {runs}, further lives: {again}, steps: {steps}"));
    if once > 0 {
        say(&format!("killed in recovery: {once} once, {twice} twice, {thrice} thrice in a row"));
    }
}

#[test] // K3, K4, K5, K10, R6
fn a_crash_at_any_step_loses_nothing_and_doubles_nothing() {
    of_all_seeds(SEEDS, |plan| every_crash(plan, None));
}

#[test] // K5, K9, K10
fn a_crash_at_any_step_of_a_recovery_loses_nothing_and_doubles_nothing() {
    of_all_seeds(SEEDS_IN_RECOVERY, every_crash_in_recovery);
}

/// The control: the simulation must find each fault that is planted.
#[test]
fn planted_faults_are_found() {
    for flaw in [Flaw::CommitsBeforeTheSave, Flaw::SavesTooLittle, Flaw::ForgetsFailedCheckpoints] {
        let noticed = |seed| every_crash(&Plan::random(seed).with(flaw), None).is_err();
        assert!((0..500).any(noticed), "{flaw:?}");
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
        assert!((0..200).all(unnoticed), "{flaw:?} shows without that");
        let noticed = |seed| every_crash_in_recovery(&plan(seed)).is_err();
        assert!((0..200).any(noticed), "{flaw:?}");
    }
}

/// Prints a line also when the test passes: the harness captures `println!`, but not this.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes it");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
