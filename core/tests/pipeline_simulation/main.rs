//! Whole pipelines live through crashes at **every** step: between pre-commit, save, commit and
//! acknowledgement, while they flow, and while they recover; with stores that fail, tear and delay, and
//! sinks and sources that fail. Whatever happens, the sink holds in the end what a model says: the outcome
//! of each record, once.
//!
//! For each seed the pipeline runs once without a crash, and its steps are counted. Then it runs anew for
//! each of them, dies there, and goes on in further lives until it is done.
//!
//! `INFLIGHT_SCHEDULES=N` runs so many seeds, `INFLIGHT_SEED=S` one of them and tells which step it was.

#![cfg(feature = "alloc")]

#[allow(dead_code)] // what only the stage's simulation asks for
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
mod world;

use std::io::Write;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::plan::{Flaw, Plan};
use crate::world::World;

/// How many seeds a plain `cargo test` runs.
const SEEDS: u64 = 2_000;

/// More lives than any job should take.
const MAX_LIVES: u32 = 40;

/// What came of a job, in all its lives.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    runs: u64,
    steps: u64,
    lives: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.lives += other.lives;
    }
}

/// Runs a job to its end; it dies first at step `crash_at`, and perhaps again.
fn job(plan: &Plan, crash_at: Option<u64>) -> Result<Tally, String> {
    let world = World::new(plan, crash_at);
    for life in 1..=MAX_LIVES {
        let is_done = life::live(plan, &world)?;
        if is_done {
            world.check_end()?;
            return Ok(Tally { runs: 1, steps: world.steps(), lives: u64::from(life) });
        }
        world.next_life(life);
    }
    Err(format!("it is not done after {MAX_LIVES} lives"))
}

/// The job without a crash, and with one at each of its steps.
fn every_crash(plan: &Plan) -> Result<Tally, String> {
    let mut tally = job(plan, None).map_err(|error| format!("without a crash: {error}"))?;
    for step in 1..=tally.steps {
        tally += job(plan, Some(step)).map_err(|error| format!("crash at step {step}: {error}"))?;
    }
    Ok(tally)
}

#[test] // K3, K4, K5, K10, R6
fn a_crash_at_any_step_loses_nothing_and_doubles_nothing() {
    if let Some(seed) = number("INFLIGHT_SEED") {
        let plan = Plan::random(seed);
        say(&format!("{plan:#?}"));
        return assert_eq!(every_crash(&plan).map(|_| ()), Ok(()), "INFLIGHT_SEED={seed}");
    }
    let seeds = number("INFLIGHT_SCHEDULES").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let tally = thread::scope(|scope| {
        let worker = || {
            let mut tally = Tally::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return tally;
                }
                match every_crash(&Plan::random(seed)) {
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
    let Tally { runs, lives, steps } = tally;
    let again = lives - runs;
    say(&format!("pipelines: {seeds}, runs: {runs}, further lives: {again}, steps: {steps}"));
}

/// It proves nothing unless it notices when something is wrong.
#[test]
fn what_is_wrong_is_noticed() {
    for flaw in [Flaw::CommitsBeforeTheSave, Flaw::SavesTooLittle, Flaw::ForgetsFailedCheckpoints] {
        let noticed = (0..500).any(|seed| every_crash(&Plan::random(seed).with(flaw)).is_err());
        assert!(noticed, "{flaw:?}");
    }
}

/// Writes a line that is seen also when the test passes: the harness captures `println!`, not this.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes it");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
