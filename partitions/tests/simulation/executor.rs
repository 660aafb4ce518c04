//! A single-threaded executor on virtual time, for several processes and the world around them. It polls woken tasks in a random
//! order, but none of a process that is frozen.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use inflight_core::{JoinError, NoRuntime, Runtime, Spawner};

use crate::clock::Clock;
use crate::join::{Join, TaskEnd};
use crate::virtual_timer::VirtualTimer;

/// So many polls without a step of the clock are a loop that does not end.
const MOST_POLLS: u32 = 100_000;

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    Runs,
    IsFrozen,
    IsDead,
}

/// What lives and dies together.
pub(crate) struct Process {
    pub(crate) number: usize,
    pub(crate) state: Cell<State>,
}

impl Process {
    /// Waits until the process is not frozen. A dead one waits for ever.
    pub(crate) fn runs(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| {
            if self.state.get() == State::Runs {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref(); // it is polled when the process goes on
            Poll::Pending
        })
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    /// `None`: a part of the world.
    of: Option<Rc<Process>>,
    flag: Arc<Flag>,
    /// `None` once the task has ended.
    future: RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>,
    is_cancelled: Cell<bool>,
}

impl Task {
    fn poll(&self) {
        let future = self.future.take();
        let Some(mut future) = future.filter(|_| !self.is_cancelled.get()) else { return };
        self.flag.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.flag));
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            *self.future.borrow_mut() = Some(future);
        }
    }

    fn state(&self) -> State {
        self.of.as_ref().map_or(State::Runs, |of| of.state.get())
    }
}

pub(crate) struct Executor {
    pub(crate) clock: Rc<Clock>,
    tasks: RefCell<Vec<Rc<Task>>>,
}

impl Executor {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { clock: Clock::new(0, 1), tasks: RefCell::default() })
    }

    /// Starts a task that nobody awaits.
    pub(crate) fn spawn(
        &self,
        of: Option<&Rc<Process>>,
        future: impl Future<Output = ()> + 'static,
    ) {
        self.start(of, future);
    }

    fn start(
        &self,
        of: Option<&Rc<Process>>,
        future: impl Future<Output = ()> + 'static,
    ) -> Rc<Task> {
        let task = Rc::new(Task {
            of: of.cloned(),
            flag: Arc::new(Flag(AtomicBool::new(true))),
            future: RefCell::new(Some(Box::pin(future))),
            is_cancelled: Cell::new(false),
        });
        self.tasks.borrow_mut().push(Rc::clone(&task));
        task
    }

    /// Lets some virtual time pass.
    pub(crate) fn sleep(&self, nanos: i64) -> impl Future<Output = ()> + use<> {
        let (clock, alarm) = (Rc::clone(&self.clock), self.clock.alarm());
        alarm.set(Some(clock.now() + nanos));
        poll_fn(move |cx| alarm.poll(&clock, cx))
    }

    /// Runs all tasks until `is_over` says so, or fails.
    pub(crate) fn run(
        &self,
        below: impl Fn(usize) -> usize,
        is_over: impl Fn() -> Result<bool, String>,
    ) -> Result<(), String> {
        let mut polls = 0;
        while !is_over()? {
            self.drop_the_dead();
            let tasks = self.tasks.borrow();
            let is_woken = |task: &&Rc<Task>| {
                task.flag.0.load(Ordering::Relaxed) && task.state() == State::Runs
            };
            let woken: Vec<_> = tasks.iter().filter(is_woken).cloned().collect();
            drop(tasks);
            if woken.is_empty() {
                polls = 0;
                let next = self.clock.next_alarm();
                self.clock.advance_to(next.ok_or("nothing will ever happen again")?);
                continue;
            }
            polls += 1;
            if polls > MOST_POLLS {
                return Err("it works and works and makes no progress".into());
            }
            woken[below(woken.len())].poll();
        }
        Ok(())
    }

    /// Everything in the memory of a process that is dead is dropped.
    fn drop_the_dead(&self) {
        let is_gone =
            |task: &mut Rc<Task>| task.state() == State::IsDead || task.future.borrow().is_none();
        // Outside of the borrow, because a drop may look at the tasks.
        let gone: Vec<_> = self.tasks.borrow_mut().extract_if(.., is_gone).collect();
        drop(gone.iter().map(|task| task.future.take()).collect::<Vec<_>>());
    }

    pub(crate) fn drop_all(&self) {
        let tasks = self.tasks.take();
        tasks.iter().for_each(|task| drop(task.future.take()));
    }
}

/// The runtime of one process.
#[derive(Clone)]
pub(crate) struct Virtual {
    pub(crate) executor: Rc<Executor>,
    pub(crate) process: Rc<Process>,
}

impl Runtime for Virtual {
    type Timer = VirtualTimer;

    fn timer(&self) -> Result<VirtualTimer, NoRuntime> {
        Ok(VirtualTimer::new(&self.executor.clock))
    }
}

impl<F: Future<Output: 'static> + 'static> Spawner<F> for Virtual {
    type Handle = Handle<F::Output>;

    fn spawn(&self, future: F) -> Handle<F::Output> {
        let join = Join::new();
        let end = TaskEnd(Rc::clone(&join));
        let run = async move {
            let end = end;
            let result = future.await;
            end.0.tell(Ok(result));
        };
        Handle { join, task: self.executor.start(Some(&self.process), run) }
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
        self.join.poll(cx)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.task.is_cancelled.set(true);
        self.task.flag.0.store(true, Ordering::Relaxed); // so that it is dropped soon
    }
}
