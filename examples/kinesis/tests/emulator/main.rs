//! The job and its source, with an emulator of Kinesis: `./up --install` installs it.

mod harness;
mod shard;

use std::process::{Command, Output};

use crate::harness::Emulator;

/// Runs `--try`, and returns its status, its line and what it says besides.
fn rehearse(emulator: &Emulator, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_inflight-kinesis"));
    program.args(["--try", "--emulator", &emulator.url]).args(arguments);
    program.arg("--state").arg(emulator.folder().join("state"));
    let Output { status, stdout, stderr } = program.output().expect("the program");
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (status.code(), stdout, stderr)
}

// K10, O3, P3: kills while shards are split and merged; the job recognises its finished shards in its next life.
#[test]
fn nothing_is_lost_or_out_of_order_through_kills_and_resharding() {
    let Some(emulator) = Emulator::start() else { return };
    let (status, line, said) =
        rehearse(&emulator, &["--records", "2000", "--kills", "4", "--no-comparison"]);
    let right =
        "records: 2000, lost: 0, doubled: 0, out of order: 0, wrong: 0 (shards: 5, kills: 4";
    assert!(line.starts_with(right) && status == Some(0), "{status:?}\n{line}{said}");
}

// The control: the comparison above finds children that begin too early.
#[test]
fn children_beside_their_parents_are_out_of_order() {
    let Some(emulator) = Emulator::start() else { return };
    let arguments = ["--records", "2000", "--kills", "1", "--children-first"];
    let (status, line, said) = rehearse(&emulator, &arguments);
    let is_found = line.starts_with("records: 2000, lost: 0, doubled: 0, out of order: ")
        && !line.contains("out of order: 0,");
    assert!(is_found && status == Some(1), "{status:?}\n{line}{said}");
}
