//! The size of a checkpoint, by record in flight.

use std::time::Duration;

use anyhow::{Context, Result};
use inflight::prelude::*;
use serde::Serialize;

use super::job::{Job, Keeps, Stages};
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
    /// One position, because all records behind it are in flight.
    PositionsOrdered,
    /// The position of the oldest record, and the records behind it that are done: every second one.
    PositionsUnordered,
}

impl Mode {
    pub(super) const ALL: [Self; 4] = [
        Self::Snapshot,
        Self::SnapshotWithTimestamps,
        Self::PositionsOrdered,
        Self::PositionsUnordered,
    ];
}

const IN_FLIGHT: u64 = 10_000;
/// The records before those, so that the numbers are not small ones: three bytes each in postcard.
const DONE: u64 = 100_000;
const PACE: Duration = Duration::from_micros(100);
const LATE: Duration = Duration::from_secs(5);
/// Never full.
const CAPACITY: usize = 2 * IN_FLIGHT as usize;

/// 10,000 numbers in flight, which have come one after the other within two seconds.
pub(super) fn measure(mode: Mode) -> Result<impl Serialize> {
    let is_unordered = matches!(mode, Mode::PositionsUnordered);
    let job = Job {
        // The last one comes late: the end of a source begins a drain.
        records: DONE + if is_unordered { 2 * IN_FLIGHT } else { IN_FLIGHT } + 1,
        since: if is_unordered { since::<{ 2 * IN_FLIGHT }> } else { since::<IN_FLIGHT> },
        record: match mode {
            Mode::SnapshotWithTimestamps => with_timestamp,
            _ => StreamElement::value,
        },
        stages: Stages::OnTask,
        keeps: match mode {
            Mode::Snapshot | Mode::SnapshotWithTimestamps => Keeps::Records,
            Mode::PositionsOrdered | Mode::PositionsUnordered => Keeps::Positions,
        },
        policy: match mode {
            Mode::PositionsUnordered => AsyncWait::unordered(CAPACITY),
            _ => AsyncWait::ordered(CAPACITY),
        },
        service: match mode {
            Mode::PositionsUnordered => |number| service(number, number % 2 == 0),
            _ => |number| service(number, true),
        },
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

/// `HELD` records come one after the other, and the last one late.
fn since<const HELD: u64>(number: u64) -> Duration {
    match number.saturating_sub(DONE) {
        held if held == HELD => LATE,
        held => PACE * held as u32,
    }
}

/// The first records are done at once, and a slow one of the others after all are there.
fn service(number: u64, is_slow: bool) -> Duration {
    if number < DONE || !is_slow { Duration::ZERO } else { 2 * LATE }
}

/// A record with the time of its making, today.
fn with_timestamp(number: u64) -> StreamElement<u64> {
    let millis = (PACE * number as u32).as_millis() as i64;
    StreamElement::record(number, Timestamp::from_millis(1_800_000_000_000 + millis))
}
