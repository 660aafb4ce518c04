//! The stage's timer, and how far deadlines may be handled.
//!
//! A clock alone must not expire a request (T6). When the thread was busy, answers that came meanwhile still lie in the runtime's timers
//! and sockets, while the clock says that their deadlines have passed. So the runtime's own timer has to fire first, among everything else
//! that the runtime delivers; and the task has to give way once after that, so that answers that come by way of other tasks are handed over.
//! `delivered` is the latest deadline of which that is true.

use core::pin::Pin;
use core::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::pace::ONE_BY_ONE;
use crate::requests::{Requests, StageWaker};
use crate::runtime::Timer;
use crate::time::Instant;

pin_project! {
    pub(super) struct Alarm<T> {
        #[pin]
        timer: T,
        is_woken: bool,
        // The timer has fired, and requests on other tasks have not said yet that they are settled.
        is_settling: bool,
        // The instant that the timer is armed for.
        armed: Option<Instant>,
        delivered: Instant,
        one_by_one: u8,
    }
}

impl<T: Timer> Alarm<T> {
    pub(super) fn new(timer: T) -> Self {
        Self {
            timer,
            is_woken: false,
            is_settling: false,
            armed: None,
            delivered: Instant::ZERO,
            one_by_one: ONE_BY_ONE,
        }
    }

    /// The present.
    #[inline(always)]
    pub(super) fn now(&self) -> Instant {
        self.timer.now()
    }

    /// The latest deadline of a running request that may be handled.
    #[inline(always)]
    pub(super) fn delivered(&self) -> Instant {
        self.delivered
    }

    /// The timer has been woken.
    #[inline(always)]
    pub(super) fn wake(self: Pin<&mut Self>) {
        *self.project().is_woken = true;
    }

    /// Arms the timer for `deadline`, the earliest there is, and polls it if it may have fired. Returns whether it has: then
    /// the stage gives way once and takes another turn.
    ///
    /// `settled` is asked when the timer has fired: requests that other tasks poll have to be polled before their deadlines are judged.
    ///
    /// When many deadlines have passed at `now`, it is armed for the present instead, so that they are handled together.
    ///
    /// It is armed again only after it has fired or for an earlier deadline, never because the call with the earliest deadline has ended.
    /// That makes about one call of the runtime in each timeout's length, and not one for each record.
    pub(super) fn poll<F, R>(
        self: Pin<&mut Self>,
        deadline: Option<Instant>,
        now: Instant,
        requests: &R,
        settled: impl FnOnce(&mut Context<'_>) -> Poll<()>,
    ) -> bool
    where
        F: Future,
        R: Requests<F>,
    {
        let mut this = self.project();
        // No deadline has passed that was not handled: the gap is over.
        if deadline.is_none_or(|deadline| deadline > now) {
            *this.one_by_one = ONE_BY_ONE;
        }
        if let Some(deadline) = deadline {
            // The present is later than all deadlines that have passed, so that one firing covers them.
            let at = if *this.one_by_one > 0 { deadline } else { deadline.max(now) };
            if this.armed.is_none_or(|armed| at < armed) {
                this.timer.as_mut().arm(Some(at));
                *this.armed = Some(at);
                *this.is_woken = true; // it has to be polled to learn of its waker
            }
        }
        let Some(armed) = *this.armed else { return false };
        // A timer that was not woken since its last poll has not fired: that saves the poll.
        if !core::mem::take(this.is_woken) {
            return false;
        }
        let (timer, is_settling) = (this.timer, this.is_settling);
        let poll = |cx: &mut Context<'_>| {
            if !*is_settling && timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            let settled = settled(cx);
            *is_settling = settled.is_pending();
            settled
        };
        if requests.with_own(StageWaker::Timer, poll).is_pending() {
            return false;
        }
        *this.armed = None;
        // The stage gives way now. At its next poll all answers that had come by `armed` are there (rule 6 of `Timer`).
        *this.delivered = armed.max(*this.delivered);
        *this.one_by_one = this.one_by_one.saturating_sub(1);
        true
    }
}
