//! A single-threaded executor that polls the task it is told to.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use inflight_core::JoinError;

use crate::join::{Join, TaskEnd};
use crate::run::Planned;

/// Whether a task, or the consumer, has been woken.
#[derive(Default)]
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

/// What a task is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    Stage,
    Request,
}

pub(crate) struct Task {
    pub(crate) role: Role,
    flag: RefCell<Arc<Flag>>,
    /// `None` once it is over.
    future: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    cancelled: Cell<bool>,
    /// A cancelled stage is polled once more, as by a runtime that hears of it late.
    grace: Cell<bool>,
}

type Surprise = Rc<RefCell<Option<String>>>;

pub(crate) struct Executor {
    tasks: RefCell<Vec<Rc<Task>>>,
    /// Every poll has a waker of its own, and earlier ones wake nobody.
    fresh_wakers: bool,
    cancels_late: bool,
    /// A panic that nobody has planned.
    pub(crate) surprise: Surprise,
}

impl Executor {
    pub(crate) fn new(fresh_wakers: bool, cancels_late: bool) -> Rc<Self> {
        let (tasks, surprise) = (RefCell::default(), Surprise::default());
        Rc::new(Self { tasks, fresh_wakers, cancels_late, surprise })
    }

    pub(crate) fn spawn<F>(&self, role: Role, future: F) -> Handle<F::Output>
    where
        F: Future + 'static,
    {
        let join = Join::new();
        let (end, surprise) = (TaskEnd(Rc::clone(&join)), Rc::clone(&self.surprise));
        let run = async move {
            // Behind the future, and so dropped after it.
            let end = end;
            let mut future = Box::pin(future);
            let result =
                poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                    Ok(polled) => polled.map(Ok),
                    Err(panic) => {
                        note(&surprise, &*panic);
                        Poll::Ready(Err(JoinError::Panicked))
                    }
                })
                .await;
            drop(future);
            end.0.tell(result);
        };
        let task = Rc::new(Task {
            role,
            flag: RefCell::new(Flag::woken()),
            future: RefCell::new(Some(Box::pin(run))),
            cancelled: Cell::new(false),
            grace: Cell::new(role == Role::Stage && self.cancels_late),
        });
        self.tasks.borrow_mut().push(Rc::clone(&task));
        Handle { join, task }
    }

    pub(crate) fn woken(&self) -> Vec<Rc<Task>> {
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|task| task.future.borrow().is_some());
        tasks.iter().filter(|task| task.is_woken()).cloned().collect()
    }

    /// The task of the stage, while there is one.
    pub(crate) fn stage(&self) -> Option<Rc<Task>> {
        let tasks = self.tasks.borrow();
        let alive = |task: &&Rc<Task>| task.role == Role::Stage && task.future.borrow().is_some();
        tasks.iter().find(alive).cloned()
    }

    /// How many tasks there are.
    pub(crate) fn alive(&self) -> usize {
        self.tasks.borrow().iter().filter(|task| task.future.borrow().is_some()).count()
    }

    /// The process dies. (A task may hold the executor, so dropping that is not enough.)
    pub(crate) fn kill_all(&self) {
        let tasks = self.tasks.take();
        tasks.iter().for_each(|task| task.kill());
    }

    pub(crate) fn poll(&self, task: &Task) {
        if task.cancelled.get() && !task.grace.replace(false) {
            return task.kill();
        }
        if self.fresh_wakers {
            *task.flag.borrow_mut() = Arc::new(Flag::default());
        }
        task.flag.borrow().clear();
        let waker = Waker::from(Arc::clone(&task.flag.borrow()));
        let Some(mut future) = task.future.take() else { return };
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            *task.future.borrow_mut() = Some(future);
        }
    }
}

fn note(surprise: &Surprise, panic: &(dyn Any + Send)) {
    if !panic.is::<Planned>() {
        *surprise.borrow_mut() = Some(crate::run::message(panic));
    }
}

impl Task {
    fn is_woken(&self) -> bool {
        self.cancelled.get() || self.flag.borrow().is_set()
    }

    /// Drops the future, as a runtime does with a task that is cancelled.
    pub(crate) fn kill(&self) {
        let future = self.future.take();
        drop(future);
    }
}

/// Awaits a task; dropping it cancels the task (rule 2).
pub(crate) struct Handle<T> {
    join: Rc<Join<T>>,
    task: Rc<Task>,
}

impl<T> Handle<T> {
    pub(crate) fn is_finished(&self) -> bool {
        self.join.is_told()
    }

    pub(crate) fn task(&self) -> Rc<Task> {
        Rc::clone(&self.task)
    }
}

impl<T> Future for Handle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.join.poll(cx)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.join.forget_waker();
        self.task.cancelled.set(true);
    }
}
