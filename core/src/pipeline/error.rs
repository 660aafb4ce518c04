//! What ends a pipeline, and what is only worth telling somebody.

use alloc::string::String;
use core::error::Error;
use core::fmt;

use super::sections::Ended;
use crate::checkpoint::envelope::FormatError;
use crate::checkpoint::{CheckpointError, CheckpointId};
use crate::runtime::NoRuntime;
use crate::stage::StartError;

/// Why a pipeline ended before everything was through and committed. Nothing is lost: run again, it
/// goes on from its last checkpoint.
///
/// The parameters are the errors of the source, the sink and the store.
#[derive(Debug)]
#[non_exhaustive]
pub enum PipelineError<Source, Sink, Store> {
    /// There is no runtime here.
    NoRuntime(NoRuntime),
    /// The store could not say what was saved.
    Load(Store),
    /// What the store gave is no checkpoint.
    Format(FormatError),
    /// The checkpoint is not of this pipeline: it has no position that fits the source, or nothing that
    /// fits the sink. Has one of their types changed?
    Foreign {
        /// The checkpoint's number.
        id: CheckpointId,
    },
    /// The source cannot be read from where the checkpoint says.
    Seek(Source),
    /// A stage could not be started. Nothing was taken from the source.
    Start(StartError),
    /// The checkpoint holds records in flight of a stage that was not restored: say
    /// `.restore(checkpoint)` on it. If the stage has another name now, or is gone, run the former
    /// program once more and stop it: then nothing is in flight.
    NotRestored {
        /// The stage's name.
        stage: String,
    },
    /// The source failed. What it had handed out before is through and committed.
    Source(Source),
    /// The sink's medium failed.
    Sink(Sink),
    /// A stage ended before its input did: its function could not be opened, the runtime cancelled its task, or a call
    /// has ended with a failure that ends the job ([`fail_fast`](crate::StageBuilder::fail_fast)). That failure is the last
    /// outcome that the sink was given; it is not committed, and the next run asks about its record again.
    EndedEarly,
    /// The first or the last checkpoint could not be saved. What the last one would have covered is
    /// not committed.
    Save(Store),
    /// The first or the last checkpoint is not complete.
    Checkpoint(CheckpointError),
}

impl<Source, Sink, Store> fmt::Display for PipelineError<Source, Sink, Store>
where
    Source: fmt::Display,
    Sink: fmt::Display,
    Store: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRuntime(error) => error.fmt(f),
            Self::Load(error) => write!(f, "loading the last checkpoint: {error}"),
            Self::Format(error) => write!(f, "the last checkpoint cannot be read: {error}"),
            Self::Foreign { id } => write!(
                f,
                "checkpoint {id} does not fit this source and sink; has a type of theirs changed?"
            ),
            Self::Seek(error) => write!(f, "going to the checkpoint's position: {error}"),
            Self::Start(error) => error.fmt(f),
            Self::NotRestored { stage } => write!(
                f,
                "the checkpoint holds records in flight of a stage \"{stage}\" that was not restored"
            ),
            Self::Source(error) => write!(f, "the source: {error}"),
            Self::Sink(error) => write!(f, "the sink: {error}"),
            Self::EndedEarly => f.write_str(
                "a stage ended before its input: its function could not be opened, \
                 its task was cancelled, or a failure has ended the job",
            ),
            Self::Save(error) => write!(f, "saving a checkpoint: {error}"),
            Self::Checkpoint(error) => write!(f, "taking a checkpoint: {error}"),
        }
    }
}

impl<Source, Sink, Store> Error for PipelineError<Source, Sink, Store>
where
    Source: Error + 'static,
    Sink: Error + 'static,
    Store: Error + 'static,
{
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // `Display` already says what the error inside says, so the chain goes on behind it.
        match self {
            Self::Seek(error) | Self::Source(error) => error.source(),
            Self::Sink(error) => error.source(),
            Self::Load(error) | Self::Save(error) => error.source(),
            Self::NoRuntime(error) => error.source(),
            Self::Format(error) => error.source(),
            Self::Start(error) => error.source(),
            Self::Checkpoint(error) => error.source(),
            Self::Foreign { .. } | Self::NotRestored { .. } | Self::EndedEarly => None,
        }
    }
}

/// What happens to a pipeline's checkpoints: what [`on_report`](super::Pipeline::on_report) is told.
///
/// ```
/// use inflight_core::pipeline::Report;
///
/// fn tell(report: Report<'_>) {
///     match report {
///         Report::Resumed { id, damaged: 0 } => println!("going on from {id:?}"),
///         Report::Resumed { id, damaged } => eprintln!("going on from {id:?}: {damaged} were damaged"),
///         Report::Failed { id, reason } => eprintln!("checkpoint {id:?}: {reason}"),
///         _ => {}
///     }
/// }
/// # use inflight_core::pipeline::{MemorySink, MemorySource, Pipeline};
/// # use inflight_core::MemoryStore;
/// # let (source, sink) = (MemorySource::new([1]), MemorySink::<u32>::new());
/// let pipeline = Pipeline::new(source, sink, MemoryStore::new()).on_report(tell);
/// # let _ = pipeline;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Report<'a> {
    /// The pipeline goes on from this checkpoint.
    Resumed {
        /// Its number.
        id: CheckpointId,
        /// How many that are newer, or may be, were damaged and passed over.
        damaged: usize,
    },
    /// A checkpoint is durable and committed.
    Saved {
        /// Its number.
        id: CheckpointId,
        /// Its size.
        bytes: usize,
    },
    /// A checkpoint could not be taken or saved. Nothing is lost: the next one covers what it would
    /// have, and until then nothing is committed.
    Failed {
        /// Its number.
        id: CheckpointId,
        /// Why: a [`CheckpointError`], or the store's error.
        reason: &'a (dyn Error + 'static),
    },
    /// The checkpoint is durable and committed, but nobody could be told at the source. The next
    /// acknowledgement covers it.
    Unacknowledged {
        /// Its number.
        id: CheckpointId,
        /// The source's error.
        reason: &'a (dyn Error + 'static),
    },
    /// The last checkpoint is durable and committed, and nothing is left to do but to close the stages'
    /// functions, for which [`run`](super::Pipeline::run) waits. Whoever drops its future now loses nothing,
    /// but for one thing: after [`Ended::SourceFailed`] only the result of `run` has the source's error.
    Complete {
        /// The number of that checkpoint.
        id: CheckpointId,
        /// How the pipeline ended.
        ended: Ended,
    },
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use core::iter::successors;

    use super::*;
    use crate::operator::RestoreError;

    #[derive(Debug)]
    struct Refused;

    impl fmt::Display for Refused {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("permission denied")
        }
    }

    impl Error for Refused {}

    /// As `LinesError::Io`: what could not be done, and behind it the system's answer.
    #[derive(Debug)]
    struct Unwritten(Refused);

    impl fmt::Display for Unwritten {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("could not write output")
        }
    }

    impl Error for Unwritten {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn chain(error: PipelineError<Unwritten, Unwritten, Unwritten>) -> Vec<String> {
        let causes = successors(Some(&error as &dyn Error), |error: &&dyn Error| (*error).source());
        causes.map(|cause| cause.to_string()).collect()
    }

    #[test]
    fn the_chain_of_causes_says_everything_once() {
        let sink = chain(PipelineError::Sink(Unwritten(Refused)));
        assert_eq!(sink, ["the sink: could not write output", "permission denied"]);

        let damaged = RestoreError::Damaged.to_string();
        let start = chain(PipelineError::Start(StartError::Restore(RestoreError::Damaged)));
        assert_eq!(start, [alloc::format!("restoring the stage: {damaged}")]);
    }
}
