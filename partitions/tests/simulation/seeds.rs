//! Many seeds, each with an event at each of its steps.

use std::io::Write;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::plan::{Event, Plan};
use crate::random::Random;
use crate::world::{Tally, run};

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.lives += other.lives;
        self.fenced += other.fenced;
        self.handed_over += other.handed_over;
        self.timed_out += other.timed_out;
        self.lost += other.lost;
    }
}

/// Lets each of these happen at each step of the job; and sometimes another one of them soon after.
pub(crate) fn every_event(plan: &Plan, events: &[Event]) -> Result<Tally, String> {
    let mut tally = run(plan, &[])?;
    for step in 1..=tally.steps {
        for (at, event) in events.iter().enumerate() {
            let random = &mut Random::new(plan.seed ^ (step << 8) ^ at as u64);
            let next = (step + random.below(30) as u64, random.pick(events));
            let next = random.one_in(2).then_some(next);
            let events: Vec<_> = [(step, *event)].into_iter().chain(next).collect();
            tally += run(plan, &events)?;
        }
    }
    Ok(tally)
}

/// Runs that many seeds, or the one that the environment names, on all processors.
pub(crate) fn of_all_seeds(
    seeds: u64,
    run: impl Fn(&Plan) -> Result<Tally, String> + Sync,
) -> Tally {
    if let Some(seed) = number("INFLIGHT_SEED") {
        let plan = Plan::random(seed);
        say(&format!("{plan:#?}"));
        return run(&plan).unwrap_or_else(|error| panic!("INFLIGHT_SEED={seed} fails: {error}"));
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
    say(&format!("jobs: {seeds}, {tally:?}"));
    tally
}

/// Prints a line also when the test passes: the harness captures `println!`, but not this.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes it");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
