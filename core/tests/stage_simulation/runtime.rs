//! The virtual runtime: what a stage needs, over the virtual clock and the executor.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use inflight_core::{Instant, JoinError, NoRuntime, Runtime, Spawner, Timer};

use crate::clock::{Alarm, Clock};
use crate::executor::{Executor, Handle, Role};
use crate::function::Request;
use crate::watch::Watch;

#[derive(Clone)]
pub(crate) struct Virtual {
    pub(crate) clock: Rc<Clock>,
    pub(crate) executor: Rc<Executor>,
    pub(crate) watch: Rc<Watch>,
}

impl Runtime for Virtual {
    type Timer = VirtualTimer;

    fn timer(&self) -> Result<VirtualTimer, NoRuntime> {
        let (clock, watch) = (Rc::clone(&self.clock), Rc::clone(&self.watch));
        Ok(VirtualTimer { alarm: clock.alarm(), clock, watch })
    }
}

/// Runs the stage.
impl<F> Spawner<F> for Virtual
where
    F: Future + 'static,
{
    type Handle = Handle<F::Output>;

    fn spawn(&self, future: F) -> Self::Handle {
        self.executor.spawn(Role::Stage, future)
    }
}

pub(crate) struct VirtualTimer {
    clock: Rc<Clock>,
    alarm: Rc<Alarm>,
    watch: Rc<Watch>,
}

impl Timer for VirtualTimer {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.now())
    }

    fn arm(self: Pin<&mut Self>, at: Option<Instant>) {
        let at = at.map(Instant::as_nanos);
        self.watch.timer_armed(at);
        self.alarm.set(at);
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.alarm.is_set_to();
        let polled = self.alarm.poll(&self.clock, cx);
        if let (Poll::Ready(()), Some(at)) = (polled, at) {
            self.watch.timer_fired(at);
        }
        polled
    }
}

impl Drop for VirtualTimer {
    fn drop(&mut self) {
        self.alarm.set(None);
    }
}

/// Runs requests.
#[derive(Clone)]
pub(crate) struct Tasks(pub(crate) Virtual);

impl Spawner<Request> for Tasks {
    type Handle = RequestHandle;

    fn spawn(&self, request: Request) -> RequestHandle {
        let (at, watch) = (request.at, Rc::clone(&self.0.watch));
        let handle = self.0.executor.spawn(Role::Request, request);
        watch.request_spawned(at, handle.task());
        RequestHandle { handle, at, watch }
    }
}

/// What the stage holds of a request on a task of its own.
pub(crate) struct RequestHandle {
    handle: Handle<Result<u32, u32>>,
    at: usize,
    watch: Rc<Watch>,
}

impl Future for RequestHandle {
    type Output = Result<Result<u32, u32>, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.watch.stage_polls(self.at, Some(self.handle.is_finished()));
        let polled = Pin::new(&mut self.handle).poll(cx);
        if let Poll::Ready(joined) = &polled {
            self.watch.stage_has_answer(self.at, *joined);
        }
        polled
    }
}

impl Drop for RequestHandle {
    fn drop(&mut self) {
        self.watch.stage_drops(self.at);
    }
}
