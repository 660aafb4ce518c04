//! From entries to bytes, in format 2: see [`format`](super::format).

use super::format::{Expected, Header, Progress, SavedCall, tag};
use crate::checkpoint::Section;
use crate::time::Timestamp;

/// What the bytes are appended to.
pub(super) trait Sink {
    fn extend(&mut self, bytes: &[u8]);
}

impl Sink for Section<'_> {
    #[cfg_attr(feature = "alloc", inline(always))]
    fn extend(&mut self, bytes: &[u8]) {
        Section::extend(self, bytes);
    }
}

#[cfg(feature = "alloc")]
impl Sink for alloc::vec::Vec<u8> {
    #[cfg_attr(feature = "alloc", inline(always))]
    fn extend(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

pub(super) fn header(sink: &mut impl Sink, header: &Header) {
    number(sink, header.entries);
    number(sink, header.next_request_id);
    number(sink, header.request_id_step);
    number(sink, header.watermark.is_some().into());
    if let Some(watermark) = header.watermark {
        signed(sink, watermark.as_millis() as u64);
    }
    number(sink, header.idle.into());
}

/// A record, up to its input.
#[cfg_attr(feature = "alloc", inline(always))]
pub(super) fn record(sink: &mut impl Sink, expected: &mut Expected, call: &SavedCall) {
    let (mut tag, rest) = match call.progress {
        Progress::Waiting => (0, None),
        Progress::Backoff(rest) => (1, Some(rest)),
        Progress::Done => (2, None),
        Progress::Dropped => (3, None),
    };
    let mut numbers = [
        expected.numbers[0],
        call.request_id,
        call.key,
        call.attempts.into(),
        call.interrupted.into(),
        call.spent,
    ];
    if let Some(timestamp) = call.timestamp {
        tag |= tag::TIMESTAMP;
        numbers[0] = timestamp.as_millis() as u64;
    }
    for (at, bit) in tag::NUMBERS.into_iter().enumerate() {
        if numbers[at] != expected.numbers[at] {
            tag |= bit;
        }
    }
    sink.extend(&[tag]);
    for (at, bit) in tag::NUMBERS.into_iter().enumerate() {
        if tag & bit != 0 {
            signed(sink, numbers[at].wrapping_sub(expected.numbers[at]));
        }
    }
    if let Some(rest) = rest {
        number(sink, rest);
    }
    expected.advance(numbers);
}

pub(super) fn watermark(sink: &mut impl Sink, timestamp: Timestamp) {
    sink.extend(&[tag::WATERMARK]);
    signed(sink, timestamp.as_millis() as u64);
}

/// The bits of a signed number, so that those near zero take few bytes.
#[cfg_attr(feature = "alloc", inline(always))]
fn signed(sink: &mut impl Sink, bits: u64) {
    number(sink, bits << 1 ^ (bits as i64 >> 63) as u64);
}

#[cfg_attr(feature = "alloc", inline(always))]
fn number(sink: &mut impl Sink, mut number: u64) {
    while number >= 0x80 {
        sink.extend(&[number as u8 | 0x80]);
        number >>= 7;
    }
    sink.extend(&[number as u8]);
}
