//! A snapshot of the elements in flight, as bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "alloc")]
use super::RestoreError;
use super::backlog::Saved;
use super::codec::Checkpointing;
use super::encode;
use super::format::{Expected, FORMAT, Header, MAGIC, Progress, SavedCall, tag};
use super::user_types::with_length;
use crate::checkpoint::envelope::{self, HEADER_LEN};
use crate::checkpoint::{Checkpoint, CheckpointError, Section};
use crate::element::{Barrier, Status};
use crate::operator::Operator;
use crate::operator::call::Call;
use crate::operator::order::QueuedControl;
use crate::operator::record::{Record, State};
use crate::outcome::Failure;
use crate::storage::{Queue as _, Storage};
use crate::time::Instant;

impl<C: Call, S: Storage> Operator<C, S> {
    /// Lets snapshots be taken, under the name `name` in a checkpoint. `schema` is the version of
    /// the input's serialised form: raise it when that changes.
    ///
    /// Short for [`checkpointed_with`](Self::checkpointed_with) and [`Checkpointing::new`], which has more choices.
    #[must_use]
    pub const fn checkpointed(self, name: &'static str, schema: u32) -> Self
    where
        C::Input: Serialize + DeserializeOwned,
    {
        self.checkpointed_with(Checkpointing::new(name, schema))
    }

    /// Lets snapshots be taken as `how` says. A second call replaces the first.
    ///
    /// It works in a `static`, too:
    ///
    /// ```
    /// use std::sync::Mutex;
    ///
    /// use inflight_core::{AsyncWait, Checkpointing, Fixed, NoRetry, Operator, Unkeyed};
    ///
    /// static READINGS: Mutex<Operator<(u32, u32, (), NoRetry, Unkeyed, ()), Fixed<16>>> = Mutex::new(
    ///     AsyncWait::ordered(16)
    ///         .build_static(NoRetry)
    ///         .checkpointed_with(Checkpointing::new("readings", 1).keeping_results()),
    /// );
    /// # let _ = &READINGS;
    /// ```
    #[must_use]
    pub const fn checkpointed_with(
        mut self,
        how: Checkpointing<C::Input, C::Output, C::Error>,
    ) -> Self {
        self.checkpointing = Some(how);
        self
    }

    /// Adds the elements in flight to `checkpoint`, in the order they were pushed: each record with its
    /// timestamp, its key, its request id, the attempts made, the time spent and the rest of its
    /// backoff, and the control elements between them (K1). Possible at any moment, also when the operator is
    /// full (C6). O(n) in the records in flight, over storage in place O(n log n).
    ///
    /// A call that is done but not handed on is kept as its input, and called anew after a restore,
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

    /// The name of its section in a checkpoint.
    #[cfg(feature = "alloc")]
    pub(crate) fn section_name(&self) -> Result<&'static str, RestoreError> {
        self.checkpointing.map(|how| how.name).ok_or(RestoreError::NotCheckpointed)
    }

    pub(in crate::operator) fn put_section(
        &mut self,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), CheckpointError> {
        self.records.forget_vacant();
        let codec = self.checkpointing.ok_or(CheckpointError::NotCheckpointed)?;
        sealed(checkpoint, &codec, |section| self.write_entries(section, &codec))
    }

    /// A drained operator has nothing in flight, but goes on counting requests where it was.
    pub(in crate::operator) fn put_empty_section(&self, barrier: &mut Barrier) {
        // The end of the records carries no checkpoint.
        #[cfg(feature = "alloc")]
        if barrier.mode == crate::element::BarrierMode::End {
            return;
        }
        let Some(codec) = self.checkpointing else { return };
        let header = self.header(0);
        let put = sealed(&mut barrier.checkpoint, &codec, |section| {
            encode::header(section, &header);
            Ok(())
        });
        if let Err(reason) = put {
            barrier.checkpoint.fail(reason);
        }
    }

    fn header(&self, entries: usize) -> Header {
        Header {
            entries: entries as u64,
            next_request_id: self.ids.next,
            request_id_step: self.ids.step,
            watermark: self.event_time.watermark,
            idle: self.event_time.idle,
        }
    }

    fn write_entries(
        &self,
        section: &mut Section<'_>,
        codec: &Checkpointing<C::Input, C::Output, C::Error>,
    ) -> Result<(), CheckpointError> {
        let front = self.order.front_number();
        let in_order = self.records.in_order(front);
        let saved = || self.order.control_elements().filter(|(_, control)| control.is_saved());
        let waiting = self.backlog.iter().filter(|saved| match saved {
            Saved::Record(..) => true,
            Saved::Control(control) => control.is_saved(),
        });
        let entries = in_order.as_ref().len() + saved().count() + waiting.count();
        encode::header(section, &self.header(entries));
        let mut writer = Writer { section, codec, expected: Expected::first(self.ids.step) };

        // Records are in the order of their segments, so each control element goes before the first record of a segment behind it.
        let mut controls = saved().peekable();
        for &slot in in_order.as_ref() {
            let record = &self.records.all()[slot as usize];
            let segment = record.segment.wrapping_sub(front);
            while let Some((_, control)) =
                controls.next_if(|(behind, _)| behind.wrapping_sub(front) <= segment)
            {
                writer.control(control);
            }
            let saved = self.save(record, slot, codec.results.is_some());
            writer.record(record.input.as_ref(), &saved, record.result())?;
        }
        // Those behind the last record, and then the restored elements that never had a slot: they came last.
        controls.for_each(|(_, control)| writer.control(control));
        for saved in self.backlog.iter() {
            match saved {
                Saved::Record(input, call, result) => {
                    writer.record(Some(input), call, result.as_ref())?;
                }
                Saved::Control(control) => writer.control(control),
            }
        }
        Ok(())
    }

    fn save(&self, record: &Record<C>, slot: u32, keep_results: bool) -> SavedCall {
        let since_start = self.now.since(record.started()).as_nanos();
        let spent = record.spent().as_nanos();
        let (attempts, spent, progress) = match record.state() {
            State::Done if keep_results => {
                let kept = record.result().map_or(Progress::Dropped, |_| Progress::Done);
                (record.attempts(), spent, kept)
            }
            State::Done | State::Vacant => (0, 0, Progress::Waiting), // called anew (K2)
            State::Queued => (record.attempts(), spent, Progress::Waiting),
            State::Running => (record.attempts(), since_start, Progress::Waiting),
            State::Backoff => {
                // `spent` is the time from the start to the retry here. After that the call takes no time (C5).
                let rest = spent.saturating_sub(since_start);
                let taken = self.waiting_now().since(record.started()).as_nanos();
                (record.attempts(), taken.min(spent), Progress::Backoff(rest))
            }
        };
        let interrupted = match record.state() {
            State::Done if !keep_results => 0,
            // A restore finds this attempt interrupted: it counts, but not as a failed one (K1).
            State::Running => record.interrupted().saturating_add(1),
            _ => record.interrupted(),
        };
        let (timestamp, request_id) = (record.timestamp(), record.request_id());
        let key = self.order.key(slot);
        SavedCall { timestamp, request_id, key, attempts, interrupted, spent, progress }
    }
}

/// Adds a section whose contents `write` writes, in an envelope.
fn sealed<In, Out, E>(
    checkpoint: &mut Checkpoint,
    codec: &Checkpointing<In, Out, E>,
    write: impl FnOnce(&mut Section<'_>) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    checkpoint.put_with(codec.name, |section| {
        let start = section.len();
        section.extend(&[0; HEADER_LEN]); // `seal` fills it in: it needs the checksum of the rest
        write(section)?;
        if let Some(frame) = section.written_since(start) {
            envelope::seal_as(frame, MAGIC, FORMAT, codec.schema);
        }
        Ok(())
    })
}

/// Writes entries, one after the other.
struct Writer<'a, 'b, In, Out, E> {
    section: &'a mut Section<'b>,
    codec: &'a Checkpointing<In, Out, E>,
    expected: Expected,
}

impl<In, Out, E> Writer<'_, '_, In, Out, E> {
    fn record(
        &mut self,
        input: Option<&In>,
        call: &SavedCall,
        result: Option<&Result<Out, Failure<E>>>,
    ) -> Result<(), CheckpointError> {
        encode::record(self.section, &mut self.expected, call);
        let input = input.ok_or(CheckpointError::Serialize)?;
        with_length(self.section, |section| (self.codec.write_input)(section, input))?;
        if let (Progress::Done, Some(results), Some(result)) =
            (call.progress, self.codec.results, result)
        {
            with_length(self.section, |section| (results.write)(section, result))?;
        }
        Ok(())
    }

    fn control(&mut self, control: &QueuedControl) {
        match control {
            QueuedControl::Watermark(timestamp) => {
                encode::watermark(self.section, *timestamp);
            }
            QueuedControl::Status(Status::Idle) => self.section.extend(&[tag::IDLE]),
            QueuedControl::Status(Status::Active) => self.section.extend(&[tag::ACTIVE]),
            QueuedControl::Barrier(..) | QueuedControl::Failed => {}
        }
    }
}
