//! The reasons why a checkpoint is not complete.

use core::fmt;

/// The reason why a checkpoint is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The barrier has passed a stage that takes no snapshots: call
    /// [`checkpointed(name, schema)`](crate::StageBuilder::checkpointed) on it, which the feature `checkpoint` has.
    NotCheckpointed,
    /// Two sections have the same name.
    NameTaken,
    /// A section's name is longer than 255 bytes.
    NameTooLong,
    /// The caller's buffer is too small.
    BufferFull {
        /// The size that would have been enough up to this section.
        needed: usize,
    },
    /// A record in flight could not be serialised: its `Serialize` reported an error.
    Serialize,
    /// The stage was not empty when the drain's time limit passed.
    DrainTimedOut,
    /// A record without a mark has come to the end of a pipeline that keeps positions only: an adapter has made it
    /// ([`Tracked::detached`](crate::Tracked::detached)), or it comes from another pipeline.
    Untracked,
    /// A pipeline that keeps positions only has come to its end, and a copy of a record has neither come to the sink nor been dropped:
    /// an adapter keeps it.
    NotDone,
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCheckpointed => f.write_str(
                "a stage on the barrier's way takes no snapshots: say `.checkpointed(name, schema)`, or in a pipeline that \
                 keeps positions only `.positions_only(recovery)`",
            ),
            Self::NameTaken => f.write_str("two sections of a checkpoint have the same name"),
            Self::NameTooLong => f.write_str("a section's name is longer than 255 bytes"),
            Self::BufferFull { needed } => {
                write!(f, "the buffer is too small: {needed} bytes are needed")
            }
            Self::Serialize => f.write_str("a record in flight could not be serialised"),
            Self::DrainTimedOut => {
                f.write_str("the stage was not empty when the drain's time limit passed")
            }
            Self::NotDone => f.write_str(
                "the records have ended, and a copy of one is kept somewhere between the stages and the sink",
            ),
            Self::Untracked => f.write_str(
                "a record has no mark of the pipeline's source; make it with `Tracked::map` of one that has",
            ),
        }
    }
}

impl core::error::Error for CheckpointError {}
