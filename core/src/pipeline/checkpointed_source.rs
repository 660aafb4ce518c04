//! The source's end of a pipeline: it puts barriers between the source's elements.

use alloc::sync::Arc;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use futures_core::Stream;

use super::done::Done;
use super::sections::{self, Ended, STAGES};
use super::signals::{Signals, Stop};
use super::source::ReplayableSource;
use super::trigger::Trigger;
use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointId};
use crate::element::{Barrier, BarrierMode, StreamElement};

/// A source with barriers between its elements: the input of a pipeline's first stage.
pub struct CheckpointedSource<S: ReplayableSource> {
    pub(super) source: S,
    signals: Arc<Signals>,
    source_error: rtrb::Producer<S::Error>,
    trigger: Trigger,
    /// The number of the next checkpoint.
    next: CheckpointId,
    /// Whether a barrier holds the source's position. Otherwise the sink's end knows it (K14).
    puts_position: bool,
    /// Records since the last barrier.
    records: u64,
    /// Elements since the source was not ready, or gave way.
    elements: u32,
    /// The number of the next record in the life of the job.
    number: u64,
    /// Records behind the position at which the source was opened that are done: they are passed over.
    pub(super) done: Done,
    /// No record follows: the source has ended or failed, or was stopped.
    has_ended: bool,
}

/// A source that is always ready gives way after so many elements (L5). Otherwise records that are passed over or filtered out, of which
/// there may be millions, would leave no other task its turn, and no checkpoint.
const ELEMENTS_AT_ONCE: u32 = 1_024;

/// The answer of the source's end.
pub(super) enum Polled<V> {
    Element(StreamElement<V>),
    /// A record that an earlier life has done with.
    PassedOver,
    End,
}

impl<S: ReplayableSource> CheckpointedSource<S> {
    pub(super) fn new(
        source: S,
        signals: Arc<Signals>,
        source_error: rtrb::Producer<S::Error>,
        trigger: Trigger,
        next: CheckpointId,
        puts_position: bool,
        (number, done): (u64, Done),
    ) -> Self {
        let (records, has_ended) = (0, false);
        Self {
            source,
            signals,
            source_error,
            trigger,
            next,
            puts_position,
            records,
            elements: 0,
            number,
            done,
            has_ended,
        }
    }

    /// The number of the next record in the life of the job.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Makes a barrier with the source's position. All records up to that position have been handed out.
    fn barrier(&mut self, mode: BarrierMode) -> Barrier {
        let mut checkpoint = Checkpoint::new(self.next);
        checkpoint.set_out(self.signals.barriers.on_its_way());
        (self.next, self.records) = (self.next.next(), 0);
        if let Err(reason) = self.put_sections(&mut checkpoint) {
            checkpoint.fail(reason);
        }
        let limit = self.trigger.limit.filter(|_| mode == BarrierMode::Drain);
        Barrier { mode, limit, checkpoint }
    }

    fn put_sections(&self, checkpoint: &mut Checkpoint) -> Result<(), CheckpointError> {
        sections::put(checkpoint, STAGES, &self.signals.stages())?;
        if self.puts_position {
            sections::put_position(checkpoint, &self.source.position(), self.number, &self.done)?;
        }
        // A barrier that was under way before the end was decided is not the last one.
        self.last_end().map_or(Ok(()), |end| sections::put_end(checkpoint, end))
    }

    /// The reason of the pipeline's end, if a barrier that is made now is the last one.
    fn last_end(&self) -> Option<Ended> {
        match self.signals.stop() {
            _ if !self.signals.is_open() => None, // nothing ends before the first checkpoint
            Some(Stop::HandOver) => Some(Ended::HandedOver),
            _ if self.signals.is_drained() => self.signals.end(),
            _ => None,
        }
    }

    /// A barrier, if the sink's end wants one that can be made now.
    fn wanted_barrier(&mut self) -> Option<Barrier> {
        if !self.signals.wants_barrier() {
            return None;
        }
        let is_handed_over = self.signals.stop() == Some(Stop::HandOver);
        let mode = match self.trigger.mode {
            BarrierMode::Drain if is_handed_over || self.signals.is_drained() => {
                BarrierMode::Snapshot
            }
            // It would have to wait behind the end of the records, and then there is nothing to drain.
            BarrierMode::Drain if self.has_ended => return None,
            // The first barrier of a life finds nothing in flight but what was restored.
            BarrierMode::Drain if !self.signals.is_open() => BarrierMode::Snapshot,
            mode => mode,
        };
        self.signals.barrier_made();
        Some(self.barrier(mode))
    }

    fn end(&mut self) -> Polled<S::Record> {
        self.has_ended = true;
        let mut barrier = Barrier::end();
        barrier.checkpoint.set_out(self.signals.barriers.on_its_way());
        Polled::Element(StreamElement::Barrier(barrier))
    }

    /// Counts a record. Returns true if an earlier life has done with it.
    fn count_record(&mut self) -> bool {
        self.number += 1;
        self.signals.barriers.note_progress();
        self.records += 1;
        if self.trigger.records.is_some_and(|records| self.records >= records) {
            self.signals.enough_records();
        }
        self.done.next()
    }

    pub(super) fn poll_element(&mut self, cx: &mut Context<'_>) -> Poll<Polled<S::Record>> {
        // Before the flags are read: a flag that is set afterwards wakes this task.
        self.signals.barriers.register_source(cx.waker());
        if let Some(barrier) = self.wanted_barrier() {
            return Poll::Ready(Polled::Element(StreamElement::Barrier(barrier)));
        }
        if self.signals.is_closed() {
            return Poll::Ready(Polled::End);
        }
        if self.has_ended || !self.signals.is_open() {
            return Poll::Pending;
        }
        match self.signals.stop() {
            None => {}
            Some(Stop::Drain) => {
                self.signals.end_with(Ended::Stopped);
                return Poll::Ready(self.end());
            }
            Some(Stop::HandOver) => return Poll::Pending,
        }
        if self.signals.barriers.poll_room(cx).is_pending() {
            return Poll::Pending;
        }
        if self.elements == ELEMENTS_AT_ONCE {
            self.elements = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.source.poll_next(cx) {
            Poll::Ready(Some(Ok(element))) => {
                self.elements += 1;
                let is_done = element.is_record() && self.count_record();
                Poll::Ready(if is_done { Polled::PassedOver } else { Polled::Element(element) })
            }
            Poll::Ready(Some(Err(error))) => {
                // The error goes to the sink's end past the stages. Records in flight are finished first.
                let pushed = self.source_error.push(error);
                debug_assert!(pushed.is_ok(), "a source fails only once");
                self.signals.end_with(Ended::SourceFailed);
                Poll::Ready(self.end())
            }
            Poll::Ready(None) => {
                self.signals.end_with(Ended::Finished);
                Poll::Ready(self.end())
            }
            Poll::Pending => {
                self.elements = 0;
                Poll::Pending
            }
        }
    }
}

impl<S: ReplayableSource> Unpin for CheckpointedSource<S> {}

impl<S: ReplayableSource> Stream for CheckpointedSource<S> {
    type Item = StreamElement<S::Record>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            return Poll::Ready(match ready!(self.poll_element(cx)) {
                Polled::Element(element) => Some(element),
                Polled::End => None,
                Polled::PassedOver => continue,
            });
        }
    }
}

impl<S: ReplayableSource> fmt::Debug for CheckpointedSource<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointedSource").field("next", &self.next).finish_non_exhaustive()
    }
}
