//! Rescaling: one snapshot becomes several, several become one. Records are sorted by their key without
//! knowing their type.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::RestoreError;
use super::format::{Entry, Header, MAGIC, Progress, SavedCall, read, split_length};
use crate::checkpoint::envelope::{self, HEADER_LEN};
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
    let mut builders: Vec<Builder> = (0..parts).map(|_| Builder::default()).collect();
    for piece in whole.pieces {
        match piece.entry {
            Entry::Record(call) => builders[owner(call.key) % parts].push(&piece),
            // Each instance needs all of event time.
            _ => builders.iter_mut().for_each(|builder| builder.push(&piece)),
        }
    }
    let Header { next_request_id, request_id_step, .. } = whole.header;
    let header = |part: usize| Header {
        // Ids wrap around, as they do when they are given out.
        next_request_id: next_request_id.wrapping_add(request_id_step.saturating_mul(part as u64)),
        request_id_step: request_id_step.saturating_mul(parts as u64),
        ..whole.header
    };
    Ok(builders
        .into_iter()
        .enumerate()
        .map(|(part, builder)| builder.build(whole.schema, header(part)))
        .collect())
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
    let mut builder = Builder::default();
    let mut said = (watermark, idle);
    // The source with the lowest watermark goes next, so that the minimum can grow.
    while let Some(next) = behind(&mut sources) {
        let Some(piece) = next.pieces.pop_front() else { break };
        match piece.entry {
            Entry::Record(_) => builder.push(&piece),
            Entry::Watermark(timestamp) => next.header.watermark = Some(timestamp),
            Entry::Idle => next.header.idle = true,
            Entry::Active => next.header.idle = false,
        }
        let (watermark, idle) = progress(&sources);
        if idle != said.1 {
            builder.push_control(if idle { Entry::Idle } else { Entry::Active });
            said.1 = idle;
        }
        if let Some(timestamp) = watermark.filter(|_| watermark > said.0) {
            builder.push_control(Entry::Watermark(timestamp));
            said.0 = watermark;
        }
    }
    Ok(builder.build(schema, header))
}

/// Whether these bytes are an operator's snapshot that holds records or control elements.
pub(crate) fn holds_anything(snapshot: &[u8]) -> bool {
    let opened = envelope::open(snapshot, MAGIC).ok();
    let header = opened.and_then(|(_, body)| read::<Header>(body).ok());
    header.is_some_and(|(header, _)| header.entries > 0)
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
    let left = sources.iter_mut().filter(|source| !source.pieces.is_empty());
    left.min_by_key(|source| source.header.watermark)
}

/// A snapshot with its entries found, but their inputs not read.
struct Opened<'a> {
    schema: u32,
    header: Header,
    pieces: VecDeque<Piece<'a>>,
}

struct Piece<'a> {
    entry: Entry,
    /// All its bytes.
    bytes: &'a [u8],
}

impl<'a> Opened<'a> {
    fn open(snapshot: &'a [u8]) -> Result<Self, RestoreError> {
        let (schema, body) = envelope::open(snapshot, MAGIC).map_err(RestoreError::Format)?;
        let (header, mut rest) = read::<Header>(body)?;
        let mut pieces = VecDeque::new();
        while !rest.is_empty() {
            let (entry, mut behind) = read::<Entry>(rest)?;
            if let Entry::Record(SavedCall { progress, .. }) = entry {
                (_, behind) = split_length(behind)?;
                if progress == Progress::Done {
                    (_, behind) = split_length(behind)?;
                }
            }
            let bytes = &rest[..rest.len() - behind.len()];
            pieces.push_back(Piece { entry, bytes });
            rest = behind;
        }
        if pieces.len() as u64 != header.entries {
            return Err(RestoreError::Damaged);
        }
        Ok(Self { schema, header, pieces })
    }
}

#[derive(Default)]
struct Builder {
    entries: u64,
    bytes: Vec<u8>,
}

impl Builder {
    fn push(&mut self, piece: &Piece<'_>) {
        self.entries += 1;
        self.bytes.extend_from_slice(piece.bytes);
    }

    fn push_control(&mut self, entry: Entry) {
        self.entries += 1;
        extend(&mut self.bytes, &entry);
    }

    fn build(self, schema: u32, header: Header) -> Vec<u8> {
        let mut frame = alloc::vec![0; HEADER_LEN];
        extend(&mut frame, &Header { entries: self.entries, ..header });
        frame.extend_from_slice(&self.bytes);
        envelope::seal(&mut frame, MAGIC, schema);
        frame
    }
}

fn extend<T: serde::Serialize>(bytes: &mut Vec<u8>, value: &T) {
    match postcard::to_extend(value, core::mem::take(bytes)) {
        Ok(longer) => *bytes = longer,
        Err(_) => unreachable!("numbers always serialise, and a vector always grows"),
    }
}
