//! inflight beside its peers: `inflight-bench compare`.

mod adaptive;
mod cells;
mod checkpoints;
mod compare;
mod contenders;
mod flat;
mod instructions;
mod machine;
mod memory;
mod meter;
mod parallel;
mod pictures;
mod places;
mod plot;
mod retry;
mod rows;
mod runtimes;
mod targets;
mod throughput;
mod virtual_time;
mod workloads;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

#[derive(Parser)]
#[command(about = "Compares inflight with its peers: the same work, interleaved, checked")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compares all contenders on all workloads, and checks the targets.
    Compare(compare::Options),
    /// Cost against capacity, 16 to 1,000,000, also for completions in reverse order.
    Flat(flat::Options),
    /// One record in a hundred fails once: the rate against the window.
    Retry(retry::Options),
    /// A service of 1.5 s: throughput against capacity.
    Throughput,
    /// Adaptive limits and a service whose capacity halves for a minute, on virtual time.
    Adaptive(adaptive::Options),
    /// Snapshot and restore, a durable checkpoint, and the cost of a checkpoint every 100 ms.
    Checkpoints(checkpoints::Options),
    /// A function in one and in two instances on two threads, and the cost of a record beside `spawn_requests`.
    Parallel(parallel::Options),
    /// Bytes per slot.
    Memory,
    /// Draws the pictures of the docs.
    Pictures(pictures::Options),
    /// Instructions per record, counted by valgrind, against the committed figures.
    Instructions(instructions::Options),
    /// One contender alone, once: for profilers.
    One(instructions::One),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Compare(options) => compare::compare(&options),
        Command::Flat(options) => flat::flat(&options),
        Command::Retry(options) => retry::retry(&options),
        Command::Throughput => throughput::throughput(),
        Command::Adaptive(options) => adaptive::adaptive(&options),
        Command::Checkpoints(options) => checkpoints::checkpoints(&options),
        Command::Parallel(options) => parallel::parallel(&options),
        Command::Memory => places::places(),
        Command::Pictures(options) => pictures::pictures(&options),
        Command::Instructions(options) => instructions::check(&options),
        Command::One(one) => one.run(),
    }
}
