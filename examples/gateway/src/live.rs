//! The live page of `--serve`: the stage, the checkpoints, a lamp for each server, and the numbers for a monitor.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use inflight::console::{Console, ServedConsole};

use crate::prometheus;
use crate::status::{Server, Status};

/// Serves the page until it is dropped. `gateway` tells it of the stage and the checkpoints.
pub fn serve(address: SocketAddr, status: &Arc<Status>) -> anyhow::Result<ServedConsole> {
    let console = Console::new("gateway").serve(address);
    let console = console.with_context(|| format!("serving a page on {address}"))?;
    for server in Server::ALL {
        let status = Arc::clone(status);
        console.lamp(server.name(), move || status.lamp(server));
    }
    let numbers = Arc::clone(status);
    console.metrics(move || prometheus::text(&numbers.numbers()));
    status.say(&format!("look at {}", console.url()));
    Ok(console)
}
