//! A snapshot's elements, from bytes.

use super::RestoreError;
use super::backlog::Saved;
use super::codec::Checkpointing;
use super::decode;
use super::format::{Entry, Header, Progress, SavedCall};
use crate::checkpoint::Checkpoint;
use crate::element::Status;
use crate::operator::call::Call;
use crate::operator::order::QueuedControl;
use crate::operator::output::EventTime;
use crate::operator::{Operator, RequestIds};
use crate::policy::KeySource;
use crate::storage::{Queue as _, Storage};
use crate::time::Instant;

/// The entries of a snapshot, which are read one at a time.
struct Entries<'a, In, Out, E> {
    codec: Checkpointing<In, Out, E>,
    /// The schema version that they were written under.
    schema: u32,
    left: decode::Entries<'a>,
}

impl<C: Call, S: Storage> Operator<C, S> {
    /// Takes up the elements that were in flight when `checkpoint` was taken, before any new input (K5). With a smaller
    /// capacity the rest waits for slots, in order, and [`push`](Self::push) is refused until all
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
        C::Key: KeySource<C::Input>,
    {
        self.advance(now);
        let codec = self.checkpointing.ok_or(RestoreError::NotCheckpointed)?;
        if !self.is_empty() {
            return Err(RestoreError::NotEmpty);
        }
        let name = codec.name;
        let section = checkpoint.section(name).ok_or(RestoreError::Missing { name })?;
        let (schema, header, left) = decode::open(section)?;
        let entries = Entries { codec, schema, left };
        // All entries are read once before any is taken up: so all of them are, or none (K6).
        self.check(header, entries)?;
        self.ids = RequestIds { next: header.next_request_id, step: header.request_id_step };
        self.event_time = EventTime { watermark: header.watermark, idle: header.idle };
        self.take_up(entries)?;
        #[cfg(feature = "alloc")] // for the pipeline
        checkpoint.note_restored(name);
        Ok(())
    }

    /// Whether all entries can be read, and have room.
    fn check(&self, header: Header, mut entries: EntriesOf<'_, C>) -> Result<(), RestoreError> {
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

    fn take_up(&mut self, mut entries: EntriesOf<'_, C>) -> Result<(), RestoreError>
    where
        C::Key: KeySource<C::Input>,
    {
        while let Some(mut saved) = entries.next()? {
            if let Saved::Record(input, call, _) = &mut saved {
                call.key = self.key.key_again(input, call.key); // the policy's key may have changed
            }
            let admitted = match self.backlog.len() {
                0 => self.admit_saved(saved),
                _ => Err(saved), // other elements wait before it
            };
            if let Err(saved) = admitted {
                let _ = self.backlog.push_back(saved); // `check` has counted the room
            }
        }
        Ok(())
    }
}

/// The entries of a snapshot for calls of the types `C`.
type EntriesOf<'a, C> = Entries<'a, <C as Call>::Input, <C as Call>::Output, <C as Call>::Error>;

impl<In, Out, E> Clone for Entries<'_, In, Out, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In, Out, E> Copy for Entries<'_, In, Out, E> {}

impl<In, Out, E> Entries<'_, In, Out, E> {
    #[cfg_attr(feature = "alloc", inline(always))]
    fn next(&mut self) -> Result<Option<Saved<In, Out, E>>, RestoreError> {
        let Some(entry) = self.left.next()? else { return Ok(None) };
        let control = match entry {
            Entry::Record { call, input, result } => {
                return self.record(call, input, result).map(Some);
            }
            Entry::Watermark(timestamp) => QueuedControl::Watermark(timestamp),
            Entry::Idle => QueuedControl::Status(Status::Idle),
            Entry::Active => QueuedControl::Status(Status::Active),
        };
        Ok(Some(Saved::Control(control)))
    }

    #[cfg_attr(feature = "alloc", inline(always))]
    fn record(
        &self,
        mut call: SavedCall,
        input: &[u8],
        result: &[u8],
    ) -> Result<Saved<In, Out, E>, RestoreError> {
        let (found, expected) = (self.schema, self.codec.schema);
        let input = match self.codec.migrate {
            _ if found == expected => {
                (self.codec.read_input)(input).ok_or(RestoreError::Damaged)?
            }
            Some(migrate) if found < expected => {
                migrate(found, input).ok_or(RestoreError::Migration { found, expected })?
            }
            _ => return Err(RestoreError::Schema { found, expected }),
        };
        let mut kept = None;
        if call.progress == Progress::Done {
            match self.codec.results {
                Some(results) if found == expected => {
                    kept = Some((results.read)(result).ok_or(RestoreError::Damaged)?);
                }
                // A result of another schema, or one that is not wanted: the record is called anew (K2).
                _ => {
                    call = SavedCall { progress: Progress::Waiting, attempts: 0, spent: 0, ..call };
                    call.interrupted = 0;
                }
            }
        }
        Ok(Saved::Record(input, call, kept))
    }
}
