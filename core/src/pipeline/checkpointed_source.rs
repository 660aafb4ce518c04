//! The source's end: its elements, and a barrier between them every now and then.

use alloc::sync::Arc;
use core::fmt;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};
use core::time::Duration;

use atomic_waker::AtomicWaker;
use futures_core::Stream;
use pin_project_lite::pin_project;

use super::sections::{self, Ended, SOURCE};
use super::source::ReplayableSource;
use crate::checkpoint::{Checkpoint, CheckpointId};
use crate::element::{Barrier, BarrierMode, StreamElement};
use crate::runtime::Timer;
use crate::time::Instant;

/// When a checkpoint is due, and in what mode it is taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CheckpointTrigger {
    pub(super) interval: Option<Duration>,
    pub(super) records: Option<u64>,
    pub(super) mode: BarrierMode,
    pub(super) limit: Option<Duration>,
}

/// What the two ends of a pipeline, and those who want to stop it, share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The stages are as they should be, and records may flow.
    is_open: AtomicBool,
    is_stopped: AtomicBool,
    /// Something was written, or a checkpoint failed, since the last barrier was made.
    is_uncommitted: AtomicBool,
    source: AtomicWaker,
}

impl Shared {
    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::Release);
        self.source.wake();
    }

    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.source.wake();
    }

    /// Another checkpoint is needed. The source may be asleep.
    pub(super) fn note_uncommitted(&self) {
        if !self.is_uncommitted.load(Ordering::Relaxed)
            && !self.is_uncommitted.swap(true, Ordering::AcqRel)
        {
            self.source.wake();
        }
    }
}

/// Stops a pipeline, from anywhere. Got from [`Pipeline::stop_handle`](super::Pipeline::stop_handle).
///
/// ```
/// use inflight_core::pipeline::{Ended, MemorySink, MemorySource, Pipeline};
/// use inflight_core::{AsyncWait, AsyncWaitExt, MemoryStore};
/// # use inflight_core::{Instant, NoRuntime, Runtime, Timer};
/// # use std::{future::Future, pin::{Pin, pin}, task::{Context, Poll, Waker}};
/// # #[derive(Clone, Copy)] struct Still;
/// # impl Runtime for Still { type Timer = Self; fn timer(&self) -> Result<Self, NoRuntime> { Ok(Self) } }
/// # impl Timer for Still {
/// #     fn now(&self) -> Instant { Instant::ZERO }
/// #     fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}
/// #     fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
/// # }
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     let (mut future, mut cx) = (pin!(future), Context::from_waker(Waker::noop()));
/// #     for _ in 0..1_000 {
/// #         if let Poll::Ready(done) = future.as_mut().poll(&mut cx) { return done }
/// #     }
/// #     panic!("it does not end")
/// # }
/// # let runtime = Still;
///
/// let mut sink = MemorySink::new();
/// let pipeline = Pipeline::new(MemorySource::new(1..1_000_000_u64), &mut sink, MemoryStore::new());
/// let stop = pipeline.stop_handle(); // for a signal's handler, say
/// let run = pipeline.run(runtime, |numbers, checkpoint| {
///     numbers
///         .async_wait(AsyncWait::ordered(10), move |n: &u64| {
///             if *n == 100 {
///                 stop.stop();
///             }
///             let n = *n;
///             async move { Ok::<_, ()>(n) }
///         })
///         .checkpointed("numbers", 1)
///         .restore(checkpoint)
///         .in_place(runtime)
/// });
/// assert_eq!(block_on(run)?, Ended::Stopped);
/// // What was in flight came through and is committed; the rest is for the next run.
/// assert!((100..1_000).contains(&sink.committed().len()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct StopHandle(pub(super) Arc<Shared>);

impl StopHandle {
    /// Takes no more input. What is in flight finishes and is committed with a last checkpoint, and then
    /// the pipeline ends as [`Ended::Stopped`]. To give it only so much time, drop its future then:
    /// the last checkpoint stands.
    pub fn stop(&self) {
        self.0.stop();
    }
}

pin_project! {
    /// A source with barriers between its elements: what a pipeline's first stage is put on. It ends
    /// with a last barrier, behind everything, that says why.
    pub struct CheckpointedSource<S: ReplayableSource, T> {
        source: S,
        #[pin]
        timer: T,
        shared: Arc<Shared>,
        failed: rtrb::Producer<S::Error>,
        when: CheckpointTrigger,
        next: CheckpointId,
        // When the last barrier was made, and how many records have come since.
        since: Instant,
        records: u64,
        // Whether the source was asked since the last barrier: barriers alone are no progress.
        asked: bool,
        armed: Option<Instant>,
        has_ended: bool,
    }
}

impl<S: ReplayableSource, T: Timer> CheckpointedSource<S, T> {
    pub(super) fn new(
        source: S,
        timer: T,
        shared: Arc<Shared>,
        failed: rtrb::Producer<S::Error>,
        when: CheckpointTrigger,
        next: CheckpointId,
    ) -> Self {
        Self {
            source,
            since: timer.now(),
            timer,
            shared,
            failed,
            when,
            next,
            records: 0,
            asked: true,
            armed: None,
            has_ended: false,
        }
    }

    /// Whether there is anything that the last barrier does not cover.
    fn is_behind(&self) -> bool {
        self.records > 0 || self.shared.is_uncommitted.load(Ordering::Acquire)
    }

    fn is_due(&self) -> bool {
        if self.when.records.is_some_and(|records| self.records >= records) {
            return true;
        }
        let due = self.when.interval.filter(|_| self.is_behind()).map(|every| self.since + every);
        due.is_some_and(|due| due <= self.timer.now())
    }

    /// Everything up to here has been handed out, so this is the position to go on from.
    fn barrier(self: Pin<&mut Self>, end: Option<Ended>) -> Barrier {
        let this = self.project();
        let mut checkpoint = Checkpoint::new(*this.next);
        *this.next = this.next.next();
        (*this.since, *this.records, *this.asked) = (this.timer.now(), 0, false);
        // In this order: what is written from now on needs another barrier.
        this.shared.is_uncommitted.store(false, Ordering::Release);
        let put = sections::put(&mut checkpoint, SOURCE, &this.source.position());
        let put = put.and_then(|()| match end {
            Some(end) => sections::put_end(&mut checkpoint, end),
            None => Ok(()),
        });
        if let Err(reason) = put {
            checkpoint.fail(reason);
        }
        let (mode, limit) = match end {
            Some(_) => (BarrierMode::Drain, None), // nothing follows: everything is to be through
            None => (this.when.mode, this.when.limit),
        };
        Barrier { mode, limit, checkpoint }
    }

    fn end(mut self: Pin<&mut Self>, end: Ended) -> Poll<Option<StreamElement<S::Record>>> {
        *self.as_mut().project().has_ended = true;
        Poll::Ready(Some(StreamElement::Barrier(self.barrier(Some(end)))))
    }

    /// Sleeps until the source has more, a barrier is due, or somebody wants to stop. Ready when there
    /// is something to do after all.
    fn poll_sleep(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let is_behind = self.is_behind();
        let mut this = self.project();
        let due = this.when.interval.filter(|_| is_behind).map(|every| *this.since + every);
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
        // Before the flags are read: whoever sets one afterwards wakes this task.
        self.shared.source.register(cx.waker());
        if !self.shared.is_open.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        if self.shared.is_stopped.load(Ordering::Acquire) {
            return self.end(Ended::Stopped);
        }
        if self.asked && self.is_due() {
            return Poll::Ready(Some(StreamElement::Barrier(self.barrier(None))));
        }
        let this = self.as_mut().project();
        *this.asked = true;
        match this.source.poll_next(cx) {
            Poll::Ready(Some(Ok(element))) => {
                *this.records += u64::from(element.is_record());
                return Poll::Ready(Some(element));
            }
            Poll::Ready(Some(Err(error))) => {
                let told = this.failed.push(error);
                debug_assert!(told.is_ok(), "it fails only once");
                return self.end(Ended::SourceFailed);
            }
            Poll::Ready(None) => return self.end(Ended::Finished),
            Poll::Pending => {}
        }
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
