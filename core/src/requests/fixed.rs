//! Requests in place: an array whose length is known at compile time, for programs without a heap.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::raw::pinned_element;
use super::{Requests, StageWaker, TURN_BUDGET, WakeEvent, poll_in_place};

pin_project! {
    /// A table of requests in place: an array of `Option<F>`, and a tracker of their wakes.
    ///
    /// Every turn polls the source, the timer and the function, with the waker of the task that polls the
    /// stage: on some executors they accept no other.
    #[doc(hidden)]
    #[allow(missing_debug_implementations)]
    pub struct FixedRequests<A, W> {
        #[pin]
        requests: A,
        tracker: W,
        // The waker of the task that polls the stage, from the current turn's context.
        parent: Waker,
        // How many of the stage's own events this turn has handed out.
        own_events: usize,
    }
}

/// Makes the wakers of requests in place, and tells which requests to poll.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait WakeTracker {
    /// A turn begins.
    fn begin(&mut self);
    /// Runs `poll` with the waker of the request in a slot.
    fn with_waker<T>(
        &self,
        slot: usize,
        parent: &Waker,
        poll: impl FnOnce(&mut Context<'_>) -> T,
    ) -> T;
    /// The next slot to poll, below `slots`; `None` ends a pass.
    fn next(&mut self, slots: usize) -> Option<usize>;
    /// See [`Requests::take_woken`].
    fn take_woken(&mut self, slot: usize) -> bool;
    /// See [`Requests::sleep`].
    fn sleep(&mut self, cx: &Context<'_>) -> bool;
}

impl<F, W, const N: usize> FixedRequests<[Option<F>; N], W> {
    pub(super) fn new(tracker: W) -> Self {
        let parent = Waker::noop().clone();
        Self { requests: [const { None }; N], tracker, parent, own_events: 0 }
    }
}

impl<F: Future, W: WakeTracker, const N: usize> Requests<F> for FixedRequests<[Option<F>; N], W> {
    // Enough to poll every request once, and then as much as a turn has on the heap.
    const TURN_BUDGET: usize = N.saturating_add(TURN_BUDGET);
    // Between turns there is no context, so the parent's waker may be out of date. And without a heap, small code matters more
    // than speed.
    const BETWEEN_TURNS: bool = false;

    fn begin(self: Pin<&mut Self>, cx: &Context<'_>) {
        let this = self.project();
        this.parent.clone_from(cx.waker());
        *this.own_events = 0;
        this.tracker.begin();
    }

    fn start(mut self: Pin<&mut Self>, slot: usize, request: F) -> Poll<F::Output> {
        let Some(mut entry) = pinned_element(self.as_mut().project().requests, slot) else {
            unreachable!("the operator over this storage has no more slots than the table");
        };
        entry.set(Some(request));
        self.poll(slot).unwrap_or(Poll::Pending)
    }

    fn start_alone(
        self: Pin<&mut Self>,
        slot: usize,
        request: F,
        _: impl FnOnce() -> bool,
    ) -> Poll<F::Output> {
        self.start(slot, request)
    }

    fn remove(self: Pin<&mut Self>, slot: usize) {
        if let Some(mut entry) = pinned_element(self.project().requests, slot) {
            entry.set(None);
        }
    }

    fn clear(mut self: Pin<&mut Self>) {
        for slot in 0..N {
            self.as_mut().remove(slot);
        }
    }

    fn poll(self: Pin<&mut Self>, slot: usize) -> Option<Poll<F::Output>> {
        let this = self.project();
        let entry = pinned_element(this.requests, slot)?;
        this.tracker.with_waker(slot, this.parent, |cx| poll_in_place(entry, cx))
    }

    fn with_own<T>(&self, _: StageWaker, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        poll(&mut Context::from_waker(&self.parent))
    }

    fn is_between_passes(&self) -> bool {
        true // has no effect: every turn hands out the stage's own events first
    }

    fn next_woken(self: Pin<&mut Self>) -> Option<WakeEvent> {
        const OWN: [StageWaker; 3] = [StageWaker::Source, StageWaker::Timer, StageWaker::Function];
        let this = self.project();
        if let Some(waker) = OWN.get(*this.own_events) {
            *this.own_events += 1;
            return Some(WakeEvent::Own(*waker));
        }
        loop {
            let slot = this.tracker.next(N)?;
            // Skip an empty slot: its wake was for a request that has ended.
            if this.requests[slot].is_some() {
                return Some(WakeEvent::Request(slot));
            }
        }
    }

    fn take_woken(self: Pin<&mut Self>, slot: usize) -> bool {
        self.project().tracker.take_woken(slot)
    }

    fn sleep(self: Pin<&mut Self>, cx: &Context<'_>) -> bool {
        self.project().tracker.sleep(cx)
    }
}

/// Tracks nothing: every turn polls every request, with the waker of the task that polls the stage. So no wake
/// can be missed, and requests may insist on their executor's own wakers.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct PollAll {
    /// The next slot of this turn; at the number of slots, the turn has polled them all.
    next: usize,
}

impl WakeTracker for PollAll {
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
        false // this turn has polled it already
    }

    fn sleep(&mut self, _: &Context<'_>) -> bool {
        // This turn has polled every pending request, so each of them holds the parent's waker.
        true
    }
}
