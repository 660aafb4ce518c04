//! Stores that keep checkpoints in memory, or nowhere.

#[cfg(feature = "alloc")]
use alloc::collections::VecDeque;
#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::convert::Infallible;
use core::fmt;

use super::CheckpointId;
use super::store::{CheckpointStore, LoadError, LoadedInto, copy};

/// A store that keeps nothing: for pipelines that need not survive a crash.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullStore;

impl CheckpointStore for NullStore {
    type Error = Infallible;

    async fn save(&mut self, _id: CheckpointId, _bytes: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }

    async fn load_latest_into(
        &mut self,
        _buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<Infallible>> {
        Ok(None)
    }
}

/// A store that keeps the latest checkpoint in `N` bytes of its own, without an allocator: for tests, and
/// for devices that restart a stage without losing their memory.
#[derive(Clone, Debug)]
pub struct FixedMemoryStore<const N: usize> {
    /// The number of the latest checkpoint and its length.
    latest: Option<(CheckpointId, usize)>,
    bytes: [u8; N],
}

impl<const N: usize> FixedMemoryStore<N> {
    /// Makes an empty store.
    pub const fn new() -> Self {
        Self { latest: None, bytes: [0; N] }
    }
}

impl<const N: usize> Default for FixedMemoryStore<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> CheckpointStore for FixedMemoryStore<N> {
    type Error = MemoryStoreError;

    /// # Errors
    ///
    /// [`MemoryStoreError::TooLarge`] when the checkpoint is longer than `N` bytes, and
    /// [`MemoryStoreError::IdBehind`] when a later one was saved. The store keeps the checkpoint that it holds.
    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), MemoryStoreError> {
        // The same id again is allowed, and replaces the checkpoint.
        if let Some((latest, _)) = self.latest.filter(|(latest, _)| id < *latest) {
            return Err(MemoryStoreError::IdBehind { id, latest });
        }
        // K9: both refusals come before the first byte is written, so the checkpoint that is held stays whole.
        let len = bytes.len();
        let room = self.bytes.get_mut(..len);
        room.ok_or(MemoryStoreError::TooLarge { len, limit: N })?.copy_from_slice(bytes);
        self.latest = Some((id, len));
        Ok(())
    }

    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<MemoryStoreError>> {
        let latest = self.latest.map(|(id, len)| copy(id, &self.bytes[..len], 0, buffer));
        latest.transpose()
    }
}

/// The reason why a [`FixedMemoryStore`] refused a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryStoreError {
    /// The checkpoint is longer than the store.
    TooLarge {
        /// The checkpoint's length in bytes.
        len: usize,
        /// The store's size in bytes.
        limit: usize,
    },
    /// The checkpoint has a lower number than the one that the store holds, so it would never be loaded.
    IdBehind {
        /// The number of the checkpoint that was refused.
        id: CheckpointId,
        /// The number of the checkpoint that the store holds.
        latest: CheckpointId,
    },
}

impl fmt::Display for MemoryStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, limit } => {
                write!(f, "a checkpoint of {len} bytes does not fit into a store of {limit} bytes")
            }
            Self::IdBehind { id, latest } => {
                write!(f, "checkpoint {id} is behind checkpoint {latest}, which the store holds")
            }
        }
    }
}

impl core::error::Error for MemoryStoreError {}

/// A store that keeps the latest checkpoints in memory: for tests, and for pipelines that restart a stage
/// without restarting the process.
///
/// ```
/// # use core::task::{Context, Poll, Waker};
/// # fn ready<T>(future: impl Future<Output = T>) -> T {
/// #     match core::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
/// #         Poll::Ready(ready) => ready,
/// #         Poll::Pending => unreachable!(),
/// #     }
/// # }
/// # ready(async {
/// use inflight_core::{Checkpoint, CheckpointId, CheckpointStore, MemoryStore};
///
/// let mut checkpoint = Checkpoint::new(CheckpointId(7));
/// checkpoint.put("source", b"offset 4711")?;
///
/// let mut store = MemoryStore::new();
/// store.save(checkpoint.id(), checkpoint.bytes()?).await?;
///
/// let loaded = store.load_latest().await?.expect("one has been saved");
/// let checkpoint = Checkpoint::from_bytes(&loaded.bytes)?;
/// assert_eq!(checkpoint.section("source"), Some(&b"offset 4711"[..]));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[cfg(feature = "alloc")]
#[derive(Clone, Debug)]
pub struct MemoryStore {
    keep: usize,
    checkpoints: VecDeque<(CheckpointId, Vec<u8>)>,
}

#[cfg(feature = "alloc")]
impl MemoryStore {
    /// Makes a store that keeps the latest two checkpoints.
    pub fn new() -> Self {
        Self::keeping(2)
    }

    /// Makes a store that keeps the latest `keep` checkpoints, at least one.
    pub fn keeping(keep: usize) -> Self {
        Self { keep: keep.max(1), checkpoints: VecDeque::new() }
    }

    /// The number of checkpoints that the store holds.
    pub fn len(&self) -> usize {
        self.checkpoints.len()
    }

    /// Returns true if nothing was saved yet.
    pub fn is_empty(&self) -> bool {
        self.checkpoints.is_empty()
    }
}

#[cfg(feature = "alloc")]
impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "alloc")]
impl CheckpointStore for MemoryStore {
    type Error = Infallible;

    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), Infallible> {
        // Saving the same id again replaces the checkpoint.
        self.checkpoints.retain(|(held, _)| *held != id);
        // K9: sorted by number, so that the checkpoint with the lowest number is dropped first.
        let place = self.checkpoints.partition_point(|(held, _)| *held < id);
        self.checkpoints.insert(place, (id, bytes.to_vec()));
        while self.checkpoints.len() > self.keep {
            self.checkpoints.pop_front();
        }
        Ok(())
    }

    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<Infallible>> {
        let latest = self.checkpoints.back();
        latest.map(|(id, bytes)| copy(*id, bytes, 0, buffer)).transpose()
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};

    use alloc::vec;

    use super::*;
    use crate::checkpoint::Loaded;

    /// The result of a future that never waits.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("it waits"),
        }
    }

    // K9: `load_latest` enlarges its buffer until the checkpoint fits.
    #[test]
    fn the_default_load_latest_loads_any_size() {
        let mut store = FixedMemoryStore::<300>::new();
        assert_eq!(now(store.load_latest()), Ok(None));
        for (id, len) in (1..).map(CheckpointId).zip([0, 1, 300, 2]) {
            let bytes = vec![7; len];
            now(store.save(id, &bytes)).unwrap();
            assert_eq!(now(store.load_latest()), Ok(Some(Loaded { id, bytes, damaged: 0 })));
        }
    }

    // K9
    #[test]
    fn a_buffer_that_is_too_small_is_an_error_with_the_size_needed() {
        let mut store = MemoryStore::new();
        now(store.save(CheckpointId(1), b"four")).unwrap();
        for room in 0..4 {
            let refused = now(store.load_latest_into(&mut vec![0; room])).unwrap_err();
            assert_eq!(refused, LoadError::BufferTooSmall { needed: 4 });
        }
        let mut buffer = [b'-'; 6];
        let found = now(store.load_latest_into(&mut buffer)).unwrap();
        assert_eq!(found, Some(LoadedInto { id: CheckpointId(1), len: 4, damaged: 0 }));
        assert_eq!(&buffer, b"four--");
    }

    // K9: a refused checkpoint leaves the one that is held as it is.
    #[test]
    fn a_refused_save_keeps_the_checkpoint_that_is_held() {
        let mut store = FixedMemoryStore::<4>::new();
        now(store.save(CheckpointId(5), b"kept")).unwrap();
        let refused = now(store.save(CheckpointId(6), b"large"));
        assert_eq!(refused, Err(MemoryStoreError::TooLarge { len: 5, limit: 4 }));
        let refused = now(store.save(CheckpointId(4), b"low"));
        let (id, latest) = (CheckpointId(4), CheckpointId(5));
        assert_eq!(refused, Err(MemoryStoreError::IdBehind { id, latest }));
        assert_eq!(now(store.load_latest()).unwrap().unwrap().bytes, b"kept");
    }

    // K9: a full store drops the lowest id first, in whatever order the ids were saved.
    #[test]
    fn a_lower_id_never_replaces_a_higher_one() {
        let mut store = MemoryStore::keeping(2);
        for id in [3, 9, 1, 2, 3] {
            now(store.save(CheckpointId(id), &[id as u8])).unwrap();
        }
        assert_eq!(store.len(), 2);
        assert_eq!(now(store.load_latest()).unwrap().unwrap().bytes, [9]);
    }
}
