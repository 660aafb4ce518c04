//! An edge gateway: readings come in by MQTT, each is enriched with its device's site and calibration from
//! PostgreSQL, and goes out to a NATS JetStream stream, which holds each of them exactly once.
//!
//! ```text
//! examples/gateway/up                                          # the three servers, on loopback
//! cargo run --release -p inflight-gateway -- --demo --view     # until Ctrl-C
//! cargo run --release -p inflight-gateway -- --check           # what went in against what came out
//! examples/gateway/down
//! ```
//!
//! [`gateway()`] is the heart: a source, a stage, a sink and a store; the library does the rest. Each module
//! has one subject:
//!
//! * `options`: the command line.
//! * `message`, `seen`: a device's messages, and those that were taken in before.
//! * `mqtt`, `inbox`, `source`: the broker's connection, its messages, and the pipeline's source.
//! * `devices`: the devices in the database.
//! * `output`, `stream`, `sink`: the outputs, the stream for them, and the pipeline's sink.
//! * `demo`, `ledger`, `publisher`, `check`: seeded readings, the progress in publishing them, and the check
//!   of the stream.
//! * `status`, `prometheus`, `live`, `view`: the numbers for a person or a monitor; `terminal` is shared with the example
//!   `enrich`.
#![forbid(unsafe_code)]
#![allow(unreachable_pub, reason = "in a program, `pub` is for its other modules")]

mod check;
#[cfg(test)]
mod conformance;
mod demo;
mod devices;
mod gateway;
mod inbox;
mod ledger;
mod live;
mod message;
mod mqtt;
mod options;
mod output;
mod prometheus;
mod publisher;
mod seen;
mod sink;
mod source;
mod status;
mod stream;
#[path = "../../terminal/mod.rs"]
mod terminal;
mod view;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;

use crate::gateway::gateway;
use crate::options::{Mode, Options};
use crate::status::Status;

fn main() -> ExitCode {
    let options = Arc::new(Options::parse());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.context("cannot start").and_then(|runtime| {
        let ended = runtime.block_on(run(&options));
        // Abandoned tasks must not delay the end.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|error| {
        eprintln!("inflight-gateway: {error:#}");
        ExitCode::from(2)
    })
}

async fn run(options: &Arc<Options>) -> anyhow::Result<ExitCode> {
    match options.mode() {
        Mode::Check => check::check(options).await,
        Mode::Publish => {
            publisher::publish(options, &Arc::new(Status::new())).await?;
            Ok(ExitCode::SUCCESS)
        }
        Mode::Gateway => gateway(options).await,
    }
}
