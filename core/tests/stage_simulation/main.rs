//! The stage lives through scripted schedules on a deterministic executor, under the eyes of a naive
//! model: lists and loops that are told what the stage does to its surroundings, and say what it must
//! do next.
//!
//! `INFLIGHT_SCHEDULES=N` runs so many random schedules, `INFLIGHT_SEED=S` replays one of them and
//! tells its story. A failure is shrunk before it is told. The model, the ledger and the settings are
//! those of the operator's simulation.

#![cfg(feature = "alloc")]

#[allow(dead_code)] // what only the operator's simulation asks for
#[path = "../simulation/features.rs"]
mod features;
#[path = "../common/join.rs"]
mod join;
#[path = "../simulation/ledger.rs"]
mod ledger;
#[allow(dead_code)] // what only the operator's simulation asks for
#[path = "../simulation/limit.rs"]
mod limit;
#[allow(dead_code)] // what only the operator's simulation asks for
#[path = "../simulation/model/mod.rs"]
mod model;
#[allow(dead_code)] // what only the operator's simulation asks for
#[path = "../simulation/parts.rs"]
mod parts;
#[path = "../simulation/random.rs"]
mod random;
#[allow(dead_code)]
#[path = "../simulation/setup.rs"]
mod setup;
#[allow(dead_code)]
#[path = "../simulation/values.rs"]
mod values;

mod busy;
mod check;
mod clock;
mod consumer;
mod crash;
mod directed;
mod executor;
mod function;
mod plan;
mod run;
mod runtime;
mod script;
mod source;
mod subject;
mod watch;
mod world;

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::plan::Home;
use crate::script::Script;

/// How many schedules a plain `cargo test` runs.
const SCHEDULES: u64 = 100_000;

/// Seeds of schedules in which something was wrong once, and which others seldom find.
const FOUND: &[u64] =
    &[188_087, 243_947, 308_309, 713_686, 737_972, 1_276_857, 1_367_775, 3_045_063];

#[test]
fn the_stage_does_what_the_model_does() {
    run::hush_planned_panics();
    if let Some(seed) = number("INFLIGHT_SEED") {
        let script = Script::random(seed);
        let report = run::run(&script, true);
        say(&report.story(&script));
        return assert!(report.failure.is_none(), "{}", run::tell(script));
    }
    let schedules = number("INFLIGHT_SCHEDULES").unwrap_or(SCHEDULES);
    let (next, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let homes = [(); 3].map(|()| AtomicU64::new(0));
    let failed = AtomicBool::new(false);
    let failing = thread::scope(|scope| {
        let worker = || {
            while !failed.load(Ordering::Relaxed) {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= schedules + FOUND.len() as u64 {
                    break;
                }
                let seed = FOUND.get(at as usize).copied();
                let seed = seed.unwrap_or_else(|| at - FOUND.len() as u64);
                let script = Script::random(seed);
                steps.fetch_add(script.steps.len() as u64, Ordering::Relaxed);
                homes[script.plan.home as usize].fetch_add(1, Ordering::Relaxed);
                if run::run(&script, false).failure.is_some() {
                    failed.store(true, Ordering::Relaxed);
                    return Some((seed, script));
                }
            }
            None
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().expect("it has not panicked"))
            .min_by_key(|found| found.0)
    });
    if let Some((seed, script)) = failing {
        panic!("INFLIGHT_SEED={seed} fails; shrunk: {}", run::tell(script));
    }
    let homes = Home::ALL
        .iter()
        .zip(&homes)
        .map(|(home, schedules)| format!("{home:?} {}", schedules.load(Ordering::Relaxed)));
    let homes = homes.collect::<Vec<_>>().join(", ");
    say(&format!("schedules: {schedules} ({homes}), steps: {}", steps.into_inner()));
}

/// Writes a line that is seen also when the test passes: the harness captures `println!`, not this.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes it");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
