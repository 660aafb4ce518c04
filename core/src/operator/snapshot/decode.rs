//! From bytes to entries, in both formats: see [`format`](super::format).

use super::RestoreError;
use super::format::{Entry, Expected, FORMAT, Header, MAGIC, Progress, SavedCall, tag};
use crate::checkpoint::envelope;
use crate::time::Timestamp;

/// A snapshot's schema version, its header, and its entries.
pub(super) fn open(snapshot: &[u8]) -> Result<(u32, Header, Entries<'_>), RestoreError> {
    let opened = envelope::open_up_to(snapshot, MAGIC, FORMAT);
    let (format, schema, body) = opened.map_err(RestoreError::Format)?;
    let mut rest = Rest(body);
    let header = rest.header().ok_or(RestoreError::Damaged)?;
    let expected = Expected::first(header.request_id_step);
    Ok((schema, header, Entries { format, expected, rest }))
}

/// Entries, which are read one at a time.
#[derive(Clone, Copy)]
pub(super) struct Entries<'a> {
    format: u16,
    expected: Expected,
    rest: Rest<'a>,
}

impl<'a> Entries<'a> {
    /// The next entry, or `None` behind the last one.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn next(&mut self) -> Result<Option<Entry<'a>>, RestoreError> {
        if self.rest.0.is_empty() {
            return Ok(None);
        }
        self.entry().map(Some).ok_or(RestoreError::Damaged)
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn entry(&mut self) -> Option<Entry<'a>> {
        let mut tag = self.rest.byte()?;
        if self.format == 1 {
            tag = self.rest.tag_from_format_1(tag)?;
        }
        let call = match tag {
            tag::WATERMARK => return self.rest.timestamp().map(Entry::Watermark),
            tag::IDLE => return Some(Entry::Idle),
            tag::ACTIVE => return Some(Entry::Active),
            tag if tag < 0x80 => self.call(tag)?,
            _ => return None,
        };
        let input = self.sized()?;
        let result = if call.progress == Progress::Done { self.sized()? } else { &[] };
        Some(Entry::Record { call, input, result })
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn call(&mut self, tag: u8) -> Option<SavedCall> {
        let is_old = self.format == 1;
        let mut numbers = self.expected.numbers;
        for (at, bit) in tag::NUMBERS.into_iter().enumerate() {
            if tag & bit == 0 {
                continue;
            }
            let number = self.rest.number()?;
            numbers[at] = match is_old {
                true if at > 0 => number,
                true => from_zigzag(number),
                false => numbers[at].wrapping_add(from_zigzag(number)),
            };
        }
        self.expected.advance(numbers);
        let progress = if is_old { self.rest.byte()? } else { tag & tag::PROGRESS };
        let [timestamp, request_id, key, attempts, interrupted, spent] = numbers;
        let has_timestamp = tag & tag::TIMESTAMP != 0;
        Some(SavedCall {
            timestamp: has_timestamp.then_some(Timestamp::from_millis(timestamp as i64)),
            request_id,
            key,
            attempts: attempts.try_into().ok()?,
            interrupted: interrupted.try_into().ok()?,
            spent,
            progress: match progress {
                0 => Progress::Waiting,
                1 => Progress::Backoff(self.rest.number()?),
                2 => Progress::Done,
                3 => Progress::Dropped,
                _ => return None,
            },
        })
    }

    /// The bytes that stand behind their length.
    #[cfg_attr(feature = "alloc", inline(always))]
    fn sized(&mut self) -> Option<&'a [u8]> {
        let mut length = u32::from(u8::MAX);
        if self.format > 1 {
            length = self.rest.byte()?.into();
        }
        if length == u32::from(u8::MAX) {
            length = u32::from_le_bytes(self.rest.array()?);
        }
        let (bytes, rest) = self.rest.0.split_at_checked(length as usize)?;
        self.rest = Rest(rest);
        Some(bytes)
    }
}

/// The bytes that have not been read.
#[derive(Clone, Copy)]
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn header(&mut self) -> Option<Header> {
        Some(Header {
            entries: self.number()?,
            next_request_id: self.number()?,
            request_id_step: self.number()?,
            watermark: match self.flag()? {
                true => Some(self.timestamp()?),
                false => None,
            },
            idle: self.flag()?,
        })
    }

    /// The tag that an entry of format 1 would have today, from its first byte.
    #[cold]
    fn tag_from_format_1(&mut self, first: u8) -> Option<u8> {
        Some(match first {
            0 if self.flag()? => 0x7c, // all numbers
            0 => 0x7c & !tag::TIMESTAMP,
            1 => tag::WATERMARK,
            2 => tag::IDLE,
            3 => tag::ACTIVE,
            _ => return None,
        })
    }

    fn timestamp(&mut self) -> Option<Timestamp> {
        Some(Timestamp::from_millis(from_zigzag(self.number()?) as i64))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return None; // more than 64 bits
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}

/// The bits of a signed number.
#[cfg_attr(feature = "alloc", inline(always))]
fn from_zigzag(number: u64) -> u64 {
    number >> 1 ^ 0_u64.wrapping_sub(number & 1)
}
