//! What the consumer has to do: how many elements it wants, and whether it is free for one.

use std::task::{Context, Poll, Waker};

use super::Inner;
use crate::subject::Element;

#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// How many elements the consumer still wants.
    pub(crate) wants: usize,
    /// One that is run with its stage has an element, and the stage does not know that it is done with it.
    pub(crate) is_busy: bool,
    /// It was woken, and not polled since.
    pub(crate) is_woken: bool,
    waker: Option<Waker>,
}

impl Desk {
    pub(crate) fn want(&mut self, count: usize) {
        self.wants += count;
        if let Some(waker) = self.waker.take() {
            self.is_woken = true;
            waker.wake();
        }
    }

    /// It is done with its element as soon as it wants another one.
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.is_woken = false;
        if self.wants == 0 {
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.wants -= 1;
        self.is_busy = false;
        Poll::Ready(())
    }
}

impl Inner {
    /// The consumer that is run with the stage is given an element.
    pub(super) fn given(&mut self, element: Element) {
        if std::mem::replace(&mut self.desk.is_busy, true) {
            self.fail("the consumer is busy with an element and is given another one");
        }
        self.taken(element);
    }
}
