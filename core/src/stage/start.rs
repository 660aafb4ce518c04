//! The way from a stream, a policy and a function to a stage.

use core::fmt;
use core::marker::PhantomData;

#[cfg(feature = "checkpoint")]
use serde::Serialize;
#[cfg(feature = "checkpoint")]
use serde::de::DeserializeOwned;

use super::barriers::Seat;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use super::job::PositionsOnly;
use super::permits::Share;
use super::request_for::RequestFor;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use super::restore::Recovery;
#[cfg(feature = "checkpoint")]
use super::restore::Restore;
#[cfg(feature = "alloc")]
use super::ring::ring;
use super::source::Source;
#[cfg(feature = "alloc")]
use super::{Driver, SpawnedStage};
use super::{Job, SpawningRequests, Stage, StartError};
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use crate::barrier_signal::BarrierSignal;
#[cfg(feature = "alloc")]
use crate::config_error::ConfigError;
#[cfg(feature = "alloc")]
use crate::operator::OutcomeOf;
use crate::operator::{Checkpointing, Operator};
use crate::outcome::Failure;
#[cfg(feature = "alloc")]
use crate::permits::Permits;
use crate::policy::{AsyncWait, Extras};
use crate::requests::StageStorage;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use crate::requests::{Requests as _, StageWaker};
use crate::retry::RetryStrategy as _;
#[cfg(feature = "checkpoint")]
use crate::runtime::Timer as _;
use crate::runtime::{InPlace, Runtime, SpawnEach, Spawner};
use crate::stage::job::{FutureOf, RequestForOf};
#[cfg(feature = "alloc")]
use crate::storage::Heap;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use crate::storage::Storage;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use crate::tracked::Tracked;

/// A stage that has everything but a runtime: [`async_wait`](crate::AsyncWaitExt::async_wait) makes it. It is not a stream yet.
///
/// Settings that are not the policy's come here, and then the way in which the stage runs:
///
/// | it runs | as |
/// | --- | --- |
/// | on a task of its own | `.spawn(Tokio)?`: a `SpawnedStage` |
/// | in the consumer's task, which polls it | `.in_place(Tokio)?`: a [`Stage`] |
/// | the same without a heap | [`.in_place_over(Embassy, Fixed::<16>)?`](Self::in_place_over) |
/// | in the consumer's task, as one future with the consumer | `.in_place(Tokio)?`, then [`.run(..)`](Stage::run) |
///
/// ```
/// # #[cfg(feature = "alloc")]
/// # fn stage<Rt>(
/// #     ids: impl futures_core::Stream<Item = u64> + Unpin,
/// #     runtime: Rt,
/// # ) -> Result<impl futures_core::Stream, Box<dyn std::error::Error>>
/// # where
/// #     Rt: inflight_core::Runtime<Timer: Unpin>,
/// # {
/// use inflight_core::{AsyncWait, AsyncWaitExt, Failure, Permits};
///
/// # async fn name_of(id: u64) -> Result<String, u16> { Ok(id.to_string()) }
/// let connections = Permits::new(20)?; // other stages share them
/// let stage = ids
///     .async_wait_owned(AsyncWait::ordered(100), name_of)
///     .permits(&connections)
///     .fail_fast(|failure| matches!(failure, Failure::Error(401)))
///     .in_place(runtime)?;
/// # Ok(stage)
/// # }
/// ```
#[must_use = "a stage needs a runtime: say `.spawn(..)?` or `.in_place(..)?`"]
// The compiler shows the first line when a method of streams is called on it.
#[rustfmt::skip] // it would move the comment
pub struct StageBuilder<'c, J: Job> { // not a stream yet: start it with `.spawn(Tokio)?` or `.in_place(Tokio)?`
    source: J::Source,
    policy: AsyncWait<J::Retry, J::Key, J::Extras>,
    function: J::Function,
    run_request: J::RunRequest,
    checkpointing: Option<Checkpointing<J::Input, J::Output, J::Error>>,
    #[cfg(feature = "checkpoint")]
    restore: Restore<'c>,
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    barriers: Option<&'c BarrierSignal>,
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    keeps_nothing: bool,
    fail_fast: Option<fn(&Failure<J::Error>) -> bool>,
    #[cfg(feature = "alloc")]
    permits: Option<Permits>,
    /// A setting outside of the policy that makes no sense.
    #[cfg(feature = "alloc")]
    refused: Option<ConfigError>,
    /// Of the checkpoint that it restores.
    lifetime: PhantomData<&'c ()>,
}

impl<'c, J: Job> StageBuilder<'c, J> {
    pub(super) fn new(
        source: J::Source,
        policy: AsyncWait<J::Retry, J::Key, J::Extras>,
        function: J::Function,
    ) -> Self
    where
        J::RunRequest: Default,
    {
        Self::with_run_request(source, policy, function, J::RunRequest::default())
    }

    /// A stage whose requests run as `run_request` says.
    pub(crate) fn with_run_request(
        source: J::Source,
        policy: AsyncWait<J::Retry, J::Key, J::Extras>,
        function: J::Function,
        run_request: J::RunRequest,
    ) -> Self {
        const { has_fitting_policy::<J>() };
        Self {
            source,
            policy,
            function,
            run_request,
            checkpointing: None,
            #[cfg(feature = "checkpoint")]
            restore: Restore::NOTHING,
            #[cfg(all(feature = "alloc", feature = "checkpoint"))]
            barriers: None,
            #[cfg(all(feature = "alloc", feature = "checkpoint"))]
            keeps_nothing: false,
            fail_fast: None,
            #[cfg(feature = "alloc")]
            permits: None,
            #[cfg(feature = "alloc")]
            refused: None,
            lifetime: PhantomData,
        }
    }

    /// Lets starting the stage fail (C1).
    #[cfg(feature = "alloc")]
    pub(crate) fn refused(mut self, error: ConfigError) -> Self {
        self.refused = Some(error);
        self
    }

    /// Lets the stage take a snapshot for each barrier, under the name `name`. `schema` is the
    /// version of the record's serialised form: raise it when that changes.
    ///
    /// A call that is done but not handed on is kept as its input, and called anew after a restore. To keep
    /// its result, or to read records of an older version, say
    /// [`checkpointed_with`](Self::checkpointed_with).
    #[cfg(feature = "checkpoint")]
    pub fn checkpointed(self, name: &'static str, schema: u32) -> Self
    where
        J::Input: Serialize + DeserializeOwned,
    {
        self.checkpointed_with(Checkpointing::new(name, schema))
    }

    /// Lets the stage take a snapshot for each barrier, as `how` says. A second call replaces the first.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")]
    /// # fn stage<S: futures_core::Stream<Item = inflight_core::StreamElement<u32>>>(
    /// #     ids: S, runtime: impl inflight_core::Runtime
    /// # ) -> Result<(), inflight_core::StartError> {
    /// use inflight_core::{AsyncWait, AsyncWaitExt, Checkpointing};
    ///
    /// let stage = ids
    ///     .async_wait(AsyncWait::ordered(64), |id: &u32| {
    ///         let id = *id;
    ///         async move { Ok::<u32, u8>(2 * id) }
    ///     })
    ///     .checkpointed_with(Checkpointing::new("lookup", 1).keeping_results())
    ///     .in_place(runtime)?;
    /// # drop(stage);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Results cannot be kept where nothing is:
    ///
    /// ```compile_fail,E0599
    /// # fn stage<S: futures_core::Stream<Item = inflight_core::StreamElement<u32>>>(ids: S) {
    /// use inflight_core::{AsyncWait, AsyncWaitExt};
    ///
    /// let lookup = |id: &u32| core::future::ready(Ok::<u32, u8>(2 * *id));
    /// let stage = ids.async_wait(AsyncWait::ordered(64), lookup).keeping_results();
    /// # }
    /// ```
    #[cfg(feature = "checkpoint")]
    pub fn checkpointed_with(mut self, how: Checkpointing<J::Input, J::Output, J::Error>) -> Self {
        self.checkpointing = Some(how);
        self
    }

    /// Takes up the elements that were in flight when the checkpoint was taken, before any new input (K5). `None` starts
    /// with nothing in flight.
    ///
    /// In a [pipeline](crate::pipeline) every stage is given the pipeline's [`Recovery`](crate::Recovery), which connects it with the
    /// pipeline's barriers as well. A stage that the checkpoint does not know is new, and starts empty (K17). A checkpoint alone
    /// must have a section of the stage's name.
    #[cfg(feature = "checkpoint")]
    pub fn restore(mut self, from: impl Into<Restore<'c>>) -> Self {
        self.restore = from.into();
        self
    }

    /// Lets announced barriers through when the stage has no room for records (K11), and tells the signal of progress (K13). In a
    /// pipeline, [`restore`](Self::restore) does this. A stage in place, without a heap, has no room beyond its capacity: there a
    /// barrier waits for room as records do.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub fn barriers(mut self, signal: &'c BarrierSignal) -> Self {
        self.barriers = Some(signal);
        self
    }

    /// Takes part in a pipeline that keeps positions only ([`run_positions_only`](crate::pipeline::Pipeline::run_positions_only),
    /// K14): checkpoints hold nothing of the stage, and the function is told request ids that come from the records' positions, so
    /// they are the same in every life.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub fn positions_only<V>(self, recovery: &'c Recovery) -> StageBuilder<'c, PositionsOnly<J>>
    where
        J: Job<Input = Tracked<V>>,
    {
        StageBuilder {
            source: self.source,
            policy: self.policy,
            function: self.function,
            run_request: self.run_request,
            checkpointing: self.checkpointing,
            restore: recovery.into(),
            barriers: self.barriers,
            keeps_nothing: true,
            fail_fast: self.fail_fast,
            permits: self.permits,
            #[cfg(feature = "alloc")]
            refused: self.refused,
            lifetime: PhantomData,
        }
    }

    /// Lets a failure for which `ends_the_job` holds end the stage at once: its outcome does not wait for calls that are
    /// still running, and is the last one (F6).
    ///
    /// Every other failure is a record's outcome and keeps its order: in an ordered stage it waits for all calls before it,
    /// however slow they are. That is too late for a failure after which nothing can go on (the password is wrong). When a call
    /// ends with such a failure, after its retries, all running
    /// requests are cancelled and the source is dropped. Outcomes that may leave already still come, then this
    /// one, and the stream ends; [`end`](crate::Stage::end) says [`StageError::Failed`](crate::StageError::Failed). All other records in
    /// flight are lost, as when the stage is dropped ([`Metrics::dropped`](crate::Metrics::dropped)), and so are the control
    /// elements among them.
    ///
    /// A call that times out and gets an output from the function's [`on_timeout`](crate::AsyncFunction::on_timeout), or is
    /// dropped by it, has not failed; nor does a [`stop_within`](crate::Stage::stop_within) count. After a
    /// restore `ends_the_job` is asked about each failure that was kept.
    ///
    /// In a [pipeline](crate::pipeline) it is like a crash: the sink gets the outcome, nothing more is committed, and the
    /// run ends with `PipelineError::EndedEarly`. The next run calls the function again, also for the record that failed.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use std::future::{pending, ready};
    ///
    /// use futures_lite::{StreamExt, future::{self, FutureExt}, stream};
    /// use inflight_core::{AsyncWait, AsyncWaitExt, Failure, StageError};
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
    /// #[derive(Debug, PartialEq)]
    /// enum NoAnswer {
    ///     Busy,
    ///     WrongPassword,
    /// }
    ///
    /// let ask = |number: &u32| match number {
    ///     1 => pending().boxed(), // it takes its time
    ///     2 => ready(Err(NoAnswer::Busy)).boxed(),
    ///     _ => ready(Err::<u32, _>(NoAnswer::WrongPassword)).boxed(),
    /// };
    /// let mut stage = stream::iter(1..)
    ///     .async_wait(AsyncWait::ordered(64), ask)
    ///     .fail_fast(|failure| failure.error() == Some(&NoAnswer::WrongPassword))
    ///     .in_place(runtime)?;
    /// let last = future::block_on(stage.next()).unwrap();
    /// assert_eq!((last.input, last.result), (3, Err(Failure::Error(NoAnswer::WrongPassword))));
    /// assert!(future::block_on(stage.next()).is_none());
    /// assert_eq!(stage.end(), Some(Err(&StageError::Failed)));
    /// # }
    /// # Ok::<_, inflight_core::StartError>(())
    /// ```
    #[cfg(feature = "alloc")]
    pub fn fail_fast(mut self, ends_the_job: fn(&Failure<J::Error>) -> bool) -> Self {
        self.fail_fast = Some(ends_the_job);
        self
    }

    /// Lets the stage start an attempt only with a permit of this pool, which other stages share (C9). A second call replaces the first.
    #[cfg(feature = "alloc")]
    pub fn permits(mut self, pool: &Permits) -> Self {
        self.permits = Some(pool.clone());
        self
    }

    /// Runs each attempt on a task of its own, spawned by `spawner`: for requests that keep a core
    /// busy, and so that a panic in one is that record's failure and no other's (a batch's: that of all its records, F3), whether it comes in the future or in
    /// the closure that makes it. A panic in a key function, in a retry strategy's predicate, in `on_timeout` or in
    /// the source still ends the stage.
    pub fn spawn_requests<S>(self, spawner: S) -> StageBuilder<'c, SpawningRequests<J, S>>
    where
        J: Job<RunRequest = InPlace>,
        S: Spawner<FutureOf<J>>,
    {
        StageBuilder {
            source: self.source,
            policy: self.policy,
            function: self.function,
            run_request: SpawnEach(spawner),
            checkpointing: self.checkpointing,
            #[cfg(feature = "checkpoint")]
            restore: self.restore,
            #[cfg(all(feature = "alloc", feature = "checkpoint"))]
            barriers: self.barriers,
            #[cfg(all(feature = "alloc", feature = "checkpoint"))]
            keeps_nothing: self.keeps_nothing,
            fail_fast: self.fail_fast,
            #[cfg(feature = "alloc")]
            permits: self.permits,
            #[cfg(feature = "alloc")]
            refused: self.refused,
            lifetime: PhantomData,
        }
    }

    /// Starts the stage on a task of its own. Requests make progress also while the consumer is busy
    /// with an earlier outcome.
    ///
    /// # Errors
    ///
    /// [`StartError`]: a setting makes no sense, there is no runtime here, or the checkpoint cannot
    /// be restored. Nothing has been taken from the source then.
    #[cfg(feature = "alloc")]
    pub fn spawn<Rt>(
        self,
        runtime: Rt,
    ) -> Result<
        SpawnedStage<
            OutcomeOf<J>,
            J::Error,
            J::Kind,
            <Rt as Spawner<Driver<J, Rt::Timer>>>::Handle,
        >,
        StartError,
    >
    where
        Rt: Runtime + Spawner<Driver<J, <Rt as Runtime>::Timer>>,
    {
        let (capacity, most) = (self.policy.settings.capacity, self.policy.settings.max_capacity());
        let stage = self.in_place(&runtime)?;
        let (outlet, inlet) = ring(capacity, most, stage.consumer_waker());
        let task = runtime.spawn(Driver::new(stage, outlet));
        Ok(SpawnedStage::new(inlet, task))
    }

    /// The stage as a stream that its consumer drives by polling it, without a task, on the heap.
    ///
    /// # Errors
    ///
    /// [`StartError`], as for [`spawn`](Self::spawn).
    #[cfg(feature = "alloc")]
    pub fn in_place<Rt: Runtime>(
        self,
        runtime: Rt,
    ) -> Result<Stage<J, Rt::Timer, Heap>, StartError> {
        const { accepts_wakers_of::<Rt, Heap>() }; // also here: the compiler shows whose call it was
        self.in_place_over(runtime, Heap)
    }

    /// The stage as a stream that its consumer drives by polling it, without a task, in a storage of one's
    /// choice: [`Fixed<N>`](crate::Fixed) for `N` records at most and no allocator, or a
    /// [`&'static WakeTable<N>`](crate::WakeTable) for the same with exact wake-ups.
    ///
    /// All of the stage is in the value that this returns, so it must be pinned to be polled: with
    /// `core::pin::pin!`, or as a part of a task. [`docs/bare-metal.md`] gives its size as a formula, and
    /// `size_of_val` of the stage exactly. Room for keys is in it only with a key function, and room for control
    /// elements only over a stream that can have some.
    ///
    /// A runtime may accept no wakers but those of its own tasks ([`Runtime::ANY_WAKER`]). With anything but `Fixed` this
    /// does not compile then.
    ///
    /// [`docs/bare-metal.md`]: https://docs.rs/inflight/latest/inflight/guide/
    ///
    /// # Errors
    ///
    /// [`StartError`]: a setting makes no sense (a capacity above `N` too), there is no runtime here, the
    /// checkpoint cannot be restored, or another stage uses the wake table. Nothing has been taken from
    /// the source then.
    pub fn in_place_over<Rt, S>(
        self,
        runtime: Rt,
        storage: S,
    ) -> Result<Stage<J, Rt::Timer, S>, StartError>
    where
        Rt: Runtime,
        S: StageStorage,
    {
        const { accepts_wakers_of::<Rt, S>() };
        #[cfg(feature = "alloc")]
        if let Some(error) = self.refused {
            return Err(StartError::Config(error));
        }
        let AsyncWait { settings, retry, key, extras } = self.policy;
        settings.check::<S::Storage>().map_err(StartError::Config)?;
        retry.check().and_then(|()| extras.check()).map_err(StartError::Config)?;
        let timer = runtime.timer().map_err(StartError::NoRuntime)?;
        #[cfg_attr(not(any(feature = "alloc", feature = "checkpoint")), allow(unused_mut))]
        let mut operator = Operator::unchecked(settings, retry, key, extras, self.checkpointing);
        #[cfg(feature = "alloc")]
        if let Some(ends_the_job) = self.fail_fast {
            operator = operator.fail_fast(ends_the_job);
        }
        #[cfg(all(feature = "alloc", feature = "checkpoint"))]
        if self.keeps_nothing {
            operator = operator.keeping_nothing();
        }
        #[cfg(feature = "checkpoint")]
        self.restore.apply(&mut operator, timer.now())?;
        let requests = storage.requests(operator.max_capacity());
        let requests = requests.ok_or(StartError::WakeTableInUse)?;
        #[cfg(not(all(feature = "alloc", feature = "checkpoint")))]
        let seat = Seat::NONE;
        #[cfg(all(feature = "alloc", feature = "checkpoint"))]
        let seat = match self.barriers.or(self.restore.signal()) {
            // A storage in place has no room beyond the capacity.
            Some(signal) if <S::Storage as Storage>::MAX_BACKLOG > 0 => {
                let waker = requests.with_own(StageWaker::Consumer, |cx| cx.waker().clone());
                Seat::connect(signal, waker).ok_or(StartError::TooManyStages)?
            }
            _ => Seat::NONE,
        };
        let (function, run_request) = (self.function, self.run_request);
        #[cfg(feature = "alloc")]
        let share = match &self.permits {
            Some(pool) => {
                operator.permit(0);
                Share::of(pool)
            }
            None => Share::NONE,
        };
        #[cfg(not(feature = "alloc"))]
        let share = Share::NONE;
        let source = Source::new(self.source, seat);
        Ok(Stage::new(source, operator, function, run_request, timer, requests, share))
    }
}

/// Refuses to be compiled for a runtime that does not take the wakers of this storage.
const fn accepts_wakers_of<Rt: Runtime, S: StageStorage>() {
    assert!(
        Rt::ANY_WAKER || !S::OWN_WAKERS,
        "this runtime accepts no wakers but its own tasks', and a stage on the heap or over a `WakeTable` has others: keep \
         it in place, with `.in_place_over(runtime, Fixed::<N>)`"
    );
}

/// Refuses to be compiled for a policy with batches and a function of one record, or the other way round.
const fn has_fitting_policy<J: Job>() {
    let has_batches = <J::Extras as Extras<J::Input, J::Output, J::Error>>::BATCHES;
    assert!(
        has_batches == RequestForOf::<J>::BATCH,
        "a policy with `.batch(..)` is for `async_wait_batch`, and `async_wait_batch` needs one"
    );
}

impl<J: Job> fmt::Debug for StageBuilder<'_, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.policy.settings;
        f.debug_struct("StageBuilder").field("settings", settings).finish_non_exhaustive()
    }
}
