//! The user's types as bytes, in postcard, each behind its length.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::{CheckpointError, Section};

/// From this length on it takes four bytes more.
pub(super) const LONG: usize = u8::MAX as usize;

pub(super) fn write<T: Serialize>(
    section: &mut Section<'_>,
    value: &T,
) -> Result<(), CheckpointError> {
    postcard::serialize_with_flavor(value, SectionFlavor(section))
        .map_err(|_| CheckpointError::Serialize)
}

/// Reads a value that takes up all of the bytes.
pub(super) fn read_whole<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().and_then(|(value, rest)| rest.is_empty().then_some(value))
}

/// Writes a value with its length before it.
#[cfg_attr(feature = "alloc", inline(always))]
pub(super) fn with_length(
    section: &mut Section<'_>,
    write: impl FnOnce(&mut Section<'_>) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    section.extend(&[0]); // the length
    let start = section.len();
    write(section)?;
    fill_in_length(section, start)
}

/// Writes the length of the bytes since `start`, into the byte before them.
fn fill_in_length(section: &mut Section<'_>, start: usize) -> Result<(), CheckpointError> {
    let length = section.len() - start;
    section.fill_in(start - 1, &[length.min(LONG) as u8]);
    if length >= LONG {
        let length = u32::try_from(length).map_err(|_| CheckpointError::Serialize)?;
        section.move_up(start, size_of::<u32>());
        section.fill_in(start, &length.to_le_bytes());
    }
    Ok(())
}

/// Lets postcard write into a section.
struct SectionFlavor<'a, 'b>(&'a mut Section<'b>);

impl Flavor for SectionFlavor<'_, '_> {
    type Output = ();

    #[cfg_attr(feature = "alloc", inline(always))]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.extend(&[byte]);
        Ok(())
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
