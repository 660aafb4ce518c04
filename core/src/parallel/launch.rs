//! The way of requests to the instances' tasks, and the stage's end of a request there.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::OnceCell;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use super::reply::{Awaited, reply};
use super::task::Instance;
use super::{InstanceTask, Loads, OnInstance};
use crate::outcome::Failure;
use crate::runtime::{RunRequest, Runtime, Spawner, sealed};

/// Attempts run on the tasks of a stage's instances, spawned by an `S` with handles of type `H`.
pub struct OnInstances<F: Future, S, H> {
    runtime: S,
    /// The most requests that run at once.
    capacity: usize,
    /// A task starts with its first request.
    tasks: Box<[OnceCell<Running<F, H>>]>,
    loads: Arc<Loads>,
    /// The instances were asked whether their requests are settled, and not all have answered.
    is_asking: bool,
}

struct Running<F: Future, H> {
    instance: Arc<Instance<F>>,
    /// Dropping it cancels the task (L2).
    _task: H,
}

impl<F: Future, S, H> OnInstances<F, S, H> {
    pub(super) fn new(runtime: S, capacity: usize, loads: Arc<Loads>) -> Self {
        let tasks = loads.0.iter().map(|_| OnceCell::new()).collect();
        Self { runtime, capacity, tasks, loads, is_asking: false }
    }
}

impl<F, Out, E, S> RunRequest<OnInstance<F>, Out, E> for OnInstances<F, S, S::Handle>
where
    F: Future<Output = Result<Out, E>>,
    S: Runtime + Spawner<InstanceTask<F, <S as Runtime>::Timer>>,
{
    type Request = RequestOnInstance<F>;

    fn launch(&self, make: impl FnOnce() -> OnInstance<F>) -> RequestOnInstance<F> {
        let OnInstance { instance: number, request } = make();
        let running = self.tasks[number].get_or_init(|| {
            let (task, instance) = InstanceTask::new(self.capacity);
            Running { instance, _task: self.runtime.spawn(task) }
        });
        let (replier, awaited) = reply();
        running.instance.start(request, replier);
        self.loads.add(number);
        let (instance, loads) = (Arc::clone(&running.instance), Arc::clone(&self.loads));
        RequestOnInstance { awaited, instance, number, loads }
    }

    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let running = self.tasks.iter().filter_map(OnceCell::get);
        if !core::mem::replace(&mut self.is_asking, true) {
            running.clone().for_each(|running| running.instance.ask_if_settled());
        }
        for running in running {
            if !running.instance.poll_settled(cx.waker()) {
                return Poll::Pending;
            }
        }
        self.is_asking = false;
        Poll::Ready(())
    }
}

impl<F: Future, S, H> sealed::Sealed for OnInstances<F, S, H> {}

impl<F: Future, S, H> fmt::Debug for OnInstances<F, S, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.tasks.len();
        f.debug_struct("OnInstances").field("instances", &count).finish_non_exhaustive()
    }
}

/// A request that runs on an instance's task. Dropping it cancels the request.
pub struct RequestOnInstance<F: Future> {
    awaited: Awaited<F::Output>,
    instance: Arc<Instance<F>>,
    number: usize,
    loads: Arc<Loads>,
}

impl<F, Out, E> Future for RequestOnInstance<F>
where
    F: Future<Output = Result<Out, E>>,
{
    type Output = Result<Out, Failure<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.awaited.poll(cx)) {
            Some(answer) => answer.map_err(Failure::Error),
            // F3: as when the stage polls the request itself. All that this instance was doing is lost.
            None if self.instance.has_panicked() => panic!("an instance of the stage has panicked"),
            None => Err(Failure::Cancelled),
        })
    }
}

// The request itself is on the other task.
impl<F: Future> Unpin for RequestOnInstance<F> {}

impl<F: Future> Drop for RequestOnInstance<F> {
    fn drop(&mut self) {
        self.loads.remove(self.number);
    }
}

impl<F: Future> fmt::Debug for RequestOnInstance<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestOnInstance").field("instance", &self.number).finish_non_exhaustive()
    }
}
