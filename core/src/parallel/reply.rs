//! The answer to a request, on its way from an instance's task to the stage.

use alloc::sync::Arc;
use core::task::{Context, Poll, Waker};

use concurrent_queue::ConcurrentQueue;

use crate::sync::{AtomicBool, AtomicWaker, Ordering};

/// The two ends of the way of one answer.
pub(super) fn reply<A>() -> (Replier<A>, Awaited<A>) {
    let shared = Arc::new(Shared {
        answer: ConcurrentQueue::bounded(1),
        is_lost: AtomicBool::new(false),
        is_cancelled: AtomicBool::new(false),
        stage: AtomicWaker::new(),
        request: AtomicWaker::new(),
    });
    let replier = Replier { shared: Arc::clone(&shared), is_through: false };
    (replier, Awaited { shared, is_through: false })
}

struct Shared<A> {
    answer: ConcurrentQueue<A>,
    /// No answer will come: the instance's task is over.
    is_lost: AtomicBool,
    /// The stage wants no answer any more.
    is_cancelled: AtomicBool,
    stage: AtomicWaker,
    request: AtomicWaker,
}

/// The instance's end. Dropped without an answer, it tells the stage that none will come.
pub(super) struct Replier<A> {
    shared: Arc<Shared<A>>,
    is_through: bool,
}

impl<A> Replier<A> {
    pub(super) fn give(&mut self, answer: A) {
        self.is_through = true;
        let _ = self.shared.answer.push(answer); // there is room for one, and one comes
        self.shared.stage.wake();
    }

    /// Whether the stage has cancelled the request. If not, `waker` is woken when it does.
    pub(super) fn poll_cancelled(&self, waker: &Waker) -> bool {
        self.shared.request.register(waker);
        self.is_cancelled()
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.shared.is_cancelled.load(Ordering::Acquire)
    }
}

impl<A> Drop for Replier<A> {
    fn drop(&mut self) {
        if !self.is_through {
            self.shared.is_lost.store(true, Ordering::Release);
            self.shared.stage.wake();
        }
    }
}

/// The stage's end. Dropped before the answer has come, it cancels the request.
pub(super) struct Awaited<A> {
    shared: Arc<Shared<A>>,
    is_through: bool,
}

impl<A> Awaited<A> {
    /// Ready with the answer; with `None` if there will be none.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<A>> {
        if let polled @ Poll::Ready(_) = self.look() {
            return polled;
        }
        self.shared.stage.register(cx.waker());
        self.look() // once more: it may have come before the waker was there
    }

    fn look(&mut self) -> Poll<Option<A>> {
        // Read before the answer: of a request that was lost no answer comes later.
        let is_lost = self.shared.is_lost.load(Ordering::Acquire);
        let answer = self.shared.answer.pop().ok();
        self.is_through = is_lost || answer.is_some();
        if self.is_through { Poll::Ready(answer) } else { Poll::Pending }
    }
}

impl<A> Drop for Awaited<A> {
    fn drop(&mut self) {
        if !self.is_through {
            self.shared.is_cancelled.store(true, Ordering::Release);
            self.shared.request.wake();
        }
    }
}
