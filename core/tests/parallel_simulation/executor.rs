//! A single-threaded executor on virtual time. It polls the task that it is told to.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use inflight_core::{JoinError, NoRuntime, Runtime, Spawner};

use crate::clock::Clock;
use crate::join::{Join, TaskEnd};
use crate::virtual_timer::VirtualTimer;

/// Whether a task, or the consumer, has been woken.
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn woken() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) struct Task {
    pub(crate) number: usize,
    flag: Arc<Flag>,
    future: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    is_cancelled: Cell<bool>,
}

/// The runtime of one life.
#[derive(Clone)]
pub(crate) struct Virtual {
    pub(crate) clock: Rc<Clock>,
    tasks: Rc<RefCell<Vec<Rc<Task>>>>,
    /// The task that is being polled.
    pub(crate) current: Rc<Cell<Option<usize>>>,
}

impl Virtual {
    pub(crate) fn new(clock: &Rc<Clock>) -> Self {
        Self { clock: Rc::clone(clock), tasks: Rc::default(), current: Rc::default() }
    }

    pub(crate) fn woken(&self) -> Vec<Rc<Task>> {
        let is_woken = |task: &&Rc<Task>| task.is_cancelled.get() || task.flag.is_set();
        self.alive().iter().filter(is_woken).cloned().collect()
    }

    pub(crate) fn alive(&self) -> Vec<Rc<Task>> {
        let tasks = self.tasks.borrow();
        tasks.iter().filter(|task| task.future.borrow().is_some()).cloned().collect()
    }

    pub(crate) fn poll(&self, task: &Task) {
        let Some(mut future) = task.future.take() else { return };
        if task.is_cancelled.get() {
            return drop(future);
        }
        task.flag.clear();
        self.current.set(Some(task.number));
        let waker = Waker::from(Arc::clone(&task.flag));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        self.current.set(None);
        if polled.is_pending() {
            *task.future.borrow_mut() = Some(future);
        }
    }

    /// The runtime cancels a task.
    pub(crate) fn kill(&self, task: &Task) {
        drop(task.future.take());
    }

    /// The process dies.
    pub(crate) fn kill_all(&self) {
        let tasks = self.tasks.take();
        tasks.iter().for_each(|task| drop(task.future.take()));
    }
}

impl Runtime for Virtual {
    type Timer = VirtualTimer;

    fn timer(&self) -> Result<VirtualTimer, NoRuntime> {
        Ok(VirtualTimer::new(&self.clock))
    }
}

impl<F: Future + 'static> Spawner<F> for Virtual {
    type Handle = Handle<F::Output>;

    fn spawn(&self, future: F) -> Handle<F::Output> {
        let join = Join::new();
        let end = TaskEnd(Rc::clone(&join));
        let run = async move {
            let end = end; // behind the future, and so dropped after it
            let mut future = Box::pin(future);
            let result = std::future::poll_fn(|cx| {
                match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                    Ok(polled) => polled.map(Ok),
                    Err(_) => Poll::Ready(Err(JoinError::Panicked)),
                }
            })
            .await;
            drop(future);
            end.0.tell(result);
        };
        let mut tasks = self.tasks.borrow_mut();
        let task = Rc::new(Task {
            number: tasks.len(),
            flag: Flag::woken(),
            future: RefCell::new(Some(Box::pin(run))),
            is_cancelled: Cell::new(false),
        });
        tasks.push(Rc::clone(&task));
        Handle { join, task }
    }
}

/// Awaits a task; dropping it cancels the task.
pub(crate) struct Handle<T> {
    join: Rc<Join<T>>,
    task: Rc<Task>,
}

impl<T> Future for Handle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.join.poll(cx)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.task.is_cancelled.set(true);
    }
}
