//! A pipeline's checkpoints, as its reports tell of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use inflight_core::pipeline::Report;
use serde::Serialize;

use crate::history::{Samples, rounded};
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
    took: Option<f64>,
    /// The longest time that one has taken since the last sample.
    longest: Option<f64>,
    history: PipelineHistory,
    ended: bool,
}

/// The last five minutes of a pipeline, a sample each second.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct PipelineHistory {
    took: Samples<Option<f64>>,
}

impl PipelineReports {
    /// Takes note of a report.
    pub fn record(&self, report: &Report<'_>) {
        let mut counts = self.counts();
        match report {
            Report::Saved { bytes, took, .. } => {
                let took = rounded(took.as_secs_f64());
                counts.checkpoints += 1;
                counts.last = Some(Instant::now());
                counts.bytes = Some(*bytes as u64);
                counts.took = Some(took);
                counts.longest = Some(counts.longest.map_or(took, |longest| longest.max(took)));
            }
            Report::Failed { .. } => counts.failed += 1,
            Report::Complete { .. } => counts.ended = true,
            _ => {}
        }
    }

    /// Takes note of how long checkpoints take, once a second: of the longest one of the second, or of the last one before.
    pub(crate) fn sample(&self) {
        let mut counts = self.counts();
        let took = counts.longest.take().or(counts.took.filter(|_| !counts.ended));
        counts.history.took.push(took);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.counts().ended
    }

    pub(crate) fn state<'a>(&self, name: &'a str) -> state::Pipeline<'a> {
        let counts = self.counts();
        state::Pipeline {
            name,
            ended: counts.ended,
            checkpoints: counts.checkpoints,
            failed: counts.failed,
            last_ago: counts.last.map(|last| rounded(last.elapsed().as_secs_f64())),
            took: counts.took,
            bytes: counts.bytes,
            history: state::Stepped::new(counts.history.clone()),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use inflight_core::CheckpointId;
    use inflight_core::pipeline::Ended;

    use super::*;

    #[test]
    fn a_sample_is_of_the_longest_checkpoint_of_its_second() {
        let reports = PipelineReports::default();
        let saved = |millis| {
            let took = Duration::from_millis(millis);
            reports.record(&Report::Saved { id: CheckpointId(1), bytes: 7, took });
        };
        reports.sample();
        for millis in [30, 50, 20] {
            saved(millis);
        }
        reports.sample();
        reports.sample();
        saved(10);
        reports.record(&Report::Complete { id: CheckpointId(1), ended: Ended::Finished });
        reports.sample();
        reports.sample();
        let history = serde_json::to_value(reports.state("job").history).expect("JSON");
        // The last one is told until there is another one, or the end.
        assert_eq!(
            history,
            serde_json::json!({"step": 1.0, "took": [null, 0.05, 0.02, 0.01, null]})
        );
    }
}
