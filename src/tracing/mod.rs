//! Spans and events of a stage's calls, for [`tracing`]: see [`traced`].

mod request;

use std::fmt;
use std::task::{Context, Poll};

use ::tracing::field::Empty;
use inflight_core::{
    AsyncFunction, AttemptInfo, Failure, Metrics, Outcome, TimedOutCall, TimeoutAction,
};

pub use self::request::TracedRequest;

/// The same function, with a span for each attempt. `stage` is the name of the stage; `key` gives the name of a record,
/// and is called only if a subscriber wants it.
///
/// Everything has the target `inflight`.
///
/// | | level | name | fields |
/// | --- | --- | --- | --- |
/// | span | DEBUG | `call` | `stage`, `key`, `request_id`, `attempt`, `outcome` |
/// | event in it | DEBUG | `retry` | `retry`: 1 for the first; `time_left` of the call's timeout, if it has one |
/// | event | WARN | `timeout` | `stage`, `key`, `action`: `fail`, `output` or `drop` |
///
/// A span is entered whenever its request is polled, so the request's own events are inside it; it ends with the request.
/// Its `outcome` is `ok`, `error`, or `cancelled`: dropped before it had an answer, because an attempt or the call took
/// too long, or the stage was dropped. The attempts of one call have the same `request_id`, by which their common time,
/// backoffs included, can be found. The end of a call as a whole shows in its outcome: [`trace_outcome`]. Late
/// completions show in the stage's numbers: [`TraceMetrics`].
///
/// Without a subscriber, or with one that wants none of this, `key` is not called. A disabled span then goes along with
/// each request and costs some 170 instructions an attempt (measured on x86-64, with requests that are ready at once).
///
/// ```
/// use inflight::{AsyncWait, AsyncWaitExt, Tokio, trace_outcome, traced};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), inflight::StartError> {
/// let ask = |n: &u64| std::future::ready(Ok::<_, String>(n * n));
/// let mut squares = futures::stream::iter(0..10)
///     .async_wait_with(AsyncWait::ordered(100), traced("squares", |n: &u64| *n, ask))
///     .spawn(Tokio)?;
/// while let Some(done) = squares.next().await {
///     trace_outcome("squares", done.input, &done);
/// }
/// # Ok(())
/// # }
/// ```
pub fn traced<In, K, D, F>(stage: &'static str, key: K, function: F) -> Traced<K, F>
where
    K: Fn(&In) -> D,
    D: fmt::Display,
    F: AsyncFunction<In>,
{
    Traced { stage, key, function }
}

/// A function with a span for each attempt. Returned by [`traced`].
#[derive(Clone)]
pub struct Traced<K, F> {
    stage: &'static str,
    key: K,
    function: F,
}

impl<In, K, D, F> AsyncFunction<In> for Traced<K, F>
where
    K: Fn(&In) -> D,
    D: fmt::Display,
    F: AsyncFunction<In>,
{
    type Output = F::Output;
    type Error = F::Error;
    type Future = TracedRequest<F::Future>;

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), F::Error>> {
        self.function.poll_open(cx)
    }

    fn invoke(&mut self, input: &In, attempt: AttemptInfo) -> Self::Future {
        let span = ::tracing::debug_span!(
            target: "inflight",
            "call",
            stage = self.stage,
            key = %(self.key)(input),
            request_id = attempt.request_id,
            attempt = attempt.number,
            outcome = Empty,
        );
        let request = span.in_scope(|| {
            if attempt.retry > 0 {
                let time_left = attempt.time_left.map(::tracing::field::debug);
                ::tracing::debug!(name: "retry", target: "inflight", retry = attempt.retry, time_left, "retry");
            }
            self.function.invoke(input, attempt)
        });
        TracedRequest::new(span, request)
    }

    fn on_timeout(
        &mut self,
        call: TimedOutCall<'_, In, F::Output, F::Error>,
    ) -> TimeoutAction<F::Output, F::Error> {
        let input = call.input;
        let action = self.function.on_timeout(call);
        ::tracing::warn!(
            name: "timeout",
            target: "inflight",
            stage = self.stage,
            key = %(self.key)(input),
            action = match action {
                TimeoutAction::Fail => "fail",
                TimeoutAction::FailWith(_) => "error",
                TimeoutAction::Output(_) => "output",
                TimeoutAction::Drop => "drop",
            },
            "timeout"
        );
        action
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.function.poll_close(cx)
    }
}

impl<K, F> fmt::Debug for Traced<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traced").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// Reports the end of a call, once its outcome has left the stage: the event `outcome` with the fields `stage`, `key`,
/// `outcome`, `attempts` and `elapsed` (from the first attempt on, backoffs included). DEBUG if there is an output, else
/// WARN. `outcome` is `ok`, `error`, `timed_out`, `attempt_timed_out`, `panicked`, `cancelled`,
/// `shut_down` or `wrong_answers`.
pub fn trace_outcome<In, Out, E>(stage: &str, key: impl fmt::Display, done: &Outcome<In, Out, E>) {
    let outcome = match &done.result {
        Ok(_) => "ok",
        Err(Failure::Error(_)) => "error",
        Err(Failure::TimedOut) => "timed_out",
        Err(Failure::AttemptTimedOut) => "attempt_timed_out",
        Err(Failure::Panicked) => "panicked",
        Err(Failure::Cancelled) => "cancelled",
        Err(Failure::ShutDown) => "shut_down",
        Err(Failure::WrongAnswers) => "wrong_answers",
    };
    macro_rules! tell {
        ($level:ident) => {
            ::tracing::$level!(
                name: "outcome",
                target: "inflight",
                stage,
                key = %key,
                outcome,
                attempts = done.attempts,
                elapsed = ?done.elapsed,
                "outcome"
            )
        };
    }
    match done.result {
        Ok(_) => tell!(debug),
        Err(_) => tell!(warn),
    }
}

/// Reports completions that came too late, which only a stage's numbers show.
///
/// ```
/// use inflight::{Metrics, TraceMetrics};
///
/// let mut watch = TraceMetrics::new("squares");
/// watch.look(&Metrics::default()); // of the stage or its handle, now and then
/// ```
#[derive(Clone, Debug)]
pub struct TraceMetrics {
    stage: &'static str,
    late: u64,
}

impl TraceMetrics {
    /// Watches the stage of this name.
    pub const fn new(stage: &'static str) -> Self {
        Self { stage, late: 0 }
    }

    /// Reports the late completions since the last look, if there were any: the event `late_completions`, INFO, with the
    /// fields `stage` and `count`.
    pub fn look(&mut self, now: &Metrics) {
        let count = now.late_completions.saturating_sub(self.late);
        self.late = now.late_completions;
        if count > 0 {
            ::tracing::info!(
                name: "late_completions",
                target: "inflight",
                stage = self.stage,
                count,
                "late completions"
            );
        }
    }
}
