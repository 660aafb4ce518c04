//! The instances of a function, as one function that chooses an instance for each attempt.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::Loads;
use crate::function::{AsyncFunction, AttemptInfo, TimedOutCall, TimeoutAction};
use crate::policy::KeySelector;

/// The instances of a function, as one function. Its requests are marked with their instance.
pub struct InstanceFunctions<F, K> {
    instances: Vec<F>,
    /// Whether each has been opened, or could not be; and whether it has been closed.
    is_open: Vec<bool>,
    is_closed: Vec<bool>,
    /// `None` where attempts are spread.
    key: Option<K>,
    loads: Arc<Loads>,
    /// The instance that gets the next attempt, among those with equal loads.
    next: usize,
}

impl<F, K> InstanceFunctions<F, K> {
    pub(super) fn new(instances: Vec<F>, key: Option<K>, loads: Arc<Loads>) -> Self {
        let none = alloc::vec![false; instances.len()];
        Self { instances, is_open: none.clone(), is_closed: none, key, loads, next: 0 }
    }

    /// The instance with the fewest running requests; those with equally many take turns.
    fn least_loaded(&mut self) -> usize {
        let count = self.instances.len();
        let round = (self.next..count).chain(0..self.next);
        let least = round.min_by_key(|instance| self.loads.of(*instance)).unwrap_or(0);
        self.next = (least + 1) % count;
        least
    }

    /// The instance that all records with the key of `input` meet.
    fn of_key<In>(&self, input: &In) -> Option<usize>
    where
        K: KeySelector<In>,
    {
        // As `split_snapshot` maps keys to parts (K8).
        self.key.as_ref().map(|key| key.key_of(input) as usize % self.instances.len())
    }
}

impl<In, F: AsyncFunction<In>, K: KeySelector<In>> AsyncFunction<In> for InstanceFunctions<F, K> {
    type Output = F::Output;
    type Error = F::Error;
    type Future = OnInstance<F::Future>;

    /// Opens all instances, at the same time. The first error ends the stage.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), F::Error>> {
        for (function, is_open) in self.instances.iter_mut().zip(&mut self.is_open) {
            if !*is_open && let Poll::Ready(opened) = function.poll_open(cx) {
                *is_open = true;
                if opened.is_err() {
                    return Poll::Ready(opened);
                }
            }
        }
        if self.is_open.contains(&false) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn invoke(&mut self, input: &In, attempt: AttemptInfo) -> Self::Future {
        let instance = self.of_key(input).unwrap_or_else(|| self.least_loaded());
        OnInstance { instance, request: self.instances[instance].invoke(input, attempt) }
    }

    fn on_timeout(
        &mut self,
        call: TimedOutCall<'_, In, F::Output, F::Error>,
    ) -> TimeoutAction<F::Output, F::Error> {
        let instance = self.of_key(call.input).unwrap_or(0);
        self.instances[instance].on_timeout(call)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for (function, is_closed) in self.instances.iter_mut().zip(&mut self.is_closed) {
            // Also an instance that is not open, because another one could not be opened: as a function is closed whose stage is shut down
            // before it is open (L4).
            if !*is_closed {
                *is_closed = function.poll_close(cx).is_ready();
            }
        }
        if self.is_closed.contains(&false) { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl<F, K> fmt::Debug for InstanceFunctions<F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.instances.len();
        f.debug_struct("InstanceFunctions").field("instances", &count).finish_non_exhaustive()
    }
}

pin_project! {
    /// A request for one of the instances.
    #[derive(Debug)]
    pub struct OnInstance<F> {
        pub(super) instance: usize,
        #[pin]
        pub(super) request: F,
    }
}

impl<F: Future> Future for OnInstance<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().request.poll(cx)
    }
}
