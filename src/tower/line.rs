//! The line of attempts in front of a service: only the first one polls for readiness.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tower_service::Service;

/// A service and the attempts that wait for it.
pub(crate) struct Line<S>(Arc<Mutex<Shared<S>>>);

struct Shared<S> {
    service: S,
    /// The wakers of the waiting attempts, by number; the lowest is the first in line.
    waiting: BTreeMap<u64, Waker>,
    next_number: u64,
    /// Clones a service that may hold a permit, if it is to be released.
    renew: Option<fn(&S) -> S>,
}

/// An attempt's place in the line. It has a number while the attempt waits.
pub(crate) struct Place<S> {
    line: Line<S>,
    number: Option<u64>,
}

impl<S> Line<S> {
    pub(crate) fn new(service: S) -> Self {
        let waiting = BTreeMap::new();
        let shared = Shared { service, waiting, next_number: 0, renew: None };
        Self(Arc::new(Mutex::new(shared)))
    }

    pub(crate) fn releasing(self) -> Self
    where
        S: Clone,
    {
        self.lock().renew = Some(S::clone);
        self
    }

    pub(crate) fn place(&self) -> Place<S> {
        Place { line: Self(self.0.clone()), number: None }
    }

    /// Ignores poisoning: a panic is one of the service, and the line is consistent whenever the service runs.
    fn lock(&self) -> MutexGuard<'_, Shared<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Place<S> {
    /// Calls the service with the request, once it is ready and this is the first in line.
    pub(crate) fn poll_attempt<Request>(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Option<Request>,
    ) -> Poll<Result<S::Future, S::Error>>
    where
        S: Service<Request>,
    {
        let mut shared = self.line.lock();
        if !shared.is_first(self.number) {
            shared.wait(&mut self.number, cx);
            return Poll::Pending;
        }
        let called = match shared.service.poll_ready(cx) {
            Poll::Pending => {
                shared.wait(&mut self.number, cx);
                return Poll::Pending;
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) => match request.take() {
                Some(request) => Ok(shared.service.call(request)),
                None => return Poll::Pending, // polled after it has ended
            },
        };
        let next = shared.leave(&mut self.number);
        drop(shared);
        next.inspect(Waker::wake_by_ref);
        Poll::Ready(called)
    }
}

impl<S> Drop for Place<S> {
    fn drop(&mut self) {
        if self.number.is_none() {
            return;
        }
        let mut shared = self.line.lock();
        let next = shared.leave(&mut self.number);
        let unused = if next.is_none() { shared.release() } else { None };
        // Services and wakers are foreign code, which may lock the line again.
        drop(shared);
        drop(unused);
        next.inspect(Waker::wake_by_ref);
    }
}

impl<S> Shared<S> {
    /// Whether the place with this number is the first. A place without a number is the last.
    fn is_first(&self, number: Option<u64>) -> bool {
        self.waiting.first_key_value().is_none_or(|(first, _)| Some(*first) == number)
    }

    fn wait(&mut self, number: &mut Option<u64>, cx: &Context<'_>) {
        let number = *number.get_or_insert_with(|| {
            self.next_number += 1;
            self.next_number
        });
        self.waiting
            .entry(number)
            .and_modify(|waker| waker.clone_from(cx.waker()))
            .or_insert_with(|| cx.waker().clone());
    }

    /// Takes a place out of the line. If it was the first, returns the waker of the next one.
    fn leave(&mut self, number: &mut Option<u64>) -> Option<Waker> {
        let number = number.take()?;
        let was_first = self.is_first(Some(number));
        self.waiting.remove(&number);
        self.waiting.first_key_value().filter(|_| was_first).map(|(_, waker)| waker.clone())
    }

    /// Replaces a service that may hold a permit, if no attempt waits. Returns the old one, to be dropped unlocked.
    fn release(&mut self) -> Option<S> {
        let renew = self.renew.filter(|_| self.waiting.is_empty())?;
        let fresh = renew(&self.service);
        Some(std::mem::replace(&mut self.service, fresh))
    }
}
