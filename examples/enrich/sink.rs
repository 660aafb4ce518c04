//! The sink writes a line to one of two files for each outcome. The files count up to the lengths in the last
//! checkpoint.

use std::fs;
use std::path::Path;
use std::process;
use std::sync::Arc;

use inflight::lines::{LineFile, LinesError};
use inflight::pipeline::TransactionalSink;
use inflight::prelude::*;
use serde::{Deserialize, Serialize};

use crate::airport::Enrichment;
use crate::counters::{Counters, Totals};
use crate::format;
use crate::identity::Identity;
use crate::line::Line;
use crate::lookup::LookupError;
use crate::problem::Problem;
use crate::progress::say;
use crate::rehearsal::Rehearsal;

/// The two output files.
pub struct Sink {
    pub output: LineFile,
    pub rejected: LineFile,
    pub identity: Identity,
    pub counters: Arc<Counters>,
    /// The number of further lines until the process aborts.
    pub crash_after: Option<u64>,
    pub rehearsal: Rehearsal,
}

/// The sink's part of a checkpoint: its job, and the lengths of the files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    pub identity: Identity,
    /// Bytes in the output file.
    pub output: u64,
    /// Bytes in the file of rejected lines.
    pub rejected: u64,
    pub totals: Totals,
}

impl TransactionalSink<Outcome<Line, Enrichment, LookupError>> for Sink {
    type Prepared = Written;
    type Error = LinesError;

    async fn write(
        &mut self,
        outcome: Outcome<Line, Enrichment, LookupError>,
        _: Option<Timestamp>,
    ) -> Result<(), LinesError> {
        self.counters.outcome(outcome.attempts, outcome.elapsed);
        match &outcome.result {
            Ok(airports) => {
                self.output.write(&format::enriched(&outcome.input, airports))?;
                self.counters.written.add(1);
                self.crash_if_due();
            }
            Err(failure) => {
                let reason = format::reason(failure, outcome.attempts);
                self.rejected.write(&format::rejected(&outcome.input, &reason))?;
                self.counters.rejected.add(1);
            }
        }
        Ok(())
    }

    fn watermark(&mut self, time: Timestamp) {
        self.counters.watermark(time);
    }

    async fn pre_commit(&mut self, _: CheckpointId) -> Result<Written, LinesError> {
        let written = Written {
            identity: self.identity.clone(),
            output: self.output.sync().await?,
            rejected: self.rejected.sync().await?,
            totals: self.counters.totals(),
        };
        self.rehearsal.pause().await;
        Ok(written)
    }

    async fn commit(&mut self, _: CheckpointId, _: &Written) -> Result<(), LinesError> {
        self.rehearsal.pause().await;
        self.output.check().await?;
        self.rejected.check().await
    }

    async fn abort(&mut self, kept: Option<&Written>) -> Result<(), LinesError> {
        match kept {
            Some(_) if self.rehearsal.commits_first => Ok(()),
            Some(kept) => {
                self.output.cut(kept.output).await?;
                self.rejected.cut(kept.rejected).await
            }
            None => self.output.check_empty().and_then(|()| self.rejected.check_empty()),
        }
    }
}

impl Sink {
    fn crash_if_due(&mut self) {
        if let Some(left) = &mut self.crash_after {
            *left -= 1;
            if *left == 0 {
                say("--crash-after: aborting now, without clean-up");
                process::abort();
            }
        }
    }
}

/// Opens or creates an output, and keeps its content.
pub fn open(path: &Path) -> Result<LineFile, Problem> {
    let way_out = "Name a file that can be written to with --output; its folder has to exist.";
    LineFile::open(path).map_err(|error| match error {
        LinesError::Io { source, .. } => Problem::file("write", path, way_out)(source),
        error => Problem::new(error.to_string(), way_out),
    })
}

/// The length of an output, which may not exist yet.
pub fn length(path: &Path) -> u64 {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |data| data.len())
}

/// Checks that the files have all bytes of the checkpoint. It does not create a file that is gone.
pub fn check_length(path: &Path, least: u64) -> Result<(), Problem> {
    let length = length(path);
    if length >= least {
        return Ok(());
    }
    let path = path.display();
    let what = format!("{path} has {length} bytes, but {least} were written by an earlier run");
    Err(Problem::new(what, "Put the original file back, or start from the beginning with --fresh."))
}
