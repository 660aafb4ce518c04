//! The format of a snapshot (K6).
//!
//! ```text
//! envelope (magic, the user's schema version, checksum)
//! | Header | entries: each an Entry; a record's is followed by its input and, if kept, its result
//! ```
//! Everything is in postcard. The length of an input or a result stands before it, in 4 bytes: so a record of an older
//! schema can be told from its neighbours, and entries can be sorted by code that does not know their type.

#[cfg(feature = "checkpoint")]
use super::RestoreError;
#[cfg(feature = "checkpoint")]
use crate::checkpoint::envelope::Magic;
use crate::time::Timestamp;

#[cfg(feature = "checkpoint")]
pub(super) const MAGIC: Magic = *b"ifOP";

#[cfg(feature = "checkpoint")]
#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(super) struct Header {
    pub(super) entries: u64,
    /// The id of the next record, and the step in which ids grow.
    pub(super) next_request_id: u64,
    pub(super) request_id_step: u64,
    /// The watermark before everything in flight, and whether the stream was idle there.
    pub(super) watermark: Option<Timestamp>,
    pub(super) idle: bool,
}

/// An element in flight. Times are in nanoseconds.
#[cfg(feature = "checkpoint")]
#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(super) enum Entry {
    Record(SavedCall),
    Watermark(Timestamp),
    Idle,
    Active,
}

#[derive(Clone, Copy)]
#[cfg_attr(feature = "checkpoint", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::operator) struct SavedCall {
    pub(super) timestamp: Option<Timestamp>,
    pub(super) request_id: u64,
    pub(super) key: u64,
    pub(super) attempts: u32,
    pub(super) interrupted: u32,
    pub(super) spent: u64,
    pub(super) progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "checkpoint", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::operator) enum Progress {
    /// Its next attempt starts at once.
    Waiting,
    /// Its next attempt starts after the rest of its backoff.
    Backoff(u64),
    /// It is done; its result follows.
    Done,
    /// It is done, and leaves without an outcome.
    Dropped,
}

#[cfg(feature = "checkpoint")]
pub(super) use self::postcard_io::{read, read_whole, split_length, with_length, write};

#[cfg(feature = "checkpoint")]
mod postcard_io {
    use postcard::ser_flavors::Flavor;
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};

    use super::RestoreError;
    use crate::checkpoint::{CheckpointError, Section};

    pub(in crate::operator::snapshot) fn write<T: Serialize>(
        section: &mut Section<'_>,
        value: &T,
    ) -> Result<(), CheckpointError> {
        postcard::serialize_with_flavor(value, SectionFlavor(section))
            .map_err(|_| CheckpointError::Serialize)
    }

    /// Writes a value with its length before it.
    pub(in crate::operator::snapshot) fn with_length(
        section: &mut Section<'_>,
        write: impl FnOnce(&mut Section<'_>) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let length_at = section.len();
        section.extend(&[0; 4]);
        let start = section.len();
        write(section)?;
        let length =
            u32::try_from(section.len() - start).map_err(|_| CheckpointError::Serialize)?;
        section.fill_in(length_at, &length.to_le_bytes());
        Ok(())
    }

    /// The next value, and the bytes after it.
    pub(in crate::operator::snapshot) fn read<'a, T: Deserialize<'a>>(
        bytes: &'a [u8],
    ) -> Result<(T, &'a [u8]), RestoreError> {
        postcard::take_from_bytes(bytes).map_err(|_| RestoreError::Damaged)
    }

    /// Reads a value that takes up all of the bytes.
    pub(in crate::operator::snapshot) fn read_whole<T: DeserializeOwned>(
        bytes: &[u8],
    ) -> Option<T> {
        postcard::take_from_bytes(bytes)
            .ok()
            .and_then(|(value, rest)| rest.is_empty().then_some(value))
    }

    /// The bytes that stand after their length, and the bytes after those.
    pub(in crate::operator::snapshot) fn split_length(
        bytes: &[u8],
    ) -> Result<(&[u8], &[u8]), RestoreError> {
        let (length, rest) = bytes.split_first_chunk().ok_or(RestoreError::Damaged)?;
        rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(RestoreError::Damaged)
    }

    /// Lets postcard write into a section.
    struct SectionFlavor<'a, 'b>(&'a mut Section<'b>);

    impl Flavor for SectionFlavor<'_, '_> {
        type Output = ();

        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.extend(&[byte]);
            Ok(())
        }

        fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
            self.0.extend(bytes);
            Ok(())
        }

        fn finalize(self) -> postcard::Result<()> {
            Ok(())
        }
    }
}
