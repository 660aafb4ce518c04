//! A clock and requests that the test controls.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use inflight_core::{Instant, NoRuntime, Runtime, Timer};
use timely::worker::Worker;

/// Steps the worker until nothing happens any more on its own.
pub(crate) fn settle(worker: &mut Worker) {
    for _ in 0..12 {
        worker.step();
    }
}

/// A runtime whose time the test sets.
#[derive(Clone, Default)]
pub(crate) struct Clock(Rc<Time>);

#[derive(Default)]
struct Time {
    now: Cell<Instant>,
    sleepers: RefCell<Vec<Waker>>,
}

impl Clock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.now.set(self.0.now.get() + by);
        self.0.sleepers.take().into_iter().for_each(Waker::wake);
    }
}

impl Runtime for Clock {
    type Timer = Alarm;

    fn timer(&self) -> Result<Alarm, NoRuntime> {
        Ok(Alarm { clock: self.clone(), at: None })
    }
}

pub(crate) struct Alarm {
    clock: Clock,
    at: Option<Instant>,
}

impl Timer for Alarm {
    fn now(&self) -> Instant {
        self.clock.0.now.get()
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        self.at = at;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.at {
            Some(at) if at <= self.now() => {
                self.at = None;
                Poll::Ready(())
            }
            Some(_) => {
                self.clock.0.sleepers.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

/// Requests that end when the test says so.
#[derive(Clone, Default)]
pub(crate) struct Service(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    next: u64,
    /// The requests that run, in the order of their starts, with what each of them asks.
    running: BTreeMap<u64, Running>,
    most: usize,
}

struct Running {
    asks: u64,
    answer: Option<Result<u64, &'static str>>,
    waker: Option<Waker>,
}

impl Service {
    /// Starts a request.
    pub(crate) fn ask(&self, asks: u64) -> Request {
        let mut state = self.0.borrow_mut();
        let id = state.next;
        state.next += 1;
        state.running.insert(id, Running { asks, answer: None, waker: None });
        state.most = state.most.max(state.running.len());
        Request { service: self.clone(), id }
    }

    /// What the requests ask that wait for an answer, oldest first.
    pub(crate) fn asked(&self) -> Vec<u64> {
        let state = self.0.borrow();
        state.running.values().filter(|one| one.answer.is_none()).map(|one| one.asks).collect()
    }

    /// Answers the oldest request that asks this.
    pub(crate) fn answer(&self, asks: u64, answer: Result<u64, &'static str>) {
        let mut state = self.0.borrow_mut();
        let mut waiting = state.running.values_mut();
        let one = waiting.find(|one| one.asks == asks && one.answer.is_none()).expect("it runs");
        one.answer = Some(answer);
        let waker = one.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// The most requests that ever ran at once.
    pub(crate) fn most(&self) -> usize {
        self.0.borrow().most
    }
}

/// Ends its running when it is dropped, which is how a request is cancelled.
pub(crate) struct Request {
    service: Service,
    id: u64,
}

impl Future for Request {
    type Output = Result<u64, &'static str>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.service.0.borrow_mut();
        let one = state.running.get_mut(&self.id).expect("it runs");
        match one.answer {
            Some(answer) => Poll::Ready(answer),
            None => {
                one.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.service.0.borrow_mut().running.remove(&self.id);
    }
}
