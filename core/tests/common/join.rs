//! How a simulated task tells its handle of its end.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use inflight_core::JoinError;

pub(crate) struct Join<T> {
    result: RefCell<Option<Result<T, JoinError>>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Join<T> {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { result: RefCell::default(), waker: RefCell::default() })
    }

    /// The task has ended. The first result counts.
    pub(crate) fn tell(&self, result: Result<T, JoinError>) {
        self.result.borrow_mut().get_or_insert(result);
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<T, JoinError>> {
        if let Some(result) = self.result.take() {
            return Poll::Ready(result);
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    #[allow(dead_code, reason = "not every executor asks")]
    pub(crate) fn is_told(&self) -> bool {
        self.result.borrow().is_some()
    }

    /// Wakes nobody any more.
    #[allow(dead_code, reason = "not every executor asks")]
    pub(crate) fn forget_waker(&self) {
        self.waker.take();
    }
}

/// Tells the handle that the task was cancelled, unless it has told something else (rule 3 of spawners).
#[allow(dead_code, reason = "not every executor asks")]
pub(crate) struct TaskEnd<T>(pub(crate) Rc<Join<T>>);

impl<T> Drop for TaskEnd<T> {
    fn drop(&mut self) {
        self.0.tell(Err(JoinError::Cancelled));
    }
}
