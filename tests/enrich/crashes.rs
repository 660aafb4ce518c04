//! Crashes: each flight is in the output exactly once, after any crash.

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value};

use crate::harness::{FLIGHTS, Job, MODES, flights, flights_and_broken_lines};

#[track_caller]
fn assert_crashed(job: &Job, more: &[&str]) {
    let said = job.run(more);
    assert!(!said.status.success() && said.status.code() != Some(2), "{said:#?}");
}

// K4, K5, O1: also if more records were in flight than the next life's capacity.
#[test]
fn after_a_crash_it_goes_on_and_keeps_the_order() {
    for mode in MODES {
        let job = Job::new(FLIGHTS).with(&["--checkpoint", mode]);
        assert_crashed(&job, &["--crash-after", "2000"]);

        let said = job.run(&["--capacity", "7"]);
        assert!(said.status.success(), "{said:#?}");
        assert!(said.stderr.contains("resuming from checkpoint"), "{said:#?}");
        job.assert_complete(FLIGHTS);

        let summary = job.summary();
        assert_eq!([&summary["read"], &summary["written"], &summary["rejected"]], [5000, 5000, 0]);
        assert!((1..=5000).contains(&summary["resumed_at"].as_u64().unwrap()), "{summary:?}");
        assert_eq!(summary["finished"], true);
    }
}

// K4, K5, K14, O2
#[test]
fn after_a_crash_it_goes_on_unordered() {
    for mode in MODES {
        let job = Job::new(FLIGHTS).with(&["--order", "unordered", "--checkpoint", mode]);
        assert_crashed(&job, &["--crash-after", "2000"]);
        job.finish();

        let verdict = job.verdict(FLIGHTS, false);
        assert!(verdict.is_good(), "{mode}: {verdict:#?}");
        assert_eq!(job.verdict(FLIGHTS, true).out_of_order, 1, "nothing overtook anything");
        // O2: no flight overtakes the watermark of a day.
        let day = |flight: &Map<String, Value>| flight["time"].as_str().unwrap()[..10].to_owned();
        assert!(job.flights().is_sorted_by_key(day));
        assert_eq!([&job.summary()["read"], &job.summary()["written"]], [5000, 5000]);
    }
}

// K9, K10: the process is killed again and again: before it begins, while it starts, and while it runs.
#[test]
fn repeated_kills_neither_lose_nor_double_a_flight() {
    let orders = ["ordered", "unordered"];
    for (mode, order) in MODES.into_iter().flat_map(|mode| orders.map(|order| (mode, order))) {
        let seed = if order == "ordered" { 1 } else { 2 };
        let input = flights_and_broken_lines(5000);
        let job = Job::new(&input).with(&["--order", order, "--checkpoint-interval", "5ms"]);
        let job = job.with(&["--checkpoint", mode]);
        let mut random = StdRng::seed_from_u64(seed);
        println!("{mode}, {order}, seed {seed}");
        for life in 0..12 {
            let changes = random.random_range(0..8);
            println!("life {life} ends after {changes} changes");
            if !kill_after(&job, changes) {
                break;
            }
        }
        // The last kill may have been too late.
        assert!(job.run(&[]).status.success());

        let verdict = job.verdict(&input, order == "ordered");
        assert!(verdict.is_good(), "{mode}: {verdict:#?}");
        let summary = job.summary();
        assert_eq!([&summary["written"], &summary["rejected"]], [5000, 500]);
    }
}

/// Kills a run after that many changes of its files. Returns true if it was still running.
fn kill_after(job: &Job, changes: u32) -> bool {
    let mut running = job.start(&[]);
    for _ in 0..changes {
        let before = job.traces();
        if !running.wait_until(|| job.traces() != before) {
            return false;
        }
    }
    running.kill();
    true
}

#[test]
fn a_finished_job_is_untouched_until_it_starts_over() {
    let job = Job::new(flights(300));
    job.finish();
    let (output, traces) = (job.output(), job.traces());

    let said = job.run(&[]);
    assert!(said.status.success() && said.stdout.contains("finished already"), "{said:#?}");
    assert_eq!((job.output(), job.traces()), (output, traces));
    assert_eq!(job.summary()["written"], 300);

    let said = job.run(&["--fresh"]);
    assert!(said.status.success() && said.stdout.starts_with("finished: "), "{said:#?}");
    job.assert_complete(&flights(300));
    assert_eq!(job.summary()["resumed_at"], Value::Null);
    assert_eq!(job.summary()["records"], 300);
}

#[test]
fn a_crashed_job_can_start_over() {
    let job = Job::new(flights(600));
    assert_crashed(&job, &["--crash-after", "300"]);
    assert!(job.run(&["--fresh"]).status.success());
    job.assert_complete(&flights(600));
    assert_eq!(job.summary()["resumed_at"], Value::Null);
}

// K6, K9
#[test]
fn one_damaged_checkpoint_is_skipped() {
    for (mode, damaged) in MODES.into_iter().flat_map(|mode| [(mode, 0), (mode, 1)]) {
        let job = Job::new(flights(600)).with(&["--checkpoint", mode]);
        assert_crashed(&job, &["--crash-after", "300"]);
        let slots = job.slots();
        assert_eq!(slots.len(), 2);
        flip_a_bit(&slots[damaged]);

        let said = job.finish();
        assert!(said.stderr.contains("damaged"), "{said:#?}");
        job.assert_complete(&flights(600));
    }
}

#[test]
fn without_an_intact_checkpoint_it_refuses() {
    for mode in MODES {
        let job = Job::new(flights(600)).with(&["--checkpoint", mode]);
        assert_crashed(&job, &["--crash-after", "300"]);
        job.slots().iter().for_each(|slot| flip_a_bit(slot));
        let output = job.output();
        job.refuses(&[], &["checkpoints", "--fresh"]);
        assert_eq!(job.output(), output);

        assert!(job.run(&["--fresh"]).status.success());
        job.assert_complete(&flights(600));
    }
}

// K14: the kind of checkpoints may change from one life to the next.
#[test]
fn the_kind_of_checkpoints_may_change_between_two_lives() {
    for order in ["ordered", "unordered"] {
        let job = Job::new(flights(1500)).with(&["--order", order]);
        for mode in ["positions", "drain", "positions", "snapshot"] {
            assert_crashed(&job, &["--crash-after", "250", "--checkpoint", mode]);
        }
        // The checkpoint holds flights, which no other kind of checkpoint could hold on. A refused run changes no checkpoint. It
        // may cut from the output what a crash has left behind the checkpoint, between the sink's sync and the save.
        let (traces, way_out) = (job.traces(), ["in flight", "--checkpoint snapshot"]);
        job.append_to_output(b"{\"torn\":");
        job.refuses(&["--checkpoint", "positions"], &way_out);
        let refused = job.traces();
        assert!(refused.0 <= traces.0 && refused.1 == traces.1);
        job.refuses(&["--checkpoint", "positions"], &way_out);
        assert_eq!(job.traces(), refused);
        assert!(job.run(&["--checkpoint", "drain"]).status.success());
        let verdict = job.verdict(&flights(1500), order == "ordered");
        assert!(verdict.is_good(), "{verdict:#?}");
    }
}

/// Damages the bytes in use: a slot may be longer than its current checkpoint.
fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[40] ^= 1;
    fs::write(path, bytes).unwrap();
}
