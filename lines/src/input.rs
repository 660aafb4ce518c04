//! The bytes of an input, a chunk at a time. All of this may block.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf, absolute};

use crate::error::LinesError;
use crate::identity::leads_to;
use crate::source::Position;

/// What is read at once.
const CHUNK: usize = 256 * 1024;

pub(crate) enum Input {
    File(InputFile),
    Once(Box<dyn Read + Send>),
}

impl Input {
    /// The next bytes; none at the end, as far as that is there yet.
    pub(crate) fn read(&mut self, chunk: &mut Vec<u8>) -> Result<(), LinesError> {
        match self {
            Self::File(file) => file.read(chunk),
            Self::Once(reader) => {
                fill(reader, chunk).map_err(LinesError::io("read", Path::new("the input")))
            }
        }
    }
}

/// A file that is read from its start to its end, which may move on.
pub(crate) struct InputFile {
    file: File,
    path: PathBuf,
    /// The same when the process changes its folder.
    place: PathBuf,
    /// How far it was read.
    read: u64,
    /// How long it was when it was last looked at.
    length: u64,
    /// Whether its name has to go on leading to it.
    is_followed: bool,
}

impl InputFile {
    pub(crate) fn open(path: &Path, is_followed: bool) -> Result<Self, LinesError> {
        let refused = LinesError::io("read", path);
        // Before it is opened: to open a pipe is to wait for its writer.
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
        // Asked first: what was written before it was moved away is handed out before that is told.
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

    /// Whether it has grown since its end was come to. That it has shrunk is an error.
    fn has_more(&mut self) -> Result<bool, LinesError> {
        let length = self.file.metadata().map_err(LinesError::io("read", &self.path))?.len();
        let expected = self.length.max(self.read);
        if length < expected {
            return Err(LinesError::InputShrunk { path: self.path.clone(), length, expected });
        }
        self.length = length;
        Ok(length > self.read)
    }

    /// Goes to a position, if what is before it is what it was. Whether a whole line is before it.
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

/// What there is, up to a chunk's length. Signals are not its caller's business.
fn fill(reader: &mut impl Read, chunk: &mut Vec<u8>) -> io::Result<()> {
    chunk.resize(CHUNK, 0);
    loop {
        match reader.read(chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read.map(|length| chunk.truncate(length)),
        }
    }
}

/// What is in front of a position.
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
