//! Requests in place, at most a number that is known when the program is compiled.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

use super::{OwnLane, Requests, TURN_BUDGET, Woken};
use crate::slots::{element, poll_in_place};

pin_project! {
    /// The requests themselves, an array of `Option<F>`, and how their wakes find their way.
    #[doc(hidden)]
    #[allow(missing_debug_implementations)]
    pub struct FixedRequests<A, W> {
        #[pin]
        requests: A,
        wakes: W,
    }
}

/// How the wakes of requests in place find their way.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait Wakes {
    fn begin(&mut self, cx: &Context<'_>);
    /// Runs `poll` with the waker of a lane.
    fn with_lane<T>(&self, lane: usize, poll: impl FnOnce(&mut Context<'_>) -> T) -> T;
    /// A lane below `lanes` that was woken.
    fn next(&mut self, lanes: usize) -> Option<usize>;
    fn sleep(&mut self, cx: &Context<'_>) -> bool;
}

impl<F, W, const N: usize> FixedRequests<[Option<F>; N], W> {
    pub(super) fn new(wakes: W) -> Self {
        Self { requests: [const { None }; N], wakes }
    }
}

impl<F: Future, W: Wakes, const N: usize> FixedRequests<[Option<F>; N], W> {
    /// Polls the request in a place that there is.
    fn poll_at(self: Pin<&mut Self>, slot: usize) -> Option<Poll<F::Output>> {
        let this = self.project();
        let place = element(this.requests, slot)?;
        this.wakes.with_lane(OwnLane::COUNT + slot, |cx| poll_in_place(place, cx))
    }
}

impl<F: Future, W: Wakes, const N: usize> Requests<F> for FixedRequests<[Option<F>; N], W> {
    // Every request can be polled once a turn, and there is still as much left as on the heap.
    const TURN_BUDGET: usize = N.saturating_add(TURN_BUDGET);

    fn begin(self: Pin<&mut Self>, cx: &Context<'_>) {
        self.project().wakes.begin(cx);
    }

    fn start(mut self: Pin<&mut Self>, slot: usize, request: F) -> Poll<F::Output> {
        let Some(mut place) = element(self.as_mut().project().requests, slot) else {
            unreachable!("the operator over this storage has no more slots than the table");
        };
        place.set(Some(request));
        self.poll_at(slot).unwrap_or(Poll::Pending)
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
        self.poll_at(slot)
    }

    fn with_own<T>(&self, lane: OwnLane, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.wakes.with_lane(lane as usize, poll)
    }

    fn is_between_passes(&self) -> bool {
        true // of no consequence: the stage's own lanes come first in every turn
    }

    fn next_woken(self: Pin<&mut Self>) -> Option<Woken> {
        let this = self.project();
        loop {
            // A wake for a request that is gone is nobody's.
            match Woken::from_lane(this.wakes.next(OwnLane::COUNT + N)?) {
                Woken::Request(slot) if this.requests[slot].is_none() => {}
                woken => return Some(woken),
            }
        }
    }

    fn sleep(self: Pin<&mut Self>, cx: &Context<'_>) -> bool {
        self.project().wakes.sleep(cx)
    }
}

/// Everything is polled in every turn, with the waker of whoever polls the stage. No wake can be missed,
/// no matter who makes it, and nothing but that waker need be stored.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Sweep {
    /// Of the poll that this turn is in.
    waker: Option<Waker>,
    /// The next lane; past the last one, the turn has seen them all.
    next: usize,
}

impl Wakes for Sweep {
    fn begin(&mut self, cx: &Context<'_>) {
        self.next = 0;
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }

    fn with_lane<T>(&self, _: usize, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let waker = self.waker.as_ref().unwrap_or(Waker::noop());
        poll(&mut Context::from_waker(waker))
    }

    fn next(&mut self, lanes: usize) -> Option<usize> {
        let lane = self.next;
        self.next = lanes.min(lane + 1);
        (lane < lanes).then_some(lane)
    }

    fn sleep(&mut self, _: &Context<'_>) -> bool {
        // Whatever is pending was polled in this turn, and holds the waker.
        true
    }
}
