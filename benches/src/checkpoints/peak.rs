//! The memory of a job with many records in flight and a store that is far slower than the interval.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_lite::future::or;
use inflight::Spawner;
use inflight::prelude::*;
use serde::Serialize;

use super::job::{Job, Record, Stages};
use super::observed::Observed;
use crate::memory;
use crate::virtual_time::VirtualTime;

#[derive(Serialize)]
struct Row {
    case: &'static str,
    stages: Stages,
    peak_bytes: u64,
    /// The bytes of the records in flight, all the time.
    in_flight_bytes: u64,
    /// The virtual time of the run, from the first record on.
    seconds: f64,
    /// True if the run was broken off because its memory had reached the limit: it would have grown further.
    stopped_at_limit: bool,
    checkpoints: usize,
}

const SIZE: usize = 1024;
/// Records that stay in flight: 8 MiB.
const HELD: u64 = 8192;
/// The records after those come and go one by one, so that there is always something to commit.
const PASSING: u64 = 1_300;
const PACE: Duration = Duration::from_millis(50);
const RUN: Duration = Duration::from_secs(65);
const LIMIT: u64 = 512 << 20;

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
        policy: AsyncWait::unordered(2 * HELD as usize), // never full
        service: |number| if number < HELD { RUN } else { Duration::from_millis(1) },
        interval: Duration::from_millis(50),
        save: Duration::from_secs(20),
    };
    let (clock, observed) = (VirtualTime::new(), Observed::new(job.records));
    memory::start();
    let (running, limit) = (job.with_snapshots(&clock, &observed), reaches_limit(&clock));
    let whole = clock.run(or(async move { running.await.map(|()| true) }, limit));
    memory::stop();
    let (whole, observed) = (whole??, observed.take());
    if whole { observed.check_all(job.records) } else { observed.check_once() }?;
    ensure!(observed.taken.len() as u64 > HELD, "there are 8 MiB in flight");
    Ok(Row {
        case: "memory",
        stages,
        peak_bytes: memory::peak_bytes(),
        in_flight_bytes: HELD * SIZE as u64,
        seconds: (clock.now() - observed.taken[0]).as_secs_f64(),
        stopped_at_limit: !whole,
        checkpoints: observed.checkpoints.len(),
    })
}

/// Ends when the memory has reached the limit. It looks on a task of its own, so that the job is not polled more often.
fn reaches_limit(clock: &VirtualTime) -> impl Future<Output = Result<bool>> + 'static + use<> {
    let now = clock.clone();
    let look = clock.spawn(async move {
        while memory::bytes() < LIMIT {
            now.sleep(Duration::from_millis(10)).await;
        }
    });
    async move { Ok(look.await.map(|()| false)?) }
}
