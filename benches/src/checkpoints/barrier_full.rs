//! How long a checkpoint that is due waits, while every stage is full.

use std::time::Duration;

use anyhow::{Context, Result};
use inflight::prelude::*;
use serde::Serialize;

use super::job::{Job, Stages};
use super::rows::rounded;

#[derive(Serialize)]
struct Row {
    case: &'static str,
    stages: Stages,
    /// From the instant at which a checkpoint is due until it is committed, at most.
    wait_ms: f64,
    checkpoints: usize,
}

const INTERVAL: Duration = Duration::from_millis(100);

/// 20 s of work: two requests at a time, of 2 s each, and a source that always has a record. The store saves at once.
pub(super) fn measure(stages: Stages) -> Result<impl Serialize> {
    let job = Job {
        records: 20,
        since: |_| Duration::ZERO,
        record: StreamElement::value,
        stages,
        policy: AsyncWait::ordered(2),
        service: |_: u64| Duration::from_secs(2),
        interval: INTERVAL,
        save: Duration::ZERO,
    };
    let observed = job.run()?;
    let wait = observed.longest_wait(INTERVAL).context("there was no checkpoint")?;
    let (wait_ms, checkpoints) = (rounded(wait.as_secs_f64() * 1e3), observed.checkpoints.len());
    Ok(Row { case: "barrier-full", stages, wait_ms, checkpoints })
}
