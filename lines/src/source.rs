//! Reads the lines of a file, from any position.

use std::future::Future;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, mem};

use blocking::{Task, unblock};
use inflight_core::pipeline::ReplayableSource;
use inflight_core::{Runtime, StreamElement, Timer};
use serde::{Deserialize, Serialize};

use crate::error::LinesError;
use crate::input::{Input, InputFile};
use crate::line::Line;

/// Longer lines are cut short, unless [`LineSource::keep`] sets another limit.
const MAX_LENGTH: usize = 64 * 1024;

/// The shortest interval between two checks of a followed file.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// The position up to which a file of lines has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The number of bytes before the next line.
    pub offset: u64,
    /// The number of lines before it.
    pub lines: u64,
    /// The CRC-32 of the bytes before it, which identifies the file after a restart.
    pub checksum: u32,
}

/// A source of the lines of a file. A line ends with a line feed; a carriage return before it is not part of
/// the line's [`text`](Line::text).
///
/// The end of the file depends on the program that writes to it:
///
/// | | at the end of the file | a last line without a line feed |
/// | --- | --- | --- |
/// | [`open`](Self::open) | the source ends; the next run of the pipeline reads the appended lines | is held back: its writer may not have finished it |
/// | [`open_complete`](Self::open_complete) | the source ends | is a line: no program writes to the file any more |
/// | [`follow`](Self::follow) | the source waits for more | is held back until its line feed is there |
/// | [`once`](Self::once) | the source ends | is a line: nothing can follow |
///
/// If the file becomes shorter while it is read, the source returns an error at its end
/// ([`LinesError::InputShrunk`]), and never ends silently.
pub struct LineSource {
    /// Empty if the input is not a file.
    path: PathBuf,
    reading: Reading,
    at_end: AtEnd,
    /// Bytes that were read; `chunk[used..]` is not handed out yet.
    chunk: Vec<u8>,
    used: usize,
    /// A line whose end was not read yet.
    line: Line,
    /// True if an earlier life of the process has handed out the line before the position without its line
    /// feed.
    is_behind_unfinished: bool,
    position: Position,
    /// The checksum of all bytes taken from `chunk`.
    checksum: crc32fast::Hasher,
    keep: usize,
    start: usize,
}

enum Reading {
    Idle(Input),
    Busy(Task<(Input, Vec<u8>, Result<(), LinesError>)>),
    /// No more bytes are read.
    Over,
}

/// The behaviour at the current end of the input.
enum AtEnd {
    HoldBack,
    HandOut,
    Wait { timer: Pin<Box<dyn Wait + Send>>, every: Duration, is_waiting: bool },
}

/// A runtime's timer, with its type erased.
trait Wait {
    fn begin(self: Pin<&mut Self>, time: Duration);
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

impl<T: Timer> Wait for T {
    fn begin(self: Pin<&mut Self>, time: Duration) {
        let at = self.now() + time;
        self.arm(Some(at));
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Timer::poll(self, cx)
    }
}

impl LineSource {
    /// The lines of a file, from its start to its end. A last line without a line feed is held back.
    ///
    /// # Errors
    ///
    /// [`LinesError`] if the file cannot be opened, or is not a regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LinesError> {
        Ok(Self::of_file(InputFile::open(path.as_ref(), false)?, AtEnd::HoldBack))
    }

    /// The lines of a file that no program writes to any more: its last line counts also without a line feed.
    ///
    /// If the file has grown nevertheless, a later run that would resume in the middle of that line is
    /// refused ([`LinesError::LineGrown`]).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_complete(path: impl AsRef<Path>) -> Result<Self, LinesError> {
        Ok(Self::of_file(InputFile::open(path.as_ref(), false)?, AtEnd::HandOut))
    }

    /// The lines of a growing file, without an end: at the end of the file the source waits, and checks it
    /// again at the interval `every` (at least a millisecond). It ends when the pipeline is
    /// [stopped](inflight_core::pipeline::StopHandle).
    ///
    /// If the path leads to another file or to none (for example because a log was rotated), the source hands
    /// out the rest of the open file and then returns [`LinesError::InputMoved`]. A job started with the
    /// file's new path resumes from its checkpoint. A file that was cut is [`LinesError::InputShrunk`],
    /// unless at the next check it is longer than it was before.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`LinesError::NoRuntime`].
    pub fn follow<R>(
        path: impl AsRef<Path>,
        runtime: R,
        every: Duration,
    ) -> Result<Self, LinesError>
    where
        R: Runtime,
        R::Timer: Send + 'static,
    {
        let timer = Box::pin(runtime.timer().map_err(LinesError::NoRuntime)?);
        let every = every.max(MIN_INTERVAL);
        let at_end = AtEnd::Wait { timer, every, is_waiting: false };
        Ok(Self::of_file(InputFile::open(path.as_ref(), true)?, at_end))
    }

    /// The lines of an input that can be read once, such as standard input. It has no checkpoints: use it
    /// with a [`NullStore`](inflight_core::NullStore).
    pub fn once(reader: impl Read + Send + 'static) -> Self {
        Self::new(PathBuf::new(), Input::Once(Box::new(reader)), AtEnd::HandOut)
    }

    fn of_file(file: InputFile, at_end: AtEnd) -> Self {
        Self::new(file.path().into(), Input::File(file), at_end)
    }

    fn new(path: PathBuf, input: Input, at_end: AtEnd) -> Self {
        Self {
            path,
            reading: Reading::Idle(input),
            at_end,
            chunk: Vec::new(),
            used: 0,
            line: Line { number: 1, offset: 0, length: 0, bytes: Vec::new() },
            is_behind_unfinished: false,
            position: Position::default(),
            checksum: crc32fast::Hasher::new(),
            keep: MAX_LENGTH,
            start: MAX_LENGTH,
        }
    }

    /// Keeps lines of at most `bytes` complete (64 KiB by default), and the first `start` bytes of longer
    /// ones. A line that is cut short [is not valid text](Line::text), but it is handed out. This limit times
    /// the number of records in flight has to fit into memory and into a checkpoint.
    #[must_use]
    pub fn keep(mut self, bytes: usize, start: usize) -> Self {
        (self.keep, self.start) = (bytes, start.min(bytes));
        self
    }

    /// Fills the chunk if it is empty; returns `false` at the current end of the input.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, LinesError>> {
        if self.used < self.chunk.len() {
            return Poll::Ready(Ok(true));
        }
        loop {
            match mem::replace(&mut self.reading, Reading::Over) {
                Reading::Idle(mut input) => {
                    let mut chunk = mem::take(&mut self.chunk);
                    self.used = 0;
                    self.reading = Reading::Busy(unblock(move || {
                        let read = input.read(&mut chunk);
                        (input, chunk, read)
                    }));
                }
                Reading::Busy(mut task) => {
                    let Poll::Ready((input, chunk, read)) = Pin::new(&mut task).poll(cx) else {
                        self.reading = Reading::Busy(task);
                        return Poll::Pending;
                    };
                    read?;
                    (self.chunk, self.reading) = (chunk, Reading::Idle(input));
                    return Poll::Ready(Ok(!self.chunk.is_empty()));
                }
                Reading::Over => return Poll::Ready(Ok(false)),
            }
        }
    }

    /// Takes bytes from the chunk up to the end of the line; returns true if that end is in the chunk.
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

    /// Skips the line feed that belongs to a line handed out without it. Any other byte is an error.
    fn finish_line(&mut self) -> Result<(), LinesError> {
        let offset = self.position.offset;
        if self.chunk[self.used] != b'\n' {
            return Err(LinesError::LineGrown { path: self.path.clone(), offset });
        }
        self.is_behind_unfinished = false;
        self.used += 1;
        self.checksum.update(b"\n");
        self.line.offset = offset + 1;
        self.position.offset = offset + 1;
        self.position.checksum = self.checksum.clone().finalize();
        Ok(())
    }

    /// Hands out the complete line.
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

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Line>, LinesError>> {
        loop {
            if let AtEnd::Wait { timer, is_waiting, .. } = &mut self.at_end
                && *is_waiting
            {
                ready!(timer.as_mut().poll(cx));
                *is_waiting = false;
            }
            if ready!(self.poll_chunk(cx))? {
                if self.is_behind_unfinished {
                    self.finish_line()?;
                } else if self.take() {
                    return Poll::Ready(Ok(Some(self.hand_out(true))));
                }
                continue;
            }
            match &mut self.at_end {
                AtEnd::Wait { timer, every, is_waiting } => {
                    timer.as_mut().begin(*every);
                    *is_waiting = true;
                }
                AtEnd::HandOut if self.line.length > 0 => {
                    // Bytes that are appended now belong to this line, so they would be too late.
                    self.reading = Reading::Over;
                    return Poll::Ready(Ok(Some(self.hand_out(false))));
                }
                AtEnd::HoldBack | AtEnd::HandOut => return Poll::Ready(Ok(None)),
            }
        }
    }
}

impl ReplayableSource for LineSource {
    type Record = Line;
    type Position = Position;
    type Error = LinesError;
    type Acknowledger = ();

    /// Reads the bytes before the position, to check that they are unchanged.
    async fn open(&mut self, position: Option<Position>) -> Result<(), LinesError> {
        let Some(position) = position else { return Ok(()) };
        let reading = mem::replace(&mut self.reading, Reading::Over);
        let Reading::Idle(Input::File(mut file)) = reading else {
            return Err(LinesError::NotReplayable);
        };
        let (file, sought) = unblock(move || {
            let sought = file.seek(position);
            (file, sought)
        })
        .await;
        self.is_behind_unfinished = !sought?;
        self.reading = Reading::Idle(Input::File(file));
        (self.line.number, self.line.offset) = (position.lines + 1, position.offset);
        self.checksum = crc32fast::Hasher::new_with_initial(position.checksum);
        self.position = position;
        Ok(())
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<Line>, LinesError>>> {
        let line = ready!(self.poll_line(cx));
        Poll::Ready(line.transpose().map(|line| line.map(StreamElement::value)))
    }

    fn position(&self) -> Position {
        self.position
    }

    fn acknowledger(&mut self) {}
}

impl fmt::Debug for LineSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, position) = (&self.path, &self.position);
        f.debug_struct("LineSource").field("path", path).field("position", position).finish()
    }
}
