//! [`FlashStore`] keeps the checkpoints of an inflight pipeline on a NOR flash chip, without the standard
//! library and without an allocator.
//!
//! The chip is whatever implements [`NorFlash`]; pages and wear are the business of
//! [`sequential_storage`]. The store's part of the chip is two halves, a queue each. A checkpoint goes to
//! the half that does not hold the newest one, and a mark that it is whole to the other. So a half that a
//! power cut has left unreadable can be erased without losing the newest checkpoint, and a checkpoint
//! that is damaged is noticed by its mark, also when nothing of it can be read.
//!
//! # Limits
//!
//! * A checkpoint has to fit into one page of the chip together with what describes it, and into the
//!   store's buffer: [`FlashStore::LARGEST`].
//! * Two checkpoints are kept, and as many more as there is room for.
//! * The chip belongs to the store; nothing checks for another owner.
//!
//! # Cancellation
//!
//! A future of this store that is dropped halfway is to the store what a power cut is: the checkpoint is
//! there whole or not at all, and nothing goes on in the background. The store keeps nothing in memory
//! that could be wrong afterwards. But it drops the future of the chip's driver with its own, and not
//! every driver stands that (a transfer may be under way): where yours does not, await to the end.
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

/// Bytes in front of a checkpoint's own: the header, then its number.
const PREFIX_LEN: usize = HEADER_LEN + 8;

/// Bytes up to which a read is rounded up.
const MAX_WORD: usize = 32;

type Queue<F> = QueueStorage<F, Cache<Uncached, Uncached, Uncached>>;

/// Keeps the last checkpoints on a NOR flash chip. The [crate's page](crate) says how, and with what
/// limits.
///
/// `N` is the size of its buffer in bytes: 64 more than the largest checkpoint.
pub struct FlashStore<F: NorFlash, const N: usize> {
    /// Both halves are on one chip, which each queue owns while it is at work.
    flash: F,
    halves: [Range<u32>; 2],
    buffer: [u8; N],
}

impl<F: NorFlash, const N: usize> fmt::Debug for FlashStore<F, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlashStore").finish_non_exhaustive()
    }
}

/// What is on the chip, apart from the bytes of the checkpoint.
#[derive(Default)]
struct Found {
    /// The latest intact one, its length, and the half that it is in.
    latest: Option<(Version, usize, usize)>,
    /// How many were whole once, are newer than that, and cannot be read.
    lost: usize,
    /// How many halves cannot be read to the end.
    unreadable: usize,
}

/// A checkpoint's number, and how often that was saved before.
type Version = (CheckpointId, u32);

impl<F: NorFlash, const N: usize> FlashStore<F, N> {
    /// Bytes of the largest checkpoint that can be saved.
    pub const LARGEST: usize = {
        // A page is marked at both ends, and each entry has a header.
        let taken = 2 * MAX_WORD + Queue::<F>::item_overhead_size() as usize;
        let page = F::ERASE_SIZE.saturating_sub(taken);
        let buffer = N.saturating_sub(MAX_WORD);
        let whole = if page < buffer { page } else { buffer };
        whole.saturating_sub(PREFIX_LEN)
    };

    /// A store on the part `range` of a chip: four whole pages at least, half of them for each half.
    ///
    /// Nothing is read yet. A chip that was never written to, or erased, holds no checkpoint.
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

    /// Erases all of the store's part of the chip, to start afresh.
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

    /// Gives the chip back.
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

    /// Shows the entries of a half, the oldest first. Returns whether all could be read.
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

    /// Appends an entry to a half, which is erased first if it cannot be read.
    async fn append(
        &mut self,
        half: usize,
        (magic, version): (Magic, Version),
        bytes: &[u8],
    ) -> Result<(), FlashStoreError> {
        if self.scan(half, |_| ()).await? {
            self.push(half, (magic, version), bytes).await?;
            // A cell that was not blank though it should have been spoils what is written over it.
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

/// Puts an entry together at the front of `buffer`.
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

    /// Saves a checkpoint; when it is ready, the checkpoint outlives a power cut.
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
        // The half with the newest is touched only when the new one is whole in the other.
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
            // The very first save leaves no more than that when it is cut off.
            None if lost == 0 && unreadable < 2 => Ok(None),
            None => Err(FlashStoreError::Damaged.into()),
            Some((_, needed, _)) if needed > buffer.len() => {
                Err(LoadError::BufferTooSmall { needed })
            }
            Some(((id, _), len, _)) => Ok(Some(LoadedInto { id, len, damaged: lost + unreadable })),
        }
    }
}

/// Why a [`FlashStore`] did not do as asked. It stays usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlashStoreError {
    /// The part of the chip is not four whole pages or more, or its pages are too small.
    Range,
    /// The checkpoint is longer than [`FlashStore::LARGEST`].
    TooLarge {
        /// The checkpoint's bytes.
        len: usize,
        /// The largest that can be saved.
        limit: usize,
    },
    /// The checkpoint to save has a lower number than the latest one, so it would never be loaded.
    IdBehind {
        /// The number of the checkpoint that was refused.
        id: CheckpointId,
        /// The number of the latest one.
        latest: CheckpointId,
    },
    /// The chip's driver refused.
    Flash(NorFlashErrorKind),
    /// What is on the chip is damaged beyond repair, or was not written by this store.
    Damaged,
}

impl FlashStoreError {
    /// Where the rest cannot be read, what was read before counts.
    fn ends_a_scan(self) -> Result<bool, Self> {
        if self == Self::Damaged { Ok(false) } else { Err(self) }
    }
}

impl fmt::Display for FlashStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range => f.write_str("a store needs four whole pages of a flash chip or more"),
            Self::TooLarge { len, limit } => {
                write!(f, "a checkpoint of {len} bytes does not fit: {limit} is the most")
            }
            Self::IdBehind { id, latest } => {
                write!(f, "checkpoint {id} is behind checkpoint {latest}: count on from there")
            }
            Self::Flash(kind) => write!(f, "the flash chip refused: {kind}"),
            Self::Damaged => f.write_str("the flash chip's content is damaged: clear the store"),
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
