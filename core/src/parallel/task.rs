//! The task of one instance: it polls the instance's requests, those that were woken and no others (L6).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use concurrent_queue::ConcurrentQueue;
use pin_project_lite::pin_project;

use super::reply::Replier;
use crate::requests::{Requests as _, StageStorage, StageWaker, WakeEvent};
use crate::runtime::Timer;
use crate::storage::Heap;
use crate::sync::{AtomicUsize, AtomicWaker, Ordering};

/// The most woken requests that a poll of the task polls, and the most new ones that it starts (L5). Few, because these requests are
/// meant to keep the core busy, and the stage may wait for the thread.
const BUDGET: usize = 8;

/// The state that an instance's task shares with the stage.
pub(super) struct Instance<F: Future> {
    /// Requests that the task has not started.
    inbox: ConcurrentQueue<Errand<F>>,
    /// Wakes the task.
    task: Waker,
    life: AtomicUsize,
    /// The number of times that the stage has asked whether requests are settled, and of the latest one that is answered.
    asked: AtomicUsize,
    answered: AtomicUsize,
    /// Waits for that answer.
    stage: AtomicWaker,
}

/// The values of [`Instance::life`].
const RUNNING: usize = 0;
const CANCELLED: usize = 1;
const PANICKED: usize = 2;

impl<F: Future> Instance<F> {
    /// Hands a request over to the task. One that has ended drops it, and so tells the stage that there will be no answer.
    pub(super) fn start(&self, request: F, replier: Replier<F::Output>) {
        let errand = Errand { request: Some(request), replier, is_registered: false };
        let refused = self.inbox.push(errand);
        drop(refused);
        self.task.wake_by_ref();
    }

    pub(super) fn has_panicked(&self) -> bool {
        self.life.load(Ordering::Acquire) == PANICKED
    }

    /// Asks the task whether each request that is woken by now has been polled.
    pub(super) fn ask_if_settled(&self) {
        self.asked.fetch_add(1, Ordering::AcqRel);
        self.task.wake_by_ref();
    }

    /// Whether the latest question is answered. If not, `waker` is woken when it is.
    pub(super) fn poll_settled(&self, waker: &Waker) -> bool {
        self.stage.register(waker);
        let has_ended = self.life.load(Ordering::Acquire) != RUNNING;
        has_ended || !self.is_asked()
    }

    fn is_asked(&self) -> bool {
        self.answered.load(Ordering::Acquire) != self.asked.load(Ordering::Acquire)
    }

    fn end(&self, life: usize) {
        self.life.store(life, Ordering::Release);
        self.inbox.close();
        while let Ok(errand) = self.inbox.pop() {
            drop(errand);
        }
        self.stage.wake();
    }
}

/// The task of one instance of a stage: the future that is spawned. It never ends by itself: the stage cancels it.
pub struct InstanceTask<F: Future, T> {
    instance: Arc<Instance<F>>,
    requests: <Heap as StageStorage>::Requests<Errand<F>>,
    /// Slots that were used and are free.
    vacant: Vec<usize>,
    /// Slots that were ever used.
    used: usize,
    capacity: usize,
    pass: Pass,
    /// True during a poll. True when the task is dropped: the poll has panicked.
    in_poll: bool,
    timer: PhantomData<fn() -> T>,
}

/// The work that lies before the answer to a question: everything that was woken when the question was read, and all requests that
/// were in the inbox then.
#[derive(Clone, Copy, Default)]
struct Pass {
    question: usize,
    to_start: usize,
    has_polled_woken: bool,
}

impl<F: Future, T: Timer> InstanceTask<F, T> {
    /// A task with room for `capacity` requests, and the state that it shares with the stage.
    pub(super) fn new(capacity: usize) -> (Self, Arc<Instance<F>>) {
        let Some(requests) = Heap.requests(capacity) else { unreachable!("the heap has a table") };
        let instance = Arc::new(Instance {
            inbox: ConcurrentQueue::unbounded(),
            task: requests.own_waker(StageWaker::Consumer),
            life: AtomicUsize::new(RUNNING),
            asked: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            stage: AtomicWaker::new(),
        });
        let (vacant, used, pass) = (Vec::new(), 0, Pass::default());
        let shared = Arc::clone(&instance);
        let (in_poll, timer) = (false, PhantomData);
        (
            Self { instance: shared, requests, vacant, used, capacity, pass, in_poll, timer },
            instance,
        )
    }

    /// Polls woken requests and starts new ones. Returns whether all that was there is done.
    fn turn(&mut self) -> bool {
        if Pin::new(&mut self.requests).is_between_passes() {
            self.pass = Pass {
                question: self.instance.asked.load(Ordering::Acquire),
                to_start: self.instance.inbox.len(),
                has_polled_woken: false,
            };
        }
        let has_polled_all = self.poll_woken();
        let has_started_all = self.start_new();
        self.pass.has_polled_woken |= has_polled_all;
        if self.pass.has_polled_woken && self.pass.to_start == 0 {
            self.answer();
        }
        // A question that came after this pass had begun needs another one: the pass may have taken its wake-up.
        has_polled_all && has_started_all && !self.instance.is_asked()
    }

    /// Returns whether the pass has ended.
    fn poll_woken(&mut self) -> bool {
        for _ in 0..BUDGET {
            match Pin::new(&mut self.requests).next_woken() {
                None => return true,
                Some(WakeEvent::Own(_)) => {} // there is something in the inbox, or a question
                Some(WakeEvent::Request(slot)) => {
                    if let Some(Poll::Ready(())) = Pin::new(&mut self.requests).poll(slot) {
                        self.vacant.push(slot);
                    }
                }
            }
        }
        false
    }

    /// Returns whether all new requests are started.
    fn start_new(&mut self) -> bool {
        for _ in 0..BUDGET {
            // Without a free slot there is nothing new, or a request that was cancelled is still in its slot. That one was woken, and its
            // slot is free in the turn in which it is polled.
            let Some(slot) = self.vacant.pop().or_else(|| self.unused()) else { return true };
            let Ok(errand) = self.instance.inbox.pop() else {
                self.vacant.push(slot);
                self.pass.to_start = 0;
                return true;
            };
            self.pass.to_start = self.pass.to_start.saturating_sub(1);
            if Pin::new(&mut self.requests).start(slot, errand).is_ready() {
                self.vacant.push(slot);
            }
        }
        self.instance.inbox.is_empty()
    }

    fn unused(&mut self) -> Option<usize> {
        let slot = self.used;
        (slot < self.capacity).then(|| self.used += 1).map(|()| slot)
    }

    fn answer(&self) {
        if self.instance.answered.swap(self.pass.question, Ordering::AcqRel) != self.pass.question {
            self.instance.stage.wake();
        }
    }
}

impl<F: Future, T: Timer> Future for InstanceTask<F, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.in_poll = true; // it stays so if a request panics
        let is_idle = T::turn(cx, |_| self.turn());
        self.in_poll = false;
        // `sleep` refuses if something was woken that no turn has seen.
        if !is_idle || !Pin::new(&mut self.requests).sleep(cx) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

// Requests are pinned in the table's blocks, not in the task.
impl<F: Future, T> Unpin for InstanceTask<F, T> {}

impl<F: Future, T> Drop for InstanceTask<F, T> {
    fn drop(&mut self) {
        // Before the requests are dropped: each tells the stage that there will be no answer, and the stage asks why.
        self.instance.end(if self.in_poll { PANICKED } else { CANCELLED });
    }
}

impl<F: Future, T> fmt::Debug for InstanceTask<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceTask").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

pin_project! {
    /// A request that gives its answer to the stage, unless the stage has cancelled it.
    struct Errand<F: Future> {
        // Dropped before the answer is given, so that nothing of the request is left then (L2).
        #[pin]
        request: Option<F>,
        replier: Replier<F::Output>,
        is_registered: bool,
    }
}

impl<F: Future> Future for Errand<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        // A request that is cancelled before its first poll does nothing.
        if this.replier.is_cancelled() {
            return Poll::Ready(());
        }
        let Some(request) = this.request.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        if let Poll::Ready(answer) = request.poll(cx) {
            this.request.set(None);
            this.replier.give(answer);
            return Poll::Ready(());
        }
        // Once: a slot has one waker.
        if core::mem::replace(this.is_registered, true) || !this.replier.poll_cancelled(cx.waker())
        {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}
