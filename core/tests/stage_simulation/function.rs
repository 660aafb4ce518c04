//! The function of the simulated stage, and its requests: what they do is up to the script.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use inflight_core::{AsyncFunction, AttemptInfo, TimedOutCall, TimeoutAction};

use crate::model;
use crate::run::Planned;
use crate::values::Record;
use crate::watch::{Act, Watch};

pub(crate) struct Function {
    pub(crate) watch: Rc<Watch>,
}

impl AsyncFunction<Record> for Function {
    type Output = u32;
    type Error = u32;
    type Future = Request;

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), u32>> {
        self.watch.open_polled(cx)
    }

    fn invoke(&mut self, input: &Record, attempt: AttemptInfo) -> Request {
        let at = self.watch.invoked(input.number, attempt);
        let in_place = self.watch.polls_requests_in_place();
        Request { at, in_place, watch: Rc::clone(&self.watch) }
    }

    fn on_timeout(&mut self, call: TimedOutCall<'_, Record, u32, u32>) -> TimeoutAction<u32, u32> {
        match self.watch.timed_out(call.input.number, call.attempts, call.last.copied()) {
            model::TimeoutAction::Fail => TimeoutAction::Fail,
            model::TimeoutAction::FailWith(mistake) => TimeoutAction::FailWith(mistake),
            model::TimeoutAction::Output(output) => TimeoutAction::Output(output),
            model::TimeoutAction::Drop => TimeoutAction::Drop,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.close_polled(cx)
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.watch.function_dropped();
    }
}

/// The request of one attempt.
pub(crate) struct Request {
    /// Where the watch keeps it.
    pub(crate) at: usize,
    in_place: bool,
    watch: Rc<Watch>,
}

impl Future for Request {
    type Output = Result<u32, u32>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.in_place {
            self.watch.stage_polls(self.at, None);
        }
        let answer = match self.watch.request_polled(self.at, cx) {
            Act::Wait => return Poll::Pending,
            Act::Panic => resume_unwind(Box::new(Planned)),
            Act::Answer(answer) => answer,
        };
        if self.in_place {
            self.watch.stage_has_answer(self.at, Ok(answer));
        }
        Poll::Ready(answer)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.in_place {
            self.watch.stage_drops(self.at);
        }
        self.watch.request_dropped(self.at);
    }
}
