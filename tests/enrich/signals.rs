//! Ctrl-C, once and twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::harness::{Job, flights};
use crate::service::{Service, airport};

const SILENT_FROM: u64 = 200;

/// A service that stops answering after some requests, so that no record in flight can finish, until it is restored.
struct Moody {
    service: Service,
    asked: Arc<AtomicU64>,
    recovered: Arc<AtomicBool>,
}

impl Moody {
    fn start() -> Self {
        let (asked, recovered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let service = Service::start({
            let (asked, recovered) = (asked.clone(), recovered.clone());
            move |code| {
                let speaks = asked.fetch_add(1, SeqCst) < SILENT_FROM || recovered.load(SeqCst);
                speaks.then(|| ("200 OK", airport(code)))
            }
        });
        Self { service, asked, recovered }
    }
}

/// Asserts that the output has every flight once, in order, with the service's data on its airports, and nothing
/// else.
fn assert_all_enriched(job: &Job, number: usize) {
    let mut found = job.flights();
    for flight in &mut found {
        for end in ["origin", "destination"] {
            let airport = flight.remove(&format!("{end}_airport")).unwrap();
            assert_eq!(airport["name"], format!("The {}", flight[end].as_str().unwrap()));
        }
    }
    let input = flights(number);
    let expected = input.lines().map(|line| serde_json::from_str(line).unwrap());
    assert_eq!(found, expected.collect::<Vec<Map<String, Value>>>());
    assert!(job.rejected().is_empty());
}

// L3
#[test]
fn the_first_ctrl_c_finishes_the_records_in_flight() {
    for signal in ["INT", "TERM"] {
        let job = Job::new(flights(1500)).with(&["--latency", "20ms", "--capacity", "20"]);
        let mut running = job.start(&[]);
        assert!(running.wait_until(|| job.traces().0 > 0));
        running.signal(signal);
        let said = running.said();
        assert_eq!(said.status.code(), Some(130), "{said:#?}");
        assert!(said.stdout.contains("to resume"), "{said:#?}");

        let (summary, written) = (job.summary(), job.flights().len());
        assert!((1..1500).contains(&written));
        assert_eq!([&summary["read"], &summary["written"]], [written, written]);
        assert_eq!(summary["finished"], false);

        let said = job.finish();
        assert!(said.stderr.contains(&format!("{written} lines read, 0 in flight")), "{said:#?}");
        assert_eq!(job.summary()["resumed_at"], written);
        job.assert_complete(&flights(1500));
    }
}

#[test]
fn the_second_ctrl_c_stops_at_once() {
    let Moody { service, asked, recovered } = Moody::start();
    let patience = ["--attempt-timeout", "60s", "--checkpoint-interval", "1ms"];
    let job = Job::new(flights(300)).with(&["--service", &service.url(), "--capacity", "10"]);
    let job = job.with(&patience);
    let mut running = job.start(&[]);
    assert!(running.wait_until(|| asked.load(SeqCst) > SILENT_FROM));
    running.signal("INT");
    running.wait_for("stopping");
    running.signal("INT");
    let said = running.said();
    assert_eq!(said.status.code(), Some(130), "{said:#?}");
    assert_eq!(said.stdout, "");

    recovered.store(true, SeqCst);
    job.finish();
    assert_all_enriched(&job, 300);
}

#[test]
fn a_backlog_keeps_ctrl_c_waiting_no_longer_than_the_timeout() {
    // It is chance which requests are not answered, and which of their records are in the last checkpoint.
    assert!((0..10).any(|_| a_backlog_was_kept_and_ctrl_c_did_not_wait_for_it()), "no backlog");
}

/// Returns false if there was hardly a backlog.
fn a_backlog_was_kept_and_ctrl_c_did_not_wait_for_it() -> bool {
    const TIMEOUT: Duration = Duration::from_secs(5);
    const LONG: Duration = Duration::from_secs(20);
    let Moody { service, asked, recovered } = Moody::start();
    let timeout = &format!("{TIMEOUT:?}");
    let job = Job::new(flights(300)).with(&["--service", &service.url(), "--timeout", timeout]);
    let job = job.with(&["--attempt-timeout", timeout, "--checkpoint-interval", "1ms"]);
    let mut running = job.start(&["--capacity", "40"]);
    assert!(running.wait_until(|| asked.load(SeqCst) > SILENT_FROM));
    running.kill();

    service.wait_until_idle();
    let (before, since) = (asked.load(SeqCst), Instant::now());
    let mut running = job.start(&["--capacity", "1"]);
    assert!(running.wait_until(|| asked.load(SeqCst) > before));
    running.signal("INT");
    let said = running.said();
    let going_on = said.stderr.split_once(" lines read, ").map(|(_, rest)| rest.split(' ').next());
    let in_flight = going_on.flatten().map_or(0, |number| number.parse().unwrap());
    if TIMEOUT * in_flight < 2 * LONG {
        return false;
    }
    assert_eq!(said.status.code(), Some(130), "{said:#?}");
    assert!(said.stdout.contains("to resume from the last checkpoint"), "{said:#?}");
    assert!(since.elapsed() < LONG, "{:?}", since.elapsed());

    // No flight is lost, or rejected for lack of time.
    recovered.store(true, SeqCst);
    job.finish();
    assert_all_enriched(&job, 300);
    true
}

#[test]
fn checkpoints_in_close_succession_do_not_stop_the_job() {
    let job = Job::new(flights(200)).with(&["--checkpoint-interval", "1ns"]);
    let mut running = job.start(&[]);
    assert!(running.wait_until(|| job.traces().0 > 0));
    running.signal("INT");
    let said = running.said();
    assert!(matches!(said.status.code(), Some(0 | 130)), "{said:#?}");
    if said.status.code() == Some(130) {
        job.finish();
    }
    job.assert_complete(&flights(200));
}
