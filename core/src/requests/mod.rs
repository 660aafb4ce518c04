//! Where a stage keeps its requests, and how it learns which of them to poll.
//!
//! A stage is written once, over [`Requests`]; a [`StageStorage`] says which table that is.

mod fixed;
mod heap;
#[cfg(feature = "alloc")]
mod wake_bits;
mod wake_table;

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use self::fixed::{FixedRequests, PollAll};
pub(crate) use self::wake_table::Lane;
pub use self::wake_table::WakeTable;
use self::wake_table::WakeTableGuard;
use crate::storage::{Fixed, Storage};

/// Requests polled and elements pulled in one turn, at most.
pub(crate) const TURN_BUDGET: usize = 128;

/// What a stage lives in. Not to be implemented elsewhere.
///
/// | | where | which requests are polled |
/// | --- | --- | --- |
/// | `Heap` (feature `alloc`) | on the heap | those that were woken |
/// | [`Fixed<N>`](Fixed) | in place, `N` at most | all, whenever the stage is polled |
/// | [`&'static WakeTable<N>`](WakeTable) | in place, `N` at most | those that were woken |
///
/// Where all are polled, each is polled once before timeouts are judged: a request that is ready after one
/// more poll is not late, one that needs several polls in a row may be.
pub trait StageStorage: sealed::Sealed {
    /// Where the operator keeps its tables.
    type Storage: Storage;

    #[doc(hidden)]
    type Requests<F: Future>: Requests<F>;

    /// Whether requests are polled with wakers of the stage's, and not with that of whoever polls it.
    #[doc(hidden)]
    const OWN_WAKERS: bool;

    /// A table with room for `capacity` requests; `None` if this is in use by another stage.
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
    type Requests<F: Future> = self::heap::Slots<F>;
    const OWN_WAKERS: bool = true;

    fn requests<F: Future>(self, capacity: usize) -> Option<self::heap::Slots<F>> {
        Some(self::heap::Slots::new(capacity))
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

/// A table of requests, at most one in each slot, that are polled in place; and what of a stage has been
/// woken.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait Requests<F: Future> {
    /// Requests polled and elements pulled in one turn, at most.
    const TURN_BUDGET: usize;

    /// Whether requests can be started, and the stage's own lanes polled, also between turns.
    const BETWEEN_TURNS: bool;

    /// A turn of the stage begins, in a poll with this context.
    fn begin(self: Pin<&mut Self>, cx: &Context<'_>);

    /// Puts a request into a slot and polls it for the first time; one that is there already is dropped.
    fn start(self: Pin<&mut Self>, slot: usize, request: F) -> Poll<F::Output>;

    /// The same for the only request there is. If there is a wake for its slot by then, it is polled once more: nobody
    /// else is there whose turn it would be. The wake is handed out all the same, and may be one for who was there before.
    fn start_alone(self: Pin<&mut Self>, slot: usize, request: F) -> Poll<F::Output>;

    /// Drops the request in a slot, if there is one.
    fn remove(self: Pin<&mut Self>, slot: usize);

    /// Drops all requests.
    fn clear(self: Pin<&mut Self>);

    /// Polls the request in a slot, and drops it when it is ready. `None` if there is none.
    fn poll(self: Pin<&mut Self>, slot: usize) -> Option<Poll<F::Output>>;

    /// Runs `poll` with the waker of one of the stage's own lanes.
    fn with_own<T>(&self, lane: StageWaker, poll: impl FnOnce(&mut Context<'_>) -> T) -> T;

    /// Whether the next `None` of `next_woken`, if it comes at once, means that nothing is woken; otherwise
    /// it is the end of a pass that has left behind what was woken since.
    fn is_between_passes(&self) -> bool;

    /// Between passes: the next one begins near this slot, if the table is so large that it makes a difference.
    #[inline(always)]
    fn begin_at(self: Pin<&mut Self>, _slot: usize) {}

    /// Something that has been woken since it was last handed out here; `None` when everything has been
    /// handed out that was woken before the first call after the last `None`.
    fn next_woken(self: Pin<&mut Self>) -> Option<WakeEvent>;

    /// Takes a wake for this slot that was not handed out, if there is one.
    fn take_woken(self: Pin<&mut Self>, slot: usize) -> bool;

    /// Asks to be woken through `cx` at the next wake. Returns `false` when there has been one already:
    /// then there is no sleep.
    fn sleep(self: Pin<&mut Self>, cx: &Context<'_>) -> bool;
}

/// A lane of the stage's own.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageWaker {
    Source,
    Timer,
    Function,
    Consumer,
}

/// What has been woken.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeEvent {
    Own(StageWaker),
    Request(usize),
}
