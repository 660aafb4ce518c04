//! The job: its settings, and its run.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use inflight_core::pipeline::Ended;
use inflight_core::{ExponentialBackoff, RetryStrategy, Runtime};

use crate::assignment::Assignment;
use crate::error::JobError;
use crate::event::Event;
use crate::partition::Partition;
use crate::running::{End, Running};
use crate::view::{JobHandle, Shared};

/// A job over the partitions of a log: see the [crate's page](crate).
pub struct Partitions<
    A: Assignment,
    R = ExponentialBackoff,
    L = fn(Event<'_, <A as Assignment>::Partition>),
> {
    assignment: A,
    restart: R,
    hand_over_within: Duration,
    listener: L,
    shared: Arc<Shared<A::Partition>>,
}

impl<A: Assignment> Partitions<A> {
    /// Makes a job over the partitions that the engine assigns to this worker.
    pub fn new(assignment: A) -> Self {
        const INITIAL: Duration = Duration::from_millis(100);
        const LONGEST: Duration = Duration::from_secs(30);
        let restart = ExponentialBackoff::new(INITIAL).max_delay(LONGEST).jitter(0.5, 0);
        Self {
            assignment,
            restart: restart.max_retries(u32::MAX),
            hand_over_within: Duration::from_secs(30),
            listener: |_| {},
            shared: Shared::new(),
        }
    }
}

impl<A: Assignment, R, L> Partitions<A, R, L> {
    /// Sets when a partition whose pipeline has failed starts again; by default after 0.1 s, and after twice as long each time up to
    /// 30 s, less up to half of it, without an end. The count of failures begins anew when a pipeline has run for a minute.
    ///
    /// A pipeline that was fenced starts again like one that has failed, as long as the engine says that the partition is this worker's.
    /// If the strategy gives a partition up, the job hands over all of them and ends with [`JobError::Partition`].
    #[must_use]
    pub fn restart_after<Q>(self, strategy: Q) -> Partitions<A, Q, L> {
        let Self { assignment, hand_over_within, listener, shared, .. } = self;
        Partitions { assignment, restart: strategy, hand_over_within, listener, shared }
    }

    /// Bounds the time of a partition's hand-over, 30 s by default. Then its pipeline is dropped, which is a crash and therefore safe
    /// (K10): the worker that has the partition next does again what was not committed.
    #[must_use]
    pub fn hand_over_within(mut self, limit: Duration) -> Self {
        self.hand_over_within = limit;
        self
    }

    /// Calls `listener` with the news of each partition.
    #[must_use]
    pub fn on_event<M: FnMut(Event<'_, A::Partition>)>(self, listener: M) -> Partitions<A, R, M> {
        let Self { assignment, restart, hand_over_within, shared, .. } = self;
        Partitions { assignment, restart, hand_over_within, listener, shared }
    }

    /// Returns a handle that looks at the job, or makes this worker leave, from any thread.
    pub fn handle(&self) -> JobHandle<A::Partition> {
        JobHandle(Arc::clone(&self.shared))
    }

    /// Runs the job: calls `function` for each partition that is assigned, and polls the futures that it returns, until this worker
    /// [leaves](JobHandle::leave), or the engine has no more changes and all partitions have ended.
    ///
    /// `function` makes the partition's [pipeline](Partition::pipeline) and runs it. It is called again for the partition's next life
    /// after a failure, so it makes everything anew: source, sink and store.
    ///
    /// All partitions are polled by this one future, which spawns nothing. Stages that say `.spawn(..)` run on tasks of their own.
    ///
    /// # Errors
    ///
    /// [`JobError`]. A partition's failure is none: it starts again.
    ///
    /// # Panics
    ///
    /// If `function` or a pipeline panics. The effect is that of a crash of this worker.
    ///
    /// # Cancellation
    ///
    /// Dropping the future has the effect of a crash of this worker: nothing is handed over, and the engine finds out by itself.
    pub async fn run<Rt, F, E>(self, runtime: Rt, function: F) -> Result<(), JobError<A::Error>>
    where
        Rt: Runtime,
        R: RetryStrategy<A::Partition, (), E>,
        L: FnMut(Event<'_, A::Partition>),
        F: AsyncFn(Partition<A::Partition>) -> Result<Ended, E>,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.restart.check().map_err(JobError::Config)?;
        let timer = runtime.timer().map_err(JobError::NoRuntime)?;
        let Self { assignment, restart, hand_over_within, listener, shared } = self;
        let start = |partition| function(partition);
        let mut running =
            Running::new(assignment, restart, hand_over_within, listener, start, shared);
        let mut timer = pin!(timer);
        let end = poll_fn(|cx| running.poll(cx, timer.as_mut())).await;
        if let Some(End::Assignment(error)) = end {
            return Err(JobError::Assignment(error)); // there is nobody to tell
        }
        // P4: it comes last. An engine that misses a worker gives its partitions to others, which fence it.
        let left = running.assignment.leave().await;
        match end {
            Some(End::GaveUp { partition, error }) => Err(JobError::Partition { partition, error }),
            _ => left.map_err(JobError::Leave),
        }
    }
}

impl<A: Assignment + fmt::Debug, R: fmt::Debug, L> fmt::Debug for Partitions<A, R, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Partitions");
        shown.field("assignment", &self.assignment).field("restart", &self.restart);
        shown.field("hand_over_within", &self.hand_over_within).finish_non_exhaustive()
    }
}
