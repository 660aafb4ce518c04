//! A pipeline's checkpoints, as its reports tell of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use inflight_core::pipeline::Report;

use crate::history::rounded;
use crate::state;

/// Tells the console of a pipeline: got from [`ServedConsole::pipeline`](crate::ServedConsole::pipeline), to be handed each report.
///
/// ```
/// use inflight_console::Console;
/// use inflight_core::MemoryStore;
/// use inflight_core::pipeline::{MemorySink, MemorySource, Pipeline};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let console = Console::new("numbers").serve("127.0.0.1:0")?;
/// let reports = console.pipeline("job");
/// let source = MemorySource::new(1..100_u64);
/// let pipeline = Pipeline::new(source, MemorySink::<u64>::new(), MemoryStore::new())
///     .on_report(move |report| reports.record(&report));
/// # let _ = pipeline;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct PipelineReports(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    checkpoints: u64,
    failed: u64,
    last: Option<Instant>,
    bytes: Option<u64>,
    ended: bool,
}

impl PipelineReports {
    /// Takes note of a report.
    pub fn record(&self, report: &Report<'_>) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match report {
            Report::Saved { bytes, .. } => {
                counts.checkpoints += 1;
                counts.last = Some(Instant::now());
                counts.bytes = Some(*bytes as u64);
            }
            Report::Failed { .. } => counts.failed += 1,
            Report::Complete { .. } => counts.ended = true,
            _ => {}
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).ended
    }

    pub(crate) fn state<'a>(&self, name: &'a str) -> state::Pipeline<'a> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state::Pipeline {
            name,
            ended: counts.ended,
            checkpoints: counts.checkpoints,
            failed: counts.failed,
            last_ago: counts.last.map(|last| rounded(last.elapsed().as_secs_f64())),
            took: None,
            bytes: counts.bytes,
        }
    }
}
