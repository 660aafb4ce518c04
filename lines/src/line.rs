use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A line and its position in the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number in the file, from 1.
    pub number: u64,
    /// The position of its first byte, in bytes from the start of the file.
    pub offset: u64,
    /// Its length in bytes, without the line feed.
    pub length: u64,
    /// The line without the line feed; or its beginning, if it is longer than the source's limit.
    pub bytes: Vec<u8>,
}

impl Line {
    /// True if [`bytes`](Self::bytes) is the complete line.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.length
    }

    /// The line as text, without a carriage return at its end.
    ///
    /// # Errors
    ///
    /// [`LineError`], which names the position. The bytes are still in the line.
    pub fn text(&self) -> Result<&str, LineError> {
        let error = |reason| LineError { number: self.number, offset: self.offset, reason };
        if !self.is_whole() {
            return Err(error(Unreadable::TooLong { length: self.length }));
        }
        let bytes = self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes);
        str::from_utf8(bytes).map_err(|not| error(Unreadable::NotUtf8 { at: not.valid_up_to() }))
    }
}

/// A line that is not valid text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineError {
    /// The line's number in the file, from 1.
    pub number: u64,
    /// The position of its first byte, in bytes from the start of the file.
    pub offset: u64,
    /// The reason.
    pub reason: Unreadable,
}

/// The reason why a line is not valid text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unreadable {
    /// It is longer than the source's limit.
    TooLong {
        /// Its length in bytes.
        length: u64,
    },
    /// It is not UTF-8.
    NotUtf8 {
        /// The number of valid bytes before the first invalid one.
        at: usize,
    },
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, offset, reason } = self;
        write!(f, "line {number}, at byte {offset}, ")?;
        match reason {
            Unreadable::TooLong { length } => write!(f, "is too long: {length} bytes"),
            Unreadable::NotUtf8 { at } => write!(f, "is not UTF-8 after its first {at} bytes"),
        }
    }
}

impl Error for LineError {}
