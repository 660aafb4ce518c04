use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use inflight_core::NoRuntime;

/// The reason why a file of lines could not be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum LinesError {
    /// The file system returned an error, the [`source`](Error::source).
    Io {
        /// The operation, as in "could not *read*".
        action: &'static str,
        /// The file of the operation.
        path: PathBuf,
        /// The file system's error.
        source: io::Error,
    },
    /// The path leads to a folder, a pipe or a device.
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// The input cannot be read again from a checkpoint's position, because it is not a file.
    NotReplayable,
    /// The bytes before a checkpoint's position differ from the bytes that were read.
    InputChanged {
        /// The input.
        path: PathBuf,
        /// The number of bytes that were read before.
        offset: u64,
    },
    /// The input is shorter than before: it was cut while it was read.
    InputShrunk {
        /// The input.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// Its length before, in bytes.
        expected: u64,
    },
    /// The path of an input that is [followed](crate::LineSource::follow) leads to another file or to none:
    /// the file was moved away, replaced or deleted. Its complete lines have been handed out.
    InputMoved {
        /// The input.
        path: PathBuf,
    },
    /// An earlier run has handed out the input's last line without a line feed, and that line has grown
    /// since. Its rest is not a line.
    LineGrown {
        /// The input.
        path: PathBuf,
        /// The end of that line, in bytes from the start of the file.
        offset: u64,
    },
    /// The source has no runtime whose timer it could use to wait for the input to grow.
    NoRuntime(NoRuntime),
    /// Another [`LineFile`](crate::LineFile) has the output open, in this process or in another one.
    Owned {
        /// The output.
        path: PathBuf,
    },
    /// The output's path leads to another file or to none: the file was moved away, replaced or deleted, so
    /// the written lines are no longer in the file at that path.
    OutputMoved {
        /// The output.
        path: PathBuf,
    },
    /// The output is longer than the written lines: another program writes to it.
    Grown {
        /// The output.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// The number of bytes that were written.
        expected: u64,
    },
    /// A line to be written contains a line feed, so it would become two lines. No byte of it is written.
    LineFeed {
        /// The output.
        path: PathBuf,
        /// The position in the output at which the line would begin, in bytes.
        offset: u64,
        /// The line up to its first line feed, or the first [`EXCERPT`](Self::EXCERPT) bytes of that.
        start: String,
    },
    /// The output is not empty, and no checkpoint describes its content: it may belong to another program.
    NotEmpty {
        /// The output.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
    /// The output is shorter than the lines written to it, in this life of the process or, according to a
    /// checkpoint, in an earlier one.
    Shrunk {
        /// The output.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// The number of bytes that were written.
        expected: u64,
    },
}

impl LinesError {
    /// The maximum number of bytes of a refused line that the error contains.
    pub const EXCERPT: usize = 80;

    pub(crate) fn line_feed(path: &Path, offset: u64, line: &[u8], at: usize) -> Self {
        let start = String::from_utf8_lossy(&line[..at.min(Self::EXCERPT)]).into_owned();
        Self::LineFeed { path: path.into(), offset, start }
    }

    /// For `map_err`: adds the operation and the path to an I/O error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path: path.clone(), source }
    }
}

impl fmt::Display for LinesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, .. } => write!(f, "could not {action} {}", path.display()),
            Self::NoFile { path } => write!(f, "{} is not a regular file", path.display()),
            Self::NotReplayable => f.write_str("an input that is not a file cannot be read again"),
            Self::InputChanged { path, offset } => write!(
                f,
                "{} has changed: its first {offset} bytes differ from the input of the checkpoint",
                path.display()
            ),
            Self::InputShrunk { path, length, expected } => write!(
                f,
                "{} was cut while it was read: it has {length} bytes and had {expected}",
                path.display()
            ),
            Self::InputMoved { path } => write!(
                f,
                "{} no longer leads to the file being read: the file was moved away, replaced or deleted; continue \
                 with its new path",
                path.display()
            ),
            Self::LineGrown { path, offset } => write!(
                f,
                "the last line of {} ended at byte {offset} without a line feed when it was read, and has grown since",
                path.display()
            ),
            Self::NoRuntime(error) => error.fmt(f),
            Self::Owned { path } => write!(
                f,
                "another job has {} open: wait for its end, or give each job its own output",
                path.display()
            ),
            Self::OutputMoved { path } => write!(
                f,
                "{} no longer leads to the file being written: the file was moved away, replaced or deleted; put it \
                 back",
                path.display()
            ),
            Self::Grown { path, length, expected } => write!(
                f,
                "{} has {length} bytes, but {expected} were written: another program writes to it",
                path.display()
            ),
            Self::LineFeed { path, offset, start } => write!(
                f,
                "the line for {} at byte {offset} contains a line feed after {start:?}: the line's format has to \
                 escape it",
                path.display()
            ),
            Self::NotEmpty { path, length } => write!(
                f,
                "{} has {length} bytes, and no checkpoint describes them: put the checkpoints \
                 back, or move the output away to start from the beginning",
                path.display()
            ),
            Self::Shrunk { path, length, expected } => write!(
                f,
                "{} has {length} bytes, but {expected} were written: it was cut",
                path.display()
            ),
        }
    }
}

impl Error for LinesError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
