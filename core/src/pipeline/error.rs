//! The errors that end a pipeline, and the reports on its checkpoints.

use alloc::string::String;
use core::error::Error;
use core::fmt;
use core::time::Duration;

use super::sections::Ended;
use crate::checkpoint::envelope::FormatError;
use crate::checkpoint::{CheckpointError, CheckpointId};
use crate::runtime::NoRuntime;
use crate::stage::StartError;

/// The reason why a pipeline ended before everything was finished and committed. Nothing is lost: the next
/// run goes on from the last checkpoint.
///
/// The parameters are the errors of the source, the sink and the store.
#[derive(Debug)]
#[non_exhaustive]
pub enum PipelineError<Source, Sink, Store> {
    /// The pipeline was started outside of a runtime.
    NoRuntime(NoRuntime),
    /// The store could not load the latest checkpoint.
    Load(Store),
    /// The bytes from the store are not a checkpoint.
    Format(FormatError),
    /// The checkpoint belongs to another pipeline: it has no position of the source's type, or no
    /// description of the sink's type. Has one of these types changed?
    Foreign {
        /// The checkpoint's number.
        id: CheckpointId,
    },
    /// The source cannot be opened, or cannot go to the checkpoint's position.
    Open(Source),
    /// A stage could not be started. Nothing was taken from the source.
    Start(StartError),
    /// The checkpoint holds records in flight of a stage that was not restored: call
    /// `.restore(recovery)` on it. If the stage has another name now, or was removed, run the previous
    /// program once more and drain it; then nothing is in flight.
    NotRestored {
        /// The stage's name.
        stage: String,
    },
    /// A stage takes snapshots and was not given the pipeline's [`Recovery`](crate::Recovery): call `.restore(recovery)` on it. Nothing
    /// was taken from the source.
    NotConnected {
        /// The stage's name.
        stage: String,
    },
    /// The number of the [partition](super::Pipeline::partition) is not below 1,024.
    Partition {
        /// The number.
        number: u16,
    },
    /// The source failed. The records that it had handed out before are finished and committed.
    Source(Source),
    /// The sink's medium failed.
    Sink(Sink),
    /// A stage ended before its input did: its function could not be opened, the runtime cancelled its task, or a call
    /// has ended with a failure that ends the job ([`fail_fast`](crate::StageBuilder::fail_fast), F6). That failure is the
    /// last outcome that the sink received; it is not committed, and the next run requests its record again.
    EndedEarly,
    /// A barrier was dropped between source and sink a second ago, so nothing can be committed any more. An adapter between two stages must
    /// pass every control element on: use [`filter_records`](crate::RecordsExt::filter_records) and the like, which do, in place of the
    /// stream's own `filter`. If no adapter dropped it, it was dropped with a stage whose task was cancelled or has panicked, while later
    /// stages still work.
    BarrierLost,
    /// The first or the last checkpoint could not be saved, or any of them for a
    /// [final](crate::CheckpointStore::is_final) reason: another owner has the job. The output that it would have covered is not
    /// committed.
    Save(Store),
    /// The first or the last checkpoint is not complete. If it is the first, a stage takes no snapshots
    /// ([`checkpointed`](crate::StageBuilder::checkpointed)), or two have one name; nothing was taken from the source.
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
            Self::Open(error) => write!(f, "opening the source: {error}"),
            Self::Start(error) => error.fmt(f),
            Self::NotRestored { stage } => write!(
                f,
                "the checkpoint holds records in flight of a stage \"{stage}\" that was not restored"
            ),
            Self::NotConnected { stage } => write!(
                f,
                "the stage \"{stage}\" takes snapshots and was not given the pipeline's recovery: say `.restore(recovery)`"
            ),
            Self::Partition { number } => {
                write!(f, "partition {number}: a job has at most 1024 partitions")
            }
            Self::Source(error) => write!(f, "the source: {error}"),
            Self::Sink(error) => write!(f, "the sink: {error}"),
            Self::EndedEarly => f.write_str(
                "a stage ended before its input: its function could not be opened, \
                 its task was cancelled, or a failure has ended the job",
            ),
            Self::BarrierLost => f.write_str(
                "a barrier was dropped between source and sink, so nothing can be committed; an adapter between the stages must \
                 pass every control element on, as `filter_records`, `map_records` and the like do, and the task of a stage must not be cancelled",
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
        // `Display` includes the text of the inner error, so the chain continues with that error's source.
        match self {
            Self::Open(error) | Self::Source(error) => error.source(),
            Self::Sink(error) => error.source(),
            Self::Load(error) | Self::Save(error) => error.source(),
            Self::NoRuntime(error) => error.source(),
            Self::Format(error) => error.source(),
            Self::Start(error) => error.source(),
            Self::Checkpoint(error) => error.source(),
            Self::Foreign { .. }
            | Self::NotRestored { .. }
            | Self::NotConnected { .. }
            | Self::Partition { .. }
            | Self::EndedEarly
            | Self::BarrierLost => None,
        }
    }
}

/// A report on a pipeline's checkpoints, as [`on_report`](super::Pipeline::on_report) receives it.
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
        /// The number of damaged checkpoints that were skipped and that are, or may be, newer.
        damaged: usize,
    },
    /// A checkpoint is durable and committed.
    Saved {
        /// Its number.
        id: CheckpointId,
        /// Its size in bytes.
        bytes: usize,
        /// The time from the ask for its barrier until it was committed and acknowledged.
        took: Duration,
    },
    /// A checkpoint could not be taken or saved. Nothing is lost: the next one covers the same output, and until
    /// then nothing is committed.
    Failed {
        /// Its number.
        id: CheckpointId,
        /// The reason: a [`CheckpointError`], or the store's error.
        reason: &'a (dyn Error + 'static),
    },
    /// The checkpoint is durable and committed, but the source's acknowledger failed. The next
    /// acknowledgement covers it.
    Unacknowledged {
        /// Its number.
        id: CheckpointId,
        /// The source's error.
        reason: &'a (dyn Error + 'static),
    },
    /// The last checkpoint is durable and committed, and nothing is left to do but to close the stages'
    /// functions, for which [`run`](super::Pipeline::run) waits. Dropping its future now loses no data; but
    /// after [`Ended::SourceFailed`] only the result of `run` has the source's error.
    Complete {
        /// The number of that checkpoint.
        id: CheckpointId,
        /// The reason of the end.
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

    /// Has the shape of `LinesError::Io`: the failed operation, and the system's error as its source.
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
    fn the_chain_of_causes_prints_each_cause_once() {
        let sink = chain(PipelineError::Sink(Unwritten(Refused)));
        assert_eq!(sink, ["the sink: could not write output", "permission denied"]);

        let damaged = RestoreError::Damaged.to_string();
        let start = chain(PipelineError::Start(StartError::Restore(RestoreError::Damaged)));
        assert_eq!(start, [alloc::format!("restoring the stage: {damaged}")]);
    }
}
