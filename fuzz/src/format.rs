//! A snapshot's formats, written down a second time, because the expectations of a fuzz target must not come
//! from the code under test.

use inflight_core::envelope::{self, HEADER_LEN, Magic};
use inflight_core::{AsyncWait, Checkpoint, CheckpointId, Instant};
use serde::{Deserialize, Serialize};

/// The section's name in every checkpoint here, and the current schema version.
pub const NAME: &str = "stage";
pub const SCHEMA: u32 = 2;

/// The newest format of a snapshot.
pub const FORMAT: u16 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub entries: u64,
    pub next_request_id: u64,
    pub request_id_step: u64,
    pub watermark: Option<i64>,
    pub idle: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    Record(Call),
    Watermark(i64),
    Idle,
    Active,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub timestamp: Option<i64>,
    pub request_id: u64,
    pub key: u64,
    pub attempts: u32,
    pub interrupted: u32,
    pub spent: u64,
    pub progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Progress {
    Waiting,
    Backoff(u64),
    Done,
    Dropped,
}

/// An entry; for a record, with its data.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub entry: Entry,
    pub input: Vec<u8>,
    pub result: Vec<u8>,
}

impl Piece {
    pub fn control(entry: Entry) -> Self {
        Self { entry, input: Vec::new(), result: Vec::new() }
    }

    pub fn call(&self) -> Option<Call> {
        match self.entry {
            Entry::Record(call) => Some(call),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub schema: u32,
    pub header: Header,
    pub pieces: Vec<Piece>,
}

impl Snapshot {
    /// Reads a section; `None` if it is not a snapshot.
    pub fn read(section: &[u8]) -> Option<Self> {
        let (format, schema, body) = envelope::open_up_to(section, section_magic(), FORMAT).ok()?;
        let (header, mut rest) = postcard::take_from_bytes::<Header>(body).ok()?;
        let mut expected = Expected::new(&header);
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let entry = match format {
                1 => take_entry_of_format_1(&mut rest)?,
                _ => expected.take_entry(&mut rest)?,
            };
            let mut piece = Piece::control(entry);
            if let Some(call) = piece.call() {
                piece.input = sized(format, &mut rest)?.to_vec();
                if call.progress == Progress::Done {
                    piece.result = sized(format, &mut rest)?.to_vec();
                }
            }
            pieces.push(piece);
        }
        (pieces.len() as u64 == header.entries).then_some(Self { schema, header, pieces })
    }

    /// The body in a format, without its envelope, with the number of entries made consistent.
    pub fn body(&self, format: u16) -> Vec<u8> {
        let header = Header { entries: self.pieces.len() as u64, ..self.header };
        let mut body = to_bytes(&header);
        let mut expected = Expected::new(&header);
        for piece in &self.pieces {
            match format {
                1 => body.extend(to_bytes(&piece.entry)), // the derived form
                _ => expected.extend_entry(&mut body, piece.entry),
            }
            if let Some(call) = piece.call() {
                extend_sized(format, &mut body, &piece.input);
                if call.progress == Progress::Done {
                    extend_sized(format, &mut body, &piece.result);
                }
            }
        }
        body
    }

    /// The whole in a format.
    pub fn seal(&self, format: u16) -> Vec<u8> {
        seal(&self.body(format), section_magic(), format, self.schema)
    }

    pub fn records(&self) -> impl Iterator<Item = (Call, &Piece)> {
        self.pieces.iter().filter_map(|piece| Some((piece.call()?, piece)))
    }

    pub fn controls(&self) -> impl Iterator<Item = Entry> {
        self.pieces.iter().filter(|piece| piece.call().is_none()).map(|piece| piece.entry)
    }
}

fn take_entry_of_format_1(bytes: &mut &[u8]) -> Option<Entry> {
    Some(match byte(bytes)? {
        0 => Entry::Record(Call {
            timestamp: match byte(bytes)? {
                0 => None,
                1 => Some(take(bytes)?),
                _ => return None,
            },
            request_id: take(bytes)?,
            key: take(bytes)?,
            attempts: small(take(bytes)?)?,
            interrupted: small(take(bytes)?)?,
            spent: take(bytes)?,
            progress: {
                let progress = byte(bytes)?;
                take_progress(progress, bytes)?
            },
        }),
        1 => Entry::Watermark(take(bytes)?),
        2 => Entry::Idle,
        3 => Entry::Active,
        _ => return None,
    })
}

/// The expectations of format 2 of the next record.
struct Expected {
    timestamp: i64,
    /// The record before.
    last: Call,
    step: u64,
}

impl Expected {
    fn new(header: &Header) -> Self {
        let last = Call {
            timestamp: None,
            request_id: 0_u64.wrapping_sub(header.request_id_step),
            key: 0,
            attempts: 0,
            interrupted: 0,
            spent: 0,
            progress: Progress::Waiting,
        };
        Self { timestamp: 0, last, step: header.request_id_step }
    }

    fn take_entry(&mut self, bytes: &mut &[u8]) -> Option<Entry> {
        let tag = byte(bytes)?;
        let mut call = match tag {
            0x80 => return take(bytes).map(Entry::Watermark),
            0x81 => return Some(Entry::Idle),
            0x82 => return Some(Entry::Active),
            0x83.. => return None,
            _ => Call { timestamp: None, ..self.last },
        };
        call.request_id = call.request_id.wrapping_add(self.step);
        if tag & 4 != 0 {
            self.timestamp = self.timestamp.wrapping_add(take(bytes)?);
            call.timestamp = Some(self.timestamp);
        }
        if tag & 8 != 0 {
            call.request_id = call.request_id.wrapping_add_signed(take(bytes)?);
        }
        if tag & 16 != 0 {
            call.key = call.key.wrapping_add_signed(take(bytes)?);
        }
        if tag & 32 != 0 {
            call.attempts = small(u64::from(call.attempts).wrapping_add_signed(take(bytes)?))?;
            let interrupted = u64::from(call.interrupted).wrapping_add_signed(take(bytes)?);
            call.interrupted = small(interrupted)?;
        }
        if tag & 64 != 0 {
            call.spent = call.spent.wrapping_add_signed(take(bytes)?);
        }
        call.progress = take_progress(tag & 3, bytes)?;
        self.last = call;
        Some(Entry::Record(call))
    }

    fn extend_entry(&mut self, body: &mut Vec<u8>, entry: Entry) {
        let call = match entry {
            Entry::Record(call) => call,
            Entry::Watermark(timestamp) => {
                body.push(0x80);
                return body.extend(to_bytes(&timestamp));
            }
            Entry::Idle => return body.push(0x81),
            Entry::Active => return body.push(0x82),
        };
        let (tag_at, last) = (body.len(), self.last);
        let (progress, rest) = match call.progress {
            Progress::Waiting => (0, None),
            Progress::Backoff(rest) => (1, Some(rest)),
            Progress::Done => (2, None),
            Progress::Dropped => (3, None),
        };
        body.push(progress);
        let mut extend = |bit: u8, differences: &[u64]| {
            body[tag_at] |= bit;
            differences.iter().for_each(|number| body.extend(to_bytes(&(*number as i64))));
        };
        if let Some(timestamp) = call.timestamp {
            extend(4, &[timestamp.wrapping_sub(self.timestamp) as u64]);
            self.timestamp = timestamp;
        }
        let request_id = last.request_id.wrapping_add(self.step);
        if call.request_id != request_id {
            extend(8, &[call.request_id.wrapping_sub(request_id)]);
        }
        if call.key != last.key {
            extend(16, &[call.key.wrapping_sub(last.key)]);
        }
        if (call.attempts, call.interrupted) != (last.attempts, last.interrupted) {
            let difference = |one: u32, other: u32| u64::from(one).wrapping_sub(other.into());
            let interrupted = difference(call.interrupted, last.interrupted);
            extend(32, &[difference(call.attempts, last.attempts), interrupted]);
        }
        if call.spent != last.spent {
            extend(64, &[call.spent.wrapping_sub(last.spent)]);
        }
        body.extend(rest.iter().flat_map(to_bytes));
        self.last = call;
    }
}

fn take_progress(number: u8, bytes: &mut &[u8]) -> Option<Progress> {
    Some(match number {
        0 => Progress::Waiting,
        1 => Progress::Backoff(take(bytes)?),
        2 => Progress::Done,
        3 => Progress::Dropped,
        _ => return None,
    })
}

fn take<'a, T: Deserialize<'a>>(bytes: &mut &'a [u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    *bytes = rest;
    Some(value)
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (byte, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*byte)
}

fn small(number: u64) -> Option<u32> {
    number.try_into().ok()
}

fn sized<'a>(format: u16, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = match format {
        1 => u8::MAX,
        _ => byte(bytes)?,
    };
    let mut length = usize::from(length);
    if length == 255 {
        let (long, rest) = bytes.split_first_chunk()?;
        (length, *bytes) = (u32::from_le_bytes(*long) as usize, rest);
    }
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn extend_sized(format: u16, bytes: &mut Vec<u8>, more: &[u8]) {
    match u8::try_from(more.len()) {
        Ok(length) if format > 1 && length < 255 => bytes.push(length),
        _ => {
            bytes.extend((format > 1).then_some(255));
            bytes.extend((more.len() as u32).to_le_bytes());
        }
    }
    bytes.extend(more);
}

pub fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("plain data serialises")
}

/// Reads a value that takes up all the bytes.
pub fn from_bytes<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

/// The body in an envelope.
pub fn seal(body: &[u8], magic: Magic, format: u16, schema: u32) -> Vec<u8> {
    let mut frame = [&[0; HEADER_LEN], body].concat();
    envelope::seal_as(&mut frame, magic, format, schema);
    frame
}

/// A checkpoint with that section.
pub fn checkpoint(section: &[u8]) -> Checkpoint {
    let mut checkpoint = Checkpoint::new(CheckpointId(1));
    checkpoint.put(NAME, section).expect("an empty checkpoint takes a section");
    checkpoint
}

/// The beginning of an operator's snapshot.
pub fn section_magic() -> Magic {
    magics().0
}

/// The beginning of a checkpoint.
pub fn checkpoint_magic() -> Magic {
    magics().1
}

/// Both beginnings, taken from real ones.
fn magics() -> (Magic, Magic) {
    static MAGICS: std::sync::OnceLock<(Magic, Magic)> = std::sync::OnceLock::new();
    *MAGICS.get_or_init(|| {
        let op = AsyncWait::ordered(1).build_core::<u8, u8, u8>().expect("a sound policy");
        let mut checkpoint = Checkpoint::new(CheckpointId(1));
        op.checkpointed(NAME, SCHEMA)
            .snapshot(Instant::ZERO, &mut checkpoint)
            .expect("an empty operator has a snapshot");
        let first = |bytes: &[u8]| *bytes.first_chunk().expect("an envelope starts with a magic");
        let section = first(checkpoint.section(NAME).expect("the section that was put"));
        (section, first(checkpoint.bytes().expect("a sound checkpoint")))
    })
}
