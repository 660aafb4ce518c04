use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A line as it was read, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number in the file, from 1.
    pub number: u64,
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// Its length in bytes, without the line feed.
    pub length: u64,
    /// The line without the line feed; or its beginning, if it is longer than the source keeps.
    pub bytes: Vec<u8>,
}

impl Line {
    /// Whether [`bytes`](Self::bytes) is all of it.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.length
    }

    /// The line as text, without a carriage return at its end.
    ///
    /// # Errors
    ///
    /// [`LineError`], which says where. The bytes are still here.
    pub fn text(&self) -> Result<&str, LineError> {
        let error = |reason| LineError { number: self.number, offset: self.offset, reason };
        if !self.is_whole() {
            return Err(error(Unreadable::TooLong { length: self.length }));
        }
        let bytes = self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes);
        str::from_utf8(bytes).map_err(|not| error(Unreadable::NotUtf8 { at: not.valid_up_to() }))
    }
}

/// A line that is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineError {
    /// The line's number in the file, from 1.
    pub number: u64,
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: Unreadable,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unreadable {
    /// It is longer than the source keeps.
    TooLong {
        /// Its length in bytes.
        length: u64,
    },
    /// It is not UTF-8.
    NotUtf8 {
        /// How many of its bytes are.
        at: usize,
    },
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, offset, reason } = self;
        write!(f, "line {number}, at byte {offset}, ")?;
        match reason {
            Unreadable::TooLong { length } => write!(f, "is too long: {length} bytes"),
            Unreadable::NotUtf8 { at } => write!(f, "is not UTF-8 behind its first {at} bytes"),
        }
    }
}

impl Error for LineError {}
