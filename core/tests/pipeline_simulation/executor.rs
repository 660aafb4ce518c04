//! A single-threaded executor on virtual time. It polls woken tasks in a random order.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use inflight_core::{JoinError, NoRuntime, Runtime, Spawner};

use crate::clock::Clock;
use crate::virtual_timer::VirtualTimer;
use crate::world::World;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    flag: Arc<Flag>,
    /// `None` once the task has ended.
    future: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    is_cancelled: Cell<bool>,
}

impl Task {
    fn new(future: impl Future<Output = ()> + 'static) -> Rc<Self> {
        let (flag, is_cancelled) = (Arc::new(Flag(AtomicBool::new(true))), Cell::new(false));
        Rc::new(Self { flag, future: RefCell::new(Some(Box::pin(future))), is_cancelled })
    }

    fn poll(&self) {
        let future = self.future.take();
        let Some(mut future) = future.filter(|_| !self.is_cancelled.get()) else { return };
        self.flag.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.flag));
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            *self.future.borrow_mut() = Some(future);
        }
    }

    fn is_woken(&self) -> bool {
        self.flag.0.load(Ordering::Relaxed) && self.future.borrow().is_some()
    }
}

/// The runtime of one life.
#[derive(Clone)]
pub(crate) struct Virtual {
    pub(crate) clock: Rc<Clock>,
    tasks: Rc<RefCell<Vec<Rc<Task>>>>,
}

impl Virtual {
    pub(crate) fn new() -> Self {
        Self { clock: Clock::new(0, 1), tasks: Rc::default() }
    }

    /// Runs `main` to its end; `None` if the process dies before that.
    pub(crate) fn run<T: 'static>(
        &self,
        world: &World,
        main: impl Future<Output = T> + 'static,
    ) -> Result<Option<T>, String> {
        let result = Rc::new(RefCell::new(None));
        let told = Rc::clone(&result);
        self.tasks.borrow_mut().push(Task::new(async move {
            let done = main.await;
            *told.borrow_mut() = Some(done);
        }));
        let ended = loop {
            if world.is_dead() {
                break Ok(None);
            }
            if let Some(result) = result.take() {
                break Ok(Some(result));
            }
            let woken: Vec<_> =
                self.tasks.borrow().iter().filter(|task| task.is_woken()).cloned().collect();
            match (woken.len(), self.clock.next_alarm()) {
                (0, Some(at)) => self.clock.advance_to(at),
                (0, None) => break Err("nothing will ever happen again".into()),
                (tasks, _) => woken[world.below(tasks)].poll(),
            }
        };
        // The process is dead: everything in its memory is dropped.
        let tasks = self.tasks.take();
        tasks.iter().for_each(|task| drop(task.future.take()));
        ended
    }

    /// Lets some virtual time pass.
    pub(crate) fn sleep(&self, nanos: i64) -> impl Future<Output = ()> + use<> {
        let (clock, alarm) = (Rc::clone(&self.clock), self.clock.alarm());
        alarm.set(Some(clock.now() + nanos));
        std::future::poll_fn(move |cx| alarm.poll(&clock, cx))
    }
}

impl Runtime for Virtual {
    type Timer = VirtualTimer;

    fn timer(&self) -> Result<VirtualTimer, NoRuntime> {
        Ok(VirtualTimer::new(&self.clock))
    }
}

struct Join<T> {
    result: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<F: Future + 'static> Spawner<F> for Virtual {
    type Handle = Handle<F::Output>;

    fn spawn(&self, future: F) -> Handle<F::Output> {
        let join = Rc::new(Join { result: RefCell::default(), waker: RefCell::default() });
        let told = Rc::clone(&join);
        let task = Task::new(async move {
            let result = future.await;
            *told.result.borrow_mut() = Some(result);
            told.waker.take().into_iter().for_each(Waker::wake);
        });
        self.tasks.borrow_mut().push(Rc::clone(&task));
        Handle { join, task }
    }
}

/// Awaits a task; dropping the handle cancels the task.
pub(crate) struct Handle<T> {
    join: Rc<Join<T>>,
    task: Rc<Task>,
}

impl<T> Future for Handle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.join.result.take() {
            return Poll::Ready(Ok(result));
        }
        *self.join.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.task.is_cancelled.set(true);
    }
}
