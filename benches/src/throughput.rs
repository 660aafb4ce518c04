//! The published experiment: a service that takes 1.5 s, and how the throughput grows with the capacity.
//!
//! It runs on virtual time, so that an hour of waiting takes a moment.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use futures::StreamExt;
use futures::stream::iter;
use inflight::AsyncWaitExt;
use inflight::prelude::*;

use crate::plot::{Plot, Series};

/// Options of the plot.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Draws a plot into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

const SERVICE: Duration = Duration::from_millis(1_500);
const CAPACITIES: &[usize] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];

/// Runs it and prints its table.
pub(crate) fn throughput(options: &Options) -> Result<()> {
    println!("a service that takes 1.5 s, on virtual time: records per second");
    println!("{:>8} {:>12} {:>12} {:>12}", "capacity", "ideal", "ordered", "unordered");
    let mut series = [("ideal", vec![]), ("ordered", vec![]), ("unordered", vec![])];
    for &capacity in CAPACITIES {
        let ideal = capacity as f64 / SERVICE.as_secs_f64();
        let ordered = rate(AsyncWait::ordered(capacity), capacity)?;
        let unordered = rate(AsyncWait::unordered(capacity), capacity)?;
        println!("{capacity:>8} {ideal:>12.2} {ordered:>12.2} {unordered:>12.2}");
        for (series, rate) in series.iter_mut().zip([ideal, ordered, unordered]) {
            series.1.push((capacity as f64, rate));
        }
    }
    if let Some(file) = &options.svg {
        let plot = Plot {
            title: "Throughput against capacity: a service that takes 1.5 s",
            across: "requests in flight (capacity)",
            up: "records a second",
            series: series
                .into_iter()
                .map(|(name, points)| Series { name: name.into(), points })
                .collect(),
        };
        std::fs::write(file, plot.draw())?;
    }
    Ok(())
}

fn rate(policy: AsyncWait, capacity: usize) -> Result<f64> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let records = 20 * capacity as u64;
    let (count, elapsed) = runtime.block_on(async move {
        let ask = |record: &u64| {
            let record = *record;
            async move {
                tokio::time::sleep(SERVICE).await;
                Ok::<_, ()>(record)
            }
        };
        let stage = iter(0..records).async_wait(policy, ask);
        let mut stage = pin!(stage.in_place(Tokio).expect("a stage"));
        let start = tokio::time::Instant::now();
        let mut count = 0;
        while let Some(outcome) = stage.next().await {
            count += u64::from(outcome.result.is_ok());
        }
        (count, start.elapsed())
    });
    ensure!(count == records, "{count} results instead of {records}");
    Ok(records as f64 / elapsed.as_secs_f64())
}
