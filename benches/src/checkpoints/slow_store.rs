//! The throughput of a job whose store needs twice the interval to save a checkpoint.

use std::time::Duration;

use anyhow::{Context, Result};
use inflight::prelude::*;
use serde::Serialize;

use super::job::{Job, Keeps, Stages};
use super::rows::rounded;

#[derive(Serialize)]
struct Row {
    case: &'static str,
    stages: Stages,
    /// The same as `records_per_second_with`.
    records_per_second: f64,
    /// If the store saves at once.
    records_per_second_without: f64,
    records_per_second_with: f64,
}

const INTERVAL: Duration = Duration::from_secs(1);

/// 10 s of work: two requests at a time, of 10 ms each, so 200 records per second.
pub(super) fn measure(stages: Stages) -> Result<impl Serialize> {
    let without = rate(stages, Duration::ZERO)?;
    let with = rate(stages, 2 * INTERVAL)?;
    Ok(Row {
        case: "slow-store",
        stages,
        records_per_second: with,
        records_per_second_without: without,
        records_per_second_with: with,
    })
}

/// Records per second until the sink has the last one. The last checkpoint, which comes after it, does not count.
fn rate(stages: Stages, save: Duration) -> Result<f64> {
    let job = Job {
        records: 2_000,
        since: |_| Duration::ZERO,
        record: StreamElement::value,
        stages,
        keeps: Keeps::Records,
        policy: AsyncWait::ordered(2),
        service: |_: u64| Duration::from_millis(10),
        interval: INTERVAL,
        save,
    };
    let observed = job.run()?;
    let (_, last) = observed.written.last().context("no record came out")?;
    Ok(rounded(job.records as f64 / (*last - observed.taken[0]).as_secs_f64()))
}
