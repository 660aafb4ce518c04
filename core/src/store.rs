//! Where checkpoints are kept between two lives of a process.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::convert::Infallible;
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
///    the highest intact one, counting the damaged ones in [`Loaded::damaged`];
/// 4. never return bytes other than those that were saved;
/// 5. answer an error, not a panic, when the medium fails, and stay usable afterwards.
///
/// The futures need not be `Send`, so that a store over a flash chip can implement it; where a
/// store's are, generic code over it can be spawned on a multi-threaded runtime all the same.
pub trait CheckpointStore {
    /// Why the medium did not do as asked.
    type Error: core::error::Error + 'static;

    /// Saves a checkpoint. The ids of successive calls increase; saving the latest id again replaces
    /// it, a lower one may be refused.
    ///
    /// Cancellation: when the future is dropped before it is ready, the checkpoint is saved whole or
    /// not at all. Work on it may end in the background, but never after that of a later call.
    fn save(
        &mut self,
        id: CheckpointId,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// The latest intact checkpoint; `None` when none was ever saved.
    ///
    /// # Errors
    ///
    /// The medium's, and also when checkpoints were saved and none of them is intact.
    fn load_latest(&mut self) -> impl Future<Output = Result<Option<Loaded>, Self::Error>>;
}

/// What [`CheckpointStore::load_latest`] found.
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

/// Keeps nothing: for pipelines that do not care.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullStore;

impl CheckpointStore for NullStore {
    type Error = Infallible;

    async fn save(&mut self, _id: CheckpointId, _bytes: &[u8]) -> Result<(), Infallible> {
        Ok(())
    }

    async fn load_latest(&mut self) -> Result<Option<Loaded>, Infallible> {
        Ok(None)
    }
}

/// Keeps the last checkpoints in memory: for tests, and for pipelines that restart a stage without
/// restarting the process.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    keep: usize,
    checkpoints: VecDeque<(CheckpointId, Vec<u8>)>,
}

impl MemoryStore {
    /// A store that keeps the last two checkpoints.
    pub fn new() -> Self {
        Self::keeping(2)
    }

    /// A store that keeps the last `keep` checkpoints, at least one.
    pub fn keeping(keep: usize) -> Self {
        Self { keep: keep.max(1), checkpoints: VecDeque::new() }
    }

    /// How many checkpoints it holds.
    pub fn len(&self) -> usize {
        self.checkpoints.len()
    }

    /// Whether nothing was saved yet.
    pub fn is_empty(&self) -> bool {
        self.checkpoints.is_empty()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl CheckpointStore for MemoryStore {
    type Error = Infallible;

    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), Infallible> {
        self.checkpoints.retain(|(held, _)| *held != id);
        self.checkpoints.push_back((id, bytes.to_vec()));
        while self.checkpoints.len() > self.keep {
            self.checkpoints.pop_front();
        }
        Ok(())
    }

    async fn load_latest(&mut self) -> Result<Option<Loaded>, Infallible> {
        let latest = self.checkpoints.iter().max_by_key(|(id, _)| *id);
        Ok(latest.map(|(id, bytes)| Loaded { id: *id, bytes: bytes.clone(), damaged: 0 }))
    }
}
