//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Reads a Kinesis stream, asks an HTTP endpoint for each record, and puts the answers into another stream.
#[derive(Clone, Debug, Parser)]
#[command(name = "inflight-kinesis")]
pub struct Options {
    /// The stream to read
    #[arg(long, default_value = "input")]
    pub input: String,

    /// The stream for the answers
    #[arg(long, default_value = "output")]
    pub output: String,

    /// The folder of the checkpoints, with a folder for each shard
    #[arg(long, default_value = "target/kinesis/state")]
    pub state: PathBuf,

    /// The URL of the endpoint; by default it is one of this program's own
    #[arg(long)]
    pub endpoint: Option<String>,

    /// The latency of this program's own endpoint
    #[arg(long, default_value = "20ms", value_parser = humantime::parse_duration)]
    pub latency: Duration,

    /// The most records in flight in each shard; 1 is one call at a time
    #[arg(long, default_value_t = 10)]
    pub capacity: usize,

    /// The most calls at once over all shards
    #[arg(long, default_value_t = 100)]
    pub calls: usize,

    /// The time from one checkpoint to the next
    #[arg(long, default_value = "200ms", value_parser = humantime::parse_duration)]
    pub interval: Duration,

    /// The pause after a read that has found nothing. AWS allows five reads of a shard a second
    #[arg(long, default_value = "250ms", value_parser = humantime::parse_duration)]
    pub pause: Duration,

    /// The URL of an emulator; without it the streams are at AWS, which needs the feature `aws`
    #[arg(long, env = "KINESIS_EMULATOR")]
    #[cfg_attr(not(feature = "aws"), arg(default_value = "http://127.0.0.1:15567"))]
    pub emulator: Option<String>,

    /// Tries it all out with an emulator: writes records, splits and merges shards while the job runs, kills it, and compares
    #[arg(long = "try")]
    pub is_try: bool,

    /// With --try: the number of records
    #[arg(long, default_value_t = 6_000)]
    pub records: u64,

    /// With --try: the number of kills
    #[arg(long, default_value_t = 10)]
    pub kills: u32,

    /// With --try: leaves out the comparison of synchronous and asynchronous calls
    #[arg(long)]
    pub no_comparison: bool,

    /// Begins shards beside their parents: a control, which puts keys out of order
    #[arg(long)]
    pub children_first: bool,
}
