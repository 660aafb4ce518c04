//! The source's end of a pipeline: it inserts barriers between the source's elements.

use alloc::sync::Arc;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::sections::{self, Ended, SOURCE};
use super::signals::Signals;
use super::source::ReplayableSource;
use crate::checkpoint::{Checkpoint, CheckpointId};
use crate::element::{Barrier, BarrierMode, StreamElement};
use crate::runtime::Timer;
use crate::time::Instant;

/// The conditions for the next checkpoint, and the barrier's mode.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CheckpointTrigger {
    /// Processing time since the last barrier.
    pub(super) interval: Option<Duration>,
    /// Records since the last barrier.
    pub(super) records: Option<u64>,
    pub(super) mode: BarrierMode,
    /// The time limit of a drain.
    pub(super) limit: Option<Duration>,
}

pin_project! {
    /// A source with barriers between its elements: the input of a pipeline's first stage. Its last element is
    /// a barrier, whose checkpoint holds the reason of the end.
    pub struct CheckpointedSource<S: ReplayableSource, T> {
        source: S,
        #[pin]
        timer: T,
        signals: Arc<Signals>,
        source_error: rtrb::Producer<S::Error>,
        trigger: CheckpointTrigger,
        next: CheckpointId,
        // The instant at which the last barrier was made, and the records since.
        last_barrier: Instant,
        records: u64,
        // The source was polled since the last barrier. Without this, a short interval could produce nothing but barriers.
        was_polled: bool,
        armed: Option<Instant>,
        has_ended: bool,
    }
}

impl<S: ReplayableSource, T: Timer> CheckpointedSource<S, T> {
    pub(super) fn new(
        source: S,
        timer: T,
        signals: Arc<Signals>,
        source_error: rtrb::Producer<S::Error>,
        trigger: CheckpointTrigger,
        next: CheckpointId,
    ) -> Self {
        Self {
            source,
            last_barrier: timer.now(),
            timer,
            signals,
            source_error,
            trigger,
            next,
            records: 0,
            was_polled: true,
            armed: None,
            has_ended: false,
        }
    }

    /// Returns true if there is anything that the last barrier does not cover.
    fn is_behind(&self) -> bool {
        self.records > 0 || self.signals.is_uncommitted()
    }

    fn is_due(&self) -> bool {
        if self.trigger.records.is_some_and(|records| self.records >= records) {
            return true;
        }
        let due = self
            .trigger
            .interval
            .filter(|_| self.is_behind())
            .map(|every| self.last_barrier + every);
        due.is_some_and(|due| due <= self.timer.now())
    }

    /// Makes a barrier with the source's position. All records up to that position have been handed out.
    fn barrier(self: Pin<&mut Self>, end: Option<Ended>) -> Barrier {
        let this = self.project();
        let mut checkpoint = Checkpoint::new(*this.next);
        *this.next = this.next.next();
        (*this.last_barrier, *this.records, *this.was_polled) = (this.timer.now(), 0, false);
        // Cleared before the barrier leaves: a record that the sink writes from now on needs another barrier.
        this.signals.clear_uncommitted();
        let put = sections::put(&mut checkpoint, SOURCE, &this.source.position());
        let put = put.and_then(|()| match end {
            Some(end) => sections::put_end(&mut checkpoint, end),
            None => Ok(()),
        });
        if let Err(reason) = put {
            checkpoint.fail(reason);
        }
        let (mode, limit) = match end {
            // The last barrier drains: nothing follows, and another version of the program finds no record in flight.
            Some(_) => (BarrierMode::Drain, None),
            None => (this.trigger.mode, this.trigger.limit),
        };
        Barrier { mode, limit, checkpoint }
    }

    fn end(mut self: Pin<&mut Self>, end: Ended) -> Poll<Option<StreamElement<S::Record>>> {
        *self.as_mut().project().has_ended = true;
        Poll::Ready(Some(StreamElement::Barrier(self.barrier(Some(end)))))
    }

    /// Arms the timer for the next barrier and polls it. Ready if a barrier may be due.
    fn poll_sleep(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let is_behind = self.is_behind();
        let mut this = self.project();
        // With nothing to commit, no barrier is due. The timer may stay armed for an earlier one; firing does no harm.
        let due =
            this.trigger.interval.filter(|_| is_behind).map(|every| *this.last_barrier + every);
        if due.is_some() && *this.armed != due {
            this.timer.as_mut().arm(due);
            *this.armed = due;
        }
        if this.armed.is_some() && this.timer.poll(cx).is_ready() {
            *this.armed = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl<S: ReplayableSource, T: Timer> Stream for CheckpointedSource<S, T> {
    type Item = StreamElement<S::Record>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        // Before the flags are read: a flag that is set afterwards wakes this task.
        self.signals.register(cx.waker());
        if !self.signals.is_open() {
            return Poll::Pending;
        }
        if self.signals.is_stopped() {
            return self.end(Ended::Stopped);
        }
        // A barrier before the next record, so that a source that is always ready does not hold it up.
        if self.was_polled && self.is_due() {
            return Poll::Ready(Some(StreamElement::Barrier(self.barrier(None))));
        }
        let this = self.as_mut().project();
        *this.was_polled = true;
        match this.source.poll_next(cx) {
            Poll::Ready(Some(Ok(element))) => {
                *this.records += u64::from(element.is_record());
                return Poll::Ready(Some(element));
            }
            Poll::Ready(Some(Err(error))) => {
                // The error goes to the sink's end past the stages. Records in flight are finished first.
                let pushed = this.source_error.push(error);
                debug_assert!(pushed.is_ok(), "a source fails only once");
                return self.end(Ended::SourceFailed);
            }
            Poll::Ready(None) => return self.end(Ended::Finished),
            Poll::Pending => {}
        }
        // Loops because the timer wakes this task again only after a poll that was `Pending`.
        loop {
            if self.is_due() {
                return Poll::Ready(Some(StreamElement::Barrier(self.barrier(None))));
            }
            if self.as_mut().poll_sleep(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<S: ReplayableSource, T> fmt::Debug for CheckpointedSource<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointedSource").field("next", &self.next).finish_non_exhaustive()
    }
}
