//! Virtual time: an executor on one thread whose clock jumps to the next alarm when all tasks wait, so that minutes of
//! waiting take a moment and every run is the same.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use anyhow::{Result, anyhow};
use inflight::{Instant, JoinError, NoRuntime, Runtime, Spawner, Timer};

/// The executor and its clock. Woken tasks run in the order in which they were woken. A panic in a task is a panic of
/// [`run`](Self::run).
#[derive(Clone)]
pub(crate) struct VirtualTime(Rc<Shared>);

struct Shared {
    /// The time since the start.
    now: Cell<Duration>,
    /// The tasks that wait for an instant. The number tells alarms of one instant apart.
    alarms: RefCell<BTreeMap<(Duration, u64), Waker>>,
    next_alarm: Cell<u64>,
    tasks: RefCell<Vec<Task>>,
    woken: Receiver<usize>,
    wake: Sender<usize>,
}

struct Task {
    /// `None` while it is polled, and once it has ended.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    is_cancelled: bool,
    waker: Arc<TaskWaker>,
}

impl VirtualTime {
    /// Starts at zero, without a task.
    pub(crate) fn new() -> Self {
        let (wake, woken) = channel();
        let (now, alarms, next_alarm, tasks) = Default::default();
        Self(Rc::new(Shared { now, alarms, next_alarm, tasks, woken, wake }))
    }

    /// Runs `main` to its end and drops all other tasks.
    ///
    /// # Errors
    ///
    /// If `main` has not ended, no task is woken and no alarm is set.
    pub(crate) fn run<T: 'static>(&self, main: impl Future<Output = T> + 'static) -> Result<T> {
        let main = self.spawn(main);
        let result = loop {
            if let Some(result) = main.join.result.take() {
                break Ok(result);
            }
            match self.0.woken.try_recv() {
                Ok(task) => self.poll(task),
                Err(_) if self.advance() => {}
                Err(_) => break Err(anyhow!("nothing will ever happen again")),
            }
        };
        // The tasks hold the executor: without this neither would be freed.
        drop(self.0.tasks.take());
        result
    }

    /// The time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.0.now.get()
    }

    /// Waits for a point in time.
    pub(crate) fn sleep_until(&self, at: Duration) -> Alarm {
        let mut alarm = self.alarm();
        alarm.set(Some(at));
        alarm
    }

    /// Waits. No time at all is no wait.
    pub(crate) async fn sleep(&self, time: Duration) {
        if !time.is_zero() {
            self.sleep_until(self.now() + time).await;
        }
    }

    fn alarm(&self) -> Alarm {
        let number = self.0.next_alarm.get();
        self.0.next_alarm.set(number + 1);
        Alarm { clock: self.clone(), number, at: None, waker: None }
    }

    /// Goes to the next alarm and wakes the tasks that wait for this instant. Returns false if there is none.
    fn advance(&self) -> bool {
        let mut alarms = self.0.alarms.borrow_mut();
        let Some(&(next, _)) = alarms.keys().next() else { return false };
        self.0.now.set(next.max(self.now()));
        let later = alarms.split_off(&(next, u64::MAX));
        let due = std::mem::replace(&mut *alarms, later);
        drop(alarms); // a waker may set or drop alarms
        due.into_values().for_each(Waker::wake);
        true
    }

    fn poll(&self, task: usize) {
        let (future, waker) = {
            let task = &mut self.0.tasks.borrow_mut()[task];
            (task.future.take(), Arc::clone(&task.waker))
        };
        waker.is_woken.store(false, Relaxed);
        let Some(mut future) = future else { return };
        if future.as_mut().poll(&mut Context::from_waker(&Waker::from(waker))).is_ready() {
            return;
        }
        let task = &mut self.0.tasks.borrow_mut()[task];
        // A task may have been cancelled by itself.
        task.future = Some(future).filter(|_| !task.is_cancelled);
    }

    fn cancel(&self, task: usize) {
        let mut tasks = self.0.tasks.borrow_mut();
        // There is no task any more when `run` has dropped them.
        let Some(task) = tasks.get_mut(task) else { return };
        task.is_cancelled = true;
        let future = task.future.take();
        drop(tasks); // the future may cancel other tasks when it is dropped
        drop(future);
    }
}

struct TaskWaker {
    task: usize,
    is_woken: AtomicBool,
    wake: Sender<usize>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.is_woken.swap(true, Relaxed) {
            _ = self.wake.send(self.task); // no receiver: the executor is gone
        }
    }
}

impl Runtime for VirtualTime {
    type Timer = Alarm;

    fn timer(&self) -> Result<Alarm, NoRuntime> {
        Ok(self.alarm())
    }
}

/// A sleep, and a stage's timer.
pub(crate) struct Alarm {
    clock: VirtualTime,
    number: u64,
    at: Option<Duration>,
    waker: Option<Waker>,
}

impl Alarm {
    fn set(&mut self, at: Option<Duration>) {
        self.forget();
        self.at = at;
        self.wake_later();
    }

    fn wake_later(&self) {
        if let (Some(at), Some(waker)) = (self.at, &self.waker) {
            self.clock.0.alarms.borrow_mut().insert((at, self.number), waker.clone());
        }
    }

    fn forget(&mut self) {
        if let Some(at) = self.at.take() {
            self.clock.0.alarms.borrow_mut().remove(&(at, self.number));
        }
    }
}

impl Future for Alarm {
    type Output = ();

    /// Ready once for each time it was set.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.at.is_some_and(|at| at <= self.clock.now()) {
            self.forget();
            return Poll::Ready(());
        }
        self.waker = Some(cx.waker().clone());
        self.wake_later();
        Poll::Pending
    }
}

impl Timer for Alarm {
    fn now(&self) -> Instant {
        Instant::ZERO + self.clock.now()
    }

    fn arm(self: Pin<&mut Self>, at: Option<Instant>) {
        let since_start = |at: Instant| Duration::from_nanos(at.as_nanos().max(0) as u64);
        self.get_mut().set(at.map(since_start));
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Future::poll(self, cx)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.forget();
    }
}

impl<F: Future + 'static> Spawner<F> for VirtualTime {
    type Handle = Handle<F::Output>;

    fn spawn(&self, future: F) -> Handle<F::Output> {
        let join = Rc::new(Join { result: RefCell::default(), waker: RefCell::default() });
        let told = Rc::clone(&join);
        let future = async move {
            let result = future.await;
            *told.result.borrow_mut() = Some(result);
            told.waker.take().into_iter().for_each(Waker::wake);
        };
        let mut tasks = self.0.tasks.borrow_mut();
        let task = tasks.len();
        let (is_woken, wake) = (AtomicBool::new(false), self.0.wake.clone());
        let waker = Arc::new(TaskWaker { task, is_woken, wake });
        Arc::clone(&waker).wake();
        tasks.push(Task { future: Some(Box::pin(future)), is_cancelled: false, waker });
        Handle { executor: self.clone(), task, join }
    }
}

/// Awaits a task. Dropping it cancels the task.
pub(crate) struct Handle<T> {
    executor: VirtualTime,
    task: usize,
    join: Rc<Join<T>>,
}

struct Join<T> {
    result: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
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
        self.executor.cancel(self.task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_clock_jumps_from_alarm_to_alarm() {
        let (clock, rang) = (VirtualTime::new(), Rc::new(RefCell::new(Vec::new())));
        let sleep = |seconds: u32| {
            let (here, rang) = (clock.clone(), Rc::clone(&rang));
            clock.spawn(async move {
                here.sleep(seconds * SECOND).await;
                rang.borrow_mut().push((seconds, here.now()));
            })
        };
        let sleeps = [3, 1, 2].map(sleep);
        let all = async move {
            for sleep in sleeps {
                sleep.await.expect("nobody cancels it");
            }
        };
        clock.run(all).expect("it ends");
        assert_eq!(*rang.borrow(), [1, 2, 3].map(|seconds| (seconds, seconds * SECOND)));
    }

    #[test]
    fn an_alarm_that_is_set_anew_forgets_the_instant_before() {
        let clock = VirtualTime::new();
        let (here, mut alarm, mut polled) = (clock.clone(), clock.sleep_until(SECOND), vec![]);
        let wait = std::future::poll_fn(move |cx| {
            polled.push(here.now());
            if polled.len() > 1 {
                return Poll::Ready(polled.clone());
            }
            assert!(Future::poll(Pin::new(&mut alarm), cx).is_pending());
            alarm.set(Some(3 * SECOND)); // and not polled again: it wakes the task of the poll before
            Poll::Pending
        });
        assert_eq!(clock.run(wait).expect("it ends"), [Duration::ZERO, 3 * SECOND]);
    }

    #[test]
    fn a_dropped_handle_cancels_its_task() {
        let (clock, held) = (VirtualTime::new(), Rc::new(()));
        let (here, in_task) = (clock.clone(), Rc::clone(&held));
        let task = clock.spawn(async move {
            here.sleep(SECOND).await;
            drop(in_task);
        });
        let here = clock.clone();
        let cancel = async move {
            here.sleep(SECOND / 2).await;
            drop(task);
            Rc::strong_count(&held)
        };
        assert_eq!(clock.run(cancel).expect("it ends"), 1);
    }

    #[test]
    fn a_wait_for_nothing_is_an_error() {
        assert!(VirtualTime::new().run(std::future::pending::<()>()).is_err());
    }
}
