//! A job's sink together with its output, and the model of both.

use std::thread;
use std::time::Instant;

use futures_lite::future::block_on;
use inflight_core::CheckpointId;
use inflight_core::pipeline::TransactionalSink;

use super::{Medium, SinkError, Visible};
use crate::{Verdict, drive, stored, told};

/// A job over one medium. Its records have the numbers 0, 1, 2, ..; after a crash it writes those again that were not committed.
pub(crate) struct Probe<M: Medium> {
    pub(crate) medium: M,
    /// `None` between two lives.
    pub(crate) sink: Option<M::Sink>,
    /// The number of the next record to be written.
    written: u64,
    /// The number of committed records.
    committed: u64,
    /// The number of the next record that no life has written.
    fresh: u64,
    /// The latest checkpoint that was saved.
    pub(crate) saved: Option<Prepared>,
    next_id: u64,
}

/// A checkpoint, as far as it concerns the sink.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    id: u64,
    /// The sink's description.
    bytes: Vec<u8>,
    /// The number of records that are committed with it.
    covers: u64,
}

impl<M: Medium> Probe<M> {
    /// A medium without a job.
    pub(crate) fn new(medium: M) -> Self {
        let (written, committed, fresh) = (0, 0, 0);
        Self { medium, sink: None, written, committed, fresh, saved: None, next_id: 0 }
    }

    /// A job that has saved its first checkpoint, as a pipeline does before it writes anything.
    pub(crate) fn begun(medium: M) -> Verdict<Self> {
        let mut probe = Self::new(medium);
        probe.begin()?;
        probe.checkpoint()?;
        Ok(probe)
    }

    /// A life begins: it commits what the latest checkpoint describes, and aborts everything later.
    pub(crate) fn begin(&mut self) -> Verdict {
        self.open()?;
        self.recover()?;
        self.expect("at the beginning of a life")
    }

    pub(crate) fn open(&mut self) -> Verdict {
        debug_assert!(self.sink.is_none(), "the life before has ended");
        self.sink = Some(self.open_another()?);
        Ok(())
    }

    /// Opens a sink. An operation of the life before may still be under way, and may have to end first.
    pub(crate) fn open_another(&mut self) -> Verdict<M::Sink> {
        let until = Instant::now() + self.medium.capabilities().patience;
        loop {
            match self.medium.open() {
                Ok(sink) => return Ok(sink),
                Err(_) if self.sink.is_none() && Instant::now() < until => thread::yield_now(),
                Err(error) => return Err(told("the sink could not be opened")(error)),
            }
        }
    }

    pub(crate) fn recover(&mut self) -> Verdict {
        match self.saved.clone() {
            Some(saved) => {
                self.commit(&saved)?;
                self.abort(Some(&saved))
            }
            None => self.abort(None),
        }
    }

    /// The process dies, or with it the machine.
    pub(crate) fn crash(&mut self) {
        self.sink = None;
        if self.medium.capabilities().crashes {
            self.medium.crash();
        }
    }

    /// Writes `count` records.
    pub(crate) fn write(&mut self, count: u64) -> Verdict {
        for _ in 0..count {
            self.try_write().map_err(told("a record could not be written"))?;
        }
        Ok(())
    }

    pub(crate) fn try_write(&mut self) -> Result<(), SinkError<M>> {
        let record = self.next_record();
        block_on(self.sink().write(record, None))
    }

    /// The next record, which counts as written from now on.
    pub(crate) fn next_record(&mut self) -> M::Record {
        let number = self.written;
        self.written += 1;
        self.fresh = self.fresh.max(self.written);
        self.medium.record(number)
    }

    pub(crate) fn pre_commit(&mut self) -> Verdict<Prepared> {
        let id = self.next_id();
        let description = block_on(self.sink().pre_commit(id));
        self.prepared(id, &description.map_err(told("a pre-commit failed"))?)
    }

    pub(crate) fn prepared(
        &self,
        id: CheckpointId,
        description: &<M::Sink as TransactionalSink<M::Record>>::Prepared,
    ) -> Verdict<Prepared> {
        let bytes = stored::to_bytes(description)?;
        Ok(Prepared { id: id.0, bytes, covers: self.written })
    }

    pub(crate) fn next_id(&mut self) -> CheckpointId {
        self.next_id += 1;
        CheckpointId(self.next_id)
    }

    /// The store has saved the checkpoint: from now on the next life commits it.
    pub(crate) fn save(&mut self, prepared: &Prepared) {
        self.saved = Some(prepared.clone());
    }

    pub(crate) fn commit(&mut self, prepared: &Prepared) -> Verdict {
        let (id, description) = prepared.read::<M>()?;
        block_on(self.sink().commit(id, &description)).map_err(told("a commit failed"))?;
        self.note_commit(prepared);
        Ok(())
    }

    pub(crate) fn note_commit(&mut self, prepared: &Prepared) {
        self.committed = self.committed.max(prepared.covers);
        self.written = self.written.max(self.committed);
    }

    pub(crate) fn abort(&mut self, kept: Option<&Prepared>) -> Verdict {
        let kept = kept.map(Prepared::read::<M>).transpose()?.map(|(_, description)| description);
        block_on(self.sink().abort(kept.as_ref())).map_err(told("an abort failed"))?;
        self.written = self.committed;
        Ok(())
    }

    /// A whole checkpoint.
    pub(crate) fn checkpoint(&mut self) -> Verdict {
        let prepared = self.pre_commit()?;
        self.save(&prepared);
        self.commit(&prepared)?;
        self.expect("after a commit")
    }

    /// The job can go on, in this life and in the next one.
    pub(crate) fn go_on(&mut self) -> Verdict {
        for _ in 0..2 {
            self.write(2)?;
            self.checkpoint()?;
            self.write(1)?;
            self.crash();
            self.begin()?;
        }
        self.crash();
        Ok(())
    }

    pub(crate) fn sink(&mut self) -> &mut M::Sink {
        self.sink.as_mut().expect("a life has begun")
    }

    /// Compares the output with the model.
    pub(crate) fn expect(&mut self, when: &str) -> Verdict {
        let can = self.medium.capabilities();
        let mut found = self.medium.read();
        if !can.is_ordered {
            found.sort_unstable();
        }
        let committed: Vec<u64> = (0..self.committed).collect();
        let is_right = match can.visible {
            Visible::Committed => found == committed,
            Visible::UntilAbort => {
                found.starts_with(&committed) && is_some_of(&found, self.committed..self.written)
            }
            Visible::Keyed => {
                found.starts_with(&committed) && is_some_of(&found, self.committed..self.fresh)
            }
        };
        if is_right {
            return Ok(());
        }
        Err(format!(
            "{when} a reader finds {found:?}; committed are the {} records from 0",
            self.committed
        ))
    }

    pub(crate) fn drop_after<F: Future>(&self, polls: usize, future: F) -> Option<F::Output> {
        drive::drop_after(polls, self.medium.capabilities().patience, future)
    }
}

/// True if what is found after the first records are records of the range, each once and in order.
fn is_some_of(found: &[u64], range: std::ops::Range<u64>) -> bool {
    let rest = &found[range.start as usize..];
    rest.is_sorted_by(|one, other| one < other) && rest.iter().all(|n| range.contains(n))
}

impl Prepared {
    /// The checkpoint as another life reads it.
    pub(crate) fn read<M: Medium>(
        &self,
    ) -> Verdict<(CheckpointId, <M::Sink as TransactionalSink<M::Record>>::Prepared)> {
        Ok((CheckpointId(self.id), stored::from_bytes(&self.bytes)?))
    }
}
