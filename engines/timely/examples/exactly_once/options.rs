//! The options of a process.

use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Which of the two processes this is: 0 or 1.
    pub(crate) process: usize,
    /// Workers in each process.
    pub(crate) threads: usize,
    /// The port of process 0; the other one has the next port.
    pub(crate) port: u16,
    /// Where the journals are.
    pub(crate) folder: PathBuf,
    /// Records in the partition of each worker.
    pub(crate) records: u64,
    /// How long a save takes longer than it needs.
    pub(crate) save_takes: Duration,
    /// Each worker goes on at its own last epoch.
    pub(crate) is_unaligned: bool,
    /// What is behind the epoch that all have stays in the journal.
    pub(crate) is_uncut: bool,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            process: 0,
            threads: 1,
            port: 15_800,
            folder: PathBuf::from("."),
            records: 10_000,
            save_takes: Duration::ZERO,
            is_unaligned: false,
            is_uncut: false,
        };
        while let Some(name) = args.next() {
            match name.as_str() {
                "--process" => options.process = value(&name, args.next())?,
                "--threads" => options.threads = value(&name, args.next())?,
                "--port" => options.port = value(&name, args.next())?,
                "--folder" => options.folder = value(&name, args.next())?,
                "--records" => options.records = value(&name, args.next())?,
                "--save-takes" => {
                    options.save_takes = Duration::from_millis(value(&name, args.next())?);
                }
                "--unaligned" => options.is_unaligned = true,
                "--uncut" => options.is_uncut = true,
                _ => return Err(format!("there is no option {name}")),
            }
        }
        match options.process {
            0 | 1 => Ok(options),
            _ => Err("--process is 0 or 1".into()),
        }
    }
}

fn value<T: std::str::FromStr>(name: &str, value: Option<String>) -> Result<T, String> {
    let value = value.ok_or_else(|| format!("{name} needs a value"))?;
    value.parse().map_err(|_| format!("{name} cannot be {value}"))
}
