//! Opening and closing the function (L4).

use std::task::{Context, Poll, Waker};

use super::{Inner, Life};
use crate::plan::Opening;

/// The mistake that opening fails with.
pub(crate) const NOT_OPENED: u32 = 77;

/// Something that is ready when the script says so.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    pub(crate) is_open: bool,
    is_through: bool,
    polled: bool,
    pub(crate) is_woken: bool,
    waker: Option<Waker>,
}

impl Gate {
    fn poll(&mut self, cx: &Context<'_>, is_exact: bool) -> Result<Poll<()>, &'static str> {
        if self.is_through {
            return Err("is polled after it was ready");
        }
        if self.polled && !self.is_woken && is_exact {
            return Err("is polled and was not woken (L6)");
        }
        (self.polled, self.is_woken) = (true, false);
        if self.is_open {
            self.is_through = true;
            return Ok(Poll::Ready(()));
        }
        self.waker = Some(cx.waker().clone());
        Ok(Poll::Pending)
    }

    pub(crate) fn release(&mut self) {
        self.is_open = true;
        self.wake();
    }

    /// Wakes whoever waits.
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            self.is_woken = true;
            waker.wake();
        }
    }
}

impl Inner {
    pub(super) fn open_polled(&mut self, cx: &Context<'_>) -> Poll<Result<(), u32>> {
        self.works();
        if self.life != Life::Opening {
            self.fail("opened twice (L4)");
        }
        self.opening.is_open |= matches!(self.plan.opening, Opening::AtOnce | Opening::Fails);
        match self.opening.poll(cx, self.plan.home.is_all_exact()) {
            Err(what) => self.fail(format!("opening {what}")),
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => {
                let fails = matches!(self.plan.opening, Opening::Fails | Opening::FailsLater);
                self.tell(|| (if fails { "opening fails" } else { "opened" }).into());
                self.opening_failed = fails;
                self.life = if fails { Life::Failed } else { Life::Running };
                self.ends_backoffs();
                return Poll::Ready(if fails { Err(NOT_OPENED) } else { Ok(()) });
            }
        }
        Poll::Pending
    }

    /// Nothing is inside that was not handed over.
    pub(crate) fn has_let_all_out(&self) -> bool {
        match self.is_exact() {
            true => self.model.is_empty() && self.overtaking.is_empty(),
            false => self.model.handed_out().1.is_empty(),
        }
    }

    /// The same, but for what leaves without a word.
    pub(crate) fn may_have_let_all_out(&self) -> bool {
        let is_through = self.model.is_through() && self.overtaking.is_empty();
        is_through || self.has_let_all_out()
    }

    pub(super) fn close_polled(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.works();
        if self.may_shut_down() {
            self.shut_down();
        }
        self.let_out();
        if self.life == Life::Running && !self.may_have_let_all_out() {
            self.must_have_let_out(); // restored elements may have got slots by a capacity that was only just set
        }
        let is_through = match self.life {
            Life::Failed => true,
            Life::Running => (self.stopped || self.feed.has_ended) && self.may_have_let_all_out(),
            Life::Opening | Life::Closed => false,
        };
        if !is_through {
            self.fail(format!("closed before everything is through (L4): {:?}", self.life));
        }
        if self.feed.lives {
            self.fail("closed while there is a source");
        }
        self.closing.is_open |= !self.plan.closes_later;
        match self.closing.poll(cx, self.plan.home.is_all_exact()) {
            Err(what) => self.fail(format!("closing {what}")),
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => {
                self.tell(|| "closed".into());
                self.life = Life::Closed;
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}
