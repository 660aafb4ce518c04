//! The live page of `--serve`.

use std::net::SocketAddr;

use inflight::StageHandle;
use inflight::console::{Console, PipelineReports, ServedConsole};
use inflight::pipeline::Report;

use crate::STAGE;
use crate::problem::{Problem, with_causes};
use crate::progress::say;

/// The page, if it is wanted.
pub struct Live(Option<(ServedConsole, PipelineReports)>);

impl Live {
    /// Serves the page until it is dropped.
    pub fn serve(address: Option<SocketAddr>) -> Result<Self, Problem> {
        let Some(address) = address else { return Ok(Self(None)) };
        let console = Console::new("enrich").serve(address).map_err(|error| {
            Problem::new(
                format!("cannot serve a page on {address}: {}", with_causes(&error)),
                "Choose another port of 127.0.0.1, or 0 for any that is free.",
            )
        })?;
        say(&format!("look at {}", console.url()));
        let reports = console.pipeline("checkpoints");
        Ok(Self(Some((console, reports))))
    }

    pub fn stage(&self, stage: StageHandle) {
        if let Some((console, _)) = &self.0 {
            console.stage(STAGE, stage);
        }
    }

    pub fn report(&self, report: &Report<'_>) {
        if let Some((_, reports)) = &self.0 {
            reports.record(report);
        }
    }
}
