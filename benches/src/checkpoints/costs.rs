//! The time that a snapshot and a restore take, by record in flight.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Result, ensure};
use inflight::prelude::*;
use inflight::{Heap, Instant, Operator, Unkeyed};
use serde::Serialize;

use super::rows::rounded;
use super::tables::{median, time};
use crate::meter::Clock;

#[derive(Serialize)]
struct SnapshotRow {
    case: &'static str,
    snapshot_ns: f64,
    in_flight: u64,
}

#[derive(Serialize)]
struct RestoreRow {
    case: &'static str,
    restore_ns: f64,
    in_flight: u64,
}

const IN_FLIGHT: u64 = 10_000;
/// Three bytes in postcard, as in `bytes`.
const FIRST: u64 = 100_000;
const PACE: Duration = Duration::from_micros(100);

type Stage = Operator<(u64, u64, Infallible, NoRetry, Unkeyed, ()), Heap>;

/// Nanoseconds a `u64` record, the median of the samples: of a snapshot, and of its restore.
pub(super) fn measure(samples: usize) -> Result<(impl Serialize, impl Serialize)> {
    let (mut full, mut now) = (stage()?, Instant::ZERO);
    for record in FIRST..FIRST + IN_FLIGHT {
        now = now + PACE;
        let pushed = full.push(now, StreamElement::value(record));
        ensure!(pushed.is_ok(), "there is room");
        ensure!(full.poll_attempt(now).is_some(), "the attempt begins");
    }
    let (mut snapshots, mut restores) = (Vec::new(), Vec::new());
    for _ in 0..samples.max(1) {
        let mut checkpoint = Checkpoint::new(CheckpointId(1));
        snapshots.push(time(Clock::Thread, || full.snapshot(now, &mut checkpoint))?);
        let mut empty = stage()?;
        restores.push(time(Clock::Thread, || empty.restore(now, &checkpoint))?);
        ensure!(empty.in_flight() as u64 == IN_FLIGHT, "all are back");
    }
    let [snapshot_ns, restore_ns] =
        [snapshots, restores].map(|took| rounded(median(took) * 1e9 / IN_FLIGHT as f64));
    let in_flight = IN_FLIGHT;
    Ok((
        SnapshotRow { case: "snapshot_ns", snapshot_ns, in_flight },
        RestoreRow { case: "restore_ns", restore_ns, in_flight },
    ))
}

fn stage() -> Result<Stage> {
    let capacity = IN_FLIGHT as usize;
    Ok(AsyncWait::ordered(capacity).build_core()?.checkpointed("stage", 1))
}
