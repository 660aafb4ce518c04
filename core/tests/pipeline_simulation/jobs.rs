//! Jobs: their lives one after the other, for one seed or for many.

use std::io::Write;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::executor::keep_quiet_about_planned_panics;
use crate::life;
use crate::plan::{Event, Plan};
use crate::random::Random;
use crate::world::{Fate, World};

/// The most recoveries that die in a row.
const IN_A_ROW: usize = 3;

/// A bound on the lives of a job; a job that needs more makes no progress.
const MAX_LIVES: u32 = 40;

/// The counts of all jobs and their lives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    runs: u64,
    pub(crate) steps: u64,
    pub(crate) lives: u64,
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
pub(crate) fn job(plan: &Plan, fate: &Fate) -> Result<(Tally, Vec<u64>), String> {
    keep_quiet_about_planned_panics();
    let world = World::new(plan, fate);
    for life in 1..=MAX_LIVES {
        let is_done = life::live(&world).map_err(|error| format!("{fate:?}: {error}"))?;
        if is_done {
            world.check_end().map_err(|error| format!("{fate:?}: {error}"))?;
            let (runs, lives) = (1, u64::from(life));
            let tally = Tally { runs, steps: world.steps(), lives, ..Tally::default() };
            return Ok((tally, world.recoveries()));
        }
        world.next_life(life);
    }
    Err(format!("{fate:?}: it is not done after {MAX_LIVES} lives"))
}

/// Runs the job without a crash, and with one at each of its steps. The following processes die at random, if asked
/// for, or not at all.
pub(crate) fn every_crash(plan: &Plan, recoveries: Option<Vec<u64>>) -> Result<Tally, String> {
    let (mut tally, _) = job(plan, &Fate::default())?;
    for step in 1..=tally.steps {
        let fate = Fate { recoveries: recoveries.clone(), ..Fate::at(step, Event::Crash) };
        tally += job(plan, &fate)?.0;
    }
    Ok(tally)
}

/// Lets each of these happen at each step of the job; and sometimes another one of them soon after.
pub(crate) fn every_event(plan: &Plan, events: &[Event]) -> Result<Tally, String> {
    let (mut tally, _) = job(plan, &Fate::default())?;
    for step in 1..=tally.steps {
        for (at, event) in events.iter().enumerate() {
            let random = &mut Random::new(plan.seed ^ (step << 8) ^ at as u64);
            let next = (step + random.below(12) as u64, random.pick(events));
            let next = random.one_in(2).then_some(next);
            let events = [(step, *event)].into_iter().chain(next).collect();
            tally += job(plan, &Fate { events, ..Fate::default() })?.0;
        }
    }
    Ok(tally)
}

/// Crashes the job at every fourth step, and then at each step of its recovery; or of the recovery from such a crash,
/// or of the recovery after that. The seed selects the steps and the number of recoveries.
pub(crate) fn every_crash_in_recovery(plan: &Plan) -> Result<Tally, String> {
    let (mut tally, _) = job(plan, &Fate::default())?;
    for first in (1 + plan.seed % 4..=tally.steps).step_by(4) {
        let random = &mut Random::new(plan.seed ^ first);
        let before = random.below(IN_A_ROW);
        let fate = |recoveries: Vec<u64>| Fate {
            recoveries: Some(recoveries),
            ..Fate::at(first, Event::Crash)
        };
        let mut recoveries = Vec::new();
        let steps = loop {
            let (more, took) = job(plan, &fate(recoveries.clone()))?;
            tally += more;
            match took.get(recoveries.len()) {
                None => break 0, // the job was done already
                Some(steps) if recoveries.len() == before => break *steps,
                Some(steps) => recoveries.push(1 + random.below(*steps as usize) as u64),
            }
        };
        for step in 1..=steps {
            tally += job(plan, &fate([&recoveries[..], &[step]].concat()))?.0;
            tally.in_a_row[before] += 1;
        }
    }
    Ok(tally)
}

/// Runs that many seeds, or the one that the environment names, on all processors.
pub(crate) fn of_all_seeds(seeds: u64, run: impl Fn(&Plan) -> Result<Tally, String> + Sync) {
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

/// Prints a line also when the test passes: the harness captures `println!`, but not this.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes it");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
