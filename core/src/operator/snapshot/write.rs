//! What is in flight, as bytes.
//!
//! ```text
//! envelope (magic, the user's schema version, checksum)
//! | Header | entries, each an Entry, a record's followed by its input and, if kept, its result
//! ```
//! All in postcard. In front of an input or a result stand its length in 4 bytes, so that one of an older
//! schema can be told from its neighbours, and entries can be sorted without knowing their type.

use core::fmt;

use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::RestoreError;
use super::read::Saved;
use crate::checkpoint::envelope::{self, HEADER_LEN, Magic};
use crate::checkpoint::{Checkpoint, CheckpointError, Section};
use crate::element::{Barrier, Status};
use crate::operator::Operator;
use crate::operator::order::Control;
use crate::operator::slab::{Call, State};
use crate::outcome::Failure;
use crate::retry::RetryStrategy;
use crate::storage::{Queue as _, Storage};
use crate::time::{Instant, Timestamp};

pub(in crate::operator) const MAGIC: Magic = *b"ifOP";

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(in crate::operator) struct Header {
    pub(in crate::operator) entries: u64,
    /// The id of the next record, and by how much ids grow.
    pub(in crate::operator) next_request_id: u64,
    pub(in crate::operator) request_id_step: u64,
    /// The watermark before everything in flight, and whether the stream was idle there.
    pub(in crate::operator) watermark: Option<Timestamp>,
    pub(in crate::operator) idle: bool,
}

/// What stands in a snapshot for an element in flight. Times are in nanoseconds.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(in crate::operator) enum Entry {
    Record(SavedCall),
    Watermark(Timestamp),
    Idle,
    Active,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(in crate::operator) struct SavedCall {
    pub(in crate::operator) timestamp: Option<Timestamp>,
    pub(in crate::operator) request_id: u64,
    pub(in crate::operator) key: u64,
    pub(in crate::operator) attempts: u32,
    pub(in crate::operator) interrupted: u32,
    pub(in crate::operator) spent: u64,
    pub(in crate::operator) progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::operator) enum Progress {
    /// To be invoked.
    Waiting,
    /// To be invoked when the rest of its backoff is over.
    Backoff(u64),
    /// Done, and the result follows.
    Done,
    /// Done, and to leave without an outcome.
    Dropped,
}

/// How a stage's snapshots are taken and read: under which name, which schema version, and with what of
/// its calls. Given to [`StageBuilder::checkpointed_with`](crate::StageBuilder::checkpointed_with) or
/// [`Operator::checkpointed_with`]; where a name and a version are all there is to say,
/// [`checkpointed`](crate::StageBuilder::checkpointed) says it shorter.
///
/// ```
/// use inflight_core::{AsyncWait, Checkpointing};
///
/// /// Records of version 1 were one byte.
/// fn migrate(version: u32, bytes: &[u8]) -> Option<u32> {
///     match (version, bytes) {
///         (1, [byte]) => Some(u32::from(*byte)),
///         _ => None,
///     }
/// }
///
/// # #[cfg(feature = "alloc")] {
/// let op = AsyncWait::ordered(4).build_core::<u32, u32, ()>().unwrap();
/// let op = op.checkpointed_with(Checkpointing::new("lookup", 2).keeping_results().migrating(migrate));
/// # let _ = op;
/// # }
/// ```
// Function pointers, so that the bounds stand only where the user asks for checkpoints.
#[must_use = "it does nothing until a stage or an operator is given it"]
pub struct Checkpointing<In, Out, E> {
    pub(in crate::operator) name: &'static str,
    pub(in crate::operator) schema: u32,
    pub(in crate::operator) write_input: Write<In>,
    pub(in crate::operator) read_input: fn(&[u8]) -> Option<In>,
    pub(in crate::operator) migrate: Option<fn(u32, &[u8]) -> Option<In>>,
    pub(in crate::operator) results: Option<Results<Out, E>>,
}

pub(in crate::operator) struct Results<Out, E> {
    write: Write<Result<Out, Failure<E>>>,
    pub(in crate::operator) read: fn(&[u8]) -> Option<Result<Out, Failure<E>>>,
}

type Write<T> = fn(&mut Section<'_>, &T) -> Result<(), CheckpointError>;

impl<In, Out, E> Clone for Checkpointing<In, Out, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In, Out, E> Copy for Checkpointing<In, Out, E> {}

impl<Out, E> Clone for Results<Out, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Out, E> Copy for Results<Out, E> {}

impl<In, Out, E> fmt::Debug for Checkpointing<In, Out, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpointing")
            .field("name", &self.name)
            .field("schema", &self.schema)
            .field("keeps_results", &self.results.is_some())
            .field("migrates", &self.migrate.is_some())
            .finish_non_exhaustive()
    }
}

impl<In, Out, E> Checkpointing<In, Out, E> {
    /// Snapshots under the name `name` in a checkpoint. `schema` is the version of `In`'s serialised form:
    /// raise it when that changes.
    ///
    /// A call that is done but not handed on is kept as its input, and called anew after a restore;
    /// unless [`keeping_results`](Self::keeping_results).
    pub const fn new(name: &'static str, schema: u32) -> Self
    where
        In: Serialize + DeserializeOwned,
    {
        let (write_input, read_input) = (write::<In> as Write<In>, read_whole::<In> as _);
        Self { name, schema, write_input, read_input, migrate: None, results: None }
    }

    /// Keeps the results of calls that are done in the snapshot, so that they are not called again
    /// after a restore. The schema version is then that of all three types.
    pub const fn keeping_results(mut self) -> Self
    where
        Out: Serialize + DeserializeOwned,
        E: Serialize + DeserializeOwned,
    {
        self.results = Some(Results { write, read: read_whole });
        self
    }

    /// Reads records that were saved under an older schema version: `migrate` is given that version and
    /// the record's bytes ([postcard](https://docs.rs/postcard)) and returns the record, or `None` if it
    /// cannot. It is called twice for each record, and has to answer the same: once to see whether all can
    /// be read, before anything is taken up, and once to take it up. Without it a snapshot of an older version is
    /// refused.
    pub const fn migrating(mut self, migrate: fn(u32, &[u8]) -> Option<In>) -> Self {
        self.migrate = Some(migrate);
        self
    }
}

impl<In, Out, E, R, S, K> Operator<In, Out, E, R, S, K>
where
    R: RetryStrategy<In, Out, E>,
    S: Storage,
{
    /// Lets snapshots be taken, under the name `name` in a checkpoint. `schema` is the version of
    /// `In`'s serialised form: raise it when that changes.
    ///
    /// Short for [`checkpointed_with`](Self::checkpointed_with) and [`Checkpointing::new`]; what more there
    /// is to say about snapshots is said there.
    #[must_use]
    pub const fn checkpointed(self, name: &'static str, schema: u32) -> Self
    where
        In: Serialize + DeserializeOwned,
    {
        self.checkpointed_with(Checkpointing::new(name, schema))
    }

    /// Lets snapshots be taken as `how` says. The last one said counts.
    ///
    /// Also where the operator is built when the program is compiled:
    ///
    /// ```
    /// use std::sync::Mutex;
    ///
    /// use inflight_core::{AsyncWait, Checkpointing, Fixed, NoRetry, Operator};
    ///
    /// static READINGS: Mutex<Operator<u32, u32, (), NoRetry, Fixed<16>>> = Mutex::new(
    ///     AsyncWait::ordered(16)
    ///         .build_static(NoRetry)
    ///         .checkpointed_with(Checkpointing::new("readings", 1).keeping_results()),
    /// );
    /// # let _ = &READINGS;
    /// ```
    #[must_use]
    pub const fn checkpointed_with(mut self, how: Checkpointing<In, Out, E>) -> Self {
        self.checkpointing = Some(how);
        self
    }

    /// Adds what is in flight to `checkpoint`, in the order it was pushed: each record with its
    /// timestamp, its key, its request id, the attempts made, the time spent and the rest of its
    /// backoff, and the control elements between them. Possible at any moment, also when the operator is
    /// full. O(n log n) in the records in flight.
    ///
    /// A call that is done but not handed on is kept as its input, and called anew after a restore;
    /// unless results are kept ([`keeping_results`](Checkpointing::keeping_results)).
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
        self.put_section(checkpoint)
    }

    pub(in crate::operator) fn put_section(
        &mut self,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), CheckpointError> {
        self.calls.forget_vacant();
        let codec = self.checkpointing.ok_or(CheckpointError::NotCheckpointed)?;
        sealed(checkpoint, &codec, |section| self.write_entries(section, &codec))
    }

    /// A drained stage has nothing in flight, but goes on counting requests where it was.
    pub(in crate::operator) fn put_empty_section(&self, barrier: &mut Barrier) {
        let Some(codec) = self.checkpointing else { return };
        let header = self.header(0);
        let put = sealed(&mut barrier.checkpoint, &codec, |section| write(section, &header));
        if let Err(reason) = put {
            barrier.checkpoint.fail(reason);
        }
    }

    fn header(&self, entries: usize) -> Header {
        Header {
            entries: entries as u64,
            next_request_id: self.next_request_id,
            request_id_step: self.request_id_step,
            watermark: self.watermark,
            idle: self.idle,
        }
    }

    fn write_entries(
        &self,
        section: &mut Section<'_>,
        codec: &Checkpointing<In, Out, E>,
    ) -> Result<(), CheckpointError> {
        let front = self.queue.front_number();
        let in_order = self.calls.in_order(front);
        let saved = || self.queue.control_elements().filter(|(_, control)| control.is_saved());
        let entries = in_order.as_ref().len() + saved().count() + self.backlog.len();
        write(section, &self.header(entries))?;

        let mut controls = saved().peekable();
        for &index in in_order.as_ref() {
            let call = &self.calls.all()[index as usize];
            let place = call.segment.wrapping_sub(front);
            while let Some((_, control)) =
                controls.next_if(|(segment, _)| segment.wrapping_sub(front) <= place)
            {
                write_control(section, control)?;
            }
            let saved = self.save(call, index, codec.results.is_some());
            write_record(section, codec, call.input.as_ref(), saved, call.result.as_ref())?;
        }
        controls.try_for_each(|(_, control)| write_control(section, control))?;
        self.backlog.iter().try_for_each(|saved| match saved {
            Saved::Record(input, call, result) => {
                write_record(section, codec, Some(input), *call, result.as_ref())
            }
            Saved::Control(control) => write_control(section, control),
        })
    }

    fn save(&self, call: &Call<In, Out, E>, index: u32, keep_results: bool) -> SavedCall {
        let since_start = self.now.since(call.started).as_nanos();
        let (attempts, spent, progress) = match call.state {
            State::Done if keep_results => {
                let kept = call.result.as_ref().map_or(Progress::Dropped, |_| Progress::Done);
                (call.attempts, call.spent.as_nanos(), kept)
            }
            // Called anew.
            State::Done | State::Vacant => (0, 0, Progress::Waiting),
            State::Queued => (call.attempts, call.spent.as_nanos(), Progress::Waiting),
            State::Running | State::Due => (call.attempts, since_start, Progress::Waiting),
            State::Backoff => {
                let rest = call.spent.as_nanos().saturating_sub(since_start);
                (call.attempts, since_start, Progress::Backoff(rest))
            }
        };
        let interrupted = match call.state {
            State::Done if !keep_results => 0,
            State::Running => call.interrupted().saturating_add(1),
            _ => call.interrupted(),
        };
        let (timestamp, request_id, key) =
            (call.timestamp(), call.request_id, self.queue.key(index));
        SavedCall { timestamp, request_id, key, attempts, interrupted, spent, progress }
    }
}

/// Adds a section with an envelope around what `write` writes.
fn sealed<In, Out, E>(
    checkpoint: &mut Checkpoint,
    codec: &Checkpointing<In, Out, E>,
    write: impl FnOnce(&mut Section<'_>) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    checkpoint.put_with(codec.name, |section| {
        let start = section.len();
        section.extend(&[0; HEADER_LEN]);
        write(section)?;
        if let Some(frame) = section.written_since(start) {
            envelope::seal(frame, MAGIC, codec.schema);
        }
        Ok(())
    })
}

fn write_record<In, Out, E>(
    section: &mut Section<'_>,
    codec: &Checkpointing<In, Out, E>,
    input: Option<&In>,
    call: SavedCall,
    result: Option<&Result<Out, Failure<E>>>,
) -> Result<(), CheckpointError> {
    write(section, &Entry::Record(call))?;
    let input = input.ok_or(CheckpointError::Serialize)?;
    with_length(section, |section| (codec.write_input)(section, input))?;
    if let (Progress::Done, Some(results), Some(result)) = (call.progress, codec.results, result) {
        with_length(section, |section| (results.write)(section, result))?;
    }
    Ok(())
}

fn with_length(
    section: &mut Section<'_>,
    write: impl FnOnce(&mut Section<'_>) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let length_at = section.len();
    section.extend(&[0; 4]);
    let start = section.len();
    write(section)?;
    let length = u32::try_from(section.len() - start).map_err(|_| CheckpointError::Serialize)?;
    section.fill_in(length_at, &length.to_le_bytes());
    Ok(())
}

fn write_control(section: &mut Section<'_>, control: &Control) -> Result<(), CheckpointError> {
    match control {
        Control::Watermark(timestamp) => write(section, &Entry::Watermark(*timestamp)),
        Control::Status(Status::Idle) => write(section, &Entry::Idle),
        Control::Status(Status::Active) => write(section, &Entry::Active),
        Control::Barrier(..) | Control::Failed => Ok(()),
    }
}

pub(in crate::operator) fn write<T: Serialize>(
    section: &mut Section<'_>,
    value: &T,
) -> Result<(), CheckpointError> {
    postcard::serialize_with_flavor(value, SectionFlavor(section))
        .map_err(|_| CheckpointError::Serialize)
}

/// A value that the bytes hold and nothing else.
fn read_whole<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::take_from_bytes(bytes).ok().and_then(|(value, rest)| rest.is_empty().then_some(value))
}

/// The next value, and what is behind it.
pub(in crate::operator) fn read<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), RestoreError> {
    postcard::take_from_bytes(bytes).map_err(|_| RestoreError::Damaged)
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
