//! The signal between the stages of a chain and the part of a program that takes checkpoints.

use alloc::sync::Arc;
use core::fmt;
use core::task::{Context, Poll, Waker};

use crate::sync::{AtomicBool, AtomicUsize, AtomicWaker, Ordering};

/// More stages than a chain has. A signal has a place for the waker of each.
const MOST_STAGES: usize = 64;

/// Connects the stages of a chain with the part of a program that takes checkpoints: a [pipeline](crate::pipeline) has one, and an
/// engine that makes its own [`Barrier`](crate::Barrier)s makes one for each chain. Give it to every stage
/// ([`StageBuilder::barriers`](crate::StageBuilder::barriers)). Clones are the same signal.
///
/// A stage that is full takes nothing from its source, and so a barrier in that source would wait for a request (K11). Therefore the
/// engine [announces](Self::announce) the barrier. Each stage then takes from its source all that comes before the barrier, beyond
/// its capacity if there is no room, and lets the barrier through. That is bounded by the capacities of the stages before it if
/// the engine does two things: it hands out an announced barrier before its next record, and it
/// hands out no record while a stage has more than its capacity ([`poll_room`](Self::poll_room)).
///
/// ```
/// use std::future::pending;
/// use std::task::{Context, Waker};
///
/// use futures_core::Stream;
/// use futures_lite::{StreamExt, stream};
/// use inflight_core::{AsyncWait, AsyncWaitExt, Barrier, BarrierSignal, Checkpoint, CheckpointId, StreamElement};
/// # use inflight_core::{Instant, NoRuntime, Runtime, Timer};
/// # use std::{pin::{Pin, pin}, task::Poll};
/// # #[derive(Clone, Copy)] struct Still;
/// # impl Runtime for Still { type Timer = Self; fn timer(&self) -> Result<Self, NoRuntime> { Ok(Self) } }
/// # impl Timer for Still {
/// #     fn now(&self) -> Instant { Instant::ZERO }
/// #     fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}
/// #     fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
/// # }
/// # let runtime = Still;
/// let barrier = StreamElement::Barrier(Barrier::snapshot(Checkpoint::new(CheckpointId(1))));
/// let source = stream::iter([StreamElement::value(20), barrier]); // an engine's source
/// let signal = BarrierSignal::new();
/// let mut stage = source
///     .async_wait(AsyncWait::ordered(1), |_: &u32| pending::<Result<u32, ()>>()) // never answered
///     .checkpointed("lookup", 1)
///     .barriers(&signal)
///     .in_place(runtime)?;
///
/// let mut cx = Context::from_waker(Waker::noop());
/// assert!(stage.poll_next(&mut cx).is_pending()); // the stage is full
/// signal.announce();
/// let Poll::Ready(Some(StreamElement::Barrier(barrier))) = stage.poll_next(&mut cx) else { panic!() };
/// assert!(barrier.checkpoint.section("lookup").is_some());
/// # Ok::<(), inflight_core::StartError>(())
/// ```
#[derive(Clone, Default)]
pub struct BarrierSignal(Arc<Shared>);

struct Shared {
    /// Barriers that were announced, counted from the start; the number wraps around.
    announced: AtomicUsize,
    /// Stages that were connected.
    stages: AtomicUsize,
    wakers: [AtomicWaker; MOST_STAGES],
    /// A stage has made progress since [`BarrierSignal::take_progress`].
    has_progress: AtomicBool,
    /// The task that asks for progress.
    observer: AtomicWaker,
    /// Functions are not opened yet, so no request is made.
    is_held: AtomicBool,
    /// Stages that hold more than their capacity.
    overfull: AtomicUsize,
    /// The task that asks for room.
    source: AtomicWaker,
    /// A barrier was dropped on its way.
    has_lost_barrier: AtomicBool,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            announced: AtomicUsize::new(0),
            stages: AtomicUsize::new(0),
            wakers: core::array::from_fn(|_| AtomicWaker::new()),
            has_progress: AtomicBool::new(false),
            observer: AtomicWaker::new(),
            is_held: AtomicBool::new(false),
            overfull: AtomicUsize::new(0),
            source: AtomicWaker::new(),
            has_lost_barrier: AtomicBool::new(false),
        }
    }
}

impl BarrierSignal {
    /// Makes a signal that no stage is connected to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells all stages that a barrier with a checkpoint is about to come, in [`Snapshot`](crate::BarrierMode::Snapshot) or in
    /// [`Drain`](crate::BarrierMode::Drain) mode, one for each call.
    /// Announce only a barrier that is certain to come: until it does, a stage takes everything that its source has.
    pub fn announce(&self) {
        self.0.announced.fetch_add(1, Ordering::AcqRel);
        self.wake_stages();
        self.0.source.wake();
    }

    fn wake_stages(&self) {
        let stages = self.0.stages.load(Ordering::Acquire).min(MOST_STAGES);
        self.0.wakers[..stages].iter().for_each(AtomicWaker::wake);
    }

    /// Lets no stage open its function before [`release`](Self::release). Barriers go through the stages meanwhile.
    pub(crate) fn hold(&self) {
        self.0.is_held.store(true, Ordering::Release);
    }

    pub(crate) fn release(&self) {
        self.0.is_held.store(false, Ordering::Release);
        self.wake_stages();
    }

    /// Ready when a stage has made progress that a new checkpoint would keep and an earlier one does not: an attempt has begun or
    /// ended, or a record has left (K13). It is ready until [`take_progress`](Self::take_progress), and wakes the task of the
    /// latest call that was pending.
    pub fn poll_progress(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.observer.register(cx.waker());
        match self.0.has_progress.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Returns true if a stage has made progress since the last call. Call it before the barrier is handed out: later progress
    /// counts for the next checkpoint.
    pub fn take_progress(&self) -> bool {
        self.0.has_progress.swap(false, Ordering::AcqRel)
    }

    /// Ready unless a stage holds more than its capacity, because a barrier has pushed elements on into it. Then the source hands
    /// out no records. It wakes the task of the latest call that was pending.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.overfull.load(Ordering::Acquire) == 0 {
            return Poll::Ready(());
        }
        self.0.source.register(cx.waker());
        match self.0.overfull.load(Ordering::Acquire) {
            0 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    pub(crate) fn has_progress(&self) -> bool {
        self.0.has_progress.load(Ordering::Acquire)
    }

    /// Notes progress outside of the stages: at the source or at the sink.
    pub(crate) fn note_progress(&self) {
        // Most calls find it noted, and only read.
        if !self.0.has_progress.load(Ordering::Relaxed)
            && !self.0.has_progress.swap(true, Ordering::AcqRel)
        {
            self.0.observer.wake();
        }
    }

    /// Makes a barrier's token: the signal learns of it if it is dropped before it [arrives](OnItsWay::arrive).
    pub(crate) fn on_its_way(&self) -> OnItsWay {
        OnItsWay(Some(self.clone()))
    }

    /// Whether a barrier was dropped on its way: by an adapter, or with a stage that ended early.
    pub(crate) fn has_lost_barrier(&self) -> bool {
        self.0.has_lost_barrier.load(Ordering::Acquire)
    }

    /// Barriers that were announced.
    pub(crate) fn announced(&self) -> usize {
        self.0.announced.load(Ordering::Acquire)
    }

    /// Registers the task of the source for the next announcement.
    pub(crate) fn register_source(&self, waker: &Waker) {
        self.0.source.register(waker);
    }

    /// Wakes the task that asks for progress.
    pub(crate) fn wake_observer(&self) {
        self.0.observer.wake();
    }

    /// Wakes the task of the source.
    pub(crate) fn wake_source(&self) {
        self.0.source.wake();
    }

    /// Connects a stage, which `waker` gives a turn. Returns its place; `None` if the signal has none for it.
    pub(crate) fn connect(&self, waker: &Waker) -> Option<usize> {
        let place = self.0.stages.fetch_add(1, Ordering::AcqRel);
        self.0.wakers.get(place)?.register(waker);
        Some(place)
    }

    /// Registers the waker of a stage again, after an announcement has used it up.
    pub(crate) fn register(&self, place: usize, waker: &Waker) {
        self.0.wakers[place].register(waker);
    }

    pub(crate) fn is_held(&self) -> bool {
        self.0.is_held.load(Ordering::Acquire)
    }

    /// A stage begins or ceases to hold more than its capacity.
    pub(crate) fn note_overfull(&self, is_overfull: bool) {
        if is_overfull {
            self.0.overfull.fetch_add(1, Ordering::AcqRel);
        } else if self.0.overfull.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wake_source();
        }
    }
}

impl fmt::Debug for BarrierSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages = self.0.stages.load(Ordering::Relaxed);
        f.debug_struct("BarrierSignal").field("stages", &stages).finish_non_exhaustive()
    }
}

/// The token of a barrier that is under way between the source and the sink of a pipeline.
#[derive(Debug)]
pub(crate) struct OnItsWay(Option<BarrierSignal>);

impl OnItsWay {
    /// The barrier has arrived.
    pub(crate) fn arrive(mut self) {
        self.0 = None;
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        if let Some(signal) = &self.0 {
            signal.0.has_lost_barrier.store(true, Ordering::Release);
            signal.wake_observer();
        }
    }
}
