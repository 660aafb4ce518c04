//! The operator and a naive model of its contract run the same schedules.
//!
//! `INFLIGHT_SCHEDULES=N` runs N random schedules; `INFLIGHT_SEED=S` replays one of them and prints its events. A
//! failing schedule is shrunk before it is printed.

#![cfg(feature = "alloc")]

mod batches;
mod crash;
mod every;
mod features;
mod foreign;
mod ledger;
mod limit;
mod model;
mod parts;
mod random;
mod run;
mod script;
mod setup;
mod subject;
mod values;
mod world;

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::script::Script;
use crate::setup::Storage;

/// The number of schedules that a plain `cargo test` runs.
const SCHEDULES: u64 = 240_000;

#[test]
fn the_operator_does_what_the_model_does() {
    if let Some(seed) = number("INFLIGHT_SEED") {
        let script = Script::random(seed);
        let report = run::run(&script, true);
        say(&report.story(&script));
        return assert!(report.failure.is_none(), "{}", run::tell(script));
    }
    let schedules = number("INFLIGHT_SCHEDULES").unwrap_or(SCHEDULES);
    let (next, steps, in_place) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let failed = AtomicBool::new(false);
    let failing = thread::scope(|scope| {
        let worker = || {
            while !failed.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= schedules {
                    break;
                }
                let script = Script::random(seed);
                steps.fetch_add(script.steps.len() as u64, Ordering::Relaxed);
                let is_in_place = script.setup.storage == Storage::InPlace;
                in_place.fetch_add(u64::from(is_in_place), Ordering::Relaxed);
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
    let (steps, in_place) = (steps.into_inner(), in_place.into_inner());
    say(&format!("schedules: {schedules} ({in_place} of them in place), steps: {steps}"));
}

/// Prints a line also when the test passes: the harness captures `println!`, but not this.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes it");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
