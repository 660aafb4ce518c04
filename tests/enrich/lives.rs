//! Lives that are shorter than a request's retries (`kill -9`): the job advances nevertheless.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use crate::harness::{Job, Running, flights};
use crate::service::{Answer, Asked, Service, airport};

/// A service that notes what it is asked.
struct Watching {
    service: Service,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// It answers everything from now on.
    recovered: Arc<AtomicBool>,
}

/// The numbers of the attempts that a service saw, by the flight's number.
type Attempts = BTreeMap<u64, BTreeSet<u32>>;

const UNAVAILABLE: Answer = Some(("503 Service Unavailable", String::new()));

impl Watching {
    /// It is unavailable for the requests for which `fails` holds.
    fn start(fails: fn(&Asked) -> bool) -> Self {
        let (asked, recovered) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let service = Service::start_with({
            let (asked, recovered): (Arc<Mutex<Vec<_>>>, _) =
                (Arc::clone(&asked), Arc::clone(&recovered));
            move |request: &Asked| {
                asked.lock().unwrap().push(request.clone());
                match fails(request) && !recovered.load(SeqCst) {
                    true => UNAVAILABLE,
                    false => Some(("200 OK", airport(&request.code))),
                }
            }
        });
        Self { service, asked, recovered }
    }

    /// A job whose requests have retries for longer than any life.
    fn job(&self, number: usize, mode: &str) -> Job {
        let job = Job::new(flights(number)).with(&["--service", &self.service.url()]);
        job.with(&["--checkpoint", mode, "--checkpoint-interval", "5ms"])
    }

    /// The attempts since the last [`forget`](Self::forget).
    fn attempts(&self) -> Attempts {
        let mut attempts = Attempts::new();
        for asked in &*self.asked.lock().unwrap() {
            attempts.entry(asked.number()).or_default().insert(asked.attempt);
        }
        attempts
    }

    /// The attempts of a life that has just been killed.
    fn forget(&self) -> Attempts {
        self.service.wait_until_idle();
        let attempts = self.attempts();
        take(&mut *self.asked.lock().unwrap());
        attempts
    }

    /// Starts a life and kills it when these flights have been tried three times each and something was saved after that, if
    /// anything is. Returns false if it has ended before.
    fn live(&self, job: &Job, flights: &[u64], is_saved: bool) -> bool {
        let mut running: Running = job.start(&[]);
        let tried = |number| self.attempts().get(number).is_some_and(|tries| tries.len() >= 3);
        let lived = running.wait_until(|| flights.iter().all(tried)) && {
            let before = job.slots_read();
            !is_saved || running.wait_until(|| job.slots_read() != before)
        };
        if lived {
            running.kill();
        }
        lived
    }
}

/// The service answers an attempt from this one on. To get there in one life takes 5.5 s of waits; a life has about two of
/// them.
const ANSWERED: u32 = 10;
const QUIET: usize = 3;

fn is_too_early(asked: &Asked) -> bool {
    asked.attempt < ANSWERED
}

/// The input has ended, all flights are in retries, and each life is killed before those can be over. Returns the attempts of
/// each life.
fn lives_in_retries(mode: &str) -> (Job, Vec<Attempts>) {
    let service = Watching::start(is_too_early);
    let job = service.job(QUIET, mode);
    let (mut lives, all) = (Vec::new(), Vec::from_iter(0..QUIET as u64));
    while lives.len() < 2 * ANSWERED as usize && service.live(&job, &all, mode == "snapshot") {
        lives.push(service.forget());
        let most = lives.last().into_iter().flat_map(BTreeMap::values).map(BTreeSet::len).max();
        assert!(most < Some(ANSWERED as usize), "a life was long enough for all retries");
    }
    (job, lives)
}

/// Whether each life went on with the attempts where the one before was killed. The last attempt before a kill is made again if
/// no checkpoint knows of it.
fn goes_on(lives: &[Attempts]) -> bool {
    lives.windows(2).all(|pair| {
        let mut flights = pair[0].iter().zip(&pair[1]);
        flights.all(|((before, was), (number, is))| before == number && is.first() >= was.last())
    })
}

// K11, K13, K10: nothing comes out for many lives, and the job ends.
#[test]
fn attempts_go_on_over_lives_that_are_shorter_than_the_retries() {
    let (job, lives) = lives_in_retries("snapshot");
    assert!(lives.len() > 1 && goes_on(&lives), "{lives:#?}");
    job.assert_all_enriched(QUIET, true);
    assert!(job.run(&[]).stdout.contains("finished already"));
}

/// The control: positions keep no attempts, so each life begins with the first one, and the job never ends.
#[test]
fn without_snapshots_attempts_do_not_go_on() {
    let (job, lives) = lives_in_retries("positions");
    assert!(lives.len() == 2 * ANSWERED as usize && !goes_on(&lives), "{lives:#?}");
    let first = lives.iter().flat_map(BTreeMap::values).map(|attempts| attempts.first().copied());
    assert!(first.into_iter().all(|first| first == Some(1)), "{lives:#?}");
    assert_eq!(job.output(), b"");
}

const NUMBER: usize = 40; // within one day, so that no watermark is in the way
const LIVES: usize = 4;

fn is_first(asked: &Asked) -> bool {
    asked.number() == 0
}

fn is_last(asked: &Asked) -> bool {
    asked.number() == NUMBER as u64 - 1
}

/// One flight is in retries all the time, and each life is killed before they are over. Returns the other flights that each life
/// asked for, and the number of lines in the output.
fn lives_beside_a_slow_flight(order: &str, mode: &str) -> (Vec<Vec<u64>>, usize) {
    let is_ordered = order == "ordered";
    let service = Watching::start(if is_ordered { is_last } else { is_first });
    let slow = if is_ordered { NUMBER as u64 - 1 } else { 0 };
    let job = service.job(NUMBER, mode).with(&["--order", order, "--capacity", "10"]);
    let life = |_| {
        assert!(service.live(&job, &[slow], false), "the slow flight has come out");
        let asked = service.forget();
        asked.into_keys().filter(|number| *number != slow).collect()
    };
    let others = (0..LIVES).map(life).collect();
    let lines = job.output().iter().filter(|byte| **byte == b'\n').count();

    service.recovered.store(true, SeqCst);
    job.finish();
    job.assert_all_enriched(NUMBER, is_ordered);
    (others, lines)
}

// K11, K14: outcomes are committed although another flight never comes out.
#[test]
fn outcomes_beside_a_slow_flight_are_committed_in_lives_shorter_than_its_retries() {
    for (order, mode) in [
        ("unordered", "positions"),
        ("ordered", "positions"),
        ("unordered", "snapshot"),
        ("ordered", "snapshot"),
    ] {
        let (others, lines) = lives_beside_a_slow_flight(order, mode);
        assert_eq!(others[0].len(), NUMBER - 1, "{order}, {mode}");
        // A kill may come before the commit of the last outcomes.
        assert!(others[LIVES - 1].is_empty(), "{order}, {mode}: {others:?}");
        assert_eq!(lines, NUMBER - 1, "{order}, {mode}");
    }
}

/// The control: a checkpoint that drains waits for the slow flight, so each life asks for the same again.
#[test]
fn with_drains_nothing_is_committed_beside_a_slow_flight() {
    let (others, _) = lives_beside_a_slow_flight("unordered", "drain");
    assert!(others.iter().all(|others| others.starts_with(&[1, 2])), "{others:?}");
}

// K14: a crash right after a restart, before the flights that are done have been passed over, forgets none of them.
#[test]
fn a_crash_during_recovery_forgets_no_flight_that_is_done() {
    let service = Watching::start(is_first);
    let job = service.job(NUMBER, "positions").with(&["--order", "unordered"]);
    let others = || service.forget().keys().filter(|number| **number != 0).count();
    while service.live(&job, &[0], false) && others() > 0 {}

    // It dies between the save of its first checkpoint and the first record.
    let mut command = job.command(&[]);
    command.env("ENRICH_WINDOW", "1s");
    let (mut running, before) = (Running::new(command), job.slots_read());
    assert!(running.wait_until(|| job.slots_read() != before));
    running.kill();

    service.recovered.store(true, SeqCst);
    job.finish();
    assert_eq!(others(), 0);
    job.assert_all_enriched(NUMBER, false);
}
