//! One life of a partition: the future that runs its pipeline, which can be dropped from outside at any moment.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A life as the job polls it. Ready with the partition, the number of the life, and its result; `None` if it was cut off.
pub(crate) struct Life<P, F> {
    partition: P,
    number: u64,
    inner: Arc<Mutex<Inner<F>>>,
}

/// The job's hold on a life.
pub(crate) struct LifeLine<F> {
    pub(crate) number: u64,
    inner: Arc<Mutex<Inner<F>>>,
}

struct Inner<F> {
    /// `None` when it has ended, or was cut off.
    future: Option<Pin<Box<F>>>,
    /// Of the task that polls the life.
    waker: Option<Waker>,
}

pub(crate) fn begin<P, F>(partition: P, number: u64, future: F) -> (Life<P, F>, LifeLine<F>) {
    let inner = Inner { future: Some(Box::pin(future)), waker: None };
    let inner = Arc::new(Mutex::new(inner));
    (Life { partition, number, inner: Arc::clone(&inner) }, LifeLine { number, inner })
}

impl<F> LifeLine<F> {
    /// Drops the life's future. When this returns, nothing of it is left.
    pub(crate) fn cut(self) {
        let mut inner = lock(&self.inner);
        let (future, waker) = (inner.future.take(), inner.waker.take());
        drop(inner);
        drop(future);
        // So that the job takes it out of those that it polls.
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<P: Clone, F: Future> Future for Life<P, F> {
    type Output = (P, u64, Option<F::Output>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut inner = lock(&self.inner);
        let Some(future) = &mut inner.future else {
            return Poll::Ready((self.partition.clone(), self.number, None));
        };
        if let Poll::Ready(result) = future.as_mut().poll(cx) {
            inner.future = None;
            return Poll::Ready((self.partition.clone(), self.number, Some(result)));
        }
        if !inner.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            inner.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// It is locked while the job polls the life and while it cuts it off, never both: a panic in between ends the job.
fn lock<F>(inner: &Mutex<Inner<F>>) -> MutexGuard<'_, Inner<F>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}
