//! The way to a stage: from a stream, a policy and a function.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use futures_core::Stream;
use pin_project_lite::pin_project;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::Checkpoint;
use crate::config::{AsyncWait, ConfigError};
use crate::driver::{OperatorOf, OutcomeOf, Stage, TURNS_BEFORE_YIELD, Turn};
use crate::element::{IntoElement, Shape};
use crate::function::AsyncFunction;
use crate::handoff::{Outlet, Spawned, handoff};
use crate::operator::RestoreError;
use crate::outcome::Failure;
use crate::retry::RetryStrategy;
use crate::runtime::{InPlace, Launch, NoRuntime, OnTasks, Runtime, Spawner, Timer};

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
    fn async_wait<V, M, F, Fut, Out, E, R>(
        self,
        policy: AsyncWait<R>,
        function: F,
    ) -> Unstarted<Self, V, M, F, R, InPlace>
    where
        Self::Item: IntoElement<V, M>,
        F: FnMut(&V) -> Fut,
        Fut: Future<Output = Result<Out, E>>,
        R: RetryStrategy<V, Out, E>,
    {
        Unstarted::new(self, policy, function)
    }

    /// The same for a type that implements [`AsyncFunction`], or a closure that is told its attempt
    /// ([`with_attempt`](crate::with_attempt)).
    fn async_wait_with<V, M, F, R>(
        self,
        policy: AsyncWait<R>,
        function: F,
    ) -> Unstarted<Self, V, M, F, R, InPlace>
    where
        Self::Item: IntoElement<V, M>,
        F: AsyncFunction<V>,
        R: RetryStrategy<V, F::Output, F::Error>,
    {
        Unstarted::new(self, policy, function)
    }
}

impl<St: Stream> AsyncWaitExt for St {}

/// A stage that has everything but a runtime. It is not a stream yet.
#[must_use = "a stage needs a runtime: say `.spawn(..)?` or `.in_place(..)?`"]
pub struct Unstarted<St, V, M, F, R, Q>
where
    F: AsyncFunction<V>,
{
    source: St,
    policy: AsyncWait<R>,
    function: F,
    launch: Q,
    checkpointed: Option<Checkpointed<OperatorOf<V, F, R>>>,
    restore: Option<Checkpoint>,
    shape: PhantomData<fn() -> M>,
}

struct Checkpointed<Op> {
    name: &'static str,
    schema: u32,
    apply: fn(Op, &'static str, u32) -> Op,
}

impl<St, V, M, F, R, Q> Unstarted<St, V, M, F, R, Q>
where
    St: Stream,
    St::Item: IntoElement<V, M>,
    F: AsyncFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
{
    fn new(source: St, policy: AsyncWait<R>, function: F) -> Self
    where
        Q: Default,
    {
        let (launch, shape) = (Q::default(), PhantomData);
        Self { source, policy, function, launch, checkpointed: None, restore: None, shape }
    }

    /// Lets the stage take snapshots when a barrier passes, under the name `name`. `schema` is the
    /// version of `V`'s serialised form: raise it when that changes.
    pub fn checkpointed(mut self, name: &'static str, schema: u32) -> Self
    where
        V: Serialize + DeserializeOwned,
    {
        let apply = OperatorOf::<V, F, R>::checkpointed;
        self.checkpointed = Some(Checkpointed { name, schema, apply });
        self
    }

    /// Takes up what was in flight when `checkpoint` was taken, before any new input. `None` starts
    /// with nothing in flight.
    pub fn restore(mut self, checkpoint: Option<&Checkpoint>) -> Self {
        self.restore = checkpoint.map(Checkpoint::to_heap);
        self
    }

    /// Runs each attempt on a task of its own, spawned by `spawner`: for requests that keep a core
    /// busy, and so that a panic in one is that record's failure and no other's.
    pub fn spawn_requests<S>(self, spawner: S) -> Unstarted<St, V, M, F, R, OnTasks<S>>
    where
        S: Spawner<F::Future>,
    {
        let Self { source, policy, function, checkpointed, restore, shape, .. } = self;
        let launch = OnTasks(spawner);
        Unstarted { source, policy, function, launch, checkpointed, restore, shape }
    }
}

impl<St, V, M, F, R, Q> Unstarted<St, V, M, F, R, Q>
where
    St: Stream,
    St::Item: IntoElement<V, M>,
    M: Shape,
    F: AsyncFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
    Q: Launch<F::Future>,
    Q::Request: Future<Output = Result<F::Output, Failure<F::Error>>>,
{
    /// Starts the stage on a task of its own. Requests make progress also while the consumer is busy
    /// with an earlier outcome.
    ///
    /// # Errors
    ///
    /// [`StartError`]: a setting makes no sense, there is no runtime here, or the checkpoint cannot
    /// be restored. Nothing has been taken from the source then.
    pub fn spawn<Rt>(
        self,
        runtime: Rt,
    ) -> Result<
        Spawned<OutcomeOf<V, F>, M, <Rt as Spawner<Driver<St, V, M, F, R, Q, Rt::Timer>>>::Handle>,
        StartError,
    >
    where
        Rt: Runtime + Spawner<Driver<St, V, M, F, R, Q, <Rt as Runtime>::Timer>>,
    {
        let capacity = self.policy.settings.capacity;
        let stage = self.in_place(&runtime)?;
        let (outlet, inlet) = handoff(capacity, stage.consumer_waker());
        let task = runtime.spawn(Driver { stage, outlet });
        Ok(Spawned::new(inlet, task))
    }

    /// The stage as a stream that is driven by whoever polls it, without a task.
    ///
    /// # Errors
    ///
    /// [`StartError`], as for [`spawn`](Self::spawn).
    pub fn in_place<Rt: Runtime>(
        self,
        runtime: Rt,
    ) -> Result<Stage<St, V, M, F, R, Q, Rt::Timer>, StartError> {
        let mut operator = self.policy.build_core().map_err(StartError::Config)?;
        let timer = runtime.timer().map_err(StartError::NoRuntime)?;
        if let Some(Checkpointed { name, schema, apply }) = self.checkpointed {
            operator = apply(operator, name, schema);
        }
        if let Some(checkpoint) = &self.restore {
            operator.restore(timer.now(), checkpoint).map_err(StartError::Restore)?;
        }
        Ok(Stage::new(self.source, operator, self.function, self.launch, timer))
    }
}

impl<St, V, M, F, R, Q> fmt::Debug for Unstarted<St, V, M, F, R, Q>
where
    F: AsyncFunction<V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &self.policy.settings;
        f.debug_struct("Unstarted").field("settings", settings).finish_non_exhaustive()
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
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "the stage's policy: {error}"),
            Self::NoRuntime(error) => error.fmt(f),
            Self::Restore(error) => write!(f, "restoring the stage: {error}"),
        }
    }
}

impl core::error::Error for StartError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(match self {
            Self::Config(error) => error,
            Self::NoRuntime(error) => error,
            Self::Restore(error) => error,
        })
    }
}

pin_project! {
    /// Drives a stage and hands over what comes out of it: the future that is spawned.
    pub struct Driver<St, V, M, F, R, Q, T>
    where
        M: Shape,
        F: AsyncFunction<V>,
        Q: Launch<F::Future>,
    {
        #[pin]
        stage: Stage<St, V, M, F, R, Q, T>,
        outlet: Outlet<M, OutcomeOf<V, F>>,
    }
}

impl<St, V, M, F, R, Q, T> Future for Driver<St, V, M, F, R, Q, T>
where
    St: Stream,
    St::Item: IntoElement<V, M>,
    M: Shape,
    F: AsyncFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
    Q: Launch<F::Future>,
    Q::Request: Future<Output = Result<F::Output, Failure<F::Error>>>,
    T: Timer,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.outlet.is_abandoned() {
            return Poll::Ready(());
        }
        for _ in 0..TURNS_BEFORE_YIELD {
            let turn = this.stage.as_mut().turn(cx, this.outlet.held());
            let operator = this.stage.as_mut().operator();
            let given = this.outlet.give(|| operator.poll_output());
            match turn {
                Turn::End => return Poll::Ready(()),
                // What has left may have made room.
                Turn::Idle if given == 0 => {
                    this.stage.as_mut().rest(Turn::Idle, cx);
                    return Poll::Pending;
                }
                Turn::Idle | Turn::Busy => {}
            }
        }
        this.stage.as_mut().rest(Turn::Busy, cx);
        Poll::Pending
    }
}

impl<St, V, M, F, R, Q, T> fmt::Debug for Driver<St, V, M, F, R, Q, T>
where
    M: Shape,
    F: AsyncFunction<V>,
    Q: Launch<F::Future>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("stage", &self.stage).finish_non_exhaustive()
    }
}
