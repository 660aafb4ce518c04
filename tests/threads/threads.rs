//! Whole stages over real threads, with random settings for everything that a user may choose. The tests check that
//! every record comes out exactly once and in its order, and that nothing stays alive. A watchdog, which only
//! watches, checks that nothing sleeps forever.
//!
//! `INFLIGHT_STRESS=60 cargo test --release -p inflight-threads` runs it for a minute; without the variable it takes a few
//! seconds. A failure prints its seed; `INFLIGHT_STRESS_SEED=` runs that one stream again and again, because the seed
//! does not determine the interleaving of its threads.
#![allow(unreachable_pub, reason = "in a test, `pub` is for its other modules")]

mod batches;
mod consumer;
mod elsewhere;
mod judge;
mod plan;
mod runtimes;
mod service;
mod source;
mod tally;
mod watchdog;
mod whole;

use std::env;
use std::io::{Write as _, stdout};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::plan::{On, Plan};
use self::runtimes::Host;
use self::watchdog::Lane;

/// The time for which one runtime is kept.
const SLICE: Duration = Duration::from_secs(2);

#[test] // B1, B3, C9, E2, E3, C2, O1, O2, O3, O5, R6, F3, L2, L4, L6
fn stages_keep_their_promises_over_threads() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let (seconds, seed) = (number("INFLIGHT_STRESS"), number("INFLIGHT_STRESS_SEED"));
    if seconds.is_none() {
        say("threads: a few seconds only; INFLIGHT_STRESS=60 runs it for a minute, in --release");
    }
    silence_planned_panics();
    let (start, all) = (Instant::now(), Duration::from_secs(seconds.unwrap_or(4)));
    let (mut streams, mut records) = (0, 0);
    for slice in 0.. {
        let left = all.saturating_sub(start.elapsed());
        if left.is_zero() && slice >= On::ALL.len() {
            break;
        }
        let runtime = seed.map_or(slice % On::ALL.len(), |seed| (seed % 4) as usize);
        let time = left.min(SLICE).min(all / 4);
        for lane in run_slice(runtime, seed, 1 + slice / 4 % 3, time) {
            streams += lane.streams.load(SeqCst);
            records += lane.records.load(SeqCst);
        }
    }
    let took = start.elapsed().as_secs();
    say(&format!("threads: {streams} streams, {records} records in {took} s"));
}

/// Runs streams on one runtime for `time`, one at a time for each of the `lanes`.
fn run_slice(runtime: usize, seed: Option<u64>, lanes: usize, time: Duration) -> Vec<Arc<Lane>> {
    let lanes: Vec<_> = (0..lanes).map(|_| Arc::new(Lane::default())).collect();
    let host = Arc::new(Host::start(On::ALL[runtime]));
    let round = Arc::new(Round { runtime, seed, ..Round::default() });
    let threads: Vec<JoinHandle<()>> = lanes
        .iter()
        .map(|lane| {
            let (lane, host, round) = (Arc::clone(lane), Arc::clone(&host), Arc::clone(&round));
            thread::spawn(move || round.run(&lane, &host))
        })
        .collect();
    let end = Instant::now() + time;
    let is_over = || {
        if Instant::now() >= end {
            round.is_over.store(true, SeqCst);
        }
        threads.iter().all(JoinHandle::is_finished)
    };
    let watched = watchdog::watch(&lanes, is_over, || round.is_over.store(true, SeqCst));
    let failed = round.failed.lock().unwrap().clone();
    let failed = failed.into_iter().chain(watched.err()).collect::<Vec<_>>().join("\n\n");
    assert!(failed.is_empty(), "{failed}");
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("a lane reports faults, it does not panic"));
    assert!(watchdog::wait(|| !host.has_tasks()), "L2: tasks are left on {:?}", On::ALL[runtime]);
    assert!(watchdog::wait(|| whole::POOL.in_use() == 0), "C9: permits are not given back");
    Arc::into_inner(host).expect("no lane is left").stop();
    lanes
}

/// The state that the lanes of a slice share.
#[derive(Default)]
struct Round {
    runtime: usize,
    seed: Option<u64>,
    is_over: AtomicBool,
    failed: Mutex<Vec<String>>,
}

impl Round {
    fn run(&self, lane: &Arc<Lane>, host: &Host) {
        while !self.is_over.load(SeqCst) {
            let any = rand::random::<u64>() & !3 | self.runtime as u64;
            let plan = Plan::of(self.seed.unwrap_or(any));
            let own_thread = plan.own_thread;
            let shown = Arc::clone(lane);
            let stream = consumer::run(plan, move |stream| shown.show(Some(stream)));
            let tally = if own_thread { host.block_on(stream) } else { host.run_on_task(stream) };
            lane.show(None);
            lane.count(tally.received.load(SeqCst));
            let wrong = tally.faults();
            if !wrong.is_empty() {
                self.failed.lock().unwrap().push(format!("{}\n{tally:?}", wrong.join("\n")));
                self.is_over.store(true, SeqCst);
            }
        }
    }
}

fn silence_planned_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // The consumer observes it as another panic.
        let said = info.payload().downcast_ref::<&str>();
        let told = ["the stage's task has panicked", "an instance of the stage has panicked"];
        let is_told = said.is_some_and(|said| told.contains(said));
        if !is_told && !info.payload().is::<service::Planned>() {
            before(info);
        }
    }));
}

/// Prints also when the test passes and its output is not shown.
fn say(text: &str) {
    writeln!(stdout(), "{text}").expect("standard output is open");
}
