//! Instructions per record, counted by valgrind, so that noise has no influence.
//!
//! Each path runs twice under callgrind, with few records and with many, and the difference is divided by the
//! number of records between: start and end cancel out. Only paths that do the same in every run are counted:
//! one thread, no clock in any decision (a stage on its own task publishes its metrics by the clock).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::contenders::Contender;
use crate::machine;
use crate::meter::Amount;
use crate::rows::{Group, What, Where};

/// The accepted deviation from the committed figure.
const TOLERANCE: f64 = 0.03;

/// Records of the two runs.
const FEW: u64 = 20_000;
const MANY: u64 = 60_000;

/// A measured path: contender, workload, timeout, capacity.
type Path = (&'static str, What, bool, usize);

const PATHS: &[Path] = &[
    ("inflight in-place ordered", What::Ready, false, 100),
    ("inflight in-place ordered", What::Ready, true, 100),
    ("inflight in-place ordered watermarks", What::Ready, true, 100),
    ("inflight in-place ordered", What::PendingOnce, false, 1_000),
    ("inflight in-place ordered", What::PendingOnce, true, 1_000),
    ("inflight in-place ordered", What::Random, true, 1_000),
    ("inflight in-place unordered", What::Ready, false, 100),
    ("inflight in-place unordered", What::Random, false, 1_000),
    ("inflight in-place by-key", What::Random, false, 1_000),
];

/// Counts the instructions, and compares them with the committed figures.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Writes the figures to the file instead of comparing with them.
    #[arg(long)]
    update: bool,
    /// Only paths whose name contains this word.
    #[arg(default_value = "")]
    path: String,
}

/// One contender, once.
#[derive(Args, Debug)]
pub(crate) struct One {
    /// The contender's name.
    contender: String,
    /// The workload.
    #[arg(value_enum)]
    workload: What,
    /// With a timeout (and retries, if the contender has them).
    #[arg(long)]
    timeout: bool,
    /// The number of requests in flight.
    #[arg(long, default_value_t = 100)]
    capacity: usize,
    /// The number of records.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
}

impl One {
    /// Runs it.
    pub(crate) fn run(&self) -> Result<()> {
        let named = |contender: &&Contender| contender.to_string() == self.contender;
        let contender = Contender::ALL.iter().find(named).context("no such contender")?;
        let (what, timeout, capacity) = (self.workload, self.timeout, self.capacity);
        let group = Group { runtime: Where::Tokio, what, timeout, capacity };
        ensure!(group.has(*contender), "there is no such row");
        let amount = Amount { around: capacity as u64, timed: self.records };
        let measured = group.sample(*contender, amount)?;
        println!("{:.1} ns per record", measured.ns);
        Ok(())
    }
}

fn committed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

/// The committed figures.
#[derive(Default, Deserialize, Serialize)]
struct Figures {
    /// The compiler of the figures. Another compiler generates other instructions.
    rustc: String,
    /// The name of each path, and its instructions per record.
    instructions: BTreeMap<String, f64>,
}

/// See [`Options`].
pub(crate) fn check(options: &Options) -> Result<()> {
    let file = committed();
    let before: Figures = match fs::read_to_string(&file) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) if options.update => Figures::default(),
        Err(error) => bail!("{}: {error}", file.display()),
    };
    let mut now = before.instructions.clone();
    let mut off = 0;
    for path in PATHS {
        let name = name(path);
        if !name.contains(&options.path) {
            continue;
        }
        let figure = figure(path)?;
        let told = before.instructions.get(&name).map_or("new".to_owned(), |before| {
            let change = figure / before - 1.0;
            off += i32::from(change.abs() > TOLERANCE);
            format!("{before:.1} committed, {:+.1} %", 100.0 * change)
        });
        println!("{name:<60} {figure:>8.1}  {told}");
        now.insert(name, figure);
    }
    let rustc = machine::RUSTC.to_owned();
    if options.update {
        let figures = Figures { rustc, instructions: now };
        fs::write(&file, serde_json::to_string_pretty(&figures)? + "\n")?;
        return Ok(());
    }
    if rustc != before.rustc {
        println!(
            "SKIPPED, NOT CHECKED: the committed figures are of {}, this is {rustc}",
            before.rustc
        );
        std::process::exit(77);
    }
    ensure!(
        off == 0,
        "{off} of them are more than 3 % off: if that is meant, say `instructions --update`"
    );
    Ok(())
}

fn name((contender, what, timeout, capacity): &Path) -> String {
    let timeout_word = if *timeout { "+timeout" } else { "" };
    format!("{contender}, {what}{timeout_word}, {capacity}")
}

/// Instructions per record: the difference between many records and few.
fn figure((contender, what, timeout, capacity): &Path) -> Result<f64> {
    let count = |records| callgrind(contender, *what, *timeout, *capacity, records);
    let between = count(MANY)?.checked_sub(count(FEW)?).context("more records, less work")?;
    let figure = between as f64 / (MANY - FEW) as f64;
    Ok((figure * 10.0).round() / 10.0)
}

/// The instructions of one run of this program.
fn callgrind(
    contender: &str,
    what: What,
    timeout: bool,
    capacity: usize,
    records: u64,
) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(std::env::current_exe()?).args(["one", contender, &what.to_string()]);
    valgrind.args(["--capacity", &capacity.to_string(), "--records", &records.to_string()]);
    if timeout {
        valgrind.arg("--timeout");
    }
    let output = valgrind.output().context("valgrind must be installed")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {told}");
    let collected = told.lines().find_map(|line| line.split_once("Collected : "));
    Ok(collected.context("no count in what valgrind says")?.1.trim().parse()?)
}
