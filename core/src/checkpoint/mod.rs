//! A checkpoint: what a pipeline needs to go on after a crash, gathered by a barrier on its way from
//! the source to the sink.

pub mod envelope;
mod memory;
mod store;

use core::fmt;
#[cfg(feature = "alloc")]
use core::sync::atomic::{AtomicBool, Ordering};

use self::envelope::{FormatError, HEADER_LEN, Magic};
#[cfg(feature = "alloc")]
pub use self::memory::MemoryStore;
pub use self::memory::{FixedMemoryStore, MemoryStoreError, NullStore};
#[cfg(feature = "alloc")]
pub use self::store::Loaded;
pub use self::store::{CheckpointStore, LoadError, LoadedInto};

const MAGIC: Magic = *b"ifCK";

/// The number of a checkpoint. A pipeline counts up; the highest one is the latest.
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

/// Named sections of bytes under one number: the source's position, each stage's snapshot, what the
/// sink has written.
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
/// It is built over an allocated buffer ([`Checkpoint::new`]) or over one of the caller's
/// ([`Checkpoint::in_buffer`]). It cannot be cloned: the buffer is its own.
#[derive(Debug)]
pub struct Checkpoint {
    inner: Place<Inner>,
}

/// Behind one pointer where there is a heap: a checkpoint rides in a [`StreamElement`], and records
/// should not pay for its size.
///
/// [`StreamElement`]: crate::StreamElement
#[cfg(feature = "alloc")]
type Place<T> = alloc::boxed::Box<T>;

#[cfg(not(feature = "alloc"))]
type Place<T> = in_place::Place<T>;

#[cfg(not(feature = "alloc"))]
mod in_place {
    #[derive(Debug)]
    pub(super) struct Place<T>(T);

    impl<T> Place<T> {
        pub(super) const fn new(value: T) -> Self {
            Self(value)
        }

        pub(super) fn into_inner(self) -> T {
            self.0
        }
    }

    impl<T> core::ops::Deref for Place<T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> core::ops::DerefMut for Place<T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }
}

#[derive(Debug)]
struct Inner {
    id: CheckpointId,
    /// Room for the header, then the id, then the sections.
    buffer: Buffer,
    failure: Option<CheckpointError>,
    /// Which sections were restored, in their order, if somebody wants to know.
    #[cfg(feature = "alloc")]
    restored: alloc::boxed::Box<[AtomicBool]>,
}

impl Inner {
    fn new(id: CheckpointId, buffer: Buffer) -> Self {
        Self {
            id,
            buffer,
            failure: None,
            #[cfg(feature = "alloc")]
            restored: alloc::boxed::Box::default(),
        }
    }
}

impl Checkpoint {
    /// An empty checkpoint on the heap.
    #[cfg(feature = "alloc")]
    pub fn new(id: CheckpointId) -> Self {
        Self::over(id, Buffer::Heap(alloc::vec::Vec::new()))
    }

    /// An empty checkpoint over a buffer of the caller's. What does not fit is
    /// [`CheckpointError::BufferFull`], which names the size needed.
    pub fn in_buffer(id: CheckpointId, buffer: &'static mut [u8]) -> Self {
        Self::over(id, Buffer::Borrowed { bytes: buffer, used: 0 })
    }

    fn over(id: CheckpointId, buffer: Buffer) -> Self {
        let mut inner = Inner::new(id, buffer);
        let start = inner.buffer.extend(&[0; HEADER_LEN]);
        let start = start.and_then(|()| inner.buffer.extend(&id.0.to_le_bytes()));
        inner.failure = start.err();
        Self { inner: Place::new(inner) }
    }

    /// The checkpoint that [`bytes`](Self::bytes) gave.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the bytes are no checkpoint, or no longer one.
    #[cfg(feature = "alloc")]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let (id, length) = open(bytes)?;
        let buffer = Buffer::Heap(bytes[..length].to_vec());
        Ok(Self { inner: Place::new(Inner::new(id, buffer)) })
    }

    /// The checkpoint that [`bytes`](Self::bytes) gave, at the start of a buffer of the caller's: for
    /// programs without an allocator. What is behind it in the buffer does not matter.
    ///
    /// # Errors
    ///
    /// [`FormatError`] when the bytes are no checkpoint, or no longer one; and the buffer back.
    pub fn from_buffer(
        buffer: &'static mut [u8],
    ) -> Result<Self, (FormatError, &'static mut [u8])> {
        match open(buffer) {
            Ok((id, used)) => {
                let buffer = Buffer::Borrowed { bytes: buffer, used };
                Ok(Self { inner: Place::new(Inner::new(id, buffer)) })
            }
            Err(error) => Err((error, buffer)),
        }
    }

    /// Its number.
    pub fn id(&self) -> CheckpointId {
        self.inner.id
    }

    /// From now on [`not_restored`](Self::not_restored) knows what was.
    #[cfg(feature = "alloc")]
    pub(crate) fn watch_restores(&mut self) {
        let sections = self.sections().map(|_| AtomicBool::new(false)).collect();
        self.inner.restored = sections;
    }

    /// Somebody goes on with the section of that name.
    #[cfg(feature = "alloc")]
    pub(crate) fn note_restored(&self, name: &str) {
        let mut sections = self.sections().zip(&self.inner.restored);
        if let Some((_, restored)) = sections.find(|((found, _), _)| *found == name) {
            restored.store(true, Ordering::Relaxed);
        }
    }

    /// The sections that nobody has gone on with.
    #[cfg(feature = "alloc")]
    pub(crate) fn not_restored(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let left = self.sections().zip(&self.inner.restored);
        left.filter(|(_, restored)| !restored.load(Ordering::Relaxed)).map(|(section, _)| section)
    }

    /// Adds a section.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] when there is one of that name, when it does not fit into the caller's
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
        if written.is_err() {
            self.inner.buffer.truncate(start);
        }
        written
    }

    /// The section of that name.
    pub fn section(&self, name: &str) -> Option<&[u8]> {
        self.sections().find(|(found, _)| *found == name).map(|(_, bytes)| bytes)
    }

    /// All sections with their names, in the order they were put in.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = self.inner.buffer.as_slice().get(HEADER_LEN + 8..).unwrap_or(&[]);
        core::iter::from_fn(move || {
            let (name, bytes, behind) = split_section(rest)?;
            rest = behind;
            Some((name, bytes))
        })
    }

    /// Says that this checkpoint cannot become complete. The barrier goes on, so that the pipeline
    /// learns of it; the first reason stays.
    pub fn fail(&mut self, reason: CheckpointError) {
        self.inner.failure.get_or_insert(reason);
    }

    /// Whether it is still good.
    ///
    /// # Errors
    ///
    /// The reason, if somebody said [`fail`](Self::fail).
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

    /// The caller's buffer back, if it was built over one.
    pub fn into_buffer(self) -> Option<&'static mut [u8]> {
        #[cfg(feature = "alloc")]
        let inner = *self.inner;
        #[cfg(not(feature = "alloc"))]
        let inner = self.inner.into_inner();
        match inner.buffer {
            Buffer::Borrowed { bytes, .. } => Some(bytes),
            #[cfg(feature = "alloc")]
            Buffer::Heap(_) => None,
        }
    }
}

/// The same number and the same sections in the same order.
impl PartialEq for Checkpoint {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
            && self.inner.failure == other.inner.failure
            && self.sections().eq(other.sections())
    }
}

/// A section being written.
pub(crate) struct Section<'a> {
    buffer: &'a mut Buffer,
    /// Bytes that were written or would have been, to name the size needed.
    needed: usize,
}

impl Section<'_> {
    /// Appends bytes. Past the end of a caller's buffer it only counts, so that the error at the end
    /// can name the size.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let fits_so_far = self.needed == self.buffer.as_slice().len();
        self.needed += bytes.len();
        if fits_so_far {
            // Too small is reported once the whole size is known.
            let _ = self.buffer.extend(bytes);
        }
    }

    /// The bytes written since `start`, to put a header in front; `None` if they did not fit.
    pub(crate) fn written_since(&mut self, start: usize) -> Option<&mut [u8]> {
        let whole = self.needed == self.buffer.as_slice().len();
        self.buffer.as_mut_slice().get_mut(start..).filter(|_| whole)
    }

    /// Puts `bytes` over those at `start`.
    pub(crate) fn fill_in(&mut self, start: usize, bytes: &[u8]) {
        let place = self.buffer.as_mut_slice().get_mut(start..start + bytes.len());
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.needed
    }
}

/// `name length 1 | name | length 8 | bytes`
fn write_section(
    buffer: &mut Buffer,
    name: &str,
    write: impl FnOnce(&mut Section<'_>) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let name_length = u8::try_from(name.len()).map_err(|_| CheckpointError::NameTooLong)?;
    let mut section = Section { needed: buffer.as_slice().len(), buffer };
    section.extend(&[name_length]);
    section.extend(name.as_bytes());
    let length_at = section.len();
    section.extend(&[0; 8]);
    let start = section.len();
    write(&mut section)?;
    let needed = section.needed;
    let length = ((needed - start) as u64).to_le_bytes();
    if needed > buffer.as_slice().len() {
        return Err(CheckpointError::BufferFull { needed });
    }
    buffer.as_mut_slice()[length_at..start].copy_from_slice(&length);
    Ok(())
}

/// The number of the checkpoint at the start of `bytes`, all of it checked, and its length.
fn open(bytes: &[u8]) -> Result<(CheckpointId, usize), FormatError> {
    let (_, body) = envelope::open(bytes, MAGIC)?;
    let (id, mut sections) = body.split_first_chunk().ok_or(FormatError::Damaged)?;
    while !sections.is_empty() {
        (_, _, sections) = split_section(sections).ok_or(FormatError::Damaged)?;
    }
    Ok((CheckpointId(u64::from_le_bytes(*id)), HEADER_LEN + body.len()))
}

fn split_section(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let (&name_length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(name_length))?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (section, rest) = rest.split_at_checked(length)?;
    Some((core::str::from_utf8(name).ok()?, section, rest))
}

#[derive(Debug)]
enum Buffer {
    #[cfg(feature = "alloc")]
    Heap(alloc::vec::Vec<u8>),
    Borrowed {
        bytes: &'static mut [u8],
        used: usize,
    },
}

impl Buffer {
    fn extend(&mut self, more: &[u8]) -> Result<(), CheckpointError> {
        match self {
            #[cfg(feature = "alloc")]
            Self::Heap(bytes) => bytes.extend_from_slice(more),
            Self::Borrowed { bytes, used } => {
                let end = *used + more.len();
                let room = bytes.get_mut(*used..end);
                room.ok_or(CheckpointError::BufferFull { needed: end })?.copy_from_slice(more);
                *used = end;
            }
        }
        Ok(())
    }

    fn truncate(&mut self, length: usize) {
        match self {
            #[cfg(feature = "alloc")]
            Self::Heap(bytes) => bytes.truncate(length),
            Self::Borrowed { used, .. } => *used = length,
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            #[cfg(feature = "alloc")]
            Self::Heap(bytes) => bytes,
            Self::Borrowed { bytes, used } => &bytes[..*used],
        }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        match self {
            #[cfg(feature = "alloc")]
            Self::Heap(bytes) => bytes,
            Self::Borrowed { bytes, used } => &mut bytes[..*used],
        }
    }
}

/// Why a checkpoint is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A stage that the barrier passed takes no snapshots: say `.checkpointed(name)` on it.
    NotCheckpointed,
    /// Two sections have the same name.
    NameTaken,
    /// A section's name is longer than 255 bytes.
    NameTooLong,
    /// The caller's buffer is too small.
    BufferFull {
        /// Bytes that would have been enough up to here.
        needed: usize,
    },
    /// A record in flight could not be serialised: its `Serialize` reported an error.
    Serialize,
    /// The stage was not empty when the drain's time limit passed.
    DrainTimedOut,
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCheckpointed => f.write_str("a stage on the way takes no snapshots"),
            Self::NameTaken => f.write_str("two sections of a checkpoint have the same name"),
            Self::NameTooLong => f.write_str("a section's name is longer than 255 bytes"),
            Self::BufferFull { needed } => {
                write!(f, "the buffer is too small: {needed} bytes are needed")
            }
            Self::Serialize => f.write_str("a record in flight could not be serialised"),
            Self::DrainTimedOut => f.write_str("the stage was not empty within the drain's limit"),
        }
    }
}

impl core::error::Error for CheckpointError {}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use alloc::boxed::Box;

    use super::*;

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

        // What stands behind a right checksum and is cut short all the same.
        let cut = bytes.len() - 1;
        let mut bytes = bytes[..cut].to_vec();
        envelope::seal(&mut bytes, MAGIC, 0);
        assert_eq!(Checkpoint::from_bytes(&bytes), Err(FormatError::Damaged));
    }

    #[test]
    fn a_buffer_too_small_names_the_size_needed() {
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
