//! From a stage on a task of its own to its consumer: a bounded buffer, handed over in batches.
//!
//! Records in the buffer count against the stage's capacity. So the buffer cannot overflow, and a consumer that
//! takes nothing stops the source. The producer wakes the consumer once a batch; the
//! consumer gives credit back every few records, and when it has emptied the buffer.

use alloc::sync::Arc;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker, ready};

use futures_core::Stream;

use super::handle::{Controls, StageHandle};
use crate::element::{StreamElement, StreamKind};
use crate::operator::Metrics;
use crate::runtime::JoinError;
use crate::stage::Next;
use crate::stage::StageError;
use crate::sync::{AtomicUsize, AtomicWaker, Consumer, Ordering, Producer, RingBuffer};

#[cfg(all(test, loom))]
mod loom_tests;

/// The two ends of a buffer for at most `max_capacity` records and as many control elements, at first
/// for `capacity`. `producer` wakes the producing end when there is credit.
pub(crate) fn ring<M: StreamKind, O>(
    capacity: usize,
    max_capacity: usize,
    producer: Waker,
) -> (Outlet<M, O>, Inlet<M, O>) {
    let (producing, consuming) = RingBuffer::new(max_capacity.saturating_mul(2));
    let controls = Arc::new(Controls::new(max_capacity));
    let (taken, consumer) = (AtomicUsize::new(0), AtomicWaker::new());
    let credit_after = AtomicUsize::new(credit_after(capacity));
    let shared = Arc::new(Shared { taken, credit_after, consumer, controls });
    let outlet = Outlet { ring: producing, given: 0, shared: Waking(Arc::clone(&shared)) };
    let producer = WakeOnDrop(producer);
    let inlet = Inlet { ring: consuming, taken: 0, told: 0, shared, producer };
    (outlet, inlet)
}

/// The number of records for which the consumer gives credit at once, in a window of this size: few enough that the window does not run
/// empty, and enough that a record costs no wake-up of its own.
fn credit_after(capacity: usize) -> usize {
    (capacity / 8).clamp(1, 32)
}

struct Shared {
    /// Records that the consumer has taken, counted from the start; the number wraps around.
    taken: AtomicUsize,
    /// The number of records for which the consumer gives credit at once.
    credit_after: AtomicUsize,
    consumer: AtomicWaker,
    controls: Arc<Controls>,
}

/// The producing end.
pub(crate) struct Outlet<M: StreamKind, O> {
    /// Dropped before `shared`, which wakes the consumer: that must find the buffer abandoned.
    ring: Producer<M::Item<O>>,
    /// Records that were put in, counted like [`Shared::taken`].
    given: usize,
    shared: Waking,
}

/// Wakes the consumer when the producing end is dropped, also when its task panics or is cancelled.
struct Waking(Arc<Shared>);

impl Drop for Waking {
    fn drop(&mut self) {
        self.0.consumer.wake();
    }
}

impl<M: StreamKind, O> Outlet<M, O> {
    /// Records that were put in and that the consumer has not taken.
    pub(crate) fn undelivered(&self) -> usize {
        self.given.wrapping_sub(self.shared.0.taken.load(Ordering::Acquire))
    }

    /// The window has another size from now on. Read [`undelivered`](Self::undelivered) after this: the consumer may have taken
    /// records for which, by the old size, it gave no credit yet.
    pub(crate) fn resize(&self, capacity: usize) {
        self.shared.0.credit_after.store(credit_after(capacity), Ordering::Release);
    }

    /// Hands outputs over, as far as there is room for them, and wakes the consumer. `next` is told how many records are
    /// undelivered, and returns the stage's next output: `None` if there is none, `Some(None)` if a record was dropped, which leaves
    /// without an element. Returns whether anything has left.
    pub(crate) fn give(
        &mut self,
        mut next: impl FnMut(usize) -> Option<Option<StreamElement<O>>>,
    ) -> bool {
        let (mut leaves, mut given) = (false, false);
        let mut undelivered = self.undelivered();
        while !self.ring.is_full()
            && let Some(element) = next(undelivered)
        {
            leaves = true;
            let Some(item) = element.and_then(M::from_element) else { continue };
            given = true;
            let records = usize::from(M::is_record(&item));
            self.given = self.given.wrapping_add(records);
            undelivered += records;
            let pushed = self.ring.push(item);
            debug_assert!(pushed.is_ok(), "there was room a moment ago");
        }
        if given {
            self.shared.0.consumer.wake();
        }
        leaves
    }

    /// Whether the buffer has no room for another item.
    pub(crate) fn is_full(&self) -> bool {
        self.ring.is_full()
    }

    /// The commands of the stage's handles, and the numbers that they read.
    pub(crate) fn controls(&self) -> &Controls {
        &self.shared.0.controls
    }

    /// Whether the consumer is gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}

/// The consuming end.
pub(crate) struct Inlet<M: StreamKind, O> {
    /// Dropped before `producer`, which wakes the producing end: that must find the buffer abandoned.
    ring: Consumer<M::Item<O>>,
    /// The same as [`Shared::taken`], which only this end writes.
    taken: usize,
    /// [`taken`](Self::taken) as of the last credit.
    told: usize,
    shared: Arc<Shared>,
    producer: WakeOnDrop,
}

struct WakeOnDrop(Waker);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake_by_ref();
    }
}

impl<M: StreamKind, O> Inlet<M, O> {
    fn take(&mut self) -> Option<M::Item<O>> {
        let item = self.ring.pop().ok()?;
        self.taken = self.taken.wrapping_add(usize::from(M::is_record(&item)));
        // Before the credit: the stage that it wakes has to see this.
        self.shared.taken.store(self.taken, Ordering::Release);
        // A resize at the same time may be missed. The stage takes another turn after one, and then sees `taken`.
        if self.taken.wrapping_sub(self.told) >= self.shared.credit_after.load(Ordering::Acquire) {
            self.give_credit();
        }
        Some(item)
    }

    fn give_credit(&mut self) {
        self.told = self.taken;
        self.producer.0.wake_by_ref();
    }

    /// The next item; `None` when the producing end is gone and nothing is left.
    fn poll_take(&mut self, cx: &Context<'_>) -> Poll<Option<M::Item<O>>> {
        if let Some(item) = self.take() {
            return Poll::Ready(Some(item));
        }
        // Empty: the producer may be waiting for room, also for control elements.
        self.give_credit();
        self.shared.consumer.register(cx.waker());
        // Once more: an item may have come before the waker was there. The end is looked at first, so that no item that was put in
        // before it is missed.
        let ended = self.ring.is_abandoned();
        match self.take() {
            Some(item) => Poll::Ready(Some(item)),
            None if ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// A stage on a task of its own: the stream of its outputs.
///
/// Requests make progress whether or not this is polled. Dropping it cancels the task and with it
/// everything in flight. If the stream ends early, because the function could not be opened or the
/// runtime was shut down, [`end`](Self::end) says so.
///
/// In a struct or a signature it has a shorter name for each runtime: `TokioStage<In, Out, E>`, `SmolStage<In, Out, E>`. Code for
/// every runtime takes its stream:
///
/// ```
/// use std::pin::pin;
///
/// use futures_lite::{Stream, StreamExt};
/// use inflight_core::{Outcome, StageHandle};
///
/// /// Takes outcomes until one in a thousand has failed; then it lets the stage finish what is in flight.
/// async fn count<E>(
///     stage: impl Stream<Item = Outcome<u64, String, E>>,
///     handle: StageHandle, // from `stage.handle()`
/// ) -> u64 {
///     let (mut stage, mut answers) = (pin!(stage), 0);
///     while let Some(done) = stage.next().await {
///         answers += u64::from(done.result.is_ok());
///         let now = handle.metrics();
///         if now.failed * 1_000 > now.records_in.max(1_000) {
///             handle.stop();
///         }
///     }
///     answers
/// }
/// # let _ = |handle| count(futures_lite::stream::empty::<Outcome<u64, String, ()>>(), handle);
/// ```
///
/// # Panics
///
/// Polling panics if the stage's task has panicked (in its source, its function, or a request polled
/// in place): the records in flight are lost, and that must not look like the end of the stream.
#[must_use = "dropping it cancels the stage"]
pub struct SpawnedStage<O, E, M: StreamKind, H> {
    /// Dropped before `task`, so that the task finds its consumer gone.
    inlet: Inlet<M, O>,
    task: H,
    end: Option<Result<(), StageError<E>>>,
}

impl<O, E, M: StreamKind, H> SpawnedStage<O, E, M, H> {
    pub(crate) fn new(inlet: Inlet<M, O>, task: H) -> Self {
        Self { inlet, task, end: None }
    }

    /// Watches and steers the stage, from anywhere.
    pub fn handle(&self) -> StageHandle {
        let controls = Arc::clone(&self.inlet.shared.controls);
        StageHandle::new(controls, self.inlet.producer.0.clone())
    }

    /// Takes no more input and finishes what is in flight, as [`StageHandle::stop`] does: go on taking outcomes until the stream
    /// ends. The [`handle`](Self::handle) does so from elsewhere, within a time (`stop_within`), and pauses the stage.
    pub fn stop(&self) {
        self.handle().stop();
    }

    /// The stage's numbers, as [`StageHandle::metrics`] tells them.
    pub fn metrics(&self) -> Metrics {
        self.inlet.shared.controls.metrics()
    }

    /// How the stream ended, once it has: `Err` if it ended before everything had left.
    pub fn end(&self) -> Option<Result<(), &StageError<E>>> {
        self.end.as_ref().map(|end| end.as_ref().copied())
    }
}

impl<O, E, M, H> SpawnedStage<O, E, M, H>
where
    M: StreamKind,
    H: Future<Output = Result<Result<(), StageError<E>>, JoinError>> + Unpin,
{
    /// The next element; `None` at the end of the stream.
    ///
    /// Cancellation: nothing is lost when the future is dropped.
    #[allow(clippy::should_implement_trait)] // the usual name of it on streams
    #[inline]
    pub fn next(&mut self) -> Next<'_, Self> {
        Next::new(self)
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<M::Item<O>>> {
        if self.end.is_none() {
            // Everything in the buffer comes first, also after the task has ended or panicked.
            if let Some(item) = ready!(self.inlet.poll_take(cx)) {
                return Poll::Ready(Some(item));
            }
            self.end = Some(match ready!(Pin::new(&mut self.task).poll(cx)) {
                Ok(end) => end,
                Err(JoinError::Panicked) => Err(StageError::Panicked),
                Err(JoinError::Cancelled) => Err(StageError::Cancelled),
            });
        }
        let panicked = matches!(self.end, Some(Err(StageError::Panicked)));
        assert!(!panicked, "the stage's task has panicked");
        Poll::Ready(None)
    }
}

/// Nothing in it is pinned: only a task's handle that is `Unpin` is ever polled.
impl<O, E, M: StreamKind, H> Unpin for SpawnedStage<O, E, M, H> {}

impl<O, E, M, H> Stream for SpawnedStage<O, E, M, H>
where
    M: StreamKind,
    H: Future<Output = Result<Result<(), StageError<E>>, JoinError>> + Unpin,
{
    type Item = M::Item<O>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(cx)
    }
}

impl<O, E, M: StreamKind, H> fmt::Debug for SpawnedStage<O, E, M, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.end.is_some();
        f.debug_struct("SpawnedStage").field("ended", &ended).finish_non_exhaustive()
    }
}
