//! A single-threaded executor on virtual time. It polls woken tasks in a random order.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Wake, Waker};

use inflight_core::{Instant, JoinError, NoRuntime, Runtime, Spawner, Timer};

use crate::clock::Clock;
use crate::join::Join;
use crate::plan::Event;
use crate::process::{Process, State};
use crate::virtual_timer::VirtualTimer;

/// So many polls without a step of the clock are a loop that does not end.
const MOST_POLLS: u32 = 50_000;

/// So many looks at the clock in one poll are a loop that does not end.
const MOST_LOOKS: u32 = 10_000;

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
    /// Tells whoever awaits the task that it ends without a result.
    fails: Option<Box<dyn Fn(JoinError)>>,
}

impl Task {
    fn new(
        future: impl Future<Output = ()> + 'static,
        fails: Option<Box<dyn Fn(JoinError)>>,
    ) -> Rc<Self> {
        let (flag, is_cancelled) = (Arc::new(Flag(AtomicBool::new(true))), Cell::new(false));
        Rc::new(Self { flag, future: RefCell::new(Some(Box::pin(future))), is_cancelled, fails })
    }

    /// Returns the panic of a task that nobody awaits.
    fn poll(&self) -> Result<(), Box<dyn Any + Send>> {
        let future = self.future.take();
        let Some(mut future) = future.filter(|_| !self.is_cancelled.get()) else { return Ok(()) };
        self.flag.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self.flag));
        let cx = &mut Context::from_waker(&waker);
        match (catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))), &self.fails) {
            (Ok(Poll::Ready(())), _) => {}
            (Ok(Poll::Pending), _) => *self.future.borrow_mut() = Some(future),
            (Err(payload), None) => return Err(payload),
            (Err(payload), Some(_)) if !payload.is::<Planned>() => return Err(payload),
            (Err(_), Some(fails)) => {
                drop(future);
                fails(JoinError::Panicked);
            }
        }
        Ok(())
    }

    fn is_woken(&self) -> bool {
        self.flag.0.load(Ordering::Relaxed) && self.future.borrow().is_some()
    }
}

/// The payload of a panic that the plan has ordered.
pub(crate) struct Planned;

thread_local! {
    /// The process that runs on this thread was made to panic, so its panics are not worth a line.
    static IS_HURT: Cell<bool> = const { Cell::new(false) };
}

/// Prints no panics of processes that were made to panic.
pub(crate) fn keep_quiet_about_planned_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |info| {
            if !IS_HURT.get() {
                print(info);
            }
        }));
    });
}

/// The way in which a process has stopped.
pub(crate) enum Stopped<T> {
    Ended(T),
    Frozen,
    Dead,
}

/// The runtime of one life.
#[derive(Clone)]
pub(crate) struct Virtual {
    pub(crate) clock: Rc<Clock>,
    tasks: Rc<RefCell<Vec<Rc<Task>>>>,
    /// Looks at the clock in one poll.
    looks: Rc<Cell<u32>>,
}

impl Virtual {
    pub(crate) fn new() -> Self {
        Self { clock: Clock::new(0, 1), tasks: Rc::default(), looks: Rc::default() }
    }

    /// Starts `main`, which tells its result there.
    pub(crate) fn start<T: 'static>(
        &self,
        main: impl Future<Output = T> + 'static,
    ) -> Rc<RefCell<Option<T>>> {
        let result = Rc::new(RefCell::new(None));
        let told = Rc::clone(&result);
        let main = async move {
            let done = main.await;
            *told.borrow_mut() = Some(done);
        };
        self.tasks.borrow_mut().push(Task::new(main, None));
        result
    }

    /// Runs all tasks, until there is a result, or the process dies or is frozen.
    pub(crate) fn run<T>(
        &self,
        process: &Rc<Process>,
        result: &RefCell<Option<T>>,
    ) -> Result<Stopped<T>, String> {
        let mut polls = 0;
        loop {
            process.world.check_promises()?;
            if let Some(result) = result.take() {
                return Ok(Stopped::Ended(result));
            }
            match process.state.get() {
                State::IsDead => return Ok(Stopped::Dead),
                State::IsFrozen => return Ok(Stopped::Frozen),
                State::Runs => {}
            }
            if process.cancels.take() {
                self.cancel_one(process);
            }
            let woken: Vec<_> =
                self.tasks.borrow().iter().filter(|task| task.is_woken()).cloned().collect();
            if woken.is_empty() {
                polls = 0;
                match self.clock.next_alarm() {
                    Some(at) => self.clock.advance_to(at),
                    None => self.stands_still(process)?,
                }
                process.check_time()?;
                continue;
            }
            polls += 1;
            IS_HURT.set(process.is_hurt.get());
            self.looks.set(0);
            if polls > MOST_POLLS {
                return Err("it works and works and makes no progress".into());
            }
            let polled = woken[process.world.below(woken.len())].poll();
            IS_HURT.set(false);
            if let Err(panic) = polled {
                // The pipeline's own task is torn down by a panic in it, and by one in a stage.
                if process.is_hurt.get() {
                    return Ok(Stopped::Dead);
                }
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                return Err(format!("it panics: {}", text.unwrap_or_default()));
            }
        }
    }

    /// Only requests that are never answered keep the job from its end. An operator kills the process, or hands the job over.
    fn stands_still(&self, process: &Rc<Process>) -> Result<(), String> {
        process.check_standstill()?;
        let event = if process.world.one_in(2) { Event::HandOver } else { Event::Crash };
        process.meet(event);
        Ok(())
    }

    /// The process is dead: everything in its memory is dropped.
    pub(crate) fn drop_all(&self) {
        let tasks = self.tasks.take();
        tasks.iter().for_each(|task| drop(task.future.take()));
    }

    /// The runtime cancels the task of a stage, if there is one.
    fn cancel_one(&self, process: &Process) {
        let tasks = self.tasks.borrow();
        let is_stage = |task: &&Rc<Task>| task.fails.is_some() && task.future.borrow().is_some();
        let stages: Vec<_> = tasks.iter().filter(is_stage).cloned().collect();
        drop(tasks);
        if stages.is_empty() {
            return;
        }
        process.is_hurt.set(true);
        let task = &stages[process.world.below(stages.len())];
        drop(task.future.take());
        task.fails.iter().for_each(|fails| fails(JoinError::Cancelled));
    }

    /// Runs something that nobody waits for.
    pub(crate) fn detach(&self, future: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().push(Task::new(future, None));
    }

    /// Lets some virtual time pass.
    pub(crate) fn sleep(&self, nanos: i64) -> impl Future<Output = ()> + use<> {
        let (clock, alarm) = (Rc::clone(&self.clock), self.clock.alarm());
        alarm.set(Some(clock.now() + nanos));
        std::future::poll_fn(move |cx| alarm.poll(&clock, cx))
    }
}

impl Runtime for Virtual {
    type Timer = Watched;

    fn timer(&self) -> Result<Watched, NoRuntime> {
        Ok(Watched { timer: VirtualTimer::new(&self.clock), looks: Rc::clone(&self.looks) })
    }
}

/// A timer that notices a loop without an end.
pub(crate) struct Watched {
    timer: VirtualTimer,
    looks: Rc<Cell<u32>>,
}

impl Timer for Watched {
    fn now(&self) -> Instant {
        self.looks.set(self.looks.get() + 1);
        assert!(self.looks.get() < MOST_LOOKS, "a poll does not end");
        self.timer.now()
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        Pin::new(&mut self.timer).arm(at);
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.timer).poll(cx)
    }
}

impl<F: Future<Output: 'static> + 'static> Spawner<F> for Virtual {
    type Handle = Handle<F::Output>;

    fn spawn(&self, future: F) -> Handle<F::Output> {
        let join = Join::new();
        let (told, failed) = (Rc::clone(&join), Rc::clone(&join));
        let run = async move { told.tell(Ok(future.await)) };
        let task = Task::new(run, Some(Box::new(move |error| failed.tell(Err(error)))));
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
        self.join.poll(cx)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.task.is_cancelled.set(true);
    }
}
