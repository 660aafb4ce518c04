//! The way of a barrier into a stage that takes no records (K11), and the news that a checkpoint may be due (K13).

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
    /// Stages that hold more than their capacity.
    overfull: AtomicUsize,
    /// The task that asks for room.
    source: AtomicWaker,
    /// Records do not leave the stages yet: no checkpoint of this life is committed.
    is_closed: AtomicBool,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            announced: AtomicUsize::new(0),
            stages: AtomicUsize::new(0),
            wakers: core::array::from_fn(|_| AtomicWaker::new()),
            has_progress: AtomicBool::new(false),
            observer: AtomicWaker::new(),
            overfull: AtomicUsize::new(0),
            source: AtomicWaker::new(),
            is_closed: AtomicBool::new(false),
        }
    }
}

impl BarrierSignal {
    /// Makes a signal that no stage is connected to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells all stages that a barrier in [`Snapshot`](crate::BarrierMode::Snapshot) mode is about to come, one for each call.
    /// Announce only a barrier that is certain to come: until it does, a stage takes everything that its source has.
    pub fn announce(&self) {
        self.0.announced.fetch_add(1, Ordering::AcqRel);
        self.wake_stages();
        self.0.source.wake();
    }

    fn wake_stages(&self) {
        for waker in &self.0.wakers[..self.0.stages.load(Ordering::Acquire).min(MOST_STAGES)] {
            waker.wake();
        }
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

    /// Lets no record leave a stage until [`open`](Self::open). A later stage would give it a request id that no checkpoint knows of, and
    /// the next life would give that id to another record (K17).
    pub(crate) fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
    }

    pub(crate) fn open(&self) {
        self.0.is_closed.store(false, Ordering::Release);
        self.wake_stages();
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

    /// A stage begins or ceases to hold more than its capacity.
    fn note_overfull(&self, is_overfull: bool) {
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

/// A stage's connection with a signal, if it has one.
#[derive(Default)]
pub(super) struct Seat(Option<Connected>);

struct Connected {
    signal: BarrierSignal,
    /// Its place in the signal, and the waker that belongs there.
    place: usize,
    waker: Waker,
    /// Announced barriers that have arrived.
    arrived: usize,
    is_overfull: bool,
    /// The operator's progress as of the last report.
    progress: u64,
}

impl Seat {
    /// Connects a stage, which `waker` gives a turn. `None` if the signal has no place for it.
    pub(super) fn connect(signal: &BarrierSignal, waker: Waker) -> Option<Self> {
        let signal = signal.clone();
        let place = signal.0.stages.fetch_add(1, Ordering::AcqRel);
        signal.0.wakers.get(place)?.register(&waker);
        let arrived = signal.announced();
        Some(Self(Some(Connected {
            signal,
            place,
            waker,
            arrived,
            is_overfull: false,
            progress: 0,
        })))
    }

    /// Whether records may leave the stage; once they may, they always may.
    pub(super) fn is_open(&self) -> bool {
        let Some(connected) = &self.0 else { return true };
        if connected.signal.0.is_closed.load(Ordering::Acquire) {
            return false;
        }
        // The opening has used the waker up.
        connected.signal.0.wakers[connected.place].register(&connected.waker);
        true
    }

    /// Whether a barrier was announced and has not arrived.
    #[inline(always)]
    pub(super) fn is_due(&self) -> bool {
        self.0.as_ref().is_some_and(Connected::is_due)
    }

    /// A barrier has arrived.
    pub(super) fn arrived(&mut self) {
        let Some(connected) = &mut self.0 else { return };
        if connected.is_due() {
            connected.arrived = connected.arrived.wrapping_add(1);
            // The announcement has used the waker up.
            connected.signal.0.wakers[connected.place].register(&connected.waker);
        }
    }

    /// Reports the operator's state after a turn.
    #[inline]
    pub(super) fn report(&mut self, progress: u64, is_overfull: bool) {
        let Some(connected) = &mut self.0 else { return };
        if progress != connected.progress {
            connected.progress = progress;
            connected.signal.note_progress();
        }
        if is_overfull != connected.is_overfull {
            connected.is_overfull = is_overfull;
            connected.signal.note_overfull(is_overfull);
        }
    }
}

impl Connected {
    #[inline(always)]
    fn is_due(&self) -> bool {
        self.signal.announced() != self.arrived
    }
}
