//! An executor written by hand: one thread, a queue of tasks, a list of alarms.
//!
//! For inflight it needs only the three traits at the end.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use inflight::{JoinError, NoRuntime, Runtime, Spawner, Timer};

/// The executor. Clones share it.
#[derive(Clone, Default)]
pub struct Executor(Arc<Shared>);

#[derive(Default)]
struct Shared {
    todo: Mutex<Todo>,
    changed: Condvar,
}

#[derive(Default)]
struct Todo {
    /// Tasks that were woken.
    ready: VecDeque<Arc<Task>>,
    main_woken: bool,
    /// A number identifies each alarm, because several can be due at the same instant.
    alarms: BTreeMap<(Instant, u64), Waker>,
    next_alarm: u64,
}

/// A panic under the lock leaves the state valid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor {
    /// Runs `main` to its end on this thread, and the tasks beside it.
    pub fn block_on<F: Future>(&self, main: F) -> F::Output {
        let waker = Waker::from(Arc::new(Main(Arc::clone(&self.0))));
        let mut main = pin!(main);
        lock(&self.0.todo).main_woken = true;
        loop {
            let (main_woken, task) = self.0.wait();
            if main_woken
                && let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return output;
            }
            if let Some(task) = task {
                task.poll();
            }
        }
    }
}

impl Shared {
    /// Sleeps until there is work: returns whether the main future was woken, and a task.
    fn wait(&self) -> (bool, Option<Arc<Task>>) {
        let mut todo = lock(&self.todo);
        loop {
            let now = Instant::now();
            let behind = todo.alarms.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut todo.alarms, behind);
            if !due.is_empty() {
                drop(todo); // wakers take the lock
                due.into_values().for_each(Waker::wake);
                todo = lock(&self.todo);
            }
            let task = todo.ready.pop_front();
            let main_woken = std::mem::take(&mut todo.main_woken);
            if main_woken || task.is_some() {
                return (main_woken, task);
            }
            let unpoisoned = PoisonError::into_inner;
            todo = match todo.alarms.first_key_value() {
                Some((&(at, _), _)) => {
                    let left = at.saturating_duration_since(Instant::now());
                    self.changed.wait_timeout(todo, left).map_or_else(|e| e.into_inner().0, |r| r.0)
                }
                None => self.changed.wait(todo).unwrap_or_else(unpoisoned),
            };
        }
    }

    fn wake(&self, wake: impl FnOnce(&mut Todo)) {
        wake(&mut lock(&self.todo));
        self.changed.notify_one();
    }
}

/// The main future's waker.
struct Main(Arc<Shared>);

impl Wake for Main {
    fn wake(self: Arc<Self>) {
        self.0.wake(|todo| todo.main_woken = true);
    }
}

struct Task {
    /// `None` when the task is over.
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    is_queued: AtomicBool,
    is_cancelled: AtomicBool,
    shared: Arc<Shared>,
}

impl Task {
    fn poll(self: Arc<Self>) {
        self.is_queued.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self));
        let mut place = lock(&self.future);
        let Some(future) = place.as_mut() else { return };
        let is_over = self.is_cancelled.load(Ordering::SeqCst)
            || future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let over = if is_over { place.take() } else { None };
        drop(place); // the drop may wake this task
        drop(over);
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::SeqCst) {
            let shared = Arc::clone(&self.shared);
            shared.wake(|todo| todo.ready.push_back(self));
        }
    }
}

/// The result of a task, for the future that awaits it.
struct Join<T>(Mutex<(Option<Result<T, JoinError>>, Option<Waker>)>);

impl<T> Join<T> {
    fn end(&self, result: Result<T, JoinError>) {
        let waker = {
            let mut join = lock(&self.0);
            join.0.get_or_insert(result);
            join.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Reports a cancellation if the task has reported nothing before.
struct End<T>(Arc<Join<T>>);

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.0.end(Err(JoinError::Cancelled));
    }
}

/// A task; dropping it cancels the task. The executor drops the task's future when its turn comes.
pub struct Handle<T> {
    join: Arc<Join<T>>,
    task: Arc<Task>,
}

impl<T> Future for Handle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut join = lock(&self.join.0);
        match join.0.take() {
            Some(result) => Poll::Ready(result),
            None => {
                join.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        self.task.is_cancelled.store(true, Ordering::SeqCst);
        Arc::clone(&self.task).wake();
    }
}

// The traits that make the executor a runtime for inflight.

impl Runtime for Executor {
    type Timer = Alarm;

    fn timer(&self) -> Result<Alarm, NoRuntime> {
        Ok(Alarm { shared: Arc::clone(&self.0), start: Instant::now(), at: None, set: None })
    }
}

impl<F> Spawner<F> for Executor
where
    F: Future<Output: Send> + Send + 'static,
{
    type Handle = Handle<F::Output>;

    fn spawn(&self, future: F) -> Handle<F::Output> {
        let join = Arc::new(Join(Mutex::new((None, None))));
        let end = End(Arc::clone(&join));
        let run = async move {
            let end = end; // declared after the future, and so dropped after it
            let mut future = Box::pin(future);
            let caught = std::future::poll_fn(|cx| {
                // The task's handle reports a panic, which has no effect on other tasks.
                let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
                polled.map_or_else(
                    |panic: Box<dyn Any + Send>| Poll::Ready(Err(panic)),
                    |p| p.map(Ok),
                )
            });
            let result = caught.await.map_err(|_| JoinError::Panicked);
            drop(future);
            end.0.end(result);
        };
        let task = Arc::new(Task {
            future: Mutex::new(Some(Box::pin(run))),
            is_queued: AtomicBool::new(false),
            is_cancelled: AtomicBool::new(false),
            shared: Arc::clone(&self.0),
        });
        Arc::clone(&task).wake();
        Handle { join, task }
    }
    fn catch(&self, make: impl FnOnce() -> F) -> Result<F, JoinError> {
        catch_unwind(AssertUnwindSafe(make)).map_err(|_panic| JoinError::Panicked)
    }
}

/// A clock that starts with the timer, and one alarm.
pub struct Alarm {
    shared: Arc<Shared>,
    start: Instant,
    /// `None` when it is not armed.
    at: Option<Instant>,
    /// Its number in the executor's list.
    set: Option<(Instant, u64)>,
}

impl Alarm {
    fn clear(&mut self) {
        if let Some(set) = self.set.take() {
            lock(&self.shared.todo).alarms.remove(&set);
        }
    }
}

impl Timer for Alarm {
    fn now(&self) -> inflight::Instant {
        inflight::Instant::ZERO + self.start.elapsed()
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<inflight::Instant>) {
        self.clear();
        // An instant beyond the system's clock never comes.
        self.at = at.and_then(|at| self.start.checked_add(at - inflight::Instant::ZERO));
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.clear();
        let Some(at) = self.at else { return Poll::Pending };
        if at <= Instant::now() {
            self.at = None;
            return Poll::Ready(());
        }
        let mut set = (at, 0);
        self.shared.wake(|todo| {
            todo.next_alarm += 1;
            set.1 = todo.next_alarm;
            todo.alarms.insert(set, cx.waker().clone());
        });
        self.set = Some(set);
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
    }
}
