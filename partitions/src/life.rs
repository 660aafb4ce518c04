//! One life of a partition: the future that runs its pipeline, which can be dropped from outside at any moment.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A life as the job polls it. Ready with the partition and the life's result; `None` if it was cut off.
pub(crate) struct Life<P, F> {
    partition: P,
    inner: Arc<Mutex<Inner<F>>>,
}

/// The job's hold on a life.
pub(crate) struct LifeLine<F>(Arc<Mutex<Inner<F>>>);

struct Inner<F> {
    /// `None` when it has ended, or was cut off.
    future: Option<Pin<Box<F>>>,
    /// Of the task that polls the life.
    waker: Option<Waker>,
}

pub(crate) fn begin<P, F>(partition: P, future: F) -> (Life<P, F>, LifeLine<F>) {
    let inner = Inner { future: Some(Box::pin(future)), waker: None };
    let inner = Arc::new(Mutex::new(inner));
    (Life { partition, inner: Arc::clone(&inner) }, LifeLine(inner))
}

impl<F> LifeLine<F> {
    /// Drops the life's future. When this returns, nothing of it is left.
    pub(crate) fn cut(self) {
        let mut inner = lock(&self.0);
        let (future, waker) = (inner.future.take(), inner.waker.take());
        drop(inner);
        drop(future);
        // So that the job takes it out of those that it polls.
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<P: Clone, F: Future> Future for Life<P, F> {
    type Output = (P, Option<F::Output>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut inner = lock(&self.inner);
        let Some(future) = &mut inner.future else {
            return Poll::Ready((self.partition.clone(), None));
        };
        if let Poll::Ready(result) = future.as_mut().poll(cx) {
            inner.future = None;
            return Poll::Ready((self.partition.clone(), Some(result)));
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_life_that_is_cut_off_is_dropped_at_once_and_wakes_the_task_that_polls_it() {
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let future = poll_fn(move |_| {
            let _held = &inside;
            Poll::<()>::Pending
        });
        let (mut life, line) = begin("partition", future);
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&flag));
        let cx = &mut Context::from_waker(&waker);
        assert!(Pin::new(&mut life).poll(cx).is_pending());
        assert!(!flag.0.load(Ordering::Relaxed));
        line.cut();
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(flag.0.load(Ordering::Relaxed));
        assert_eq!(Pin::new(&mut life).poll(cx), Poll::Ready(("partition", None)));
    }
}
