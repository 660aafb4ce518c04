//! What is in flight as bytes, and back.
//!
//! ```text
//! envelope (magic, the user's schema version, checksum)
//! | Header | entries, each an Entry, a record's followed by its length 4 and the input's bytes
//! ```
//! All in postcard; the input's length stands in front of it so that an input of an older schema can
//! be told from its neighbours.

use core::fmt;

use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::calls::{Call, State};
use super::queue::Control;
use super::{Operator, earlier};
use crate::checkpoint::{Checkpoint, CheckpointError, Section};
use crate::element::Status;
use crate::envelope::{self, FormatError, HEADER_LEN, Magic};
use crate::retry::RetryStrategy;
use crate::storage::{Queue as _, Storage, Table as _};
use crate::time::{Instant, Span, Timestamp};

const MAGIC: Magic = *b"ifOP";

#[derive(Serialize, Deserialize)]
struct Header {
    entries: u64,
    next_request_id: u64,
}

/// What stands in a snapshot for an element in flight. Times are in nanoseconds.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Entry {
    Record(SavedCall),
    Watermark(Timestamp),
    Idle,
    Active,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct SavedCall {
    timestamp: Option<Timestamp>,
    request_id: u64,
    attempts: u32,
    spent: u64,
    /// What is left of a backoff.
    backoff: Option<u64>,
}

/// An element that a restore brought and that has no place yet.
pub(super) enum Saved<In> {
    Record(In, SavedCall),
    Control(Control),
}

/// How an operator whose inputs can be serialised does so. Kept as function pointers, so that the
/// bounds stand only where the user asks for checkpoints.
pub(super) struct Checkpointing<Op> {
    name: &'static str,
    schema: u32,
    write: fn(&Op, &mut Section<'_>) -> Result<(), CheckpointError>,
    read: fn(&mut Op, &[u8]) -> Result<(), RestoreError>,
}

impl<Op> Clone for Checkpointing<Op> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Op> Copy for Checkpointing<Op> {}

impl<Op> Checkpointing<Op> {
    pub(super) fn snapshot(
        &self,
        operator: &Op,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), CheckpointError> {
        checkpoint.put_with(self.name, |section| {
            let start = section.len();
            section.extend(&[0; HEADER_LEN]);
            (self.write)(operator, section)?;
            if let Some(frame) = section.written_since(start) {
                envelope::seal(frame, MAGIC, self.schema);
            }
            Ok(())
        })
    }
}

impl<In, Out, E, R, S> Operator<In, Out, E, R, S>
where
    R: RetryStrategy<In, Out, E>,
    S: Storage,
{
    /// Lets snapshots be taken, under the name `name` in a checkpoint. `schema` is the version of
    /// `In`'s serialised form: raise it when that changes.
    #[must_use]
    pub fn checkpointed(mut self, name: &'static str, schema: u32) -> Self
    where
        In: Serialize + DeserializeOwned,
    {
        let (write, read) = (Self::write_entries, Self::read_entries);
        self.checkpointing = Some(Checkpointing { name, schema, write, read });
        self
    }

    /// Adds what is in flight to `checkpoint`, in the order it was pushed: each record with its
    /// timestamp, its request id, the attempts made, the time spent and the rest of its backoff, and
    /// the control elements between them. Possible at any moment, also when the operator is full.
    ///
    /// A call that is done but not handed on is kept as its input, and called anew after a restore.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]; `checkpoint` is unchanged then.
    pub fn snapshot(
        &mut self,
        now: Instant,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), CheckpointError> {
        self.advance(now);
        let checkpointing = self.checkpointing.ok_or(CheckpointError::NotCheckpointed)?;
        checkpointing.snapshot(self, checkpoint)
    }

    /// Takes up what was in flight when `checkpoint` was taken, before any new input. With a smaller
    /// capacity the rest waits for places, in order, and [`push`](Self::push) is refused until all
    /// have one.
    ///
    /// An attempt that was running counts as made and is followed by another one.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]; the operator is unchanged then.
    pub fn restore(&mut self, now: Instant, checkpoint: &Checkpoint) -> Result<(), RestoreError> {
        self.advance(now);
        let checkpointing = self.checkpointing.ok_or(RestoreError::NotCheckpointed)?;
        if !self.is_empty() {
            return Err(RestoreError::NotEmpty);
        }
        let name = checkpointing.name;
        let section = checkpoint.section(name).ok_or(RestoreError::Missing { name })?;
        let (found, body) = envelope::open(section, MAGIC).map_err(RestoreError::Format)?;
        if found != checkpointing.schema {
            return Err(RestoreError::Schema { found, expected: checkpointing.schema });
        }
        (checkpointing.read)(self, body)
    }

    fn write_entries(&self, section: &mut Section<'_>) -> Result<(), CheckpointError>
    where
        In: Serialize,
    {
        let in_order = self.in_push_order();
        let all_controls = || self.queue.control_elements().filter(|(_, c)| c.is_saved());
        let entries = in_order.as_ref().len() + all_controls().count() + self.backlog.len();
        let header = Header { entries: entries as u64, next_request_id: self.next_request_id };
        write(section, &header)?;

        let mut controls = all_controls().peekable();
        let front = self.queue.front_number();
        for &index in in_order.as_ref() {
            let call = &self.calls.all()[index as usize];
            let place = call.segment.wrapping_sub(front);
            while let Some((_, control)) =
                controls.next_if(|(segment, _)| segment.wrapping_sub(front) <= place)
            {
                write_control(section, control)?;
            }
            write_record(section, call.input.as_ref(), self.save(call))?;
        }
        controls.try_for_each(|(_, control)| write_control(section, control))?;
        self.backlog.iter().try_for_each(|saved| match saved {
            Saved::Record(input, call) => write_record(section, Some(input), *call),
            Saved::Control(control) => write_control(section, control),
        })
    }

    /// The occupied slots. Request ids count up as records are pushed.
    fn in_push_order(&self) -> S::Table<u32> {
        let mut indices = S::Table::EMPTY;
        for (index, call) in self.calls.all().iter().enumerate() {
            if call.state != State::Vacant {
                // There are as many places as slots.
                let _ = indices.push(index as u32);
            }
        }
        let all = self.calls.all();
        indices.as_mut().sort_unstable_by_key(|&index| all[index as usize].request_id);
        indices
    }

    fn save(&self, call: &Call<In, Out, E>) -> SavedCall {
        let (timestamp, request_id) = (call.timestamp, call.request_id);
        let attempts = call.attempts;
        let since_start = self.now.since(call.started).as_nanos();
        let (spent, backoff) = match call.state {
            // Done: called anew.
            State::Done | State::Vacant => {
                return SavedCall { timestamp, request_id, ..SavedCall::default() };
            }
            State::Queued => (call.spent.as_nanos(), None),
            State::Running | State::Due => (since_start, None),
            State::Backoff => {
                (since_start, Some(call.spent.as_nanos().saturating_sub(since_start)))
            }
        };
        SavedCall { timestamp, request_id, attempts, spent, backoff }
    }

    fn read_entries(&mut self, body: &[u8]) -> Result<(), RestoreError>
    where
        In: DeserializeOwned,
    {
        // Once over everything before anything is taken up: all of it or nothing.
        let (header, entries) = read::<Header>(body)?;
        let (mut records, mut controls) = (0, 0);
        let mut rest = entries;
        while !rest.is_empty() {
            let (saved, behind) = read_saved::<In>(rest)?;
            match saved {
                Saved::Record(..) => records += 1,
                Saved::Control(_) => controls += 1,
            }
            rest = behind;
        }
        if records + controls != header.entries {
            return Err(RestoreError::Damaged);
        }
        let (most, room) =
            (records.max(controls), self.limits.capacity.saturating_add(S::MAX_BACKLOG));
        if most > room as u64 {
            return Err(RestoreError::TooMany { found: most, room: room as u64 });
        }
        self.next_request_id = header.next_request_id;
        rest = entries;
        while !rest.is_empty() {
            let (saved, behind) = read_saved::<In>(rest)?;
            rest = behind;
            let admitted = match self.backlog.len() {
                0 => self.admit_saved(saved),
                _ => Err(saved), // others wait before it
            };
            if let Err(saved) = admitted {
                // There is room for it: that was counted above.
                let _ = self.backlog.push_back(saved);
            }
        }
        Ok(())
    }

    #[cold]
    pub(super) fn admit_backlog(&mut self) {
        while let Some(saved) = self.backlog.pop_front() {
            if let Err(saved) = self.admit_saved(saved) {
                let _ = self.backlog.push_front(saved); // where it came from there is room
                return;
            }
        }
    }

    /// Gives a place to a restored element, or hands it back when there is none.
    fn admit_saved(&mut self, saved: Saved<In>) -> Result<(), Saved<In>> {
        match saved {
            Saved::Record(input, call) if self.calls.len() < self.limits.capacity => {
                self.admit_record(input, call).map_err(|input| Saved::Record(input, call))
            }
            Saved::Control(control) => {
                self.queue.push_control(control, self.limits.capacity).map_err(Saved::Control)
            }
            saved => Err(saved),
        }
    }

    fn admit_record(&mut self, input: In, saved: SavedCall) -> Result<(), In> {
        let (now, timeout) = (self.now, self.limits.timeout);
        let index = self.calls.insert(input, saved.timestamp, saved.request_id)?;
        self.queue.push_call(self.calls.slots(), index);
        let spent = Span::from_nanos(saved.spent);
        let slot = self.calls.at(index);
        slot.attempts = saved.attempts;
        slot.spent = spent;
        let Some(rest) = saved.backoff else {
            self.waiting.push_back(self.calls.slots(), index);
            return Ok(());
        };
        slot.started = now.back(spent);
        let retry = now.plus(Span::from_nanos(rest));
        slot.spent = retry.since(slot.started);
        slot.state = State::Backoff;
        let deadline = timeout.map(|timeout| slot.started.plus(timeout));
        if let Some(first) = earlier(Some(retry), deadline) {
            self.deadlines.set(index, first);
        }
        Ok(())
    }
}

impl Control {
    /// A barrier is not: it belongs to the checkpoint it carries, not to this one.
    fn is_saved(&self) -> bool {
        !matches!(self, Self::Barrier(_))
    }
}

fn write_record<In: Serialize>(
    section: &mut Section<'_>,
    input: Option<&In>,
    call: SavedCall,
) -> Result<(), CheckpointError> {
    write(section, &Entry::Record(call))?;
    let length_at = section.len();
    section.extend(&[0; 4]);
    let start = section.len();
    write(section, input.ok_or(CheckpointError::Serialize)?)?;
    let length = u32::try_from(section.len() - start).map_err(|_| CheckpointError::Serialize)?;
    section.fill_in(length_at, &length.to_le_bytes());
    Ok(())
}

fn write_control(section: &mut Section<'_>, control: &Control) -> Result<(), CheckpointError> {
    match control {
        Control::Watermark(timestamp) => write(section, &Entry::Watermark(*timestamp)),
        Control::Status(Status::Idle) => write(section, &Entry::Idle),
        Control::Status(Status::Active) => write(section, &Entry::Active),
        Control::Barrier(_) => Ok(()),
    }
}

fn read_saved<In: DeserializeOwned>(bytes: &[u8]) -> Result<(Saved<In>, &[u8]), RestoreError> {
    let (entry, rest) = read::<Entry>(bytes)?;
    let control = match entry {
        Entry::Record(call) => {
            let (length, rest) = rest.split_first_chunk().ok_or(RestoreError::Damaged)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (input, rest) = rest.split_at_checked(length).ok_or(RestoreError::Damaged)?;
            let (input, left) = read::<In>(input)?;
            if !left.is_empty() {
                return Err(RestoreError::Damaged);
            }
            return Ok((Saved::Record(input, call), rest));
        }
        Entry::Watermark(timestamp) => Control::Watermark(timestamp),
        Entry::Idle => Control::Status(Status::Idle),
        Entry::Active => Control::Status(Status::Active),
    };
    Ok((Saved::Control(control), rest))
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), RestoreError> {
    postcard::take_from_bytes(bytes).map_err(|_| RestoreError::Damaged)
}

fn write<T: Serialize + ?Sized>(
    section: &mut Section<'_>,
    value: &T,
) -> Result<(), CheckpointError> {
    postcard::serialize_with_flavor(value, SectionFlavor(section))
        .map_err(|_| CheckpointError::Serialize)
}

/// Lets postcard write into a section.
struct SectionFlavor<'a, 'b>(&'a mut Section<'b>);

impl Flavor for SectionFlavor<'_, '_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.extend(&[byte]);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Why an operator could not take up what a checkpoint holds. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreError {
    /// The stage takes no snapshots: say `.checkpointed(name, schema)` on it first.
    NotCheckpointed,
    /// Elements are in flight already.
    NotEmpty,
    /// The checkpoint has no section of the stage's name.
    Missing {
        /// The stage's name.
        name: &'static str,
    },
    /// The section is no snapshot of an operator, or no longer one.
    Format(FormatError),
    /// The records were saved in another version of their type.
    Schema {
        /// The version in the snapshot.
        found: u32,
        /// The stage's version.
        expected: u32,
    },
    /// The content does not fit the record type although the checksum is right. Has the type changed
    /// and its schema version not?
    Damaged,
    /// More is in the snapshot than a storage in place has room for.
    TooMany {
        /// Records in the snapshot, or control elements, whichever are more.
        found: u64,
        /// How many of them there is room for.
        room: u64,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCheckpointed => f.write_str("the stage takes no snapshots"),
            Self::NotEmpty => f.write_str("elements are in flight already"),
            Self::Missing { name } => write!(f, "the checkpoint has no section \"{name}\""),
            Self::Format(error) => write!(f, "the snapshot cannot be read: {error}"),
            Self::Schema { found, expected } => write!(
                f,
                "the records were saved under schema version {found}, the stage has {expected}"
            ),
            Self::Damaged => f.write_str(
                "the snapshot does not fit the record type; \
                 has the type changed and its schema version not?",
            ),
            Self::TooMany { found, room } => {
                write!(f, "{found} elements are in the snapshot, there is room for {room}")
            }
        }
    }
}

impl core::error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Format(error) => Some(error),
            _ => None,
        }
    }
}
