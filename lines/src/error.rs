use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use inflight_core::NoRuntime;

/// Why a file of lines could not be read or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum LinesError {
    /// The file system refused. The reason is the [`source`](Error::source).
    Io {
        /// What was to be done, as in "could not *read*".
        action: &'static str,
        /// The file it was to be done with.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
    /// It is a folder, a pipe or a device.
    NoFile {
        /// Its name.
        path: PathBuf,
    },
    /// The input cannot be read again from a checkpoint's position: it is no file.
    NotReplayable,
    /// The bytes before a checkpoint's position are not those that were read.
    InputChanged {
        /// The input.
        path: PathBuf,
        /// How many bytes were read before.
        offset: u64,
    },
    /// The input is shorter than it was a moment ago: it was cut while it was read.
    InputShrunk {
        /// The input.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// How long it was.
        expected: u64,
    },
    /// The name of an input that is [followed](crate::LineSource::follow) leads to another file or to none: it was
    /// moved away, replaced or deleted. What was in it up to a last unfinished line has been handed out.
    InputMoved {
        /// The input.
        path: PathBuf,
    },
    /// An earlier run has handed out the input's last line without a line feed, and then that line has
    /// grown. Its rest is no line.
    LineGrown {
        /// The input.
        path: PathBuf,
        /// Where that line ended, in bytes from the start of the file.
        offset: u64,
    },
    /// There is no runtime here to wait with for an input that grows.
    NoRuntime(NoRuntime),
    /// Another [`LineFile`](crate::LineFile) has the output open, in this process or in another one.
    Owned {
        /// The output.
        path: PathBuf,
    },
    /// The output's name leads to another file or to none: it was moved away, replaced or deleted, and what is
    /// written can no longer be found under it.
    OutputMoved {
        /// The output.
        path: PathBuf,
    },
    /// The output is longer than what was written: somebody else writes to it.
    Grown {
        /// The output.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// How many were written.
        expected: u64,
    },
    /// A line to be written holds a line feed, which would make two of it. Nothing of it is written.
    LineFeed {
        /// The output.
        path: PathBuf,
        /// Where in the output the line would begin, in bytes.
        offset: u64,
        /// The line up to its first line feed, or the first [`EXCERPT`](Self::EXCERPT) bytes of that.
        start: String,
    },
    /// The output holds something, and no checkpoint says what: it may be somebody else's.
    NotEmpty {
        /// The output.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
    /// The output is shorter than what was written to it, in this life or, as a checkpoint says, in an
    /// earlier one.
    Shrunk {
        /// The output.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// How many bytes were written.
        expected: u64,
    },
}

impl LinesError {
    /// Of a line that is refused, no more than so many bytes are told.
    pub const EXCERPT: usize = 80;

    pub(crate) fn line_feed(path: &Path, offset: u64, line: &[u8], at: usize) -> Self {
        let start = String::from_utf8_lossy(&line[..at.min(Self::EXCERPT)]).into_owned();
        Self::LineFeed { path: path.into(), offset, start }
    }

    /// For `map_err`: what could not be done, and with what.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path: path.clone(), source }
    }
}

impl fmt::Display for LinesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, .. } => write!(f, "could not {action} {}", path.display()),
            Self::NoFile { path } => write!(f, "{} is no regular file", path.display()),
            Self::NotReplayable => f.write_str("an input that is no file cannot be read again"),
            Self::InputChanged { path, offset } => write!(
                f,
                "{} is another input than before: its first {offset} bytes differ",
                path.display()
            ),
            Self::InputShrunk { path, length, expected } => write!(
                f,
                "{} was cut while it was read: it has {length} bytes, and had {expected}",
                path.display()
            ),
            Self::InputMoved { path } => write!(
                f,
                "{} is not the file any more that is read: it was moved away, replaced or deleted; go on with it \
                 under the name that it has now",
                path.display()
            ),
            Self::LineGrown { path, offset } => write!(
                f,
                "the line of {} that ended at byte {offset} without a line feed was handed out, and has grown since",
                path.display()
            ),
            Self::NoRuntime(error) => error.fmt(f),
            Self::Owned { path } => write!(
                f,
                "another job has {} open: wait for its end, or give each its own output",
                path.display()
            ),
            Self::OutputMoved { path } => write!(
                f,
                "{} is not the file any more that is written: it was moved away, replaced or deleted; put it back as \
                 it was",
                path.display()
            ),
            Self::Grown { path, length, expected } => write!(
                f,
                "{} has {length} bytes, but {expected} were written: somebody else writes to it",
                path.display()
            ),
            Self::LineFeed { path, offset, start } => write!(
                f,
                "the line for {} at byte {offset} has a line feed in it, behind {start:?}: its format has to \
                 escape that",
                path.display()
            ),
            Self::NotEmpty { path, length } => write!(
                f,
                "{} holds {length} bytes, and there is no checkpoint that goes with it: put the checkpoints \
                 back, or move the output away to start afresh",
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
