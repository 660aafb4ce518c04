//! The limit: a ring that keeps order and polls the woken requests, without any other feature.
//!
//! It has no timer, no retry, no checkpoint, no control elements, no second order. Each slot has a waker of
//! its own, created once, that sets a bit.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures::Stream;

use super::drain;
use crate::meter::Meter;
use crate::workloads::Workload;

/// Runs it.
pub(crate) async fn limit<W: Workload>(work: W, capacity: usize, meter: Meter) -> Meter {
    let ring = Ring::new(meter.records().map(move |record| work.request(record)), capacity);
    drain(ring, meter).await
}

struct Shared {
    words: Box<[AtomicU64]>,
    asleep: AtomicBool,
    parent: Mutex<Option<Waker>>,
}

struct Bit {
    place: usize,
    shared: Arc<Shared>,
}

impl Wake for Bit {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let shared = &self.shared;
        shared.words[self.place / 64].fetch_or(1 << (self.place % 64), Ordering::SeqCst);
        if shared.asleep.load(Ordering::SeqCst) && shared.asleep.swap(false, Ordering::SeqCst) {
            let parent = shared.parent.lock().unwrap_or_else(PoisonError::into_inner).take();
            parent.into_iter().for_each(Waker::wake);
        }
    }
}

/// A stream of the answers in order.
struct Ring<I: Iterator<Item: Future>> {
    requests: I,
    places: Vec<Place<I::Item>>,
    capacity: usize,
    first: usize,
    length: usize,
    shared: Arc<Shared>,
}

struct Place<F: Future> {
    waker: Waker,
    request: Pin<Box<Option<F>>>,
    answer: Option<F::Output>,
}

/// Nothing in it is pinned, because the requests are in boxes of their own.
impl<I: Iterator<Item: Future>> Unpin for Ring<I> {}

impl<F: Future> Place<F> {
    fn poll(&mut self) {
        if let Some(request) = self.request.as_mut().as_pin_mut()
            && let Poll::Ready(answer) = request.poll(&mut Context::from_waker(&self.waker))
        {
            self.request.set(None);
            self.answer = Some(answer);
        }
    }
}

impl<I: Iterator<Item: Future>> Ring<I> {
    fn new(requests: I, capacity: usize) -> Self {
        let words = (0..capacity.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let (asleep, parent) = (AtomicBool::new(false), Mutex::new(None));
        let shared = Arc::new(Shared { words, asleep, parent });
        Self { requests, places: Vec::new(), capacity, first: 0, length: 0, shared }
    }

    /// Starts as many requests as there is room for.
    fn fill(&mut self) {
        while self.length < self.capacity {
            let Some(request) = self.requests.next() else { return };
            let mut at = self.first + self.length;
            if at >= self.capacity {
                at -= self.capacity;
            }
            if at == self.places.len() {
                let bit = Bit { place: at, shared: Arc::clone(&self.shared) };
                let (waker, request) = (Arc::new(bit).into(), Box::pin(None));
                self.places.push(Place { waker, request, answer: None });
            }
            let place = &mut self.places[at];
            place.request.set(Some(request));
            place.poll();
            self.length += 1;
        }
    }

    /// Polls the woken requests; returns true if there were any.
    fn poll_woken(&mut self) -> bool {
        let mut any = false;
        for (number, word) in self.shared.words.iter().enumerate() {
            if word.load(Ordering::SeqCst) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::SeqCst);
            any |= bits != 0;
            while bits != 0 {
                self.places[64 * number + bits.trailing_zeros() as usize].poll();
                bits &= bits - 1;
            }
        }
        any
    }
}

impl<I: Iterator<Item: Future>> Stream for Ring<I> {
    type Item = <I::Item as Future>::Output;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.length > 0
                && let Some(answer) = this.places[this.first].answer.take()
            {
                this.first = if this.first + 1 == this.capacity { 0 } else { this.first + 1 };
                this.length -= 1;
                return Poll::Ready(Some(answer));
            }
            if !ready!(this.work(cx)) {
                return Poll::Ready(None);
            }
        }
    }
}

impl<I: Iterator<Item: Future>> Ring<I> {
    /// Ready if an answer may have arrived; with `false` at the end.
    fn work(&mut self, cx: &Context<'_>) -> Poll<bool> {
        loop {
            let woken = self.poll_woken();
            self.fill();
            if self.length == 0 {
                return Poll::Ready(false);
            }
            if self.places[self.first].answer.is_some() {
                return Poll::Ready(true);
            }
            if woken {
                continue;
            }
            let mut parent = self.shared.parent.lock().unwrap_or_else(PoisonError::into_inner);
            *parent = Some(cx.waker().clone());
            drop(parent);
            self.shared.asleep.store(true, Ordering::SeqCst);
            if self.shared.words.iter().all(|word| word.load(Ordering::SeqCst) == 0) {
                return Poll::Pending;
            }
        }
    }
}
