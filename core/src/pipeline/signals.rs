//! Signals between a pipeline's two ends, and the handle that stops it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;

use atomic_waker::AtomicWaker;

/// Flags that the sink's end and stop handles set and the source's end reads. Stages may run on other threads in between.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// All stages have been built and restored, so records may flow.
    is_open: AtomicBool,
    is_stopped: AtomicBool,
    /// A record was written, or a checkpoint failed, since the last barrier was made.
    is_uncommitted: AtomicBool,
    /// The task that polls the source.
    source: AtomicWaker,
}

impl Signals {
    /// Registers the source's task, which every change of a flag wakes. Call it before reading a flag, or a change in
    /// between is missed.
    pub(super) fn register(&self, waker: &Waker) {
        self.source.register(waker);
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    pub(super) fn is_uncommitted(&self) -> bool {
        self.is_uncommitted.load(Ordering::Acquire)
    }

    pub(super) fn clear_uncommitted(&self) {
        self.is_uncommitted.store(false, Ordering::Release);
    }

    pub(super) fn open(&self) {
        self.is_open.store(true, Ordering::Release);
        self.source.wake();
    }

    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.source.wake();
    }

    /// Asks for another checkpoint (K10: the next one covers a failed one).
    pub(super) fn note_uncommitted(&self) {
        // Called for each record, so the first of many sets the flag and wakes the source, and the others only read.
        if !self.is_uncommitted.load(Ordering::Relaxed)
            && !self.is_uncommitted.swap(true, Ordering::AcqRel)
        {
            self.source.wake();
        }
    }
}

/// Stops a pipeline, from any thread. Returned by [`Pipeline::stop_handle`](super::Pipeline::stop_handle).
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
/// // The records in flight were finished and committed; the rest is for the next run.
/// assert!((100..1_000).contains(&sink.committed().len()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct StopHandle(pub(super) Arc<Signals>);

impl StopHandle {
    /// Stops the input. Records in flight finish and are committed with a last checkpoint; then the pipeline ends with
    /// [`Ended::Stopped`](super::Ended::Stopped). To bound the time, drop the pipeline's future when it is over: the last
    /// saved checkpoint stays valid.
    pub fn stop(&self) {
        self.0.stop();
    }
}
