//! What was in flight, from bytes.

use core::fmt;

use super::write::{Checkpointing, Entry, Header, MAGIC, Progress, SavedCall, read};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::envelope::{self, FormatError};
use crate::element::Status;
use crate::operator::order::{Control, earlier};
use crate::operator::slab::State;
use crate::operator::{Operator, Phase};
use crate::outcome::Failure;
use crate::policy::KeySource;
use crate::retry::RetryStrategy;
use crate::storage::{Queue as _, Storage};
use crate::time::{Instant, Span};

/// An element that a restore brought.
pub(in crate::operator) enum Saved<In, Out, E> {
    /// With its result, if that was kept.
    Record(In, SavedCall, Option<Result<Out, Failure<E>>>),
    Control(Control),
}

/// A snapshot's bytes, opened and not yet read.
struct Entries<'a, In, Out, E> {
    codec: Checkpointing<In, Out, E>,
    /// The schema version that they were written under.
    schema: u32,
    rest: &'a [u8],
}

impl<In, Out, E, R, S, K> Operator<In, Out, E, R, S, K>
where
    R: RetryStrategy<In, Out, E>,
    S: Storage,
{
    /// Takes up what was in flight when `checkpoint` was taken, before any new input. With a smaller
    /// capacity the rest waits for places, in order, and [`push`](Self::push) is refused until all
    /// have one.
    ///
    /// An attempt that was running counts as made and is followed by another one. The time that the
    /// process was down does not count.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]; the operator is unchanged then.
    pub fn restore(&mut self, now: Instant, checkpoint: &Checkpoint) -> Result<(), RestoreError>
    where
        K: KeySource<In>,
    {
        self.restore_with_keys(now, checkpoint, K::key_again)
    }

    /// The same with keys from elsewhere: `key_of` is given an input and the key that was saved with it. That is
    /// another one, or none, if the policy has changed.
    pub(crate) fn restore_with_keys(
        &mut self,
        now: Instant,
        checkpoint: &Checkpoint,
        key_of: impl Fn(&K, &In, u64) -> u64,
    ) -> Result<(), RestoreError> {
        self.advance(now);
        let codec = self.checkpointing.ok_or(RestoreError::NotCheckpointed)?;
        if !self.is_empty() {
            return Err(RestoreError::NotEmpty);
        }
        let name = codec.name;
        let section = checkpoint.section(name).ok_or(RestoreError::Missing { name })?;
        let (schema, body) = envelope::open(section, MAGIC).map_err(RestoreError::Format)?;
        let (header, rest) = read::<Header>(body)?;
        let entries = Entries { codec, schema, rest };
        // Once over everything before anything is taken up: all of it or nothing.
        self.check(header, entries)?;
        self.next_request_id = header.next_request_id;
        self.request_id_step = header.request_id_step;
        self.watermark = header.watermark;
        self.idle = header.idle;
        self.take_up(entries, key_of)?;
        #[cfg(feature = "alloc")] // for the pipeline
        checkpoint.note_restored(name);
        Ok(())
    }

    /// Whether all entries can be read, and have room.
    fn check(
        &self,
        header: Header,
        mut entries: Entries<'_, In, Out, E>,
    ) -> Result<(), RestoreError> {
        let (mut records, mut controls) = (0_u64, 0_u64);
        while let Some(saved) = entries.next()? {
            match saved {
                Saved::Record(..) => records += 1,
                Saved::Control(_) => controls += 1,
            }
        }
        if records + controls != header.entries || header.request_id_step == 0 {
            return Err(RestoreError::Damaged);
        }
        let room = self.limits.capacity.saturating_add(S::MAX_BACKLOG) as u64;
        match records.max(controls) {
            found if found > room => Err(RestoreError::TooMany { found, room }),
            _ => Ok(()),
        }
    }

    fn take_up(
        &mut self,
        mut entries: Entries<'_, In, Out, E>,
        key_of: impl Fn(&K, &In, u64) -> u64,
    ) -> Result<(), RestoreError> {
        while let Some(mut saved) = entries.next()? {
            if let Saved::Record(input, call, _) = &mut saved {
                call.key = key_of(&self.key, input, call.key);
            }
            let admitted = match self.backlog.len() {
                0 => self.admit_saved(saved),
                _ => Err(saved), // others wait before it
            };
            if let Err(saved) = admitted {
                let _ = self.backlog.push_back(saved); // there is room for it: that was counted
            }
        }
        Ok(())
    }

    #[cold]
    pub(in crate::operator) fn admit_backlog(&mut self) {
        while let Some(saved) = self.backlog.pop_front() {
            if let Err(saved) = self.admit_saved(saved) {
                let _ = self.backlog.push_front(saved); // where it came from there is room
                return;
            }
        }
    }

    /// Gives a place to a restored element, or hands it back when there is none.
    fn admit_saved(&mut self, saved: Saved<In, Out, E>) -> Result<(), Saved<In, Out, E>> {
        match saved {
            Saved::Record(input, call, result) if self.has_room_for_record() => {
                match self.place(input, call.timestamp, call.request_id, call.key) {
                    Ok((index, may_start)) => {
                        self.take_up_call(index, may_start, call, result);
                        Ok(())
                    }
                    Err(input) => Err(Saved::Record(input, call, result)),
                }
            }
            // In a stream of plain values nobody is handed one.
            Saved::Control(_) if !S::HOLDS_CONTROLS => Ok(()),
            Saved::Control(control) => {
                self.queue.push_control(control, self.limits.capacity).map_err(Saved::Control)
            }
            saved => Err(saved),
        }
    }

    /// Goes on with a call that has just been given its place.
    fn take_up_call(
        &mut self,
        index: u32,
        may_start: bool,
        saved: SavedCall,
        result: Option<Result<Out, Failure<E>>>,
    ) {
        let (now, timeout) = (self.now, self.limits.timeout);
        let spent = Span::from_nanos(saved.spent);
        let slot = self.calls.at(index);
        slot.attempts = saved.attempts;
        slot.set_interrupted(saved.interrupted);
        slot.spent = spent;
        match saved.progress {
            Progress::Done | Progress::Dropped => {
                slot.started = now.back(spent);
                if let Some(result) = &result {
                    self.counters.end(result);
                }
                slot.result = result;
                slot.state = State::Done;
                self.call_done(index);
                let _ = self.judge_failure(index);
            }
            Progress::Backoff(rest) if self.phase != Phase::LastAttempts => {
                let retry = now.plus(Span::from_nanos(rest));
                slot.started = now.back(spent);
                slot.spent = retry.since(slot.started);
                slot.state = State::Backoff;
                let deadline = timeout.map(|timeout| slot.started.plus(timeout));
                if let Some(first) = earlier(Some(retry), deadline) {
                    self.deadlines.set(index, first);
                }
                self.counters.in_backoff += 1;
            }
            Progress::Waiting | Progress::Backoff(_) => self.queue_call(index, may_start),
        }
        self.end_if_shut_down(index);
    }
}

impl<In, Out, E> Clone for Entries<'_, In, Out, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In, Out, E> Copy for Entries<'_, In, Out, E> {}

impl<'a, In, Out, E> Entries<'a, In, Out, E> {
    fn next(&mut self) -> Result<Option<Saved<In, Out, E>>, RestoreError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (entry, rest) = read::<Entry>(self.rest)?;
        self.rest = rest;
        let control = match entry {
            Entry::Record(call) => return self.record(call).map(Some),
            Entry::Watermark(timestamp) => Control::Watermark(timestamp),
            Entry::Idle => Control::Status(Status::Idle),
            Entry::Active => Control::Status(Status::Active),
        };
        Ok(Some(Saved::Control(control)))
    }

    fn record(&mut self, mut call: SavedCall) -> Result<Saved<In, Out, E>, RestoreError> {
        let (found, expected) = (self.schema, self.codec.schema);
        let bytes = self.bytes()?;
        let input = match self.codec.migrate {
            _ if found == expected => {
                (self.codec.read_input)(bytes).ok_or(RestoreError::Damaged)?
            }
            Some(migrate) if found < expected => {
                migrate(found, bytes).ok_or(RestoreError::Migration { found, expected })?
            }
            _ => return Err(RestoreError::Schema { found, expected }),
        };
        let mut result = None;
        if call.progress == Progress::Done {
            let bytes = self.bytes()?;
            match self.codec.results {
                Some(results) if found == expected => {
                    result = Some((results.read)(bytes).ok_or(RestoreError::Damaged)?);
                }
                // A result that cannot be used: the record is called anew.
                _ => {
                    call = SavedCall { progress: Progress::Waiting, attempts: 0, spent: 0, ..call };
                    call.interrupted = 0;
                }
            }
        }
        Ok(Saved::Record(input, call, result))
    }

    /// What stands behind its length.
    fn bytes(&mut self) -> Result<&'a [u8], RestoreError> {
        let (bytes, rest) = split_length(self.rest)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// What stands behind its length, and what is behind that.
pub(in crate::operator) fn split_length(bytes: &[u8]) -> Result<(&[u8], &[u8]), RestoreError> {
    let (length, rest) = bytes.split_first_chunk().ok_or(RestoreError::Damaged)?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(RestoreError::Damaged)
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
    /// The records were saved in another version of their type, and it is newer, or there is no
    /// migration function.
    Schema {
        /// The version in the snapshot.
        found: u32,
        /// The stage's version.
        expected: u32,
    },
    /// The migration function could not read a record.
    Migration {
        /// The version in the snapshot.
        found: u32,
        /// The stage's version.
        expected: u32,
    },
    /// The content does not fit the record type although the checksum is right. Has the type changed
    /// and its schema version not?
    Damaged,
    /// A checkpoint cannot be split into, or merged from, no parts at all.
    NoParts,
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
                "the records were saved under schema version {found}, the stage has {expected}, \
                 and there is no migration function from the one to the other"
            ),
            Self::Migration { found, expected } => write!(
                f,
                "a record of schema version {found} could not be migrated to version {expected}"
            ),
            Self::Damaged => f.write_str(
                "the snapshot does not fit the record type; \
                 has the type changed and its schema version not?",
            ),
            Self::NoParts => f.write_str("a checkpoint needs at least one part"),
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
