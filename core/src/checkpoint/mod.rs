//! A checkpoint holds everything that a pipeline needs to go on after a crash. A barrier carries it from the
//! source to the sink, and every stage on the way adds a section (K4).

mod buffer;
pub mod envelope;
mod error;
mod indirect;
mod memory;
mod sections;
mod store;

use core::fmt;
#[cfg(feature = "alloc")]
use core::sync::atomic::{AtomicBool, Ordering};

use self::buffer::Buffer;
use self::envelope::{FormatError, HEADER_LEN, Magic};
pub use self::error::CheckpointError;
use self::indirect::{Indirect, into_inner};
#[cfg(feature = "alloc")]
pub use self::memory::MemoryStore;
pub use self::memory::{FixedMemoryStore, MemoryStoreError, NullStore};
pub(crate) use self::sections::Section;
use self::sections::{split_section, write_section};
#[cfg(feature = "alloc")]
pub use self::store::Loaded;
pub use self::store::{CheckpointStore, LoadError, LoadedInto};
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use crate::barrier_signal::OnItsWay;

const MAGIC: Magic = *b"ifCK";

/// The number of a checkpoint. A pipeline counts up, so the highest number is the latest checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointId(pub u64);

impl CheckpointId {
    /// The number after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A checkpoint: named sections of bytes under one number. The sections are the source's position, each
/// stage's snapshot, and the sink's description of what it has pre-committed.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use inflight_core::{Checkpoint, CheckpointId};
///
/// let mut checkpoint = Checkpoint::new(CheckpointId(7));
/// checkpoint.put("source", b"line 12").unwrap();
///
/// let saved = checkpoint.bytes().unwrap().to_vec();
/// let loaded = Checkpoint::from_bytes(&saved).unwrap();
/// assert_eq!(loaded.id(), CheckpointId(7));
/// assert_eq!(loaded.section("source"), Some(&b"line 12"[..]));
/// # }
/// ```
///
/// It is built in an allocated buffer ([`Checkpoint::new`]) or in a buffer of the caller's
/// ([`Checkpoint::in_buffer`]). It cannot be cloned, because it owns its buffer.
#[derive(Debug)]
pub struct Checkpoint {
    inner: Indirect<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: CheckpointId,
    /// Room for the header, then the id, then the sections.
    buffer: Buffer,
    failure: Option<CheckpointError>,
    /// A flag for each section, in their order: a stage has restored it. Empty until
    /// [`watch_restores`](Checkpoint::watch_restores).
    #[cfg(feature = "alloc")]
    restored: alloc::boxed::Box<[AtomicBool]>,
    /// In a pipeline: tells if the barrier is dropped before it arrives.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    on_its_way: Option<OnItsWay>,
}

impl Inner {
    fn new(id: CheckpointId, buffer: Buffer) -> Self {
        Self {
            id,
            buffer,
            failure: None,
            #[cfg(feature = "alloc")]
            restored: alloc::boxed::Box::default(),
            #[cfg(all(feature = "alloc", feature = "checkpoint"))]
            on_its_way: None,
        }
    }
}

impl Checkpoint {
    /// Makes an empty checkpoint on the heap.
    #[cfg(feature = "alloc")]
    pub fn new(id: CheckpointId) -> Self {
        Self::over(id, Buffer::Heap(alloc::vec::Vec::new()))
    }

    /// Makes an empty checkpoint in a buffer of the caller's. A section that does not fit is refused with
    /// [`CheckpointError::BufferFull`], which names the size needed. A buffer too small for the header fails the checkpoint.
    pub fn in_buffer(id: CheckpointId, buffer: &'static mut [u8]) -> Self {
        Self::over(id, Buffer::Borrowed { bytes: buffer, used: 0 })
    }

    fn over(id: CheckpointId, buffer: Buffer) -> Self {
        let mut inner = Inner::new(id, buffer);
        // `bytes` writes the header over these zeros, when all sections are there.
        let start = inner.buffer.extend(&[0; HEADER_LEN]);
        let start = start.and_then(|()| inner.buffer.extend(&id.0.to_le_bytes()));
        inner.failure = start.err();
        Self { inner: Indirect::new(inner) }
    }

    /// Reads a checkpoint back from the [`bytes`](Self::bytes) that were saved (K6).
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the bytes are not a checkpoint, or are damaged.
    #[cfg(feature = "alloc")]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let (id, length) = open(bytes)?;
        let buffer = Buffer::Heap(bytes[..length].to_vec());
        Ok(Self { inner: Indirect::new(Inner::new(id, buffer)) })
    }

    /// Reads a checkpoint back from the front of a buffer of the caller's, without an allocator (K6). Bytes
    /// after the checkpoint are ignored.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the bytes are not a checkpoint, or are damaged; with the buffer.
    pub fn from_buffer(
        buffer: &'static mut [u8],
    ) -> Result<Self, (FormatError, &'static mut [u8])> {
        match open(buffer) {
            Ok((id, used)) => {
                let buffer = Buffer::Borrowed { bytes: buffer, used };
                Ok(Self { inner: Indirect::new(Inner::new(id, buffer)) })
            }
            Err(error) => Err((error, buffer)),
        }
    }

    /// The checkpoint's number.
    pub fn id(&self) -> CheckpointId {
        self.inner.id
    }

    /// Gives the checkpoint the token of its barrier.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub(crate) fn set_out(&mut self, token: OnItsWay) {
        self.inner.on_its_way = Some(token);
    }

    /// The barrier has arrived.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub(crate) fn arrive(&mut self) {
        self.inner.on_its_way.take().into_iter().for_each(OnItsWay::arrive);
    }

    /// Starts to record restored sections, for [`not_restored`](Self::not_restored).
    #[cfg(feature = "alloc")]
    pub(crate) fn watch_restores(&mut self) {
        let sections = self.sections().map(|_| AtomicBool::new(false)).collect();
        self.inner.restored = sections;
    }

    /// Records that a stage has restored the section of that name.
    #[cfg(feature = "alloc")]
    pub(crate) fn note_restored(&self, name: &str) {
        // A flag and not a list: stages only borrow the checkpoint. `zip` finds nothing if restores are not watched.
        let mut sections = self.sections().zip(&self.inner.restored);
        if let Some((_, restored)) = sections.find(|((found, _), _)| *found == name) {
            restored.store(true, Ordering::Relaxed);
        }
    }

    /// The sections that no stage has restored.
    #[cfg(feature = "alloc")]
    pub(crate) fn not_restored(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let left = self.sections().zip(&self.inner.restored);
        left.filter(|(_, restored)| !restored.load(Ordering::Relaxed)).map(|(section, _)| section)
    }

    /// Adds a section.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] when a section has that name already, when the new one does not fit into the caller's
    /// buffer, or when the checkpoint has failed already. The checkpoint is unchanged then.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.put_with(name, |section| {
            section.extend(bytes);
            Ok(())
        })
    }

    /// Adds a section that `write` writes in place.
    pub(crate) fn put_with(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Section<'_>) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        self.failure()?;
        if self.section(name).is_some() {
            return Err(CheckpointError::NameTaken);
        }
        let start = self.inner.buffer.as_slice().len();
        let written = write_section(&mut self.inner.buffer, name, write);
        // Nothing half: a later section may still fit.
        if written.is_err() {
            self.inner.buffer.truncate(start);
        }
        written
    }

    /// The section of that name, if there is one.
    pub fn section(&self, name: &str) -> Option<&[u8]> {
        // Compares bytes: then a program that lists no names does not need the code that makes them a `str`.
        self.frames().find(|(found, _)| *found == name.as_bytes()).map(|(_, bytes)| bytes)
    }

    /// All sections with their names, in the order in which they were put in.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.frames().filter_map(|(name, bytes)| Some((core::str::from_utf8(name).ok()?, bytes)))
    }

    /// The same, with their names as bytes.
    fn frames(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // The buffer is shorter than its start if the caller's buffer was: then there are no sections.
        let mut rest = self.inner.buffer.as_slice().get(HEADER_LEN + 8..).unwrap_or(&[]);
        core::iter::from_fn(move || {
            let (name, bytes, behind) = split_section(rest)?;
            rest = behind;
            Some((name, bytes))
        })
    }

    /// Marks the checkpoint as failed: it cannot become complete. The barrier goes on, so that the pipeline
    /// learns of it. The first reason stays.
    pub fn fail(&mut self, reason: CheckpointError) {
        self.inner.failure.get_or_insert(reason);
    }

    /// Returns the reason of a failure as an error.
    ///
    /// # Errors
    ///
    /// The first reason that was passed to [`fail`](Self::fail).
    pub fn failure(&self) -> Result<(), CheckpointError> {
        self.inner.failure.map_or(Ok(()), Err)
    }

    /// The bytes to save, with a header and a checksum.
    ///
    /// # Errors
    ///
    /// The reason, if the checkpoint has failed.
    pub fn bytes(&mut self) -> Result<&[u8], CheckpointError> {
        self.failure()?;
        let frame = self.inner.buffer.as_mut_slice();
        envelope::seal(frame, MAGIC, 0);
        Ok(frame)
    }

    /// Returns the caller's buffer, if the checkpoint was built in one.
    pub fn into_buffer(self) -> Option<&'static mut [u8]> {
        match into_inner(self.inner).buffer {
            Buffer::Borrowed { bytes, .. } => Some(bytes),
            #[cfg(feature = "alloc")]
            Buffer::Heap(_) => None,
        }
    }
}

/// Checkpoints are equal if they have the same number, the same failure, and the same sections in the same order.
impl PartialEq for Checkpoint {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
            && self.inner.failure == other.inner.failure
            && self.sections().eq(other.sections())
    }
}

/// Checks all of the checkpoint at the front of `bytes` (K6). Returns its number and its length.
fn open(bytes: &[u8]) -> Result<(CheckpointId, usize), FormatError> {
    let (_, body) = envelope::open(bytes, MAGIC)?;
    let (id, mut sections) = body.split_first_chunk().ok_or(FormatError::Damaged)?;
    // The checksum is right, but the body may still be cut short: a foreign writer may have sealed it.
    while !sections.is_empty() {
        (_, _, sections) = split_section(sections).ok_or(FormatError::Damaged)?;
    }
    Ok((CheckpointId(u64::from_le_bytes(*id)), HEADER_LEN + body.len()))
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use alloc::boxed::Box;

    use super::*;

    // K4
    #[test]
    fn a_checkpoint_round_trips() {
        let mut checkpoint = Checkpoint::new(CheckpointId(3));
        checkpoint.put("source", b"position").unwrap();
        checkpoint.put("empty", b"").unwrap();
        assert_eq!(checkpoint.put("source", b"again"), Err(CheckpointError::NameTaken));

        let bytes = checkpoint.bytes().unwrap().to_vec();
        let loaded = Checkpoint::from_bytes(&bytes).unwrap();
        assert_eq!(loaded, checkpoint);
        assert_eq!(loaded.section("empty"), Some(&b""[..]));
        assert_eq!(loaded.section("other"), None);

        let mut empty = Checkpoint::new(CheckpointId(4));
        assert_eq!(Checkpoint::from_bytes(empty.bytes().unwrap()), Ok(empty));
    }

    #[test]
    fn checkpoints_are_equal_by_number_sections_and_failure() {
        let checkpoint = |id, sections: &[&str]| {
            let mut checkpoint = Checkpoint::new(CheckpointId(id));
            sections.iter().for_each(|name| checkpoint.put(name, b"it").unwrap());
            checkpoint
        };
        assert_eq!(checkpoint(1, &["a", "b"]), checkpoint(1, &["a", "b"]));
        assert_ne!(checkpoint(2, &["a", "b"]), checkpoint(1, &["a", "b"]));
        assert_ne!(checkpoint(1, &["a"]), checkpoint(1, &["a", "b"]));
        let mut failed = checkpoint(1, &["a", "b"]);
        failed.fail(CheckpointError::Serialize);
        assert_ne!(failed, checkpoint(1, &["a", "b"]));
    }

    #[test]
    fn a_section_that_fails_leaves_nothing_behind() {
        let on_heap = Checkpoint::new(CheckpointId(3));
        let in_place = Checkpoint::in_buffer(CheckpointId(3), Box::leak(Box::new([0; 80])));
        for mut checkpoint in [on_heap, in_place] {
            let refused = checkpoint.put_with("stage", |section| {
                section.extend(b"half");
                Err(CheckpointError::Serialize)
            });
            assert_eq!(refused, Err(CheckpointError::Serialize));
            assert_eq!(checkpoint, Checkpoint::new(CheckpointId(3)));
            checkpoint.put("stage", b"whole").unwrap();
            assert_eq!(checkpoint.section("stage"), Some(&b"whole"[..]));
        }
    }

    #[test]
    fn a_checkpoint_round_trips_in_buffers() {
        let mut checkpoint = Checkpoint::in_buffer(CheckpointId(3), Box::leak(Box::new([0; 80])));
        checkpoint.put("source", b"position").unwrap();
        let length = checkpoint.bytes().unwrap().len();
        let buffer = checkpoint.into_buffer().unwrap();
        let loaded = Checkpoint::from_buffer(buffer).unwrap();
        assert_eq!(
            (loaded.id(), loaded.section("source")),
            (CheckpointId(3), Some(&b"position"[..]))
        );

        let buffer = loaded.into_buffer().unwrap();
        buffer[length - 1] ^= 1;
        let (error, buffer) = Checkpoint::from_buffer(buffer).unwrap_err();
        assert_eq!((error, buffer.len()), (FormatError::Damaged, 80));
    }

    // K6
    #[test]
    fn a_damaged_checkpoint_is_an_error() {
        let mut checkpoint = Checkpoint::new(CheckpointId(3));
        checkpoint.put("source", b"position").unwrap();
        let bytes = checkpoint.bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(Checkpoint::from_bytes(&bytes[..length]).is_err());
        }

        // A body that is cut short, under a checksum that is right.
        let cut = bytes.len() - 1;
        let mut bytes = bytes[..cut].to_vec();
        envelope::seal(&mut bytes, MAGIC, 0);
        assert_eq!(Checkpoint::from_bytes(&bytes), Err(FormatError::Damaged));
    }

    #[test]
    fn a_buffer_that_is_too_small_is_an_error_with_the_size_needed() {
        let mut whole = Checkpoint::new(CheckpointId(1));
        whole.put("name", &[7; 20]).unwrap();
        let size = whole.bytes().unwrap().len();

        let mut short = Checkpoint::in_buffer(CheckpointId(1), Box::leak(Box::new([0; 60])));
        let refused = short.put("name", &[7; 20]);
        assert_eq!(refused, Err(CheckpointError::BufferFull { needed: size }));
        short.put("n", &[7; 3]).unwrap();
        assert_eq!(short.section("n"), Some(&[7; 3][..]));
        assert_eq!(short.into_buffer().map(|buffer| buffer.len()), Some(60));
    }

    #[test]
    fn the_first_failure_stays() {
        let mut checkpoint = Checkpoint::new(CheckpointId(1));
        checkpoint.fail(CheckpointError::NotCheckpointed);
        checkpoint.fail(CheckpointError::Serialize);
        assert_eq!(checkpoint.bytes(), Err(CheckpointError::NotCheckpointed));
    }
}
