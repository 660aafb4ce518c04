//! How long a checkpoint that is due waits, while every stage is full.

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
    keeps: Keeps,
    /// From the instant at which a checkpoint is due until it is committed, at most.
    wait_ms: f64,
    checkpoints: usize,
}

const INTERVAL: Duration = Duration::from_millis(100);

/// 20 s of work: two requests at a time, of 2 s each, and a source that always has a record. The store saves at once.
pub(super) fn measure(stages: Stages, keeps: Keeps) -> Result<impl Serialize> {
    let observed = job(stages, keeps, 2).run()?;
    let wait = observed.longest_wait(INTERVAL).context("there was no checkpoint")?;
    let (wait_ms, checkpoints) = (rounded(wait.as_secs_f64() * 1e3), observed.checkpoints.len());
    Ok(Row { case: "barrier-full", stages, keeps, wait_ms, checkpoints })
}

fn job(stages: Stages, keeps: Keeps, capacity: usize) -> Job<u64> {
    Job {
        records: 20,
        since: |_| Duration::ZERO,
        record: StreamElement::value,
        stages,
        keeps,
        policy: AsyncWait::ordered(capacity),
        service: |_: u64| Duration::from_secs(2),
        interval: INTERVAL,
        save: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The figure is the wait for a full stage and nothing else. The last record comes late and is done at once, so that the
    // end of the source finds nothing in flight.
    #[test]
    fn a_stage_with_room_keeps_no_checkpoint_waiting() {
        const LAST: u64 = 19;
        let since = |number| number as u32 * INTERVAL * if number == LAST { 6 } else { 3 };
        let service = |number| Duration::from_secs(if number == LAST { 0 } else { 2 });
        for stages in [Stages::InPlace, Stages::OnTask, Stages::Chain] {
            for keeps in [Keeps::Records, Keeps::Positions] {
                let job = Job { since, service, ..job(stages, keeps, 100) };
                let observed = job.run().expect("it does its work");
                let wait = observed.longest_wait(INTERVAL);
                assert_eq!(wait, Some(Duration::ZERO), "{stages:?}, {keeps:?}");
                assert!(observed.checkpoints.len() > 20, "{stages:?}, {keeps:?}");
            }
        }
    }
}
