//! The summary of a run: for the user, and as JSON.

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::counters::Counters;
use crate::problem::Problem;
use crate::sink::Written;
use crate::source::Position;
use crate::terminal::numbers::thousands;

/// `--help` explains each of these.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    read: u64,
    written: u64,
    rejected: u64,
    retries: u64,
    timeouts: u64,
    resumed_at: Option<u64>,
    seconds: f64,
    records: u64,
    records_per_second: f64,
    one_at_a_time_seconds: f64,
    checkpoints: u64,
    finished: bool,
}

impl Summary {
    /// The summary of a run that began at `position` and took `time`.
    pub fn new(counters: &Counters, position: &Position, began: &Written, time: Duration) -> Self {
        let (records, seconds) = (counters.done() - began.totals.done(), time.as_secs_f64());
        Self {
            read: counters.lines.get(),
            written: counters.written.get(),
            rejected: counters.rejected.get(),
            retries: counters.retries.get(),
            timeouts: counters.timeouts.get(),
            resumed_at: Some(position.lines.lines)
                .filter(|lines| began.totals.done().max(*lines) > 0),
            seconds: rounded(seconds),
            records,
            records_per_second: rounded(records as f64 / seconds.max(0.001)),
            one_at_a_time_seconds: rounded(counters.call_time().as_secs_f64()),
            checkpoints: counters.checkpoints.get(),
            finished: false,
        }
    }

    /// True if it was the last run of the job.
    pub fn finished(self) -> Self {
        Self { finished: true, ..self }
    }

    pub fn has_rejected(&self) -> bool {
        self.rejected > 0
    }

    /// Checks that `path` can be written, and leaves the file as it is.
    pub fn check(path: &Path) -> Result<(), Problem> {
        // Do not open a pipe, because that waits for its reader.
        let is_special = fs::metadata(path).is_ok_and(|data| !data.is_file() && !data.is_dir());
        if is_special {
            return Ok(());
        }
        let is_new = !path.exists();
        File::options()
            .create(is_new)
            .append(true)
            .open(path)
            .and_then(|_| if is_new { fs::remove_file(path.canonicalize()?) } else { Ok(()) })
            .map_err(Self::problem(path))
    }

    /// Writes the summary as one JSON object.
    pub fn save(&self, path: &Path) -> Result<(), Problem> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        fs::write(path, text).map_err(Self::problem(path))
    }

    fn problem(path: &Path) -> impl Fn(io::Error) -> Problem {
        Problem::file("write", path, "Name another file with --summary.")
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [read, written, rejected] = [self.read, self.written, self.rejected].map(thousands);
        let [records, retries, timeouts] =
            [self.records, self.retries, self.timeouts].map(thousands);
        let time = |seconds: f64| {
            let millis = if seconds < 10.0 { 1 } else { 1000 };
            let whole = (seconds * 1000.0) as u64 / millis * millis;
            humantime::format_duration(Duration::from_millis(whole)).to_string()
        };
        let times = self.one_at_a_time_seconds / self.seconds.max(0.001);
        writeln!(f, "  lines         {read} read, {written} written, {rejected} rejected")?;
        write!(f, "  retries       {retries}, and {timeouts} attempts timed out")?;
        if self.records > 0 {
            writeln!(f, "\n  this run      {records} records in {}", time(self.seconds))?;
            writeln!(f, "  speed         {:.0} records a second", self.records_per_second)?;
            write!(f, "  one by one    at most about {}", time(self.one_at_a_time_seconds))?;
            writeln!(f, ", {times:.1} times as long")?;
            write!(f, "  checkpoints   {}", thousands(self.checkpoints))?;
        }
        Ok(())
    }
}
