use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fmt, io};

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
    /// The output holds something, and no checkpoint says what: it may be somebody else's.
    NotEmpty {
        /// The output.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
    /// The output is shorter than a checkpoint says.
    Shrunk {
        /// The output.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
        /// How long it was at the checkpoint.
        expected: u64,
    },
}

impl LinesError {
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
            Self::NotEmpty { path, length } => write!(
                f,
                "{} holds {length} bytes, and there is no checkpoint that goes with it: put the checkpoints \
                 back, or move the output away to start afresh",
                path.display()
            ),
            Self::Shrunk { path, length, expected } => write!(
                f,
                "{} has {length} bytes, but {expected} were written by an earlier run",
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
