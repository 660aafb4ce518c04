//! Requests in place, at most a number that is known when the program is compiled.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::{Requests, StageWaker, TURN_BUDGET, WakeEvent};
use crate::requests::heap::{element, poll_in_place};

pin_project! {
    /// The requests themselves, an array of `Option<F>`, and how their wakes find their way.
    ///
    /// The source, the timer and the function are polled in every turn, with the waker of whoever polls
    /// the stage: they may be such that accept no other.
    #[doc(hidden)]
    #[allow(missing_debug_implementations)]
    pub struct FixedRequests<A, W> {
        #[pin]
        requests: A,
        wakes: W,
        // Of the poll that this turn is in.
        parent: Waker,
        // How many of the stage's own lanes this turn has handed out.
        own: usize,
    }
}

/// How the wakes of requests in place find their way.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait Wakes {
    /// A turn begins.
    fn begin(&mut self);
    /// Runs `poll` with the waker of a request.
    fn with_waker<T>(
        &self,
        slot: usize,
        parent: &Waker,
        poll: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T;
    /// A slot below `slots` that was woken.
    fn next(&mut self, slots: usize) -> Option<usize>;
    /// See [`Requests::take_woken`].
    fn take_woken(&mut self, slot: usize) -> bool;
    /// See [`Requests::sleep`].
    fn sleep(&mut self, cx: &Context<'_>) -> bool;
}

impl<F, W, const N: usize> FixedRequests<[Option<F>; N], W> {
    pub(super) fn new(wakes: W) -> Self {
        let parent = Waker::noop().clone();
        Self { requests: [const { None }; N], wakes, parent, own: 0 }
    }
}

impl<F: Future, W: Wakes, const N: usize> Requests<F> for FixedRequests<[Option<F>; N], W> {
    // Every request can be polled once a turn, and there is still as much left as on the heap.
    const TURN_BUDGET: usize = N.saturating_add(TURN_BUDGET);
    // The parent's waker is known in a turn only; and where there is no heap, size counts for more than speed.
    const BETWEEN_TURNS: bool = false;

    fn begin(self: Pin<&mut Self>, cx: &Context<'_>) {
        let this = self.project();
        this.parent.clone_from(cx.waker());
        *this.own = 0;
        this.wakes.begin();
    }

    fn start(mut self: Pin<&mut Self>, slot: usize, request: F) -> Poll<F::Output> {
        let Some(mut place) = element(self.as_mut().project().requests, slot) else {
            unreachable!("the operator over this storage has no more slots than the table");
        };
        place.set(Some(request));
        self.poll(slot).unwrap_or(Poll::Pending)
    }

    fn start_alone(self: Pin<&mut Self>, slot: usize, request: F) -> Poll<F::Output> {
        self.start(slot, request)
    }

    fn remove(self: Pin<&mut Self>, slot: usize) {
        if let Some(mut place) = element(self.project().requests, slot) {
            place.set(None);
        }
    }

    fn clear(mut self: Pin<&mut Self>) {
        for slot in 0..N {
            self.as_mut().remove(slot);
        }
    }

    fn poll(self: Pin<&mut Self>, slot: usize) -> Option<Poll<F::Output>> {
        let this = self.project();
        let place = element(this.requests, slot)?;
        this.wakes.with_waker(slot, this.parent, |cx| poll_in_place(place, cx))
    }

    fn with_own<T>(&self, _: StageWaker, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        poll(&mut Context::from_waker(&self.parent))
    }

    fn is_between_passes(&self) -> bool {
        true // of no consequence: the stage's own lanes come first in every turn
    }

    fn next_woken(self: Pin<&mut Self>) -> Option<WakeEvent> {
        const OWN: [StageWaker; 3] = [StageWaker::Source, StageWaker::Timer, StageWaker::Function];
        let this = self.project();
        if let Some(lane) = OWN.get(*this.own) {
            *this.own += 1;
            return Some(WakeEvent::Own(*lane));
        }
        loop {
            let slot = this.wakes.next(N)?;
            // A wake for a request that is gone is nobody's.
            if this.requests[slot].is_some() {
                return Some(WakeEvent::Request(slot));
            }
        }
    }

    fn take_woken(self: Pin<&mut Self>, slot: usize) -> bool {
        self.project().wakes.take_woken(slot)
    }

    fn sleep(self: Pin<&mut Self>, cx: &Context<'_>) -> bool {
        self.project().wakes.sleep(cx)
    }
}

/// Every request is polled in every turn, with the waker of whoever polls the stage. No wake can be missed,
/// no matter who makes it, and nothing but that waker need be stored.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct PollAll {
    /// The next slot; past the last one, the turn has seen them all.
    next: usize,
}

impl Wakes for PollAll {
    fn begin(&mut self) {
        self.next = 0;
    }

    fn with_waker<T>(
        &self,
        _: usize,
        parent: &Waker,
        poll: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T {
        poll(&mut Context::from_waker(parent))
    }

    fn next(&mut self, slots: usize) -> Option<usize> {
        let slot = self.next;
        self.next = slots.min(slot + 1);
        (slot < slots).then_some(slot)
    }

    fn take_woken(&mut self, _: usize) -> bool {
        false // it has been polled in this turn
    }

    fn sleep(&mut self, _: &Context<'_>) -> bool {
        // Whatever is pending was polled in this turn, and holds the waker.
        true
    }
}
