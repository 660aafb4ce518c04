//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Takes in readings by MQTT, enriches each from PostgreSQL, and puts it into a NATS JetStream stream, which
/// holds it exactly once, also after crashes. Runs until Ctrl-C
#[derive(Clone, Debug, Parser)]
#[command(name = "inflight-gateway", max_term_width = 100)]
pub struct Options {
    /// Also publish seeded readings, as devices do
    #[arg(long)]
    pub demo: bool,

    /// Only publish readings, without a gateway
    #[arg(long, conflicts_with_all = ["demo", "check", "view"])]
    pub publish: bool,

    /// Compare the published readings with the stream, and end: status 0 if none is missing, duplicated,
    /// wrong or out of its device's order, else 1
    #[arg(long, conflicts_with_all = ["demo", "view"])]
    pub check: bool,

    /// Show a live view
    #[arg(long)]
    pub view: bool,

    /// The MQTT broker
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:18830")]
    pub mqtt: SocketAddr,

    /// The PostgreSQL server
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15430")]
    pub postgres: SocketAddr,

    /// The NATS server
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:14220")]
    pub nats: SocketAddr,

    /// Serve the numbers to Prometheus, at http://HOST:PORT/metrics
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<SocketAddr>,

    /// Serve a live page on this address of this machine, with the numbers for Prometheus beside it
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:9090")]
    pub serve: Option<SocketAddr>,

    /// The name of this gateway, used for its MQTT session, its topics (NAME/readings/..), its stream and its
    /// subjects (NAME.enriched.DEVICE, NAME.dead)
    #[arg(long, value_name = "NAME", default_value = "gateway", value_parser = name)]
    pub name: String,

    /// The folder for checkpoints and the demo's ledger
    #[arg(long, value_name = "FOLDER", default_value = "target/gateway")]
    pub data: PathBuf,

    /// The maximum number of readings in flight
    #[arg(long, value_name = "N", default_value = "256")]
    pub capacity: usize,

    /// The number of connections to the database, and so of queries at a time
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_least_one)]
    pub pool: usize,

    /// The maximum number of unacknowledged messages from the broker; more wait there
    #[arg(long, value_name = "N", default_value = "2048", value_parser = clap::value_parser!(u16).range(1..))]
    pub window: u16,

    /// Time for one query to the database; a query that takes longer is cancelled and retried
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = positive)]
    pub attempt_timeout: Duration,

    /// The maximum time between two checkpoints
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = positive)]
    pub checkpoint_interval: Duration,

    /// The time for which the stream itself recognises message ids
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = positive)]
    pub duplicate_window: Duration,

    /// After Ctrl-C, the time for the readings in flight to finish
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub drain: Duration,

    /// The demo: readings per second
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub rate: u64,

    /// The demo: the total number of readings, including earlier runs [default: no end]
    #[arg(long, value_name = "N")]
    pub readings: Option<u64>,

    /// The demo: the seed of its randomness
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub seed: u64,
}

/// The mode of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Gateway,
    Publish,
    Check,
}

impl Options {
    pub fn mode(&self) -> Mode {
        match (self.publish, self.check) {
            (true, _) => Mode::Publish,
            (_, true) => Mode::Check,
            _ => Mode::Gateway,
        }
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.data.join(format!("{}.checkpoints", self.name))
    }

    pub fn ledger(&self) -> PathBuf {
        self.data.join(format!("{}.ledger.json", self.name))
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be longer than zero, such as 250ms or 2s".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 250ms or 2s")),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "give a whole number from 1".into())
}

/// The name becomes a part of topics and subjects.
fn name(text: &str) -> Result<String, String> {
    if crate::message::is_name(text) {
        return Ok(text.into());
    }
    Err("use letters, digits, - and _, at most 64 of them".into())
}
