//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use hyper::Uri;

use crate::problem::Problem;

const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/enrich/data/flights.ndjson");

/// Enriches a file of flights with the airports they fly between, many requests at a time, and resumes after
/// a crash
#[derive(Clone, Debug, Parser)]
#[command(name = "enrich", args_override_self = true, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Options {
    /// The flights, one JSON object per line; `-` is standard input (then there are no checkpoints)
    #[arg(long, value_name = "FILE", default_value = FLIGHTS)]
    pub input: PathBuf,

    /// The file for the enriched flights; lines that fail go to <FILE>.rejected.ndjson
    #[arg(long, value_name = "FILE", default_value = Options::OUTPUT)]
    pub output: PathBuf,

    /// The order of the output: that of the input, or as requests complete
    #[arg(long, value_enum, default_value_t = Order::Ordered)]
    pub order: Order,

    /// The maximum number of flights in flight
    #[arg(long, value_name = "N", default_value = "100", value_parser = capacity)]
    pub capacity: usize,

    /// Time for one flight, including all attempts and the waits between them
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = positive)]
    pub timeout: Duration,

    /// Time for one attempt; an attempt that takes longer is cancelled and retried
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = positive)]
    pub attempt_timeout: Duration,

    /// Maximum number of retries per flight: after 50 ms, 100 ms, 200 ms and so on up to 1 s
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub retries: u32,

    /// The built-in service: the median latency of its answers
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = humantime::parse_duration)]
    pub latency: Duration,

    /// The built-in service: the share of requests answered with 503
    #[arg(long, value_name = "SHARE", default_value = "0.02", value_parser = share)]
    pub error_rate: f64,

    /// The built-in service: the share of requests that are never answered
    #[arg(long, value_name = "SHARE", default_value = "0.005", value_parser = share)]
    pub hang_rate: f64,

    /// The built-in service: the seed of its randomness
    #[arg(long, value_name = "N", default_value_t = 2001)]
    pub seed: u64,

    /// The URL of another service: `http://host/path/{code}`, where {code} stands for the airport
    #[arg(long, value_name = "URL", value_parser = service)]
    pub service: Option<String>,

    /// The folder for the checkpoints
    #[arg(long, value_name = "FOLDER", default_value = Options::CHECKPOINTS)]
    pub checkpoint_dir: PathBuf,

    /// The contents of a checkpoint
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Mode::Positions)]
    pub checkpoint: Mode,

    /// The time between two checkpoints
    #[arg(long, value_name = "TIME", default_value = "200ms", value_parser = positive)]
    pub checkpoint_interval: Duration,

    /// Abort the process, without clean-up, once this run has written N flights to the output
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub crash_after: Option<u64>,

    /// Start from the beginning: remove the checkpoints and empty the output
    #[arg(long)]
    pub fresh: bool,

    /// One flight at a time, for comparison: like --capacity 1
    #[arg(long, conflicts_with = "capacity")]
    pub sequential: bool,

    /// Serve a live page on this address of this machine while the job runs
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:9090")]
    pub serve: Option<SocketAddr>,

    /// Also write the summary to this file, as one JSON object
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Run it again after a crash, a kill or Ctrl-C, and it resumes. Files, order, timeouts, retries and the \
service must then be the same as before; the rest may change, --checkpoint too: from `snapshot` to \
`positions` only when nothing is in flight, after a first Ctrl-C.

Ctrl-C or SIGTERM: no more lines are read, the flights in flight finish within --timeout, and \
checkpoints go on meanwhile. A second one, or the end of that time, hands the job over: a last \
checkpoint is saved at once, and the next run goes on with the flights in flight. A third one ends \
the process at once; the next run resumes from the last checkpoint.

By default a checkpoint holds no flights, because the input can be read again: a few bytes instead of \
one line for each flight in flight, whatever the version of this program. In exchange, a flight that \
was in flight at a crash has all its attempts before it again. Take `snapshot` if the process may be \
killed more often than once per --timeout: then attempts and waits go on where they were. Take \
`drain` to see the price of checkpoints that wait for requests.

The service answers GET with a JSON object: name, city, state, latitude, longitude. 404 means that \
there is no such airport; 408, 429 and 5xx are tried again. Both requests for a flight carry its id \
in `x-request-id`, the same in every run, and the number of the attempt in `x-attempt`.

A line of <FILE>.rejected.ndjson has `number` (from 1), `offset` (in bytes), `reason` and `line`, \
the original line. If that is not UTF-8, the field is `line_hex`; if it is longer than 64 KiB, the \
fields are `line_start` and `line_length`.

In the summary file, read, written, rejected, retries and timeouts count over the whole job, \
including crashes; `resumed_at` is the number of lines before the place where this run began \
to read (null: no run came before it); `seconds` and everything after it belong to this run alone. `timeouts` counts \
attempts.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    Ordered,
    Unordered,
}

/// The contents of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The positions of the flights in flight, which are read again after a crash
    Positions,
    /// The flights in flight, with their attempts
    Snapshot,
    /// No flight, because the flights in flight finish first: each checkpoint waits for them
    Drain,
}

impl Options {
    pub const OUTPUT_FOLDER: &str = "target";
    pub const OUTPUT: &str = "target/enriched.ndjson";
    const CHECKPOINTS: &str = "target/enrich-checkpoint";
    const MAX_CAPACITY: usize = 10_000;

    pub fn reads_standard_input(&self) -> bool {
        self.input == Path::new("-")
    }

    /// `<output>.rejected.ndjson`
    pub fn rejected(&self) -> PathBuf {
        let mut name = self.output.clone().into_os_string();
        name.push(".rejected.ndjson");
        name.into()
    }

    /// Each flight in flight has two connections, and the built-in service has their other ends.
    pub fn check_open_files(&self) -> Result<(), Problem> {
        let needed = 5 * self.capacity() as u64 + 100;
        match rlimit::increase_nofile_limit(needed) {
            Ok(allowed) if allowed < needed => Err(Problem::new(
                format!(
                    "--capacity {} needs {needed} open files, {allowed} are allowed",
                    self.capacity()
                ),
                "Choose a smaller capacity, or allow more open files with `ulimit -n`.",
            )),
            _ => Ok(()),
        }
    }

    pub fn capacity(&self) -> usize {
        if self.sequential { 1 } else { self.capacity }
    }
}

fn capacity(text: &str) -> Result<usize, String> {
    let most = Options::MAX_CAPACITY;
    match text.parse() {
        Ok(capacity) if (1..=most).contains(&capacity) => Ok(capacity),
        _ => Err(format!("give a whole number from 1 to {most}")),
    }
}

fn positive(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be longer than zero, such as 250ms or 2s".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 250ms or 2s")),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a share from 0 to 1, such as 0.02".into()),
    }
}

fn service(text: &str) -> Result<String, String> {
    if text.starts_with("https:") {
        return Err("this example supports http only; use a proxy for https".into());
    }
    if !text.contains("{code}") {
        return Err("{code} is missing, which stands for the airport".into());
    }
    let uri: Uri =
        text.replace("{code}", "SFO").parse().map_err(|e| format!("it is not a URL: {e}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(_)) => Ok(text.into()),
        _ => Err("write it like http://127.0.0.1:8080/airports/{code}".into()),
    }
}
