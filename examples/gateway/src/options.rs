//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Takes readings in by MQTT, enriches each from PostgreSQL, and puts it into a NATS JetStream stream,
/// which holds it once, whatever happens on the way. Runs until Ctrl-C.
#[derive(Clone, Debug, Parser)]
#[command(name = "inflight-gateway", max_term_width = 100)]
pub struct Options {
    /// Also publish seeded readings, as devices would
    #[arg(long)]
    pub demo: bool,

    /// Only publish them, without a gateway
    #[arg(long, conflicts_with_all = ["demo", "check", "view"])]
    pub publish: bool,

    /// Compare what was published with what is in the stream, and end: status 0 when nothing is missing,
    /// doubled, wrong or out of its device's order, else 1
    #[arg(long, conflicts_with_all = ["demo", "view"])]
    pub check: bool,

    /// Show what goes on, live
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

    /// The name of this gateway: of its MQTT session, its topics (NAME/readings/..), its stream and its
    /// subjects (NAME.enriched.DEVICE, NAME.dead)
    #[arg(long, value_name = "NAME", default_value = "gateway", value_parser = name)]
    pub name: String,

    /// Where checkpoints and the demo's ledger are kept
    #[arg(long, value_name = "FOLDER", default_value = "target/gateway")]
    pub data: PathBuf,

    /// How many readings may be in flight at once
    #[arg(long, value_name = "N", default_value = "256")]
    pub capacity: usize,

    /// How many connections to the database there are, and so how many readings are asked for at once
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_least_one)]
    pub pool: usize,

    /// How many messages the broker may have sent that are not acknowledged; more wait there
    #[arg(long, value_name = "N", default_value = "2048", value_parser = clap::value_parser!(u16).range(1..))]
    pub window: u16,

    /// Time for one attempt to ask the database; one that takes longer is given up and tried again
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = positive)]
    pub attempt_timeout: Duration,

    /// The time between two checkpoints, at most
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = positive)]
    pub checkpoint_interval: Duration,

    /// How long the stream itself looks out for message ids that it knows
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = positive)]
    pub duplicate_window: Duration,

    /// After Ctrl-C, how long what is in flight may take to get through
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub drain: Duration,

    /// The demo: readings in a second
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub rate: u64,

    /// The demo: how many readings in all, those of earlier runs included [default: no end]
    #[arg(long, value_name = "N")]
    pub readings: Option<u64>,

    /// The demo: where its randomness starts
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub seed: u64,
}

/// What the program is asked to do.
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

/// It is a part of topics and subjects.
fn name(text: &str) -> Result<String, String> {
    if crate::message::is_name(text) {
        return Ok(text.into());
    }
    Err("use letters, digits, - and _, at most 64 of them".into())
}
