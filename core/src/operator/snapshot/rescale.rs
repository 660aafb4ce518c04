//! Rescaling: one snapshot becomes several, several become one. Records are sorted by their key without
//! knowing their type.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::RestoreError;
use super::format::{Entry, Expected, FORMAT, Header, MAGIC, Progress, tag};
use super::user_types::LONG;
use super::{decode, encode};
use crate::checkpoint::envelope::{self, FormatError, HEADER_LEN};
use crate::time::Timestamp;

/// Splits a stage's snapshot over `parts` instances: `owner` maps each record's key, as
/// [`hash_key`](crate::hash_key) made it, to the instance that gets the record (modulo `parts`). A record has a key
/// whether the order is by it or not ([`with_key`](crate::AsyncWait::with_key)); without one that is 0.
///
/// Each part keeps its records in their order and gets every watermark and status. The instances' new
/// request ids do not clash.
///
/// # Errors
///
/// [`RestoreError`] when `snapshot` is not an operator's snapshot. [`RestoreError::NoParts`] when `parts` is zero.
///
/// ```
/// use inflight_core::*;
///
/// # let mut op = AsyncWait::ordered(4).with_given_key().build_core::<u32, u32, ()>().unwrap().checkpointed("stage", 1);
/// # op.push_with_key(Instant::ZERO, 7, StreamElement::value(1)).unwrap();
/// let mut checkpoint = Checkpoint::new(CheckpointId(1));
/// op.snapshot(Instant::ZERO, &mut checkpoint).unwrap();
/// let parts = split_snapshot(checkpoint.section("stage").unwrap(), 3, |key| key as usize).unwrap();
/// let whole = merge_snapshots(parts.iter().map(Vec::as_slice)).unwrap();
/// # assert_eq!(parts.len(), 3);
/// # assert!(whole.len() > 20);
/// ```
pub fn split_snapshot(
    snapshot: &[u8],
    parts: usize,
    owner: impl Fn(u64) -> usize,
) -> Result<Vec<Vec<u8>>, RestoreError> {
    if parts == 0 {
        return Err(RestoreError::NoParts);
    }
    let whole = Opened::open(snapshot)?;
    let Header { next_request_id, request_id_step, .. } = whole.header;
    let header = |part: usize| Header {
        // Ids wrap around, as they do when they are given out.
        next_request_id: next_request_id.wrapping_add(request_id_step.saturating_mul(part as u64)),
        request_id_step: request_id_step.saturating_mul(parts as u64),
        ..whole.header
    };
    let mut builders: Vec<_> = (0..parts).map(|part| Builder::new(header(part))).collect();
    for entry in whole.entries {
        match entry {
            Entry::Record { call, .. } => builders[owner(call.key) % parts].push(entry),
            // Each instance needs all of event time.
            _ => builders.iter_mut().for_each(|builder| builder.push(entry)),
        }
    }
    Ok(builders.into_iter().map(|builder| builder.build(whole.schema)).collect())
}

/// Merges the snapshots of several instances into one. Each one's records keep their order; the merged
/// watermark is at every point the minimum of theirs, so that no record becomes late. Instances that are
/// idle do not hold it back.
///
/// # Errors
///
/// [`RestoreError`] when one of them is not an operator's snapshot, or of another schema version than the first.
/// [`RestoreError::NoParts`] when there are none.
pub fn merge_snapshots<'a>(
    snapshots: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, RestoreError> {
    let opened: Result<Vec<_>, _> = snapshots.into_iter().map(Opened::open).collect();
    let mut sources = opened?;
    let Some(first) = sources.first() else { return Err(RestoreError::NoParts) };
    let schema = first.schema;
    if let Some(other) = sources.iter().find(|source| source.schema != schema) {
        return Err(RestoreError::Schema { found: other.schema, expected: schema });
    }
    let (watermark, idle) = progress(&sources);
    let header = Header {
        entries: 0,
        next_request_id: sources.iter().map(|s| s.header.next_request_id).max().unwrap_or(0),
        request_id_step: 1, // no other part counts from here
        watermark,
        idle,
    };
    let mut builder = Builder::new(header);
    let mut said = (watermark, idle);
    // The source with the lowest watermark goes next, so that the minimum can grow.
    while let Some(next) = behind(&mut sources) {
        let Some(entry) = next.entries.pop_front() else { break };
        match entry {
            Entry::Record { .. } => builder.push(entry),
            Entry::Watermark(timestamp) => next.header.watermark = Some(timestamp),
            Entry::Idle => next.header.idle = true,
            Entry::Active => next.header.idle = false,
        }
        let (watermark, idle) = progress(&sources);
        if idle != said.1 {
            builder.push(if idle { Entry::Idle } else { Entry::Active });
            said.1 = idle;
        }
        if let Some(timestamp) = watermark.filter(|_| watermark > said.0) {
            builder.push(Entry::Watermark(timestamp));
            said.0 = watermark;
        }
    }
    Ok(builder.build(schema))
}

/// Whether these bytes are an operator's snapshot that holds records or control elements. One of a format that is not known may.
pub(crate) fn holds_anything(snapshot: &[u8]) -> bool {
    match decode::open(snapshot) {
        Ok((_, header, _)) => header.entries > 0,
        Err(error) => matches!(error, RestoreError::Format(FormatError::Newer { .. })),
    }
}

/// The watermark of several streams together, and whether all of them are idle.
fn progress(sources: &[Opened<'_>]) -> (Option<Timestamp>, bool) {
    let active = || sources.iter().filter(|source| !source.header.idle);
    match active().map(|source| source.header.watermark).min() {
        Some(watermark) => (watermark, false),
        None => (sources.iter().filter_map(|source| source.header.watermark).max(), true),
    }
}

/// The source with something left whose watermark is the lowest.
fn behind<'s, 'a>(sources: &'s mut [Opened<'a>]) -> Option<&'s mut Opened<'a>> {
    let left = sources.iter_mut().filter(|source| !source.entries.is_empty());
    left.min_by_key(|source| source.header.watermark)
}

/// A snapshot with its entries found, but their inputs not read.
struct Opened<'a> {
    schema: u32,
    header: Header,
    entries: VecDeque<Entry<'a>>,
}

impl<'a> Opened<'a> {
    fn open(snapshot: &'a [u8]) -> Result<Self, RestoreError> {
        let (schema, header, mut left) = decode::open(snapshot)?;
        let mut entries = VecDeque::new();
        while let Some(entry) = left.next()? {
            entries.push_back(entry);
        }
        if entries.len() as u64 != header.entries {
            return Err(RestoreError::Damaged);
        }
        Ok(Self { schema, header, entries })
    }
}

struct Builder {
    header: Header,
    expected: Expected,
    /// The entries.
    bytes: Vec<u8>,
}

impl Builder {
    fn new(header: Header) -> Self {
        let expected = Expected::first(header.request_id_step);
        Self { header: Header { entries: 0, ..header }, expected, bytes: Vec::new() }
    }

    fn push(&mut self, entry: Entry<'_>) {
        self.header.entries += 1;
        match entry {
            Entry::Record { call, input, result } => {
                encode::record(&mut self.bytes, &mut self.expected, &call);
                self.extend_sized(input);
                if call.progress == Progress::Done {
                    self.extend_sized(result);
                }
            }
            Entry::Watermark(timestamp) => {
                encode::watermark(&mut self.bytes, timestamp);
            }
            Entry::Idle => self.bytes.push(tag::IDLE),
            Entry::Active => self.bytes.push(tag::ACTIVE),
        }
    }

    fn extend_sized(&mut self, bytes: &[u8]) {
        let length = bytes.len();
        self.bytes.push(length.min(LONG) as u8);
        if length >= LONG {
            self.bytes.extend_from_slice(&(length as u32).to_le_bytes()); // it had four bytes, or one
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn build(self, schema: u32) -> Vec<u8> {
        let mut frame = alloc::vec![0; HEADER_LEN];
        encode::header(&mut frame, &self.header);
        frame.extend_from_slice(&self.bytes);
        envelope::seal_as(&mut frame, MAGIC, FORMAT, schema);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checkpoint;

    // K10: what is in flight is not left behind unseen, in whatever format.
    #[test]
    fn snapshots_of_every_format_say_whether_they_hold_anything() {
        let old = include_bytes!("../../../tests/fixtures/format_1.checkpoint");
        let old = Checkpoint::from_bytes(old).expect("it is whole");
        let old = old.section("numbers").expect("the section");
        assert!(holds_anything(old));
        assert!(!holds_anything(b"the position of a source"));

        let whole = Opened::open(old).expect("it is whole");
        assert!(!holds_anything(&Builder::new(whole.header).build(1)));
        let mut builder = Builder::new(whole.header);
        builder.push(Entry::Idle);
        let mut new = builder.build(1);
        assert!(holds_anything(&new));
        envelope::seal_as(&mut new, MAGIC, FORMAT + 1, 1);
        assert!(holds_anything(&new), "it cannot be told");
    }
}
