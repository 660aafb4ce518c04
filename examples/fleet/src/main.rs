//! Workers that share the partitions of a log on NATS JetStream, and live through kills, freezes and moves: every record has its
//! output once, in the order of its key.
//!
//! ```text
//! cargo run --release -p inflight-fleet -- --try --workers 3 --kills 30 --frozen 10 --moves 20 --broker-kills 3
//! cargo run --release -p inflight-fleet -- --scale
//! ```
//!
//! [`worker`] is the heart: a job over partitions, with a pipeline for each. Each module has one subject:
//!
//! * `options`: the command line.
//! * `order`, `log`, `publisher`: the records, the streams on the servers, and the orders' way into them.
//! * `service`: what is asked for each record.
//! * `worker`, `late`, `broken`: a worker, the engine as the trial makes it, and two ways to break promises, which the check must find.
//! * `servers`, `fleet`, `faults`: the servers and the workers as processes, and what is done to them.
//! * `check`, `trial`, `scale`: the comparison of all records, `--try`, and `--scale`.
#![forbid(unsafe_code)]
#![allow(unreachable_pub, reason = "in a program, `pub` is for its other modules")]

mod broken;
mod check;
mod faults;
mod fleet;
mod late;
mod log;
mod options;
mod order;
mod publisher;
mod scale;
mod servers;
mod service;
mod trial;
mod worker;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::options::{Command, Options};

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.context("cannot start").and_then(|runtime| {
        let ended = runtime.block_on(run(&options));
        // Abandoned tasks must not delay the end.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|error| {
        eprintln!("inflight-fleet: {error:#}");
        ExitCode::from(2)
    })
}

async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    match &options.worker {
        Some(Command::Worker(worker)) => worker::work(worker).await.map(|()| ExitCode::SUCCESS),
        None if options.scale => scale::scale(options).await,
        None => trial::trial(options).await,
    }
}
