//! A snapshot's format, written down a second time, because the expectations of a fuzz target must not come
//! from the code under test.

use inflight_core::envelope::{self, HEADER_LEN, Magic};
use inflight_core::{AsyncWait, Checkpoint, CheckpointId, Instant};
use serde::{Deserialize, Serialize};

/// The section's name in every checkpoint here, and the current schema version.
pub const NAME: &str = "stage";
pub const SCHEMA: u32 = 2;

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
        let (schema, body) = envelope::open(section, section_magic()).ok()?;
        let (header, mut rest) = postcard::take_from_bytes::<Header>(body).ok()?;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (entry, behind) = postcard::take_from_bytes::<Entry>(rest).ok()?;
            let mut piece = Piece::control(entry);
            rest = behind;
            if let Some(call) = piece.call() {
                piece.input = sized(&mut rest)?.to_vec();
                if call.progress == Progress::Done {
                    piece.result = sized(&mut rest)?.to_vec();
                }
            }
            pieces.push(piece);
        }
        (pieces.len() as u64 == header.entries).then_some(Self { schema, header, pieces })
    }

    /// The body, without its envelope, with the number of entries made consistent.
    pub fn body(&self) -> Vec<u8> {
        let header = Header { entries: self.pieces.len() as u64, ..self.header };
        let mut body = to_bytes(&header);
        for piece in &self.pieces {
            body.extend(to_bytes(&piece.entry));
            if let Some(call) = piece.call() {
                extend_sized(&mut body, &piece.input);
                if call.progress == Progress::Done {
                    extend_sized(&mut body, &piece.result);
                }
            }
        }
        body
    }

    pub fn records(&self) -> impl Iterator<Item = (Call, &Piece)> {
        self.pieces.iter().filter_map(|piece| Some((piece.call()?, piece)))
    }

    pub fn controls(&self) -> impl Iterator<Item = Entry> {
        self.pieces.iter().filter(|piece| piece.call().is_none()).map(|piece| piece.entry)
    }
}

fn sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (taken, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *bytes = rest;
    Some(taken)
}

fn extend_sized(bytes: &mut Vec<u8>, more: &[u8]) {
    bytes.extend((more.len() as u32).to_le_bytes());
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
pub fn seal(body: &[u8], magic: Magic, schema: u32) -> Vec<u8> {
    let mut frame = [&[0; HEADER_LEN], body].concat();
    envelope::seal(&mut frame, magic, schema);
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
