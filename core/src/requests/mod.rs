//! The table of a stage's requests, and which of them it has to poll.
//!
//! The stage is generic over [`Requests`], and a [`StageStorage`] chooses the table: `HeapRequests` on the heap,
//! [`FixedRequests`] in place. Some words that these files share:
//!
//! - A *slot* is a request's index in the table.
//! - The *parent* is the task that polls the stage.
//! - A *pass* goes once over the wake set: it hands out everything that was woken before it began.

#[forbid(unsafe_code)]
mod fixed;
#[cfg(feature = "alloc")]
#[forbid(unsafe_code)]
mod heap;
mod raw;
#[cfg(feature = "alloc")]
#[forbid(unsafe_code)]
mod wake_bits;
#[forbid(unsafe_code)]
mod wake_table;

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use self::fixed::{FixedRequests, PollAll};
pub use self::wake_table::WakeTable;
use self::wake_table::WakeTableGuard;
use crate::storage::{Fixed, Storage};

/// The most requests that a turn polls and elements that it pulls, together.
pub(crate) const TURN_BUDGET: usize = 128;

/// The storage of a stage and its requests. This trait is sealed.
///
/// | storage | requests are kept | requests that are polled |
/// | --- | --- | --- |
/// | `Heap` (feature `alloc`) | on the heap | those that were woken |
/// | [`Fixed<N>`](Fixed) | in place, `N` at most | all, whenever the stage is polled |
/// | [`&'static WakeTable<N>`](WakeTable) | in place, `N` at most | those that were woken |
///
/// `Fixed<N>` polls each request once before it judges timeouts. So a request that becomes ready in that poll is
/// in time; a request that needs several polls in a row may time out.
pub trait StageStorage: sealed::Sealed {
    /// The storage of the operator's tables.
    type Storage: Storage;

    #[doc(hidden)]
    type Requests<F: Future>: Requests<F>;

    /// Whether requests are polled with wakers that the stage makes. Otherwise they are polled with the parent's.
    #[doc(hidden)]
    const OWN_WAKERS: bool;

    /// A table with room for `capacity` requests; `None` if another stage uses this storage.
    #[doc(hidden)]
    fn requests<F: Future>(self, capacity: usize) -> Option<Self::Requests<F>>;
}

mod sealed {
    #[allow(unreachable_pub)]
    pub trait Sealed {}
    #[cfg(feature = "alloc")]
    impl Sealed for crate::storage::Heap {}
    impl<const N: usize> Sealed for crate::storage::Fixed<N> {}
    impl<const N: usize> Sealed for &'static super::WakeTable<N> {}
}

#[cfg(feature = "alloc")]
impl StageStorage for crate::storage::Heap {
    type Storage = Self;
    type Requests<F: Future> = self::heap::HeapRequests<F>;
    const OWN_WAKERS: bool = true;

    fn requests<F: Future>(self, capacity: usize) -> Option<self::heap::HeapRequests<F>> {
        Some(self::heap::HeapRequests::new(capacity))
    }
}

impl<const N: usize> StageStorage for Fixed<N> {
    type Storage = Self;
    type Requests<F: Future> = FixedRequests<[Option<F>; N], PollAll>;
    const OWN_WAKERS: bool = false;

    fn requests<F: Future>(self, _: usize) -> Option<FixedRequests<[Option<F>; N], PollAll>> {
        Some(FixedRequests::new(PollAll::default()))
    }
}

impl<const N: usize> StageStorage for &'static WakeTable<N> {
    type Storage = Fixed<N>;
    type Requests<F: Future> = FixedRequests<[Option<F>; N], WakeTableGuard<N>>;
    const OWN_WAKERS: bool = true;

    fn requests<F: Future>(
        self,
        _: usize,
    ) -> Option<FixedRequests<[Option<F>; N], WakeTableGuard<N>>> {
        self.claim().map(FixedRequests::new)
    }
}

/// A table of requests that are polled in place, at most one in each slot; and the wakes of a stage: those of its
/// requests and those of its own wakers.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait Requests<F: Future> {
    /// The most requests that a turn polls and elements that it pulls, together.
    const TURN_BUDGET: usize;

    /// Whether requests can be started, and the source polled, also between turns.
    const BETWEEN_TURNS: bool;

    /// A turn of the stage begins, in a poll with this context.
    fn begin(self: Pin<&mut Self>, cx: &Context<'_>);

    /// Puts a request into a slot and polls it for the first time. Drops the request that was there before.
    fn start(self: Pin<&mut Self>, slot: usize, request: F) -> Poll<F::Output>;

    /// Like [`Self::start`], but if the slot is woken after the first poll and `is_alone` says that there is no other request, polls
    /// the request once more at once: no other request has to wait for that. The wake is still handed out later. It may be an old one, for a
    /// request that was in this slot before.
    fn start_alone(
        self: Pin<&mut Self>,
        slot: usize,
        request: F,
        is_alone: impl FnOnce() -> bool,
    ) -> Poll<F::Output>;

    /// Drops the request in a slot, if there is one.
    fn remove(self: Pin<&mut Self>, slot: usize);

    /// Drops all requests.
    fn clear(self: Pin<&mut Self>);

    /// Polls the request in a slot, and drops it when it is ready. `None` if there is none.
    fn poll(self: Pin<&mut Self>, slot: usize) -> Option<Poll<F::Output>>;

    /// Runs `poll` with one of the stage's own wakers.
    fn with_own<T>(&self, waker: StageWaker, poll: impl FnOnce(&mut Context<'_>) -> T) -> T;

    /// Whether the next call of [`Self::next_woken`] begins a pass. If that call returns `None`, there are no wakes. The
    /// `None` of a pass that began earlier says less: there may have been wakes since it began.
    fn is_between_passes(&self) -> bool;

    /// Lets the next pass begin near this slot, where the table is large enough for that to matter. Must only be
    /// called between passes.
    #[inline(always)]
    fn begin_at(self: Pin<&mut Self>, _slot: usize) {}

    /// The next wake of this pass, or `None` at its end. A pass begins with the first call after the last
    /// `None`, and hands out everything that was woken before it began.
    fn next_woken(self: Pin<&mut Self>) -> Option<WakeEvent>;

    /// Takes the wake of a slot, so that it will not be handed out, and returns whether there was one.
    fn take_woken(self: Pin<&mut Self>, slot: usize) -> bool;

    /// Registers the waker of `cx` for the next wake. Returns `false` if there are wakes that were not handed
    /// out: then the stage must not sleep.
    fn sleep(self: Pin<&mut Self>, cx: &Context<'_>) -> bool;
}

/// The stage's own wakers, one for each thing beside the requests that can wake the stage.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageWaker {
    Source,
    Timer,
    Function,
    Consumer,
}

/// A wake: of one of the stage's own wakers, or of the request in a slot.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeEvent {
    Own(StageWaker),
    Request(usize),
}

/// Polls the request in a table's entry, if there is one, and drops it when it is ready.
#[inline(always)]
fn poll_in_place<F: Future>(
    mut entry: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Option<Poll<F::Output>> {
    let polled = entry.as_mut().as_pin_mut()?.poll(cx);
    if polled.is_ready() {
        entry.set(None);
    }
    Some(polled)
}
