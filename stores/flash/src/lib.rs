//! [`FlashStore`] keeps the checkpoints of an inflight pipeline on a NOR flash chip, without the standard
//! library and without an allocator.
//!
//! The chip is any [`NorFlash`]; [`sequential_storage`] manages pages and wear. The store divides its part of
//! the chip into two halves, with a queue in each. A save writes the checkpoint to the half without the
//! newest one, and then a mark that it is complete to the other half. So a half that a power cut has left
//! unreadable can be erased without losing the newest checkpoint. A damaged checkpoint is detected by its
//! mark, even if none of its bytes can be read.
//!
//! # Limits
//!
//! * A checkpoint with its header has to fit into one page of the chip and into the store's buffer:
//!   [`FlashStore::LARGEST`].
//! * The store keeps two checkpoints, and more if there is room.
//! * The chip belongs to the store; the store does not detect another owner.
//!
//! # Cancellation
//!
//! Dropping a future of this store has the same effect as a power cut: the checkpoint is saved completely or
//! not at all, and nothing continues in the background. The store keeps no state in memory that could become
//! wrong. But it drops the future of the chip's driver with its own, and not every driver supports that (a
//! transfer may be under way): with such a driver, await every future to its end.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::Range;

use embedded_storage_async::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind};
use inflight_core::envelope::{self, HEADER_LEN, Magic};
use inflight_core::{CheckpointId, CheckpointStore, LoadError, LoadedInto};
use sequential_storage::Error;
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::queue::{QueueConfig, QueueStorage};

const CHECKPOINT: Magic = *b"ifFL";
const WHOLE: Magic = *b"ifFW";

/// The bytes before a checkpoint's own: the header, then its number.
const PREFIX_LEN: usize = HEADER_LEN + 8;

/// Reads are rounded up to a multiple of at most this many bytes.
const MAX_WORD: usize = 32;

type Queue<F> = QueueStorage<F, Cache<Uncached, Uncached, Uncached>>;

/// Keeps the latest checkpoints on a NOR flash chip. The [crate's page](crate) explains the method and its
/// limits.
///
/// `N` is the size of its buffer in bytes: 64 more than the largest checkpoint.
pub struct FlashStore<F: NorFlash, const N: usize> {
    /// The chip with both halves; a queue owns it during an operation.
    flash: F,
    halves: [Range<u32>; 2],
    buffer: [u8; N],
}

impl<F: NorFlash, const N: usize> fmt::Debug for FlashStore<F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlashStore").finish_non_exhaustive()
    }
}

/// The content of the chip, without the bytes of the checkpoint.
#[derive(Default)]
struct Found {
    /// The latest intact checkpoint, its length, and its half.
    latest: Option<(Version, usize, usize)>,
    /// The number of checkpoints that were complete, are newer than `latest`, and cannot be read.
    lost: usize,
    /// The number of halves that cannot be read to the end.
    unreadable: usize,
}

/// A checkpoint's number, and the number of its earlier saves.
type Version = (CheckpointId, u32);

impl<F: NorFlash, const N: usize> FlashStore<F, N> {
    /// Bytes of the largest checkpoint that can be saved.
    pub const LARGEST: usize = {
        // A page has marks at both ends, and each entry has a header.
        let taken = 2 * MAX_WORD + Queue::<F>::item_overhead_size() as usize;
        let page = F::ERASE_SIZE.saturating_sub(taken);
        let buffer = N.saturating_sub(MAX_WORD);
        let whole = if page < buffer { page } else { buffer };
        whole.saturating_sub(PREFIX_LEN)
    };

    /// A store on the part `range` of a chip: at least four whole pages, divided into two halves.
    ///
    /// This reads nothing. A chip that was never written to, or erased, has no checkpoint.
    ///
    /// # Errors
    ///
    /// [`FlashStoreError::Range`].
    pub fn new(flash: F, range: Range<u32>) -> Result<Self, FlashStoreError> {
        let page = F::ERASE_SIZE as u32;
        let half = range.end.saturating_sub(range.start) / page / 2 * page;
        let halves = [range.start..range.start + half, range.end - half.min(range.end)..range.end];
        for half in &halves {
            let is_sound = QueueConfig::<F>::try_new(half.clone()).is_ok();
            if !is_sound || half.end - half.start < 2 * page {
                return Err(FlashStoreError::Range);
            }
        }
        Ok(Self { flash, halves, buffer: [0; N] })
    }

    /// Erases the store's part of the chip, to start from the beginning.
    ///
    /// # Errors
    ///
    /// [`FlashStoreError::Flash`].
    pub async fn clear(&mut self) -> Result<(), FlashStoreError> {
        for half in self.halves.clone() {
            queue(&mut self.flash, half).erase_all().await?;
        }
        Ok(())
    }

    /// Returns the chip.
    pub fn into_flash(self) -> F {
        self.flash
    }

    /// Finds the latest intact checkpoint, and copies it into `target` if that has room for it.
    async fn find(&mut self, target: &mut [u8]) -> Result<Found, FlashStoreError> {
        let mut found = Found::default();
        for half in [0, 1] {
            let reached_the_end = self.scan(half, |entry| {
                let Some((version, bytes)) = read(entry, CHECKPOINT) else { return };
                if found.latest.is_none_or(|(latest, ..)| latest <= version) {
                    found.latest = Some((version, bytes.len(), half));
                    if let Some(room) = target.get_mut(..bytes.len()) {
                        room.copy_from_slice(bytes);
                    }
                }
            });
            found.unreadable += usize::from(!reached_the_end.await?);
        }
        for half in [0, 1] {
            self.scan(half, |entry| {
                let Some((version, _)) = read(entry, WHOLE) else { return };
                found.lost += usize::from(found.latest.is_none_or(|(latest, ..)| latest < version));
            })
            .await?;
        }
        Ok(found)
    }

    /// Shows the entries of a half, the oldest first. Returns true if all of them could be read.
    async fn scan(
        &mut self,
        half: usize,
        mut show: impl FnMut(&[u8]),
    ) -> Result<bool, FlashStoreError> {
        let mut queue = queue(&mut self.flash, self.halves[half].clone());
        let mut entries = match queue.iter().await {
            Ok(entries) => entries,
            Err(error) => return FlashStoreError::from(error).ends_a_scan(),
        };
        loop {
            match entries.next(&mut self.buffer).await {
                Ok(Some(entry)) => show(&entry),
                Ok(None) => return Ok(true),
                Err(error) => return FlashStoreError::from(error).ends_a_scan(),
            }
        }
    }

    /// Appends an entry to a half, and erases the half first if it cannot be read.
    async fn append(
        &mut self,
        half: usize,
        (magic, version): (Magic, Version),
        bytes: &[u8],
    ) -> Result<(), FlashStoreError> {
        if self.scan(half, |_| ()).await? {
            self.push(half, (magic, version), bytes).await?;
            // A cell that was not blank, but should have been, damages the bytes written over it.
            if self.holds(half, (magic, version)).await? {
                return Ok(());
            }
        }
        queue(&mut self.flash, self.halves[half].clone()).erase_all().await?;
        self.push(half, (magic, version), bytes).await?;
        if self.holds(half, (magic, version)).await? {
            Ok(())
        } else {
            Err(FlashStoreError::Damaged)
        }
    }

    async fn push(
        &mut self,
        half: usize,
        (magic, version): (Magic, Version),
        bytes: &[u8],
    ) -> Result<(), FlashStoreError> {
        let entry = write(&mut self.buffer, magic, version, bytes);
        Ok(queue(&mut self.flash, self.halves[half].clone()).push(entry, true).await?)
    }

    async fn holds(
        &mut self,
        half: usize,
        (magic, wanted): (Magic, Version),
    ) -> Result<bool, FlashStoreError> {
        let mut is_there = false;
        self.scan(half, |entry| {
            is_there |= read(entry, magic).is_some_and(|(version, _)| version == wanted);
        })
        .await?;
        Ok(is_there)
    }
}

fn queue<F: NorFlash>(flash: &mut F, half: Range<u32>) -> Queue<&mut F> {
    Queue::new(flash, QueueConfig::new(half), Cache::new_uncached())
}

fn read(entry: &[u8], magic: Magic) -> Option<(Version, &[u8])> {
    let (revision, body) = envelope::open(entry, magic).ok()?;
    let (id, bytes) = body.split_first_chunk()?;
    Some(((CheckpointId(u64::from_le_bytes(*id)), revision), bytes))
}

/// Builds an entry at the front of `buffer`.
fn write<'a>(
    buffer: &'a mut [u8],
    magic: Magic,
    (id, revision): Version,
    bytes: &[u8],
) -> &'a [u8] {
    let entry = &mut buffer[..PREFIX_LEN + bytes.len()];
    entry[HEADER_LEN..PREFIX_LEN].copy_from_slice(&id.0.to_le_bytes());
    entry[PREFIX_LEN..].copy_from_slice(bytes);
    envelope::seal(entry, magic, revision);
    entry
}

impl<F: NorFlash, const N: usize> CheckpointStore for FlashStore<F, N> {
    type Error = FlashStoreError;

    /// Saves a checkpoint; when the future is ready, the checkpoint survives a power cut.
    ///
    /// # Errors
    ///
    /// [`FlashStoreError::TooLarge`], [`FlashStoreError::IdBehind`], [`FlashStoreError::Flash`],
    /// [`FlashStoreError::Damaged`].
    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), FlashStoreError> {
        let (len, limit) = (bytes.len(), Self::LARGEST);
        if len > limit {
            return Err(FlashStoreError::TooLarge { len, limit });
        }
        let latest = self.find(&mut []).await?.latest;
        let revision = match latest {
            Some(((latest, _), ..)) if id < latest => {
                return Err(FlashStoreError::IdBehind { id, latest });
            }
            Some(((latest, before), ..)) if id == latest => before.saturating_add(1),
            _ => 0,
        };
        // Change the half with the newest checkpoint only when the new one is complete in the other half.
        let target = latest.map_or(0, |(.., half)| 1 - half);
        self.append(target, (CHECKPOINT, (id, revision)), bytes).await?;
        self.append(1 - target, (WHOLE, (id, revision)), &[]).await
    }

    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<FlashStoreError>> {
        let Found { latest, lost, unreadable } = self.find(buffer).await?;
        match latest {
            // The very first save, when it is cut off, leaves at most one unreadable half.
            None if lost == 0 && unreadable < 2 => Ok(None),
            None => Err(FlashStoreError::Damaged.into()),
            Some((_, needed, _)) if needed > buffer.len() => {
                Err(LoadError::BufferTooSmall { needed })
            }
            Some(((id, _), len, _)) => Ok(Some(LoadedInto { id, len, damaged: lost + unreadable })),
        }
    }
}

/// The reason why a [`FlashStore`] call failed. The store remains usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlashStoreError {
    /// The part of the chip has fewer than four whole pages, or its pages are too small.
    Range,
    /// The checkpoint is longer than [`FlashStore::LARGEST`].
    TooLarge {
        /// The checkpoint's bytes.
        len: usize,
        /// The length of the largest checkpoint that can be saved.
        limit: usize,
    },
    /// The checkpoint to save has a lower number than the latest one, so no load would ever return it.
    IdBehind {
        /// The number of the checkpoint that was refused.
        id: CheckpointId,
        /// The number of the latest one.
        latest: CheckpointId,
    },
    /// The chip's driver returned an error.
    Flash(NorFlashErrorKind),
    /// The content of the chip is damaged beyond repair, or was not written by this store.
    Damaged,
}

impl FlashStoreError {
    /// If the rest cannot be read, the entries read before still count.
    fn ends_a_scan(self) -> Result<bool, Self> {
        if self == Self::Damaged { Ok(false) } else { Err(self) }
    }
}

impl fmt::Display for FlashStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range => f.write_str("a store needs at least four whole pages of a flash chip"),
            Self::TooLarge { len, limit } => {
                write!(f, "a checkpoint of {len} bytes does not fit: the largest has {limit}")
            }
            Self::IdBehind { id, latest } => {
                write!(f, "checkpoint {id} is older than checkpoint {latest}: use higher ids")
            }
            Self::Flash(kind) => write!(f, "the flash chip returned an error: {kind}"),
            Self::Damaged => {
                f.write_str("the content of the flash chip is damaged: clear the store")
            }
        }
    }
}

impl core::error::Error for FlashStoreError {}

impl<E: NorFlashError> From<Error<E>> for FlashStoreError {
    fn from(error: Error<E>) -> Self {
        match error {
            Error::Storage { value } => Self::Flash(value.kind()),
            _ => Self::Damaged,
        }
    }
}
