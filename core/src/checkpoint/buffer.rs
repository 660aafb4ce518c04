//! The bytes of a checkpoint: on the heap, or in a buffer of the caller's.

use super::CheckpointError;

#[derive(Debug)]
pub(super) enum Buffer {
    #[cfg(feature = "alloc")]
    Heap(alloc::vec::Vec<u8>),
    Borrowed {
        bytes: &'static mut [u8],
        /// The length of the checkpoint at the front of `bytes`.
        used: usize,
    },
}

impl Buffer {
    /// Appends bytes; appends nothing if they do not fit.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn extend(&mut self, more: &[u8]) -> Result<(), CheckpointError> {
        match self {
            #[cfg(feature = "alloc")]
            Self::Heap(bytes) => bytes.extend_from_slice(more),
            Self::Borrowed { bytes, used } => {
                // All or nothing: a part of a section would be of no use.
                let end = *used + more.len();
                let room = bytes.get_mut(*used..end);
                room.ok_or(CheckpointError::BufferFull { needed: end })?.copy_from_slice(more);
                *used = end;
            }
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, length: usize) {
        match self {
            #[cfg(feature = "alloc")]
            Self::Heap(bytes) => bytes.truncate(length),
            Self::Borrowed { used, .. } => *used = length,
        }
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            #[cfg(feature = "alloc")]
            Self::Heap(bytes) => bytes,
            Self::Borrowed { bytes, used } => &bytes[..*used],
        }
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        match self {
            #[cfg(feature = "alloc")]
            Self::Heap(bytes) => bytes,
            Self::Borrowed { bytes, used } => &mut bytes[..*used],
        }
    }
}
