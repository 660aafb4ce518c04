//! Checkpoints: what they cost, and what they hold up.

mod barrier_full;
mod bytes;
mod costs;
mod ends;
mod job;
mod observed;
mod peak;
mod positions;
mod rows;
mod slow_store;
mod tables;

use anyhow::Result;
use clap::Args;

/// The measurements, and their number.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Records in flight.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000_000])]
    in_flight: Vec<usize>,
    /// Samples of each figure; the median is printed.
    #[arg(long, default_value_t = 7)]
    samples: usize,
    /// Records of one sample of the throughput.
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Prints other figures, one JSON object a row: waits, throughput and memory on virtual time, and the size and the
    /// cost of a snapshot. Of the other options only `--samples` counts.
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
pub(crate) fn checkpoints(options: &Options) -> Result<()> {
    match options.json {
        true => rows::print(options.samples),
        false => tables::print(options),
    }
}
