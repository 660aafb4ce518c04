//! The source: it hands out the elements that the schedule has let go, and announces barriers.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use inflight_core::{BarrierSignal, StreamElement};

use crate::plan::{Plan, Record};

#[derive(Default)]
pub(crate) struct Feed {
    /// The position of the next element, and of the first one that is held back.
    pub(crate) next: Cell<u32>,
    pub(crate) until: Cell<u32>,
    waker: RefCell<Option<Waker>>,
    pub(crate) signal: BarrierSignal,
    announced: Cell<u32>,
}

impl Feed {
    pub(crate) fn starting_at(position: u32) -> Rc<Self> {
        let feed = Self::default();
        feed.next.set(position);
        feed.until.set(position);
        feed.announced.set(position);
        Rc::new(feed)
    }

    /// Lets the next element go. A barrier is announced when it is the next one that the source hands out.
    pub(crate) fn let_go(&self, plan: &Plan) {
        self.until.set(self.until.get() + 1);
        self.announce(plan);
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    fn announce(&self, plan: &Plan) {
        let next = self.next.get();
        let is_new = next < self.until.get() && next >= self.announced.get();
        if is_new && next < plan.elements && matches!(plan.element(next), StreamElement::Barrier(_))
        {
            self.announced.set(next + 1);
            self.signal.announce();
        }
    }
}

pub(crate) struct Source {
    pub(crate) plan: Plan,
    pub(crate) feed: Rc<Feed>,
}

impl Stream for Source {
    type Item = StreamElement<Record>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (plan, feed) = (&self.plan, &self.feed);
        let next = feed.next.get();
        if next == plan.elements {
            return Poll::Ready(None);
        }
        *feed.waker.borrow_mut() = Some(cx.waker().clone());
        if next == feed.until.get() {
            return Poll::Pending;
        }
        feed.announce(plan);
        let element = plan.element(next);
        // No record while the stage holds more than its capacity.
        if !matches!(element, StreamElement::Barrier(_)) && feed.signal.poll_room(cx).is_pending() {
            return Poll::Pending;
        }
        feed.next.set(next + 1);
        feed.announce(plan);
        Poll::Ready(Some(element))
    }
}
