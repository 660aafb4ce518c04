//! The interface of a checkpoint store, which keeps checkpoints between two lives of a process.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;

use crate::checkpoint::CheckpointId;

/// Keeps the bytes of checkpoints (K9). A store does not look into them.
///
/// An implementation MUST
///
/// 1. make `save` atomic: after a crash at any instruction, `load_latest` returns either this
///    checkpoint whole, or one that was saved before it whole;
/// 2. return from `save` only when the checkpoint survives a crash of the machine (or state in its own
///    docs that it does not);
/// 3. return from `load_latest` the saved checkpoint with the highest id or, if that one is damaged, the
///    intact one with the highest id, and count the damaged ones in [`LoadedInto::damaged`];
/// 4. never return bytes other than those that were saved;
/// 5. return an error, not a panic, when the medium fails, and stay usable afterwards;
/// 6. return [`LoadError::BufferTooSmall`] when the checkpoint is longer than the buffer, with its
///    length, which is more than the buffer's; loading again with that much room then succeeds.
///
/// The rules for `load_latest` apply to `load_latest_into` as well. A program with an allocator calls the
/// former, a program without one the latter; a store has to implement only the latter.
///
/// The futures need not be `Send`, so that a store over a flash chip can implement the trait. Where the
/// futures of a store are `Send`, generic code over it can still be spawned on a multi-threaded runtime.
pub trait CheckpointStore {
    /// The error of the medium.
    type Error: core::error::Error + 'static;

    /// Saves a checkpoint. The ids of successive calls increase. Saving the latest id again replaces that
    /// checkpoint; a lower id may be refused, and is never loaded in place of the higher one.
    ///
    /// Cancellation: when the future is dropped before it is ready, the checkpoint is saved whole or not at
    /// all. Work on it may go on in the background, but never ends after that of a later call.
    fn save(
        &mut self,
        id: CheckpointId,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// Returns true if the store can never save again after this error: another owner has the job now
    /// (fenced, K15). The pipeline then ends at once. It takes other errors for passing ones: it reports the failed checkpoint, and
    /// the next one covers it. Without this method no error is final.
    fn is_final(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Loads the latest intact checkpoint into the front of `buffer`; `None` when none was ever saved.
    ///
    /// It needs no allocator. The contents of the buffer are unspecified unless `Some` is returned.
    ///
    /// # Errors
    ///
    /// [`LoadError::BufferTooSmall`] names the size that is needed. [`LoadError::Store`] is an error of the
    /// medium, or means that checkpoints were saved and none of them is intact.
    fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> impl Future<Output = Result<Option<LoadedInto>, LoadError<Self::Error>>>;

    /// Loads the latest intact checkpoint; `None` when none was ever saved.
    ///
    /// This default asks [`load_latest_into`](Self::load_latest_into) for the size first, so it reads twice.
    /// A store that can load in one pass should override it.
    ///
    /// # Errors
    ///
    /// An error of the medium, or checkpoints were saved and none of them is intact.
    #[cfg(feature = "alloc")]
    fn load_latest(&mut self) -> impl Future<Output = Result<Option<Loaded>, Self::Error>> {
        async {
            let mut bytes = Vec::new();
            // The first round only learns the size. More rounds are possible: the next one may find another checkpoint,
            // which is longer.
            loop {
                match self.load_latest_into(&mut bytes).await {
                    Ok(None) => return Ok(None),
                    Ok(Some(LoadedInto { id, len, damaged })) => {
                        bytes.truncate(len); // the checkpoint found now may be shorter than the one before
                        return Ok(Some(Loaded { id, bytes, damaged }));
                    }
                    Err(LoadError::BufferTooSmall { needed }) => bytes.resize(needed, 0),
                    Err(LoadError::Store(error)) => return Err(error),
                }
            }
        }
    }
}

/// A borrowed store: its owner keeps it.
impl<C: CheckpointStore> CheckpointStore for &mut C {
    type Error = C::Error;

    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), C::Error> {
        (**self).save(id, bytes).await
    }

    fn is_final(&self, error: &C::Error) -> bool {
        (**self).is_final(error)
    }

    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<C::Error>> {
        (**self).load_latest_into(buffer).await
    }

    #[cfg(feature = "alloc")]
    async fn load_latest(&mut self) -> Result<Option<Loaded>, C::Error> {
        (**self).load_latest().await
    }
}

/// The checkpoint that [`CheckpointStore::load_latest_into`] has loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedInto {
    /// The checkpoint's number.
    pub id: CheckpointId,
    /// The checkpoint's length, at the front of the buffer, in bytes.
    pub len: usize,
    /// The number of damaged checkpoints that were skipped and that are, or may be, newer. Report it if it
    /// is not zero.
    pub damaged: usize,
}

/// The reason why [`CheckpointStore::load_latest_into`] loaded nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError<E> {
    /// The latest checkpoint is longer than the buffer.
    BufferTooSmall {
        /// The checkpoint's length in bytes.
        needed: usize,
    },
    /// The store's own error.
    Store(E),
}

impl<E> From<E> for LoadError<E> {
    fn from(error: E) -> Self {
        Self::Store(error)
    }
}

impl<E> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall { needed } => {
                write!(f, "the latest checkpoint needs a buffer of {needed} bytes")
            }
            Self::Store(_) => f.write_str("no checkpoint could be loaded"),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::BufferTooSmall { .. } => None,
            Self::Store(error) => Some(error),
        }
    }
}

/// The checkpoint that [`CheckpointStore::load_latest`] has loaded.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The checkpoint's number.
    pub id: CheckpointId,
    /// Its bytes, as they were saved.
    pub bytes: Vec<u8>,
    /// The number of damaged checkpoints that were skipped and that are, or may be, newer. Report it if it
    /// is not zero.
    pub damaged: usize,
}

#[cfg(feature = "alloc")]
impl Loaded {
    /// Copies the checkpoint into a buffer, for a store that has it on the heap already.
    ///
    /// # Errors
    ///
    /// [`LoadError::BufferTooSmall`].
    pub fn copy_into<E>(&self, buffer: &mut [u8]) -> Result<LoadedInto, LoadError<E>> {
        let Self { id, bytes, damaged } = self;
        copy(*id, bytes, *damaged, buffer)
    }
}

/// Copies a checkpoint to the front of the caller's buffer.
pub(super) fn copy<E>(
    id: CheckpointId,
    bytes: &[u8],
    damaged: usize,
    buffer: &mut [u8],
) -> Result<LoadedInto, LoadError<E>> {
    let len = bytes.len();
    let front = buffer.get_mut(..len).ok_or(LoadError::BufferTooSmall { needed: len })?;
    front.copy_from_slice(bytes);
    Ok(LoadedInto { id, len, damaged })
}
