//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Workers that share the partitions of a log on NATS JetStream: tried out under kills, freezes and moves, and measured
#[derive(Clone, Debug, Parser)]
#[command(name = "inflight-fleet", max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    pub worker: Option<Command>,

    /// Publish orders while faults happen, and compare every record with the outputs: status 0 if none is lost, doubled or out of its
    /// key's order, else 1
    #[arg(long = "try", conflicts_with = "scale", required_unless_present = "scale")]
    pub tried: bool,

    /// Measure the records a second with 1, 2 and 3 workers: status 0 if two do at least 1.7 times as much as one, else 1
    #[arg(long)]
    pub scale: bool,

    /// --try: the number of workers
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub workers: u16,

    /// --try: workers that are killed (SIGKILL) and replaced
    #[arg(long, value_name = "N", default_value = "0")]
    pub kills: usize,

    /// --try: workers that are frozen (SIGSTOP) for longer than their leases hold, and woken
    #[arg(long, value_name = "N", default_value = "0")]
    pub frozen: usize,

    /// --try: workers that leave (SIGTERM) while others join
    #[arg(long, value_name = "N", default_value = "0")]
    pub moves: usize,

    /// --try: servers that are killed (SIGKILL) and started again
    #[arg(long, value_name = "N", default_value = "0")]
    pub broker_kills: usize,

    /// --try: the number of orders [default: those of ten seconds, and of two for each fault]
    #[arg(long, value_name = "N")]
    pub records: Option<u64>,

    /// --try: orders per second
    #[arg(long, value_name = "N", default_value = "500", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub rate: u64,

    /// --try, a control that must fail: a worker commits although another one has claimed the partition
    #[arg(long, conflicts_with_all = ["outputs_first", "scale"])]
    pub no_fence: bool,

    /// --try, a control that must fail: the outputs are published before the checkpoint, and not in its batch
    #[arg(long, conflicts_with = "scale")]
    pub outputs_first: bool,

    /// The number of partitions
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub partitions: u16,

    /// The seed of the orders and of the faults
    #[arg(long, value_name = "N", default_value = "7")]
    pub seed: u64,

    /// The time of the service for an answer
    #[arg(long, value_name = "TIME", default_value = "60ms", value_parser = humantime::parse_duration)]
    pub latency: Duration,

    /// The most requests of a worker that run at a time
    #[arg(long, value_name = "N", default_value = "60", value_parser = clap::value_parser!(u16).range(1..))]
    pub permits: u16,

    /// The time for which a worker is believed to live after it was last seen
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub lease: Duration,

    /// --try: the time by which a worker hears late that it has lost a partition, so that the fence has something to do
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub late: Duration,

    /// The folder of the servers, and of the workers' logs
    #[arg(long, value_name = "FOLDER", default_value = "target/fleet")]
    pub data: PathBuf,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// One worker, as --try and --scale start them
    Worker(WorkerOptions),
}

/// The options of a worker.
#[derive(Clone, Debug, Args)]
pub struct WorkerOptions {
    /// The worker's name
    #[arg(long)]
    pub name: String,

    /// The NATS servers
    #[arg(long, value_name = "URL", value_delimiter = ',', required = true)]
    pub servers: Vec<String>,

    /// The number of servers that keep the leases
    #[arg(long, value_name = "N", default_value = "3")]
    pub replicas: usize,

    /// The service that is asked
    #[arg(long, value_name = "HOST:PORT")]
    pub service: SocketAddr,

    /// The number of partitions
    #[arg(long, value_name = "N")]
    pub partitions: u16,

    /// The most requests at a time, over all partitions
    #[arg(long, value_name = "N")]
    pub permits: usize,

    /// The time for which this worker is believed to live
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub lease: Duration,

    /// The time by which it hears late that it has lost a partition
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub late: Duration,

    /// A promise to break
    #[arg(long, value_name = "WHICH")]
    pub broken: Option<Broken>,
}

/// The controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Broken {
    NoFence,
    OutputsFirst,
}

impl WorkerOptions {
    /// The arguments with which the program is such a worker.
    pub fn arguments(&self, name: &str) -> Vec<String> {
        let mut arguments = vec!["worker".to_owned()];
        let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        add("--name", name.to_owned());
        add("--servers", self.servers.join(","));
        add("--replicas", self.replicas.to_string());
        add("--service", self.service.to_string());
        add("--partitions", self.partitions.to_string());
        add("--permits", self.permits.to_string());
        add("--lease", format!("{}ms", self.lease.as_millis()));
        add("--late", format!("{}ms", self.late.as_millis()));
        if let Some(broken) = self.broken.and_then(|broken| broken.to_possible_value()) {
            add("--broken", broken.get_name().to_owned());
        }
        arguments
    }
}

impl Options {
    pub fn broken(&self) -> Option<Broken> {
        match (self.no_fence, self.outputs_first) {
            (true, _) => Some(Broken::NoFence),
            (_, true) => Some(Broken::OutputsFirst),
            _ => None,
        }
    }

    /// The number of orders of a trial.
    pub fn records(&self) -> u64 {
        let faults = self.kills + self.frozen + self.moves + self.broker_kills;
        self.records.unwrap_or_else(|| self.rate * (10 + 2 * faults as u64))
    }
}
