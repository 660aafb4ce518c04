//! A worker that leaves with slow requests in flight (K16).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::{Job, MODES, flights};
use crate::service::{Asked, Service, airport};

const NUMBER: usize = 50; // within one day, so that no watermark is in the way
const CAPACITY: usize = 10;

/// The service is silent about these flights, as many as the capacity. In an ordered job they are behind all others.
fn is_slow(order: &str, number: u64) -> bool {
    if order == "ordered" { number >= (NUMBER - CAPACITY) as u64 } else { number % 5 == 4 }
}

/// The way in which the first worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    HandsOver,
    IsKilled,
}

/// Runs a worker until nothing but slow requests is in flight, ends it, and lets a second one finish the job. No checkpoint comes
/// by itself. Returns the time to the end of the first worker, and the numbers of requests for each flight: for a quick one, and for a
/// slow one, at most.
fn ends(order: &'static str, mode: &str, end: End) -> (Duration, usize, usize) {
    let asked = Arc::new(Mutex::new(HashMap::<Asked, usize>::new()));
    let recovered = Arc::new(AtomicBool::new(false));
    let service = Service::start_with({
        let (asked, recovered) = (Arc::clone(&asked), Arc::clone(&recovered));
        move |request| {
            // Attempts of one request count together.
            let request = Asked { attempt: 0, ..request.clone() };
            *asked.lock().unwrap().entry(request.clone()).or_default() += 1;
            let is_silent = is_slow(order, request.number()) && !recovered.load(SeqCst);
            (!is_silent).then(|| ("200 OK", airport(&request.code)))
        }
    });
    let job = Job::new(flights(NUMBER)).with(&["--service", &service.url(), "--order", order]);
    let capacity = CAPACITY.to_string();
    let job = job.with(&["--capacity", &capacity, "--checkpoint", mode]);
    // Requests of 8 s.
    let job = job.with(&["--checkpoint-interval", "1h", "--attempt-timeout", "8s"]);

    let mut running = job.start(&[]);
    // Two requests for each flight. When slow ones have all places, the others have left the stage.
    let silent = || asked.lock().unwrap().keys().filter(|it| is_slow(order, it.number())).count();
    assert!(running.wait_until(|| silent() == 2 * CAPACITY));
    let time = match end {
        End::IsKilled => {
            running.kill();
            Duration::ZERO
        }
        End::HandsOver => {
            running.signal("INT");
            running.wait_for("stopping");
            let since = Instant::now();
            running.signal("INT");
            let said = running.said();
            assert!(said.stdout.contains("with records in flight"), "{said:#?}");
            since.elapsed()
        }
    };
    service.wait_until_idle();

    recovered.store(true, SeqCst);
    job.finish();
    job.assert_all_enriched(NUMBER, order == "ordered");
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2 * NUMBER, "a flight got another id");
    let most = |slow| {
        let requests = asked.iter().filter(|(it, _)| is_slow(order, it.number()) == slow);
        requests.map(|(_, times)| *times).max().unwrap()
    };
    (time, most(false), most(true))
}

// K16
#[test]
fn a_worker_that_hands_over_is_gone_in_a_second_and_nothing_that_it_did_is_asked_again() {
    for (mode, order) in MODES.into_iter().flat_map(|mode| [(mode, "ordered"), (mode, "unordered")])
    {
        let (time, quick, slow) = ends(order, mode, End::HandsOver);
        assert!(time < Duration::from_secs(1), "{mode}, {order}: {time:?}");
        assert_eq!((quick, slow), (1, 2), "{mode}, {order}");
    }
}

/// The control: a worker that is killed has saved nothing, and its successor asks for everything again.
#[test]
fn everything_that_a_killed_worker_did_is_asked_again() {
    for mode in MODES {
        let (_, quick, slow) = ends("unordered", mode, End::IsKilled);
        assert_eq!((quick, slow), (2, 2), "{mode}");
    }
}
