//! Lines out of a file, from any position.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::{fmt, mem};

use blocking::{Unblock, unblock};
use futures_io::AsyncRead;
use inflight_core::StreamElement;
use inflight_core::pipeline::ReplayableSource;
use serde::{Deserialize, Serialize};

use crate::error::LinesError;
use crate::line::Line;

/// Longer lines are handed out cut short, unless [`LineSource::keep`] says otherwise.
const MAX_LENGTH: usize = 64 * 1024;

/// What is read at once, and what may be read ahead.
const CHUNK: usize = 64 * 1024;

/// How far a file of lines has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bytes up to the next line.
    pub offset: u64,
    /// Lines up to there.
    pub lines: u64,
    /// The CRC-32 of all the bytes up to there, by which the file is known again.
    pub checksum: u32,
}

/// A source of the lines of a file. Lines end with a line feed; the last one may lack it, and a carriage
/// return before it is not part of a line's [`text`](Line::text).
///
/// It ends at the end of the file. To follow a file that grows, run the pipeline again: it goes on with
/// what was appended (a last line that lacked its line feed has been handed out already).
pub struct LineSource {
    /// Empty if it is no file.
    path: PathBuf,
    input: Input,
    /// What was read and not handed out: `chunk[used..]`.
    chunk: Vec<u8>,
    used: usize,
    /// A line whose end was not read yet.
    line: Line,
    position: Position,
    /// That of all that was taken from `chunk`.
    checksum: crc32fast::Hasher,
    keep: usize,
    start: usize,
}

enum Input {
    File(Option<File>),
    Open(Box<dyn Bytes>),
}

/// Where bytes come from.
trait Bytes: AsyncRead + Send + Unpin {}

impl<R: AsyncRead + Send + Unpin> Bytes for R {}

impl LineSource {
    /// The lines of a file, from its start.
    ///
    /// # Errors
    ///
    /// [`LinesError`] when it cannot be opened, or is no regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LinesError> {
        let path = path.as_ref();
        // Before it is opened: to open a pipe is to wait for its writer.
        let data = fs::metadata(path).map_err(LinesError::io("read", path))?;
        if !data.is_file() {
            return Err(LinesError::NoFile { path: path.into() });
        }
        let file = File::open(path).map_err(LinesError::io("read", path))?;
        Ok(Self::new(path.into(), Input::File(Some(file))))
    }

    /// The lines of something that can be read once, such as standard input. It has no checkpoints:
    /// put a [`NullStore`](inflight_core::NullStore) beside it.
    pub fn once(reader: impl Read + Send + 'static) -> Self {
        let reader = Unblock::with_capacity(CHUNK, reader);
        Self::new(PathBuf::new(), Input::Open(Box::new(reader)))
    }

    fn new(path: PathBuf, input: Input) -> Self {
        Self {
            path,
            input,
            chunk: Vec::new(),
            used: 0,
            line: Line { number: 1, offset: 0, length: 0, bytes: Vec::new() },
            position: Position::default(),
            checksum: crc32fast::Hasher::new(),
            keep: MAX_LENGTH,
            start: MAX_LENGTH,
        }
    }

    /// Keeps lines of at most `bytes` whole (64 KiB, if nothing else is said), and of longer ones the
    /// first `start` bytes. A line that is cut short [is no text](Line::text); it is handed out all the
    /// same. The number in flight times this has to fit into memory and into a checkpoint.
    #[must_use]
    pub fn keep(mut self, bytes: usize, start: usize) -> Self {
        (self.keep, self.start) = (bytes, start.min(bytes));
        self
    }

    /// Makes sure that there is something in the chunk; `false` at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.used < self.chunk.len() {
            return Poll::Ready(Ok(true));
        }
        if let Input::File(file) = &mut self.input {
            let Some(file) = file.take() else { return Poll::Ready(Ok(false)) };
            self.input = Input::Open(Box::new(Unblock::with_capacity(4 * CHUNK, file)));
        }
        let Input::Open(input) = &mut self.input else { return Poll::Ready(Ok(false)) };
        self.used = 0;
        self.chunk.resize(CHUNK, 0);
        let read = Pin::new(input).poll_read(cx, &mut self.chunk);
        let length = match &read {
            Poll::Ready(Ok(length)) => *length,
            _ => 0,
        };
        self.chunk.truncate(length);
        read.map_ok(|length| length > 0)
    }

    /// Takes what is in the chunk up to the end of the line; whether that is there.
    fn take(&mut self) -> bool {
        let rest = &self.chunk[self.used..];
        let feed = rest.iter().position(|byte| *byte == b'\n');
        let part = &rest[..feed.unwrap_or(rest.len())];
        let room = self.keep.saturating_sub(self.line.bytes.len());
        self.line.bytes.extend_from_slice(&part[..part.len().min(room)]);
        self.line.length += part.len() as u64;
        let taken = part.len() + usize::from(feed.is_some());
        self.checksum.update(&rest[..taken]);
        self.used += taken;
        feed.is_some()
    }

    /// The line is whole.
    fn hand_out(&mut self, has_feed: bool) -> Line {
        let end = self.line.offset + self.line.length + u64::from(has_feed);
        let next = Line { number: self.line.number + 1, offset: end, length: 0, bytes: Vec::new() };
        let mut line = mem::replace(&mut self.line, next);
        if !line.is_whole() {
            line.bytes.truncate(self.start);
            line.bytes.shrink_to_fit();
        }
        let checksum = self.checksum.clone().finalize();
        self.position = Position { offset: end, lines: line.number, checksum };
        line
    }
}

impl ReplayableSource for LineSource {
    type Record = Line;
    type Position = Position;
    type Error = LinesError;
    type Acknowledger = ();

    /// Reads what is before the position, to see that it is what it was.
    async fn seek(&mut self, position: Position) -> Result<(), LinesError> {
        let Input::File(file) = &mut self.input else { return Err(LinesError::NotReplayable) };
        let Some(file) = file.take() else { return Err(LinesError::NotReplayable) };
        let path = self.path.clone();
        let file = unblock(move || seek(file, &path, position)).await?;
        self.input = Input::File(Some(file));
        (self.line.number, self.line.offset) = (position.lines + 1, position.offset);
        self.checksum = crc32fast::Hasher::new_with_initial(position.checksum);
        self.position = position;
        Ok(())
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<Line>, LinesError>>> {
        loop {
            let line = match ready!(self.poll_chunk(cx)) {
                Err(error) => {
                    return Poll::Ready(Some(Err(LinesError::io("read", &self.path)(error))));
                }
                Ok(true) if self.take() => self.hand_out(true),
                Ok(true) => continue,
                Ok(false) if self.line.length > 0 => self.hand_out(false),
                Ok(false) => return Poll::Ready(None),
            };
            return Poll::Ready(Some(Ok(StreamElement::value(line))));
        }
    }

    fn position(&self) -> Position {
        self.position
    }

    fn acknowledger(&mut self) {}
}

/// The file at that position, if what is before it is what it was.
fn seek(mut file: File, path: &Path, position: Position) -> Result<File, LinesError> {
    let refused = LinesError::io("read", path);
    file.seek(SeekFrom::Start(0)).map_err(&refused)?;
    let before = BufReader::with_capacity(CHUNK, (&mut file).take(position.offset));
    if checksum(before).map_err(&refused)? != (position.offset, position.checksum) {
        return Err(LinesError::InputChanged { path: path.into(), offset: position.offset });
    }
    file.seek(SeekFrom::Start(position.offset)).map_err(&refused)?;
    Ok(file)
}

fn checksum(mut bytes: impl BufRead) -> io::Result<(u64, u32)> {
    let (mut checksum, mut length) = (crc32fast::Hasher::new(), 0);
    loop {
        let chunk = bytes.fill_buf()?;
        if chunk.is_empty() {
            return Ok((length, checksum.finalize()));
        }
        checksum.update(chunk);
        let read = chunk.len();
        length += read as u64;
        bytes.consume(read);
    }
}

impl fmt::Debug for LineSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, position) = (&self.path, &self.position);
        f.debug_struct("LineSource").field("path", path).field("position", position).finish()
    }
}
