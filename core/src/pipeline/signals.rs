//! Signals between the two ends of a pipeline, and the handle that steers it.

use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};

use concurrent_queue::ConcurrentQueue;

use super::sections::Ended;
use crate::barrier_signal::BarrierSignal;

/// Flags that the sink's end and the handles set and the source's end reads, or the other way round. Stages may run on other threads
/// in between. A change of a flag wakes the end that reads it.
#[derive(Debug, Default)]
pub(super) struct Signals {
    pub(super) barriers: BarrierSignal,
    /// The first checkpoint is committed, so records may flow.
    is_open: AtomicBool,
    /// The way in which a handle has asked the pipeline to end: 0, or a [`Stop`].
    stop: AtomicU8,
    /// The sink's end wants a barrier.
    wants_barrier: AtomicBool,
    /// The end of the records has arrived at the sink.
    is_drained: AtomicBool,
    /// Everything is committed, and the stages may close.
    is_closed: AtomicBool,
    /// The source has handed out as many records as the trigger names.
    has_enough_records: AtomicBool,
    /// Why no record follows: 0, or an [`Ended`] and one.
    end: AtomicU8,
    /// The number of stages that the job has ever had.
    stages: AtomicU16,
    pub(super) asked: Asked,
}

/// A handle's wish that the pipeline ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Drain = 1,
    HandOver = 2,
}

impl Signals {
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::Release);
        self.barriers.release();
        self.barriers.wake_source();
    }

    pub(super) fn stop(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Stop::Drain),
            _ => Some(Stop::HandOver),
        }
    }

    /// Asks the pipeline to end. A hand-over takes precedence, because it is the quicker way.
    fn ask_to_stop(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::AcqRel);
        self.barriers.wake_source();
        self.barriers.wake_observer();
    }

    /// Asks the source for a barrier, which comes through full stages as well.
    pub(super) fn want_barrier(&self) {
        self.has_enough_records.store(false, Ordering::Relaxed);
        self.wants_barrier.store(true, Ordering::Release);
        self.barriers.announce();
    }

    pub(super) fn wants_barrier(&self) -> bool {
        self.wants_barrier.load(Ordering::Acquire)
    }

    pub(super) fn barrier_made(&self) {
        self.wants_barrier.store(false, Ordering::Release);
    }

    pub(super) fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Acquire)
    }

    pub(super) fn drained(&self) {
        self.is_drained.store(true, Ordering::Release);
        self.barriers.wake_source();
    }

    /// Why the source hands out no more records; `None` while it does.
    pub(super) fn end(&self) -> Option<Ended> {
        let end = self.end.load(Ordering::Acquire);
        Ended::ALL.into_iter().find(|ended| *ended as u8 + 1 == end)
    }

    pub(super) fn end_with(&self, ended: Ended) {
        self.end.store(ended as u8 + 1, Ordering::Release);
    }

    pub(super) fn stages(&self) -> u16 {
        self.stages.load(Ordering::Acquire)
    }

    pub(super) fn set_stages(&self, stages: u16) {
        self.stages.store(stages, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.barriers.wake_source();
    }

    pub(super) fn has_enough_records(&self) -> bool {
        self.has_enough_records.load(Ordering::Acquire)
    }

    pub(super) fn enough_records(&self) {
        self.has_enough_records.store(true, Ordering::Release);
        self.barriers.wake_observer();
    }
}

/// Checkpoints that were asked for. Each ask has a number, from 1.
#[derive(Debug, Default)]
pub(super) struct Asked {
    last: AtomicUsize,
    /// The highest ask that a committed checkpoint has answered.
    answered: AtomicUsize,
    /// The highest ask whose checkpoint has failed.
    failed: AtomicUsize,
    /// No checkpoint follows.
    is_over: AtomicBool,
    /// The tasks that wait, and how often they were woken.
    waiting: Waiting,
    rounds: AtomicUsize,
}

#[derive(Debug)]
struct Waiting(ConcurrentQueue<Waker>);

impl Default for Waiting {
    fn default() -> Self {
        Self(ConcurrentQueue::unbounded())
    }
}

impl Asked {
    /// The last ask. A checkpoint that begins now answers all up to it.
    pub(super) fn last(&self) -> usize {
        self.last.load(Ordering::Acquire)
    }

    /// Whether an ask has no answer and no failure.
    pub(super) fn is_open(&self) -> bool {
        let answered = self.answered.load(Ordering::Acquire);
        self.last() > answered.max(self.failed.load(Ordering::Acquire))
    }

    pub(super) fn answer(&self, up_to: usize) {
        self.answered.fetch_max(up_to, Ordering::AcqRel);
        self.wake_all();
    }

    pub(super) fn fail(&self, up_to: usize) {
        self.failed.fetch_max(up_to, Ordering::AcqRel);
        self.wake_all();
    }

    /// No checkpoint follows.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.rounds.fetch_add(1, Ordering::AcqRel);
        while let Ok(waker) = self.waiting.0.pop() {
            waker.wake();
        }
    }

    fn result(&self, ask: usize) -> Option<Result<(), NoCheckpoint>> {
        // Read in the reverse order of writing: the pipeline answers before it ends.
        let is_over = self.is_over.load(Ordering::Acquire);
        if self.answered.load(Ordering::Acquire) >= ask {
            return Some(Ok(()));
        }
        if self.failed.load(Ordering::Acquire) >= ask {
            return Some(Err(NoCheckpoint::Failed));
        }
        is_over.then_some(Err(NoCheckpoint::Ended))
    }
}

/// The pipeline's own hold on its signals. When it is dropped, no checkpoint follows.
#[derive(Debug, Default)]
pub(super) struct Owner(pub(super) Arc<Signals>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.asked.end();
    }
}

/// Ends a pipeline, or makes it take a checkpoint, from any thread (K16). Returned by
/// [`Pipeline::stop_handle`](super::Pipeline::stop_handle).
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
/// let stop = pipeline.stop_handle(); // for a signal handler, for instance
/// let run = pipeline.run(runtime, |numbers, recovery| {
///     numbers
///         .async_wait(AsyncWait::ordered(10), move |n: &u64| {
///             if *n == 100 {
///                 stop.drain();
///             }
///             let n = *n;
///             async move { Ok::<_, ()>(n) }
///         })
///         .checkpointed("numbers", 1)
///         .restore(recovery)
///         .in_place(runtime)
/// });
/// assert_eq!(block_on(run)?, Ended::Stopped);
/// // The records in flight were finished and committed; the rest is for the next run.
/// assert!((100..1_000).contains(&sink.committed().len()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct StopHandle(pub(super) Arc<Signals>);

impl StopHandle {
    /// Takes no more input, and finishes the records in flight. Checkpoints go on meanwhile, so little is repeated if the process is
    /// killed before the end. After a last checkpoint the pipeline ends with [`Ended::Stopped`](super::Ended::Stopped).
    ///
    /// To bound the time, [hand over](Self::hand_over) when it has passed.
    pub fn drain(&self) {
        self.0.ask_to_stop(Stop::Drain);
    }

    /// Takes no more input, saves and commits a last checkpoint at once, and drops the records in flight, which the next run goes on
    /// with. The pipeline ends with [`Ended::HandedOver`](super::Ended::HandedOver) after the time of one save, or of two if one is
    /// under way, however long the requests take. The functions of the stages are dropped and not closed.
    ///
    /// This takes precedence over [`drain`](Self::drain). A pipeline that [drains](super::Pipeline::draining) its checkpoints does not drain
    /// this one: it holds the records in flight.
    pub fn hand_over(&self) {
        self.0.ask_to_stop(Stop::HandOver);
    }

    /// Asks for a checkpoint that begins now, without regard to the interval and the pause; one that is under way is waited for. Returns
    /// when it is committed. The ask counts also if the future is never polled, or dropped.
    ///
    /// ```
    /// # async fn example(stop: inflight_core::pipeline::StopHandle) {
    /// use inflight_core::pipeline::NoCheckpoint;
    ///
    /// match stop.checkpoint_now().await {
    ///     Ok(()) => println!("everything up to now is committed"),
    ///     Err(NoCheckpoint::Failed) => println!("see the report; the next checkpoint covers it"),
    ///     Err(_) => println!("the pipeline has ended"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`NoCheckpoint`]: the checkpoint has failed, or the pipeline has ended without it.
    pub fn checkpoint_now(&self) -> CheckpointNow {
        let ask = self.0.asked.last.fetch_add(1, Ordering::AcqRel) + 1;
        self.0.barriers.wake_observer();
        CheckpointNow { signals: Arc::clone(&self.0), ask, registered: None }
    }
}

/// Waits for a checkpoint: returned by [`StopHandle::checkpoint_now`].
#[must_use = "the checkpoint is asked for, but nothing waits for it"]
#[derive(Debug)]
pub struct CheckpointNow {
    signals: Arc<Signals>,
    ask: usize,
    /// The waker that is among those that wait, and the round for which it is.
    registered: Option<(usize, Waker)>,
}

impl Future for CheckpointNow {
    type Output = Result<(), NoCheckpoint>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let asked = &this.signals.asked;
        let round = asked.rounds.load(Ordering::Acquire);
        if let Some(result) = asked.result(this.ask) {
            return Poll::Ready(result);
        }
        let is_registered = this
            .registered
            .as_ref()
            .is_some_and(|(of, waker)| *of == round && waker.will_wake(cx.waker()));
        if !is_registered {
            this.registered = Some((round, cx.waker().clone()));
            let _ = asked.waiting.0.push(cx.waker().clone()); // it is unbounded
        }
        // Once more: the answer may have come before the waker was there.
        asked.result(this.ask).map_or(Poll::Pending, Poll::Ready)
    }
}

/// Why a checkpoint that was [asked for](StopHandle::checkpoint_now) did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoCheckpoint {
    /// The checkpoint has failed. The [report](super::Report::Failed) says why, and the next checkpoint covers the same output.
    Failed,
    /// The pipeline has ended, or was dropped.
    Ended,
}

impl fmt::Display for NoCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "the checkpoint has failed",
            Self::Ended => "the pipeline has ended",
        })
    }
}

impl core::error::Error for NoCheckpoint {}
