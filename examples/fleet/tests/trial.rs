//! A small trial, and a control that must fail, with real servers and processes.
//!
//! Without the servers (see `../up`) each test says that it was skipped; with `INFLIGHT_CI=1` that is a failure.
#![allow(missing_docs)]

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

/// One test runs at a time, because they use the same ports.
static TURN: Mutex<()> = Mutex::new(());

const PORTS: &str = "14260 14261 14262";
const CLUSTER_PORTS: &str = "14270 14271 14272";

/// Servers and logs of one test. The servers are stopped when it is dropped.
struct Place(tempfile::TempDir);

/// What a trial has said at its end.
#[derive(Debug)]
struct Said {
    status: Option<i32>,
    records: u64,
    lost: u64,
    doubled: u64,
    out_of_order: u64,
    fenced: u64,
    /// All that it has said, for a failure.
    _output: Output,
}

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Runs a trial; `None`, with a message, if the servers cannot be had.
    fn trial(&self, options: &str) -> Option<Said> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inflight-fleet"));
        command.arg("--try").args(options.split_whitespace()).arg("--data").arg(self.0.path());
        command.env("FLEET_PORTS", PORTS).env("FLEET_CLUSTER_PORTS", CLUSTER_PORTS);
        let output = command.output().expect("the program");
        if output.status.code() == Some(77) {
            assert!(env::var_os("INFLIGHT_CI").is_none_or(|ci| ci != "1"), "{output:?}");
            // Without `eprintln`, because the output of a test that passes is not shown.
            let _ = writeln!(io::stderr(), "\nSKIPPED: the NATS servers cannot be had\n");
            return None;
        }
        Some(Said::new(output))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("down");
        let _ = Command::new(script).arg(self.0.path().join("servers")).status();
    }
}

impl Said {
    fn new(output: Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_else(|| panic!("{output:#?}"));
        let fields = last.split(", ").map(|field| field.split_once(": "));
        let fields: Option<Vec<_>> = fields.collect();
        let fields = fields.unwrap_or_else(|| panic!("{output:#?}"));
        let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["records", "lost", "doubled", "out of order", "fenced"]);
        let number = |place: usize| fields[place].1.parse().expect("a number");
        let [records, lost, doubled, out_of_order, fenced] = [0, 1, 2, 3, 4].map(number);
        let status = output.status.code();
        Self { status, records, lost, doubled, out_of_order, fenced, _output: output }
    }
}

#[test] // P3, P4
fn every_record_comes_out_once_and_in_the_order_of_its_key() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new();
    let options = "--workers 3 --kills 3 --frozen 3 --moves 2 --broker-kills 1 --records 9000";
    let Some(said) = place.trial(options) else { return };
    assert_eq!(said.status, Some(0), "{said:#?}");
    assert_eq!((said.lost, said.doubled, said.out_of_order), (0, 0, 0), "{said:#?}");
    assert_eq!(said.records, 9_000, "{said:#?}");
    assert!(said.fenced > 0, "the fence had nothing to do: {said:#?}");
}

/// Without the fence a worker that was frozen writes what another one has written meanwhile, and the trial says so.
#[test] // P4
fn a_trial_without_the_fence_fails() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::new();
    let Some(said) = place.trial("--no-fence --frozen 2 --records 5000") else { return };
    assert_eq!(said.status, Some(1), "{said:#?}");
    assert!(said.doubled > 0, "{said:#?}");
}
