//! A stage that runs with its consumer as one future. The consumer is slow and passes each element on, into a stream
//! that the next stage polls.

use std::cell::RefCell;
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

type Running<E> = Pin<Box<dyn Future<Output = Result<(), E>>>>;

/// The element on its way from the consumer to the next stage.
pub(crate) struct Desk<T>(Rc<RefCell<(Option<T>, Option<Waker>)>>);

impl<T> Clone for Desk<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Desk<T> {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new((None, None))))
    }

    /// Waits until the next stage has taken the element.
    pub(crate) async fn hand_on(self, element: T) {
        self.0.borrow_mut().0 = Some(element);
        poll_fn(|cx| {
            let (element, waker) = &mut *self.0.borrow_mut();
            *waker = element.is_some().then(|| cx.waker().clone());
            if element.is_some() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    fn take(&self) -> Option<T> {
        let (element, waker) = &mut *self.0.borrow_mut();
        let element = element.take()?;
        waker.take().into_iter().for_each(Waker::wake);
        Some(element)
    }
}

pub(crate) struct Beside<T, E> {
    /// `None` once the stage has ended.
    run: Option<Running<E>>,
    desk: Desk<T>,
}

impl<T, E> Beside<T, E> {
    pub(crate) fn new(run: impl Future<Output = Result<(), E>> + 'static, desk: Desk<T>) -> Self {
        Self { run: Some(Box::pin(run)), desk }
    }
}

impl<T, E: Debug> Stream for Beside<T, E> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(run) = &mut self.run
            && let Poll::Ready(ended) = run.as_mut().poll(cx)
        {
            ended.expect("there is nothing to open that could fail");
            self.run = None;
        }
        match self.desk.take() {
            Some(element) => Poll::Ready(Some(element)),
            None if self.run.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
