//! Why a snapshot cannot be taken up.

use core::fmt;

use crate::checkpoint::envelope::FormatError;

/// Why an operator could not take up the contents of a checkpoint. The operator is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreError {
    /// The stage takes no snapshots: say `.checkpointed(name, schema)` on it first.
    NotCheckpointed,
    /// Elements are in flight already.
    NotEmpty,
    /// The checkpoint has no section of the stage's name.
    Missing {
        /// The stage's name.
        name: &'static str,
    },
    /// The section is no intact snapshot of an operator.
    Format(FormatError),
    /// The records were saved in another version of their type, and it is newer, or there is no
    /// migration function.
    Schema {
        /// The version in the snapshot.
        found: u32,
        /// The stage's version.
        expected: u32,
    },
    /// The migration function could not read a record.
    Migration {
        /// The version in the snapshot.
        found: u32,
        /// The stage's version.
        expected: u32,
    },
    /// The content does not fit the record type although the checksum is right. Has the type changed
    /// and its schema version not?
    Damaged,
    /// A checkpoint cannot be split into, or merged from, no parts at all.
    NoParts,
    /// The snapshot holds more than a storage in place has room for.
    TooMany {
        /// Records in the snapshot, or control elements, whichever are more.
        found: u64,
        /// How many of them there is room for.
        room: u64,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCheckpointed => f.write_str("the stage takes no snapshots"),
            Self::NotEmpty => f.write_str("elements are in flight already"),
            Self::Missing { name } => write!(f, "the checkpoint has no section \"{name}\""),
            Self::Format(error) => write!(f, "the snapshot cannot be read: {error}"),
            Self::Schema { found, expected } => write!(
                f,
                "the records were saved under schema version {found}, the stage has {expected}, \
                 and there is no migration function from the one to the other"
            ),
            Self::Migration { found, expected } => write!(
                f,
                "a record of schema version {found} could not be migrated to version {expected}"
            ),
            Self::Damaged => f.write_str(
                "the snapshot does not fit the record type; \
                 has the type changed and its schema version not?",
            ),
            Self::NoParts => f.write_str("a checkpoint needs at least one part"),
            Self::TooMany { found, room } => {
                write!(f, "{found} elements are in the snapshot, there is room for {room}")
            }
        }
    }
}

impl core::error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Format(error) => Some(error),
            _ => None,
        }
    }
}
