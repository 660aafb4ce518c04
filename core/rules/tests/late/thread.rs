//! A runtime with one thread. Tasks stand in a queue, and the clock and the timers are checked only when the queue is
//! empty, as in any runtime. A task that computes moves the clock, and nothing is delivered meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use inflight_core::{Instant, JoinError, NoRuntime, Runtime, Spawner, Timer};

/// In milliseconds.
pub(crate) type Millis = i64;

type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Clone, Default)]
pub(crate) struct Thread(Rc<Inner>);

#[derive(Default)]
struct Inner {
    now: Cell<Millis>,
    queue: Arc<Mutex<VecDeque<usize>>>,
    tasks: RefCell<BTreeMap<usize, Task>>,
    spawned: Cell<usize>,
    /// Sorted by the instants at which they fire, and then by the order in which they were set.
    timers: RefCell<BTreeMap<(Millis, usize), Waker>>,
    timers_set: Cell<usize>,
}

impl Thread {
    /// Runs a future and all tasks until the future is ready.
    pub(crate) fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(Cell::new(None));
        let end = Rc::clone(&result);
        self.start(async move { end.set(Some(future.await)) });
        loop {
            if let Some(result) = result.take() {
                return result;
            }
            let next = self.0.queue.lock().expect("no panic poisons the lock").pop_front();
            match next {
                Some(task) => self.poll(task),
                None => self.deliver(),
            }
        }
    }

    /// The thread computes and does nothing else: moves the clock.
    pub(crate) fn compute(&self, time: Millis) {
        self.0.now.set(self.0.now.get() + time);
    }

    pub(crate) async fn sleep(self, time: Millis) {
        let at = self.0.now.get() + time;
        let mut alarm = Alarm { thread: self, at, key: None };
        poll_fn(|cx| alarm.poll(cx)).await;
    }

    fn start(&self, future: impl Future<Output = ()> + 'static) -> usize {
        let number = self.0.spawned.get();
        self.0.spawned.set(number + 1);
        self.0.tasks.borrow_mut().insert(number, Box::pin(future));
        self.0.queue.lock().expect("no panic poisons the lock").push_back(number);
        number
    }

    fn poll(&self, number: usize) {
        let task = self.0.tasks.borrow_mut().remove(&number);
        let Some(mut task) = task else { return };
        let waker = Waker::from(Arc::new(Queued { number, queue: Arc::clone(&self.0.queue) }));
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.0.tasks.borrow_mut().insert(number, task);
        }
    }

    /// Moves the clock to the next timer, and wakes the tasks of all timers that are due.
    fn deliver(&self) {
        let first = self.0.timers.borrow().keys().next().copied();
        let (at, _) = first.expect("everything sleeps for ever");
        self.0.now.set(at.max(self.0.now.get()));
        loop {
            let Some(timer) = self
                .0
                .timers
                .borrow_mut()
                .first_entry()
                .and_then(|timer| (timer.key().0 <= self.0.now.get()).then(|| timer.remove()))
            else {
                return;
            };
            timer.wake();
        }
    }
}

struct Queued {
    number: usize,
    queue: Arc<Mutex<VecDeque<usize>>>,
}

impl Wake for Queued {
    fn wake(self: Arc<Self>) {
        let mut queue = self.queue.lock().expect("no panic poisons the lock");
        if !queue.contains(&self.number) {
            queue.push_back(self.number);
        }
    }
}

/// Ready once the timer has been delivered, which may be later than its instant.
struct Alarm {
    thread: Thread,
    at: Millis,
    key: Option<(Millis, usize)>,
}

impl Alarm {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let Inner { timers, timers_set, .. } = &*self.thread.0;
        let key = *self.key.get_or_insert_with(|| {
            let number = timers_set.replace(timers_set.get() + 1);
            timers.borrow_mut().insert((self.at, number), Waker::noop().clone());
            (self.at, number)
        });
        match timers.borrow_mut().get_mut(&key) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => return Poll::Ready(()),
        }
        Poll::Pending
    }
}

impl Runtime for Thread {
    type Timer = ThreadTimer;

    fn timer(&self) -> Result<ThreadTimer, NoRuntime> {
        Ok(ThreadTimer { thread: self.clone(), alarm: None })
    }
}

pub(crate) struct ThreadTimer {
    thread: Thread,
    alarm: Option<Alarm>,
}

impl Timer for ThreadTimer {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.thread.0.now.get() * 1_000_000)
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        let thread = self.thread.clone();
        self.alarm = at.map(|at| {
            let at = (at.as_nanos() + 999_999) / 1_000_000;
            Alarm { thread, at, key: None }
        });
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(alarm) = &mut self.alarm else { return Poll::Pending };
        let polled = alarm.poll(cx);
        if polled.is_ready() {
            self.alarm = None;
        }
        polled
    }
}

impl<F: Future + 'static> Spawner<F> for Thread
where
    F::Output: 'static,
{
    type Handle = Handle<F::Output>;

    fn spawn(&self, future: F) -> Handle<F::Output> {
        let join = Rc::new(Join { output: Cell::new(None), waker: Cell::new(None) });
        let end = Rc::clone(&join);
        let number = self.start(async move {
            end.output.set(Some(future.await));
            end.waker.take().into_iter().for_each(Waker::wake);
        });
        Handle { join, thread: self.clone(), number }
    }
}

struct Join<T> {
    output: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
}

pub(crate) struct Handle<T> {
    join: Rc<Join<T>>,
    thread: Thread,
    number: usize,
}

impl<T> Future for Handle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.join.waker.set(Some(cx.waker().clone()));
        self.join.output.take().map_or(Poll::Pending, |output| Poll::Ready(Ok(output)))
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let task = self.thread.0.tasks.borrow_mut().remove(&self.number);
        drop(task);
    }
}
