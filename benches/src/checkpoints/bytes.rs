//! The size of a checkpoint, by record in flight.

use std::time::Duration;

use anyhow::{Context, Result};
use inflight::prelude::*;
use serde::Serialize;

use super::job::{Job, Stages};
use super::rows::rounded;

#[derive(Serialize)]
struct Row {
    case: &'static str,
    mode: Mode,
    /// Bytes of a checkpoint, divided by the records in flight.
    bytes: f64,
    in_flight: u64,
}

/// What a checkpoint holds.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// The records in flight, which have no timestamps.
    Snapshot,
    /// The records in flight, each with a timestamp.
    SnapshotWithTimestamps,
}

const IN_FLIGHT: u64 = 10_000;
/// The records before those, so that the numbers are not small ones: three bytes each in postcard.
const DONE: u64 = 100_000;
const PACE: Duration = Duration::from_micros(100);
const LATE: Duration = Duration::from_secs(5);

/// 10,000 numbers in flight, which have come one after the other within a second.
pub(super) fn measure(mode: Mode) -> Result<impl Serialize> {
    let job = Job {
        records: DONE + IN_FLIGHT + 1, // the last one comes late: the end of a source begins a drain
        since: |number| match number.saturating_sub(DONE) {
            IN_FLIGHT => LATE,
            held => PACE * held as u32,
        },
        record: match mode {
            Mode::Snapshot => StreamElement::value,
            Mode::SnapshotWithTimestamps => with_timestamp,
        },
        stages: Stages::OnTask,
        policy: AsyncWait::ordered(2 * IN_FLIGHT as usize), // never full
        service: |number| if number < DONE { Duration::ZERO } else { 2 * LATE },
        interval: Duration::from_secs(1),
        save: Duration::ZERO,
    };
    let observed = job.run()?;
    let mut full = observed.checkpoints.iter().filter(|it| it.in_flight() == IN_FLIGHT);
    let full = full.next().context("no checkpoint has all records in flight")?;
    Ok(Row {
        case: "bytes",
        mode,
        bytes: rounded(full.bytes as f64 / IN_FLIGHT as f64),
        in_flight: IN_FLIGHT,
    })
}

/// A record with the time of its making, today.
fn with_timestamp(number: u64) -> StreamElement<u64> {
    let millis = (PACE * number as u32).as_millis() as i64;
    StreamElement::record(number, Timestamp::from_millis(1_800_000_000_000 + millis))
}
