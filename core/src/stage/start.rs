//! The way to a stage: from a stream, a policy and a function.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use futures_core::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::Checkpoint;
use crate::element::{IntoElement, StreamKind};
use crate::function::AsyncFunction;
use crate::operator::{Checkpointing, Operator, RestoreError};
use crate::outcome::Failure;
use crate::policy::{AsyncWait, ConfigError, KeySelector, Unkeyed};
use crate::requests::StageStorage;
use crate::retry::RetryStrategy;
use crate::runtime::{InPlace, NoRuntime, RunRequest, Runtime, SpawnEach, Spawner, Timer};
#[cfg(feature = "alloc")]
use crate::stage::Driver;
#[cfg(feature = "alloc")]
use crate::stage::OutcomeOf;
use crate::stage::Stage;
#[cfg(feature = "alloc")]
use crate::stage::ring::{SpawnedStage, handoff};
#[cfg(feature = "alloc")]
use crate::storage::Heap;

/// Adds [`async_wait`](Self::async_wait) to every stream.
pub trait AsyncWaitExt: Stream + Sized {
    /// Asks `function` for each record, many at a time, as `policy` says.
    ///
    /// The closure gets a reference to the record and returns a future that owns what it needs:
    /// clone that outside of the `async move` block. The record itself comes back with the outcome.
    ///
    /// Works on streams of plain values, and on streams of [`StreamElement`]s (annotate the
    /// closure's parameter there); outcomes come in the same shape. Nothing runs until the result is
    /// given a runtime: `.spawn(..)`, `.in_place(..)`.
    ///
    /// [`StreamElement`]: crate::StreamElement
    fn async_wait<'c, V, M, F, Fut, Out, E, R, K>(
        self,
        policy: AsyncWait<R, K>,
        function: F,
    ) -> StageBuilder<'c, Self, V, M, F, R, K, InPlace>
    where
        Self::Item: IntoElement<V, M>,
        F: FnMut(&V) -> Fut,
        Fut: Future<Output = Result<Out, E>>,
        R: RetryStrategy<V, Out, E>,
        K: KeySelector<V>,
    {
        StageBuilder::new(self, policy, function)
    }

    /// The same for a type that implements [`AsyncFunction`], or a closure that is told its attempt
    /// ([`with_attempt`](crate::with_attempt)).
    fn async_wait_with<'c, V, M, F, R, K>(
        self,
        policy: AsyncWait<R, K>,
        function: F,
    ) -> StageBuilder<'c, Self, V, M, F, R, K, InPlace>
    where
        Self::Item: IntoElement<V, M>,
        F: AsyncFunction<V>,
        R: RetryStrategy<V, F::Output, F::Error>,
        K: KeySelector<V>,
    {
        StageBuilder::new(self, policy, function)
    }
}

impl<St: Stream> AsyncWaitExt for St {}

/// A stage that has everything but a runtime. It is not a stream yet.
#[must_use = "a stage needs a runtime: say `.spawn(..)?` or `.in_place(..)?`"]
pub struct StageBuilder<'c, St, V, M, F, R, K, Q>
where
    F: AsyncFunction<V>,
{
    source: St,
    policy: AsyncWait<R, K>,
    function: F,
    launch: Q,
    checkpointing: Option<Checkpointing<V, F::Output, F::Error>>,
    restore: Option<&'c Checkpoint>,
    ends_the_job: Option<fn(&Failure<F::Error>) -> bool>,
    shape: PhantomData<fn() -> M>,
}

impl<'c, St, V, M, F, R, K, Q> StageBuilder<'c, St, V, M, F, R, K, Q>
where
    St: Stream,
    St::Item: IntoElement<V, M>,
    F: AsyncFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
    K: KeySelector<V>,
{
    fn new(source: St, policy: AsyncWait<R, K>, function: F) -> Self
    where
        Q: Default,
    {
        let (launch, shape) = (Q::default(), PhantomData);
        let (checkpointing, restore, ends_the_job) = (None, None, None);
        Self { source, policy, function, launch, checkpointing, restore, ends_the_job, shape }
    }

    /// Lets the stage take snapshots when a barrier passes, under the name `name`. `schema` is the
    /// version of `V`'s serialised form: raise it when that changes.
    ///
    /// A call that is done but not handed on is kept as its input, and called anew after a restore. To keep
    /// its result, or to read records of an older version, say
    /// [`checkpointed_with`](Self::checkpointed_with).
    pub fn checkpointed(self, name: &'static str, schema: u32) -> Self
    where
        V: Serialize + DeserializeOwned,
    {
        self.checkpointed_with(Checkpointing::new(name, schema))
    }

    /// Lets the stage take snapshots when a barrier passes, as `how` says. The last one said counts.
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
    pub fn checkpointed_with(mut self, how: Checkpointing<V, F::Output, F::Error>) -> Self {
        self.checkpointing = Some(how);
        self
    }

    /// Takes up what was in flight when `checkpoint` was taken, before any new input. `None` starts
    /// with nothing in flight.
    pub fn restore(mut self, checkpoint: Option<&'c Checkpoint>) -> Self {
        self.restore = checkpoint;
        self
    }

    /// Lets a failure for which `ends_the_job` holds end the stage, at once: its outcome does not wait for calls that are
    /// still under way, and is the last that comes.
    ///
    /// Every other failure is a record's outcome and waits for its turn: in an ordered stage for all calls before it,
    /// however slow they are. For one after which nothing can go on (the password is wrong, the service says that
    /// it has never heard of us) that is too late. When a call ends with such a one, after its retries, all running
    /// requests are cancelled and the source is dropped. Outcomes that have their turn already still come, then this
    /// one, and the stream ends; [`end`](crate::Stage::end) says [`StageError::Failed`](crate::StageError::Failed). All other records in
    /// flight are lost, as when the stage is dropped ([`Metrics::dropped`](crate::Metrics::dropped)), and so are the control
    /// elements among them.
    ///
    /// A call that times out and gets an output from the function's [`on_timeout`](crate::AsyncFunction::on_timeout), or is
    /// dropped by it, has not failed; nor does a [`stop_within`](crate::Stage::stop_within) count. Of a
    /// restore's failures that were kept each is asked about.
    ///
    /// In a [pipeline](crate::pipeline) it is as a crash: the sink is given the outcome, nothing is committed any more, and
    /// `PipelineError::EndedEarly` is what the run says. The next run asks again, also about the record that failed.
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
    pub fn fail_fast(mut self, ends_the_job: fn(&Failure<F::Error>) -> bool) -> Self {
        self.ends_the_job = Some(ends_the_job);
        self
    }

    /// Runs each attempt on a task of its own, spawned by `spawner`: for requests that keep a core
    /// busy, and so that a panic in one is that record's failure and no other's, whether it comes in the future or in
    /// the closure that makes it. A panic in a key function, in a retry strategy's predicate, in `on_timeout` or in
    /// the source still ends the stage.
    pub fn spawn_requests<S>(self, spawner: S) -> StageBuilder<'c, St, V, M, F, R, K, SpawnEach<S>>
    where
        S: Spawner<F::Future>,
    {
        let Self { source, policy, function, checkpointing, restore, ends_the_job, shape, .. } =
            self;
        let launch = SpawnEach(spawner);
        StageBuilder {
            source,
            policy,
            function,
            launch,
            checkpointing,
            restore,
            ends_the_job,
            shape,
        }
    }
}

impl<'c, St, V, M, F, R, K, Q> StageBuilder<'c, St, V, M, F, R, K, Q>
where
    St: Stream,
    St::Item: IntoElement<V, M>,
    M: StreamKind,
    F: AsyncFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
    K: KeySelector<V>,
    Q: RunRequest<F::Future>,
    Q::Request: Future<Output = Result<F::Output, Failure<F::Error>>>,
{
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
            OutcomeOf<V, F>,
            F::Error,
            M,
            <Rt as Spawner<Driver<St, V, M, F, R, K, Q, Rt::Timer>>>::Handle,
        >,
        StartError,
    >
    where
        Rt: Runtime + Spawner<Driver<St, V, M, F, R, K, Q, <Rt as Runtime>::Timer>>,
    {
        let (capacity, most) = (self.policy.settings.capacity, self.policy.settings.max_capacity());
        let stage = self.in_place(&runtime)?;
        let (outlet, inlet) = handoff(capacity, most, stage.consumer_waker());
        let task = runtime.spawn(Driver::new(stage, outlet));
        Ok(SpawnedStage::new(inlet, task))
    }

    /// The stage as a stream that is driven by whoever polls it, without a task, on the heap.
    ///
    /// # Errors
    ///
    /// [`StartError`], as for [`spawn`](Self::spawn).
    #[cfg(feature = "alloc")]
    pub fn in_place<Rt: Runtime>(
        self,
        runtime: Rt,
    ) -> Result<Stage<St, V, M, F, R, K, Q, Rt::Timer, Heap>, StartError> {
        const { accepts_wakers_of::<Rt, Heap>() }; // also here: the compiler shows whose call it was
        self.in_place_over(runtime, Heap)
    }

    /// The stage as a stream that is driven by whoever polls it, without a task, in a storage of one's
    /// choice: [`Fixed<N>`](crate::Fixed) for `N` records at most and no allocator, or a
    /// [`&'static WakeTable<N>`](crate::WakeTable) for the same with exact wake-ups.
    ///
    /// All of the stage is in the value that this returns, so it must be pinned to be polled: with
    /// `core::pin::pin!`, or as a part of a task. How large it is, [`docs/bare-metal.md`] says as a formula, and
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
    ) -> Result<Stage<St, V, M, F, R, K, Q, Rt::Timer, S>, StartError>
    where
        Rt: Runtime,
        S: StageStorage,
    {
        const { accepts_wakers_of::<Rt, S>() };
        let AsyncWait { settings, retry, key } = self.policy;
        settings.check::<S::Storage>().and_then(|()| retry.check()).map_err(StartError::Config)?;
        let timer = runtime.timer().map_err(StartError::NoRuntime)?;
        let mut operator = Operator::unchecked(settings, retry, Unkeyed, self.checkpointing);
        #[cfg(feature = "alloc")]
        if let Some(ends_the_job) = self.ends_the_job {
            operator = operator.fail_fast(ends_the_job);
        }
        if let Some(checkpoint) = self.restore {
            let key_of = |_: &_, input: &V, _| key.key_of(input);
            let restored = operator.restore_with_keys(timer.now(), checkpoint, key_of);
            restored.map_err(StartError::Restore)?;
        }
        let requests = storage.requests(operator.max_capacity());
        let requests = requests.ok_or(StartError::WakeTableInUse)?;
        Ok(Stage::new(self.source, operator, self.function, key, self.launch, timer, requests))
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

impl<St, V, M, F, R, K, Q> fmt::Debug for StageBuilder<'_, St, V, M, F, R, K, Q>
where
    F: AsyncFunction<V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.policy.settings;
        f.debug_struct("StageBuilder").field("settings", settings).finish_non_exhaustive()
    }
}

/// The next element of a stage: what its `next` returns.
#[must_use = "futures do nothing unless they are awaited"]
#[derive(Debug)]
pub struct Next<'a, S>(&'a mut S);

impl<'a, S> Next<'a, S> {
    pub(crate) fn new(stage: &'a mut S) -> Self {
        Self(stage)
    }
}

impl<S: Stream + Unpin> Future for Next<'_, S> {
    type Output = Option<S::Item>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut *self.0).poll_next(cx)
    }
}

/// Why a stage could not be started.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum StartError {
    /// A setting of the policy makes no sense.
    Config(ConfigError),
    /// There is no runtime here.
    NoRuntime(NoRuntime),
    /// The checkpoint cannot be restored.
    Restore(RestoreError),
    /// Another stage uses the [`WakeTable`](crate::WakeTable).
    WakeTableInUse,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "the stage's policy: {error}"),
            Self::NoRuntime(error) => error.fmt(f),
            Self::Restore(error) => write!(f, "restoring the stage: {error}"),
            Self::WakeTableInUse => f.write_str("the wake table is in use by another stage"),
        }
    }
}

impl core::error::Error for StartError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        // `Display` already says what the error inside says, so the chain goes on behind it.
        match self {
            Self::Config(error) => error.source(),
            Self::NoRuntime(error) => error.source(),
            Self::Restore(error) => error.source(),
            Self::WakeTableInUse => None,
        }
    }
}
