//! Ctrl-C, once, twice and three times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::harness::{Job, MODES, Running, flights};
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

// L3, K16
#[test]
fn the_first_ctrl_c_finishes_the_records_in_flight() {
    for (mode, signal) in MODES.into_iter().zip(["INT", "TERM", "INT"]) {
        let job = Job::new(flights(1500)).with(&["--latency", "20ms", "--capacity", "20"]);
        let job = job.with(&["--checkpoint", mode]);
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

// K16
#[test]
fn the_second_ctrl_c_stops_at_once() {
    for mode in MODES {
        let Moody { service, asked, recovered } = Moody::start();
        let patience = ["--attempt-timeout", "60s", "--checkpoint-interval", "1ms"];
        let job = Job::new(flights(300)).with(&["--service", &service.url(), "--capacity", "10"]);
        let job = job.with(&patience).with(&["--checkpoint", mode]);
        let mut running = job.start(&[]);
        assert!(running.wait_until(|| asked.load(SeqCst) > SILENT_FROM));
        running.signal("INT");
        running.wait_for("stopping");
        running.signal("INT");
        let said = running.said();
        assert_eq!(said.status.code(), Some(130), "{said:#?}");
        assert!(said.stdout.contains("to resume from the last checkpoint"), "{said:#?}");
        let (summary, written) = (job.summary(), job.flights().len());
        assert_eq!([&summary["written"], &summary["timeouts"]], [written, 0], "{summary:?}");

        recovered.store(true, SeqCst);
        job.finish();
        job.assert_all_enriched(300, true);
    }
}

#[test]
fn the_third_ctrl_c_ends_the_process_even_while_it_saves() {
    let job = Job::new(flights(300));
    let mut command = job.command(&[]);
    command.env("ENRICH_WINDOW", "5s"); // the time before each save, and after it
    let mut running = Running::new(command);
    assert!(running.wait_until(|| !job.slots().is_empty()));
    running.signal("INT");
    running.wait_for("stopping");
    running.signal("INT");
    running.wait_for("handing over");
    running.signal("INT");
    let said = running.said();
    assert_eq!((said.status.code(), &*said.stdout), (Some(130), ""), "{said:#?}");
    job.finish();
    job.assert_complete(&flights(300));
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
    let job = job.with(&["--checkpoint", "snapshot"]); // the others keep no backlog
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

    // No flight is lost. Rejected are only those that had all of their time: one after the other had the only slot. The
    // checkpoints during the drain have committed that.
    recovered.store(true, SeqCst);
    job.finish();
    let rejected = job.rejected();
    assert!(rejected.len() <= 2, "{rejected:#?}");
    for line in rejected {
        assert!(line["reason"].as_str().unwrap().contains("timed out"), "{line:#?}");
    }
    job.assert_enriched_or_rejected(300, true);
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
