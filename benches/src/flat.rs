//! Cost against capacity, from 16 to 1,000,000: it should be flat.

use anyhow::Result;
use clap::Args;

use crate::compare::measure_row_set;
use crate::contenders::{Contender, Mode, Order};
use crate::machine;
use crate::rows::{Group, What, Where};

/// The size of a run.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The capacities.
    #[arg(long, value_delimiter = ',', default_values_t = [16, 100, 1_000, 10_000, 100_000, 1_000_000])]
    capacity: Vec<usize>,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

const CONTENDERS: &[Contender] = &[
    Contender::Inflight(Mode::InPlace, Order::Ordered),
    Contender::Inflight(Mode::InPlace, Order::Unordered),
    Contender::Inflight(Mode::InPlace, Order::ByKey),
    Contender::Inflight(Mode::OnTask, Order::Ordered),
    Contender::FuturesBufferedOrdered,
    Contender::FuturesBufferedUnordered,
    Contender::Buffered,
    Contender::Limit,
    Contender::Alone,
];

/// Measures, and prints a table for each workload.
pub(crate) fn flat(options: &Options) -> Result<()> {
    println!("{}", machine::describe());
    println!(
        "nanoseconds per record, with timeout (peers too, except the last two rows); last column: largest / smallest"
    );
    for what in [What::PendingOnce, What::Random, What::Shuffled, What::Reverse] {
        let mut lines = vec![Vec::new(); CONTENDERS.len()];
        for &capacity in &options.capacity {
            let group = Group { runtime: Where::Tokio, what, timeout: true, capacity };
            let rows = measure_row_set(&group, CONTENDERS, options.rounds)?;
            for (line, row) in lines.iter_mut().zip(rows) {
                line.push(row.ns_per_record);
            }
        }
        print!("\n{what:<28}");
        options.capacity.iter().for_each(|capacity| print!(" {capacity:>9}"));
        println!();
        for (contender, line) in CONTENDERS.iter().zip(lines) {
            print!("{contender:<28}");
            line.iter().for_each(|ns| print!(" {ns:>9.1}"));
            let most = line.iter().copied().fold(0.0, f64::max);
            let least = line.iter().copied().fold(f64::INFINITY, f64::min);
            println!("  {:>5.2}", most / least);
        }
    }
    println!("\n{}", machine::load());
    Ok(())
}
