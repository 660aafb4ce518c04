//! The memory of a job with many records in flight and a store that is far slower than the interval.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use inflight::prelude::*;
use serde::Serialize;

use super::job::{Job, Keeps, Record, Stages};
use super::observed::Observed;
use crate::memory;

#[derive(Serialize)]
struct Row {
    case: &'static str,
    stages: Stages,
    peak_bytes: u64,
    /// The bytes of the records in flight, all the time.
    in_flight_bytes: u64,
    /// The virtual time from the first record in to the last one out. The saves after it do not count.
    seconds: f64,
    checkpoints: usize,
}

const SIZE: usize = 1024;
/// Records that stay in flight: 8 MiB.
const HELD: u64 = 8192;
/// The records after those come and go one by one, so that there is always something to commit.
const PASSING: u64 = 1_300;
const PACE: Duration = Duration::from_millis(50);
const RUN: Duration = Duration::from_secs(65);

impl Record for String {
    fn number(&self) -> u64 {
        self.parse().unwrap_or(u64::MAX)
    }
}

/// 65 s with an interval of 50 ms and saves of 20 s.
pub(super) fn measure(stages: Stages) -> Result<impl Serialize> {
    let job = Job {
        records: HELD + PASSING,
        since: |number| PACE * number.saturating_sub(HELD) as u32,
        record: |number| StreamElement::value(format!("{number:0SIZE$}")),
        stages,
        keeps: Keeps::Records,
        policy: AsyncWait::unordered(2 * HELD as usize), // never full
        service: |number| if number < HELD { RUN } else { Duration::from_millis(1) },
        interval: Duration::from_millis(50),
        save: Duration::from_secs(20),
    };
    let observed = Observed::new(job.records);
    memory::start();
    let ended = job.run_noting(&observed);
    memory::stop();
    ended?;
    let observed = observed.take();
    observed.check_all(job.records)?;
    let (_, last) = observed.written.last().context("no record came out")?;
    let seconds = (*last - observed.taken[0]).as_secs_f64();
    ensure!(seconds >= RUN.as_secs_f64(), "8 MiB are in flight all the time");
    Ok(Row {
        case: "memory",
        stages,
        peak_bytes: memory::peak_bytes(),
        in_flight_bytes: HELD * SIZE as u64,
        seconds,
        checkpoints: observed.checkpoints.len(),
    })
}
