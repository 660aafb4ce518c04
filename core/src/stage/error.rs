//! Why a stage could not be started, or ended early.

use core::fmt;

use crate::config_error::ConfigError;
use crate::operator::RestoreError;
use crate::runtime::NoRuntime;

/// Why a stage could not be started.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum StartError {
    /// A setting of the policy makes no sense.
    Config(ConfigError),
    /// There is no runtime here.
    NoRuntime(NoRuntime),
    /// The checkpoint cannot be restored.
    Restore(RestoreError),
    /// Another stage uses the [`WakeTable`](crate::WakeTable).
    WakeTableInUse,
    /// Another stage of the pipeline has this name, or it begins with `pipeline.`, as the pipeline's own names do. Checkpoints tell
    /// stages apart by their names.
    NameTaken {
        /// The name.
        name: &'static str,
    },
    /// The pipeline keeps positions only and the stage takes snapshots, or the other way round.
    OtherMode,
    /// The stage has no request ids left: a job that is started anew takes 2^28 of 2^46 ids of each stage but the first, so this comes
    /// after 262,144 lives. Give the stage another name.
    NoRequestIds {
        /// The stage's name.
        name: &'static str,
    },
    /// The chain has more than 64 stages, or the job has had more than 255 in its life.
    TooManyStages,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "the stage's policy: {error}"),
            Self::NoRuntime(error) => error.fmt(f),
            Self::Restore(error) => write!(f, "restoring the stage: {error}"),
            Self::WakeTableInUse => f.write_str("the wake table is in use by another stage"),
            Self::NameTaken { name } => write!(f, "the name \"{name}\" is taken, by another stage or by the pipeline itself"),
            Self::OtherMode => f.write_str(
                "a stage of a pipeline that keeps positions only says `.positions_only(recovery)`, any other \
                 `.checkpointed(name, schema).restore(recovery)`",
            ),
            Self::NoRequestIds { name } => {
                write!(f, "the stage \"{name}\" has no request ids left: give it another name")
            }
            Self::TooManyStages => {
                f.write_str("a chain has at most 64 stages, and a job at most 255 in its life")
            }
        }
    }
}

impl core::error::Error for StartError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        // `Display` already prints the inner error, so the chain continues with that error's source.
        match self {
            Self::Config(error) => error.source(),
            Self::NoRuntime(error) => error.source(),
            Self::Restore(error) => error.source(),
            Self::WakeTableInUse
            | Self::NameTaken { .. }
            | Self::OtherMode
            | Self::NoRequestIds { .. }
            | Self::TooManyStages => None,
        }
    }
}

/// Why a stage ended before everything had left. An error for the same `E` as
/// [`Failure`](crate::Failure), and like it without a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StageError<E> {
    /// The function could not be opened. Nothing was taken from the source; restored records are still in
    /// their checkpoint.
    Open(E),
    /// A call has ended with a failure that ends the job, as [`fail_fast`](crate::StageBuilder::fail_fast) says. The last
    /// outcome tells which.
    Failed,
    /// The stage's task panicked.
    Panicked,
    /// The runtime cancelled the stage's task.
    Cancelled,
}

impl<E: fmt::Display> fmt::Display for StageError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => write!(f, "the stage's function could not be opened: {error}"),
            Self::Failed => f.write_str("a call has failed, and that ends the job"),
            Self::Panicked => f.write_str("the stage's task has panicked"),
            Self::Cancelled => f.write_str("the stage's task was cancelled"),
        }
    }
}

// As for `Failure`: also where the function's error is a box, which is no error itself.
impl<E: fmt::Debug + fmt::Display> core::error::Error for StageError<E> {}
