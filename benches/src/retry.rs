//! One record in a hundred fails once: the cost of a backoff in an ordered stage.
//!
//! While a record is in backoff all records behind it wait, up to the window. When it completes, the whole
//! window leaves, and on average 100 more records up to the next failure. So order itself bounds the rate by
//! (window + 100) / backoff, whatever the code, and a timer that rounds 10 ms up to 11 takes a tenth of that.
//! The rate must grow with the window at a fixed number of running attempts.

use std::future::{Ready, ready};
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use futures::StreamExt;
use futures::stream::iter;
use inflight::AsyncWaitExt;
use inflight::prelude::*;

use crate::machine;
use crate::runtimes::{ForStages, Rt, Smol, Tokio};
use crate::workloads::Plain;

/// Windows and the runtime.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The windows.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    window: Vec<usize>,
    /// The approximate duration of each.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

const BACKOFF: Duration = Duration::from_millis(10);
const RUNNING: usize = 1_000;

/// The rate of Apache Flink 2.3 at a window of 1,000, on one core.
const FLINK: f64 = 113_000.0;

/// Runs the workload and prints its table.
pub(crate) fn retry(options: &Options) -> Result<()> {
    println!("{}\n", machine::describe());
    println!("1 % of otherwise immediate requests fail once, 10 ms backoff, ordered, in place,");
    println!("at most 1,000 attempts running; records per second");
    println!("{:>8} {:>14} {:>12} {:>12}", "window", "order's bound", "tokio", "smol");
    for &window in &options.window {
        let bound = (window as f64 + 100.0) / BACKOFF.as_secs_f64();
        let records = (bound * options.seconds) as u64;
        let tokio = rate(Tokio { workers: 0 }, window, records)?;
        let smol = rate(Smol, window, records)?;
        println!("{window:>8} {bound:>14.0} {tokio:>12.0} {smol:>12.0}");
    }
    println!("Flink 2.3 at a window of 1,000: {FLINK:.0}");
    Ok(())
}

fn rate<R: Rt>(runtime: R, window: usize, records: u64) -> Result<f64> {
    let (count, in_order, seconds) = runtime.run(async move {
        let backoff = ExponentialBackoff::new(BACKOFF).when_error(|error: &u64| *error > 0);
        let policy = AsyncWait::ordered(window).max_running(RUNNING).retry(backoff);
        let ask = with_attempt(|record: &u64, attempt: AttemptInfo| ask(*record, attempt));
        let stage = iter(0..records).async_wait_with(policy, ask);
        let mut stage = pin!(stage.in_place(ForStages(runtime)).expect("a stage"));
        let start = Instant::now();
        let (mut count, mut in_order) = (0, true);
        while let Some(outcome) = stage.next().await {
            in_order &= outcome.result == Ok(count);
            count += 1;
        }
        (count, in_order, start.elapsed().as_secs_f64())
    });
    ensure!(count == records && in_order, "the results are not what they should be");
    Ok(records as f64 / seconds)
}

/// Fails the first time for one record in a hundred, without a pattern.
fn ask(record: u64, attempt: AttemptInfo) -> Ready<Plain> {
    let dice = record.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let fails = attempt.number == 1 && dice.is_multiple_of(100);
    ready(if fails { Err(1) } else { Ok(record) })
}
