//! The format of a snapshot (K6), the second one.
//!
//! ```text
//! envelope (magic, format 2, the user's schema version, checksum) | header | entries
//!
//! header     elements in flight | next request id | its step | 1 and the watermark, or 0 | 1 if idle, or 0
//! record     tag 1 | the numbers that the tag names | the rest of a backoff | input | result, if it is kept
//! watermark  0x80 | timestamp
//! idle       0x81
//! active     0x82
//! ```
//! Most records have no timestamp, the next request id, and as many attempts as the record before. So a record holds only the numbers
//! that are not as expected, each as its difference from the expected one. Two bits of the tag say whether the record waits (0), is in
//! backoff (1), is done with a result (2) or without one (3); the others name the numbers:
//!
//! ```text
//! bit 2  timestamp; a record without this bit has none   expected: that of the last record that has one
//! bit 3  request id                                      expected: the last record's and the step
//! bit 4  key                                             expected: the last record's
//! bit 5  attempts, and interrupted attempts              expected: the last record's
//! bit 6  time spent                                      expected: the last record's
//! ```
//! Before the first record 0 is expected of each. Differences wrap around.
//!
//! Numbers are in LEB128, as in postcard; differences and timestamps are signed, in zigzag: 0, −1, 1, −2. Timestamps are in
//! milliseconds, other times in nanoseconds.
//!
//! Inputs and results are in postcard. The length of each stands before it, in one byte, or from 255 on in four bytes behind a byte
//! 255. So a record of an older schema can be told from its neighbours, and code that does not know their type can sort them.
//!
//! **Format 1** is read as well. There a record holds all its numbers as they are, in the same order, and a length takes four bytes:
//!
//! ```text
//! record     0 | timestamp, as the watermark in the header | the other numbers | 0 to 3 as in the tag | the rest of a backoff
//!            | input | result, if it is kept
//! watermark  1 | timestamp
//! idle       2
//! active     3
//! ```

#[cfg(feature = "checkpoint")]
use crate::checkpoint::envelope::Magic;
use crate::time::Timestamp;

#[cfg(feature = "checkpoint")]
pub(super) const MAGIC: Magic = *b"ifOP";

/// The format that is written, and the newest one that is read.
#[cfg(feature = "checkpoint")]
pub(super) const FORMAT: u16 = 2;

#[cfg(feature = "checkpoint")]
pub(super) mod tag {
    pub(in super::super) const PROGRESS: u8 = 3;
    pub(in super::super) const TIMESTAMP: u8 = 1 << 2;
    /// The bits that name a record's numbers, in their order; one bit names two.
    pub(in super::super) const NUMBERS: [u8; 6] =
        [TIMESTAMP, 1 << 3, 1 << 4, 1 << 5, 1 << 5, 1 << 6];
    // A control element's.
    pub(in super::super) const WATERMARK: u8 = 0x80;
    pub(in super::super) const IDLE: u8 = 0x81;
    pub(in super::super) const ACTIVE: u8 = 0x82;
}

#[cfg(feature = "checkpoint")]
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) entries: u64,
    /// The id of the next record, and the step in which ids grow.
    pub(super) next_request_id: u64,
    pub(super) request_id_step: u64,
    /// The watermark before everything in flight, and whether the stream was idle there.
    pub(super) watermark: Option<Timestamp>,
    pub(super) idle: bool,
}

/// An element in flight. The bytes of a record's input and of its result, which is empty if none was kept, are those of the user's
/// types.
#[cfg(feature = "checkpoint")]
#[derive(Clone, Copy)]
pub(super) enum Entry<'a> {
    Record { call: SavedCall, input: &'a [u8], result: &'a [u8] },
    Watermark(Timestamp),
    Idle,
    Active,
}

/// Times are in nanoseconds.
#[derive(Clone, Copy)]
pub(in crate::operator) struct SavedCall {
    pub(in crate::operator) timestamp: Option<Timestamp>,
    pub(super) request_id: u64,
    pub(super) key: u64,
    pub(super) attempts: u32,
    pub(super) interrupted: u32,
    pub(super) spent: u64,
    pub(super) progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::operator) enum Progress {
    /// Its next attempt starts at once.
    Waiting,
    /// Its next attempt starts after the rest of its backoff.
    Backoff(u64),
    /// It is done; its result follows.
    Done,
    /// It is done, and leaves without an outcome.
    Dropped,
}

/// The numbers that are expected of the next record, in their order: the timestamp, the request id, the key, the attempts, the
/// interrupted attempts and the time spent.
#[cfg(feature = "checkpoint")]
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) numbers: [u64; 6],
    request_id_step: u64,
}

#[cfg(feature = "checkpoint")]
impl Expected {
    /// Of the first record.
    pub(super) fn first(request_id_step: u64) -> Self {
        Self { numbers: [0; 6], request_id_step }
    }

    /// Behind a record with these numbers.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn advance(&mut self, numbers: [u64; 6]) {
        self.numbers = numbers;
        self.numbers[1] = numbers[1].wrapping_add(self.request_id_step);
    }
}
