//! The bytes of an input, in chunks. All functions here may block.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf, absolute};

use crate::error::LinesError;
use crate::identity::leads_to;
use crate::source::Position;

/// The size of a chunk in bytes.
const CHUNK: usize = 256 * 1024;

pub(crate) enum Input {
    File(InputFile),
    Once(Box<dyn Read + Send>),
}

impl Input {
    /// Reads the next bytes; none at the current end of the input.
    pub(crate) fn read(&mut self, chunk: &mut Vec<u8>) -> Result<(), LinesError> {
        match self {
            Self::File(file) => file.read(chunk),
            Self::Once(reader) => {
                fill(reader, chunk).map_err(LinesError::io("read", Path::new("the input")))
            }
        }
    }
}

/// A file that is read from its start to its end, which may move.
pub(crate) struct InputFile {
    file: File,
    path: PathBuf,
    /// The absolute path, which stays valid when the process changes its working directory.
    place: PathBuf,
    /// The number of bytes that were read.
    read: u64,
    /// The length of the file at the last check.
    length: u64,
    /// True if the path must keep leading to this file.
    is_followed: bool,
}

impl InputFile {
    pub(crate) fn open(path: &Path, is_followed: bool) -> Result<Self, LinesError> {
        let refused = LinesError::io("read", path);
        // Check this before opening, because opening a pipe waits for its writer.
        if !fs::metadata(path).map_err(&refused)?.is_file() {
            return Err(LinesError::NoFile { path: path.into() });
        }
        let place = absolute(path).map_err(&refused)?;
        let file = File::open(path).map_err(&refused)?;
        let length = file.metadata().map_err(&refused)?.len();
        Ok(Self { file, path: path.into(), place, read: 0, length, is_followed })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn read(&mut self, chunk: &mut Vec<u8>) -> Result<(), LinesError> {
        // Check the path before reading, but report the result after it, so that the bytes written before the
        // file was moved away are handed out first.
        let refused = LinesError::io("read", &self.path);
        let is_moved = self.is_followed && !leads_to(&self.place, &self.file).map_err(&refused)?;
        loop {
            fill(&mut self.file, chunk).map_err(&refused)?;
            self.read += chunk.len() as u64;
            if !chunk.is_empty() {
                return Ok(());
            }
            if !self.has_more()? {
                break;
            }
        }
        if is_moved { Err(LinesError::InputMoved { path: self.path.clone() }) } else { Ok(()) }
    }

    /// True if the file has grown since the read reached its end. A shorter file is an error.
    fn has_more(&mut self) -> Result<bool, LinesError> {
        let length = self.file.metadata().map_err(LinesError::io("read", &self.path))?.len();
        let expected = self.length.max(self.read);
        if length < expected {
            return Err(LinesError::InputShrunk { path: self.path.clone(), length, expected });
        }
        self.length = length;
        Ok(length > self.read)
    }

    /// Moves to a position, if the bytes before it are unchanged. Returns true if a complete line ends there.
    pub(crate) fn seek(&mut self, position: Position) -> Result<bool, LinesError> {
        let refused = LinesError::io("read", &self.path);
        self.file.seek(SeekFrom::Start(0)).map_err(&refused)?;
        let before = BufReader::with_capacity(CHUNK, (&mut self.file).take(position.offset));
        let before = Before::read(before).map_err(&refused)?;
        if (before.length, before.checksum) != (position.offset, position.checksum) {
            let (path, offset) = (self.path.clone(), position.offset);
            return Err(LinesError::InputChanged { path, offset });
        }
        self.file.seek(SeekFrom::Start(position.offset)).map_err(&refused)?;
        self.read = position.offset;
        Ok(before.last.is_none_or(|last| last == b'\n'))
    }
}

/// Reads the available bytes, up to a chunk's length. It retries reads that a signal has interrupted.
fn fill(reader: &mut impl Read, chunk: &mut Vec<u8>) -> io::Result<()> {
    chunk.resize(CHUNK, 0);
    loop {
        match reader.read(chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read.map(|length| chunk.truncate(length)),
        }
    }
}

/// Computes the checksum of the bytes before a position.
struct Before {
    length: u64,
    checksum: u32,
    last: Option<u8>,
}

impl Before {
    fn read(mut bytes: impl BufRead) -> io::Result<Self> {
        let (mut checksum, mut length, mut last) = (crc32fast::Hasher::new(), 0, None);
        loop {
            let chunk = bytes.fill_buf()?;
            if chunk.is_empty() {
                return Ok(Self { length, checksum: checksum.finalize(), last });
            }
            checksum.update(chunk);
            last = chunk.last().copied();
            let read = chunk.len();
            length += read as u64;
            bytes.consume(read);
        }
    }
}
