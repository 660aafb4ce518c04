//! The errors that stop a run, in words for the user.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;
use std::iter::successors;
use std::path::Path;

use inflight::lines::LinesError;
use inflight::pipeline::PipelineError;

/// An error and its remedy. `main` prints it and exits with status 2.
#[derive(Debug)]
pub struct Problem {
    what: String,
    way_out: String,
}

impl Problem {
    pub fn new(what: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { what: what.into(), way_out: way_out.into() }
    }

    /// For `map_err`: names the file and the operation that failed.
    pub fn file(action: &str, path: &Path, way_out: &str) -> impl Fn(io::Error) -> Self {
        move |error| Self::new(format!("cannot {action} {}: {error}", path.display()), way_out)
    }
}

/// The error that stopped the pipeline, and its remedy.
impl<E: Error + 'static> From<PipelineError<LinesError, LinesError, E>> for Problem {
    fn from(error: PipelineError<LinesError, LinesError, E>) -> Self {
        let way_out = match &error {
            PipelineError::Open(LinesError::InputChanged { .. }) => {
                "Put the original file back, or start from the beginning with --fresh."
            }
            PipelineError::Source(_) | PipelineError::Open(_) => {
                "Repair the file, and run the same command again to resume."
            }
            PipelineError::Sink(LinesError::Io { .. }) | PipelineError::Save(_) => {
                "Make room on the medium, and run the same command again to resume."
            }
            PipelineError::Sink(_) => {
                "Put the original file back, and run the same command again; or start from the beginning with --fresh."
            }
            PipelineError::NotRestored { .. } => {
                "Run it with --checkpoint snapshot, and stop it with one Ctrl-C: then nothing is in flight."
            }
            PipelineError::EndedEarly => "Run the same command again to resume.",
            _ => "See --help, or start from the beginning with --fresh.",
        };
        Self::new(with_causes(&error), way_out)
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.what, self.way_out)
    }
}

/// An error with all its causes, because many errors leave them out of their message.
pub fn with_causes(error: &dyn Error) -> String {
    let causes = successors(error.source(), |error: &&dyn Error| (*error).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
