//! The reasons for which a job ends before it is done.

use std::error::Error;
use std::fmt;

use inflight_core::{ConfigError, NoRuntime};

/// The reason why a job over partitions ended in another way than it was asked to. Nothing is lost: each partition goes on from its last
/// checkpoint, in this worker or in another one.
#[derive(Debug)]
#[non_exhaustive]
pub enum JobError<A> {
    /// The job was started outside of a runtime.
    NoRuntime(NoRuntime),
    /// A setting of the retry strategy makes no sense.
    Config(ConfigError),
    /// The engine tells no more about the partitions. They were handed over.
    Assignment(A),
    /// The engine was not told that this worker has left; its partitions were handed over and given back.
    Leave(A),
    /// The retry strategy has given a partition up, or its number is not below 1,024, or that of another one here. All partitions were handed over, and this worker has left.
    Partition {
        /// The partition, as its `Debug` shows it.
        partition: String,
        /// The error of its last life, or the reason why it has none.
        error: Box<dyn Error + Send + Sync>,
    },
}

impl<A: fmt::Display> fmt::Display for JobError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRuntime(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
            Self::Assignment(error) => write!(f, "the assignment of partitions: {error}"),
            Self::Leave(error) => write!(f, "leaving: {error}"),
            Self::Partition { partition, error } => write!(f, "partition {partition}: {error}"),
        }
    }
}

impl<A: Error + 'static> Error for JobError<A> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // `Display` has the text of the inner error, so the chain continues with that error's source.
        match self {
            Self::NoRuntime(error) => error.source(),
            Self::Config(error) => error.source(),
            Self::Assignment(error) | Self::Leave(error) => error.source(),
            Self::Partition { error, .. } => error.source(),
        }
    }
}
