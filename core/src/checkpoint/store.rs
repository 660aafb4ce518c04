//! Where checkpoints are kept between two lives of a process.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;

use crate::checkpoint::CheckpointId;

/// Keeps the bytes of checkpoints. A store knows nothing of what is in them.
///
/// An implementation MUST
///
/// 1. make `save` atomic: after a crash at any instruction, `load_latest` gives either this
///    checkpoint whole, or one that was saved before it whole;
/// 2. return from `save` only when the checkpoint outlives a crash of the machine (or say in its own
///    docs that it does not);
/// 3. give the saved checkpoint with the highest id from `load_latest`, and if that one is damaged
///    the highest intact one, counting the damaged ones in [`LoadedInto::damaged`];
/// 4. never return bytes other than those that were saved;
/// 5. answer an error, not a panic, when the medium fails, and stay usable afterwards;
/// 6. answer [`LoadError::BufferTooSmall`] when the checkpoint is longer than the buffer, with its
///    length, which is more than the buffer's; loading again with that much room then succeeds.
///
/// Where `load_latest` is said, `load_latest_into` is meant too; whoever has an allocator calls the
/// one and whoever has none the other. Only the latter must be written.
///
/// The futures need not be `Send`, so that a store over a flash chip can implement it; where a
/// store's are, generic code over it can be spawned on a multi-threaded runtime all the same.
pub trait CheckpointStore {
    /// Why the medium did not do as asked.
    type Error: core::error::Error + 'static;

    /// Saves a checkpoint. The ids of successive calls increase; saving the latest id again replaces
    /// it, a lower one may be refused. It is never loaded before the higher one.
    ///
    /// Cancellation: when the future is dropped before it is ready, the checkpoint is saved whole or
    /// not at all. Work on it may end in the background, but never after that of a later call.
    fn save(
        &mut self,
        id: CheckpointId,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// Loads the latest intact checkpoint into the front of `buffer`; `None` when none was ever saved.
    ///
    /// It needs no allocator. What is in the buffer after anything but `Some` is not defined.
    ///
    /// # Errors
    ///
    /// [`LoadError::BufferTooSmall`] names the room that is needed. [`LoadError::Store`] is the
    /// medium's, and also says when checkpoints were saved and none of them is intact.
    fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> impl Future<Output = Result<Option<LoadedInto>, LoadError<Self::Error>>>;

    /// The latest intact checkpoint; `None` when none was ever saved.
    ///
    /// This asks [`load_latest_into`](Self::load_latest_into) for the size first, so it reads twice. A
    /// store that can do it in one go has its own.
    ///
    /// # Errors
    ///
    /// The medium's, and also when checkpoints were saved and none of them is intact.
    #[cfg(feature = "alloc")]
    fn load_latest(&mut self) -> impl Future<Output = Result<Option<Loaded>, Self::Error>> {
        async {
            let mut bytes = Vec::new();
            loop {
                match self.load_latest_into(&mut bytes).await {
                    Ok(None) => return Ok(None),
                    Ok(Some(LoadedInto { id, len, damaged })) => {
                        bytes.truncate(len);
                        return Ok(Some(Loaded { id, bytes, damaged }));
                    }
                    Err(LoadError::BufferTooSmall { needed }) => bytes.resize(needed, 0),
                    Err(LoadError::Store(error)) => return Err(error),
                }
            }
        }
    }
}

/// A store that is borrowed, so that its owner has it back afterwards.
impl<C: CheckpointStore> CheckpointStore for &mut C {
    type Error = C::Error;

    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), C::Error> {
        (**self).save(id, bytes).await
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

/// What [`CheckpointStore::load_latest_into`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedInto {
    /// The checkpoint's number.
    pub id: CheckpointId,
    /// How many bytes at the front of the buffer are the checkpoint's.
    pub len: usize,
    /// How many checkpoints that are newer, or may be, were found damaged and passed over. Worth
    /// telling somebody.
    pub damaged: usize,
}

/// Why [`CheckpointStore::load_latest_into`] loaded nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadError<E> {
    /// The latest checkpoint is longer than the buffer.
    BufferTooSmall {
        /// The checkpoint's bytes.
        needed: usize,
    },
    /// The store's own answer.
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

/// What [`CheckpointStore::load_latest`] found.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The checkpoint's number.
    pub id: CheckpointId,
    /// Its bytes, as they were saved.
    pub bytes: Vec<u8>,
    /// How many checkpoints that are newer, or may be, were found damaged and passed over. Worth
    /// telling somebody.
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
