//! The published experiment: a service that takes 1.5 s, and how the throughput grows with the capacity.
//!
//! It runs on virtual time, so that an hour of waiting takes a moment.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::StreamExt;
use futures::stream::iter;
use inflight::AsyncWaitExt;
use inflight::prelude::*;

/// The time of a request.
pub(crate) const SERVICE: Duration = Duration::from_millis(1_500);
const CAPACITIES: &[usize] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];

/// Runs it and prints its table.
pub(crate) fn throughput() -> Result<()> {
    println!("a service that takes 1.5 s, on virtual time: records per second");
    println!("{:>8} {:>12} {:>12} {:>12}", "capacity", "ideal", "ordered", "unordered");
    for &capacity in CAPACITIES {
        let ideal = capacity as f64 / SERVICE.as_secs_f64();
        let ordered = rate(AsyncWait::ordered(capacity), capacity, |_| SERVICE)?;
        let unordered = rate(AsyncWait::unordered(capacity), capacity, |_| SERVICE)?;
        println!("{capacity:>8} {ideal:>12.2} {ordered:>12.2} {unordered:>12.2}");
    }
    Ok(())
}

/// The records a second of a stage, over a service that says how long a record's request takes. The first half of the
/// records does not count, because the requests that are slow gather in it, nor does the last window, when the stage is not full any more.
pub(crate) fn rate(
    policy: AsyncWait,
    capacity: usize,
    service: fn(u64) -> Duration,
) -> Result<f64> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let (window, records) = (capacity as u64, 40 * capacity.max(100) as u64);
    let (count, elapsed) = runtime.block_on(async move {
        let ask = move |record: &u64| {
            let record = *record;
            async move {
                tokio::time::sleep(service(record)).await;
                Ok::<_, ()>(record)
            }
        };
        let stage = iter(0..records).async_wait(policy, ask);
        let mut stage = pin!(stage.in_place(Tokio).expect("a stage"));
        let (mut count, mut start) = (0, tokio::time::Instant::now());
        let mut elapsed = Duration::ZERO;
        while let Some(outcome) = stage.next().await {
            count += u64::from(outcome.result.is_ok());
            if count == records / 2 {
                start = tokio::time::Instant::now();
            } else if count == records - window {
                elapsed = start.elapsed();
            }
        }
        (count, elapsed)
    });
    ensure!(count == records, "{count} results instead of {records}");
    Ok((records / 2 - window) as f64 / elapsed.as_secs_f64())
}
