//! The stage: the operator together with a source, a function, a table of requests and a timer.
//!
//! ```text
//! source.rs --elements--> Operator --attempts--> function --requests--> requests/
//!                            ^                                             | woken, polled (turn.rs)
//! the consumer <--sink------ drive.rs <----outputs----+---- completions <--+
//!   (stream.rs, task.rs, run.rs)         alarm.rs ----+---- deadlines
//! ```
//!
//! `pace.rs` says how much of all that is done at a time.

mod alarm;
mod async_wait;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
mod barriers;
#[cfg(not(all(feature = "alloc", feature = "checkpoint")))]
#[path = "barriers_without.rs"]
mod barriers;
mod bypass;
mod drive;
mod error;
mod function;
#[cfg(feature = "alloc")]
mod handle;
mod job;
mod pace;
#[cfg(feature = "alloc")]
mod permits;
#[cfg(not(feature = "alloc"))]
#[path = "permits_without.rs"]
mod permits;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
mod position_ids;
mod request_for;
#[cfg(feature = "checkpoint")]
mod restore;
#[cfg(feature = "alloc")]
mod ring;
mod run;
mod source;
mod start;
mod stream;
mod tables;
#[cfg(feature = "alloc")]
mod task;
mod turn;
mod unstarted;
#[cfg(feature = "alloc")]
mod window;

use core::fmt;
use core::pin::Pin;
use core::time::Duration;

use pin_project_lite::pin_project;

use self::alarm::Alarm;
pub use self::async_wait::AsyncWaitExt;
pub use self::error::{StageError, StartError};
#[cfg(feature = "alloc")]
pub use self::handle::StageHandle;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub use self::job::PositionsOnly;
#[cfg(feature = "alloc")]
pub(crate) use self::job::{FutureOf, job_around};
pub use self::job::{InBatches, Job, SpawningRequests};
use self::pace::Pace;
use self::permits::Share;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub use self::position_ids::WithPositionIds;
#[cfg(feature = "alloc")]
pub(crate) use self::request_for::ForRecord;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub(crate) use self::restore::Keeps;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub use self::restore::Recovery;
#[cfg(feature = "checkpoint")]
pub use self::restore::Restore;
#[cfg(feature = "alloc")]
pub use self::ring::SpawnedStage;
pub use self::run::Run;
use self::source::Source;
pub use self::start::StageBuilder;
pub use self::stream::Next;
use self::tables::StageTables;
#[cfg(feature = "alloc")]
pub use self::task::Driver;
#[cfg(feature = "alloc")]
pub use self::window::Window;
use crate::config_error::ConfigError;
use crate::operator::{Call, Cell, Metrics, Operator};
use crate::requests::StageStorage;
use crate::runtime::Timer;
use crate::time::Instant;

/// The operator of a stage.
type OperatorOf<J, S> = Operator<
    J,
    StageTables<
        <S as StageStorage>::Storage,
        <J as Call>::Input,
        <J as Call>::Key,
        <J as Job>::Kind,
    >,
>;

pin_project! {
    /// A stage that its consumer drives by polling it: a stream of outcomes.
    ///
    /// Requests make progress only while the stream is polled. A consumer that awaits something else
    /// between two outcomes holds them up, and their timeouts run: prefer a stage on a task of its
    /// own ([`spawn`](crate::StageBuilder::spawn)), or [`run`](Self::run), unless the consumer does nothing but poll.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use std::future::ready;
    ///
    /// use futures_lite::{future::block_on, stream};
    /// use inflight_core::{AsyncWait, AsyncWaitExt};
    /// # use inflight_core::{Instant, NoRuntime, Runtime, Timer};
    /// # use std::{pin::Pin, task::{Context, Poll}};
    /// # #[derive(Clone, Copy)] struct Still;
    /// # impl Runtime for Still { type Timer = Self; fn timer(&self) -> Result<Self, NoRuntime> { Ok(Self) } }
    /// # impl Timer for Still {
    /// #     fn now(&self) -> Instant { Instant::ZERO }
    /// #     fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}
    /// #     fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
    /// # }
    /// # let runtime = Still;
    ///
    /// let square = |number: &u32| ready(Ok::<_, ()>(number * number));
    /// let mut stage =
    ///     stream::iter([2, 3, 4]).async_wait(AsyncWait::ordered(8), square).in_place(runtime)?;
    /// let mut squares = Vec::new();
    /// while let Some(done) = block_on(stage.next()) {
    ///     squares.extend(done.ok());
    /// }
    /// assert_eq!(squares, [4, 9, 16]);
    /// assert_eq!(stage.metrics().emitted, 3);
    /// assert_eq!(stage.end(), Some(Ok(())));
    /// # }
    /// # Ok::<_, inflight_core::StartError>(())
    /// ```
    ///
    /// Dropping it cancels everything in flight (L2). If the function's opening fails, the stream ends at once
    /// and [`end`](Self::end) says why.
    ///
    /// # Panics
    ///
    /// A panic in a request comes out of `poll_next`. Polling again after it may still hand out outcomes that were complete, and
    /// then panics: the other records in flight are lost, and that must not look like the end of the stream.
    #[must_use = "a stage does nothing unless it is polled"]
    pub struct Stage<J, T, S>
    where
        J: Job,
        S: StageStorage,
    {
        #[pin]
        source: Source<J::Source>,
        #[pin]
        alarm: Alarm<T>,
        operator: OperatorOf<J, S>,
        function: J::Function,
        // Whether the opening or closing of the function has to be polled.
        function_woken: bool,
        run_request: J::RunRequest,
        #[pin]
        requests: S::Requests<J::Request>,
        // Behind the requests, so that permits go back when these are dropped.
        share: Share,
        life: Life,
        failure: Option<StageError<J::Error>>,
        stop: Option<Stop<OperatorOf<J, S>>>,
        pace: Pace,
        // True during a turn. True when a turn begins: the turn before has panicked.
        in_turn: bool,
    }
}

/// How far a stage is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// The function is being opened.
    Opening,
    Running,
    /// Everything has left, or opening has failed; the function is being closed.
    Closing,
    Ended,
}

/// A stop that was asked for. The stage takes no more input.
enum Stop<O> {
    /// Calls in flight have this long to finish, from the next turn on.
    Asked(Option<(Duration, ShutDown<O>)>),
    /// They have until this instant.
    Until(Instant, ShutDown<O>),
}

/// [`Operator::shut_down`], as a pointer: so a program that never says `stop_within` does not pay for it in flash.
type ShutDown<O> = fn(&mut O, Instant);

impl<J: Job, T: Timer, S: StageStorage> Stage<J, T, S> {
    #[inline(always)] // it has one caller, and a stage is large to be moved
    fn new(
        source: Source<J::Source>,
        operator: OperatorOf<J, S>,
        function: J::Function,
        run_request: J::RunRequest,
        timer: T,
        requests: S::Requests<J::Request>,
        share: Share,
    ) -> Self {
        Self {
            source,
            alarm: Alarm::new(timer),
            operator,
            function,
            function_woken: true,
            run_request,
            requests,
            share,
            life: Life::Opening,
            failure: None,
            stop: None,
            pace: Pace::new(),
            in_turn: false,
        }
    }

    /// Starts no attempt until [`resume`](Self::resume) is called (A2). Attempts that run go on when the stage is polled, and records are
    /// taken in while there is room. No retry is used up, and the time of no call passes whose attempt is not running.
    ///
    /// A paused stage ends by [`stop`](Self::stop) only when it is resumed, if records wait for an attempt;
    /// [`stop_within`](Self::stop_within) ends it without.
    pub fn pause(self: Pin<&mut Self>) {
        let this = self.project();
        this.pace.forbid_bypass();
        this.operator.pause(this.alarm.now());
    }

    /// Ends a [`pause`](Self::pause). Poll the stream for the attempts that start then.
    pub fn resume(self: Pin<&mut Self>) {
        let this = self.project();
        this.operator.resume(this.alarm.now());
    }

    /// The stage's numbers (M1). O(n) in the records in flight, for the age of the oldest.
    pub fn metrics(&self) -> Metrics {
        let metrics = self.operator.metrics(self.alarm.now());
        #[cfg(feature = "alloc")]
        let metrics = Metrics { slow_turns: self.pace.slow_turns(), ..metrics };
        metrics
    }

    /// The stage's window (M2): the state of each record in flight, as [`Operator::window`] tells it.
    pub fn window(&self) -> impl Iterator<Item = Cell> {
        self.operator.window(self.alarm.now())
    }
}

impl<J: Job, T, S: StageStorage> Stage<J, T, S> {
    /// How the stream ended, once it has: `Err` if the function could not be opened, or a failure has ended the job.
    pub fn end(&self) -> Option<Result<(), &StageError<J::Error>>> {
        (self.life == Life::Ended).then(|| self.failure.as_ref().map_or(Ok(()), Err))
    }

    /// Changes how many records may be in flight. A lower capacity takes effect as records leave (C8).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when it is zero, or more than the policy's
    /// [`max_capacity`](crate::AsyncWait::max_capacity).
    pub fn set_capacity(self: Pin<&mut Self>, capacity: usize) -> Result<(), ConfigError> {
        let this = self.project();
        this.pace.forbid_bypass(); // there may be no room any more
        this.operator.set_capacity(capacity)
    }

    /// Changes how many attempts may run at once. A lower limit takes effect as attempts end (C8).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when it is zero.
    pub fn set_max_running(self: Pin<&mut Self>, attempts: usize) -> Result<(), ConfigError> {
        let this = self.project();
        this.pace.forbid_bypass();
        this.operator.set_max_running(attempts)
    }

    /// Takes no more input from the next poll on. Calls in flight finish, their outcomes come out, and
    /// the stream ends (L3). The source is dropped with what it holds, unless it was lent
    /// (`AsyncWaitExt::lend`, feature `alloc`).
    pub fn stop(self: Pin<&mut Self>) {
        self.ask_to_stop(None);
    }

    /// The same within `limit`: calls that have no outcome by then fail with [`Failure::ShutDown`](crate::Failure::ShutDown).
    pub fn stop_within(self: Pin<&mut Self>, limit: Duration) {
        self.ask_to_stop(Some((limit, Operator::shut_down)));
    }

    fn ask_to_stop(self: Pin<&mut Self>, limit: Option<(Duration, ShutDown<OperatorOf<J, S>>)>) {
        let this = self.project();
        *this.stop = Some(Stop::Asked(limit));
        this.pace.forbid_bypass();
    }
}

impl<J: Job, T, S: StageStorage> fmt::Debug for Stage<J, T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("operator", &self.operator).finish_non_exhaustive()
    }
}
