//! A stage whose function has several instances, each on a task of its own, so that it uses several cores (P1).
//!
//! ```text
//!                                     +--> instance 0 (task.rs): polls its requests --+
//! source --> Stage: one Operator -----+--> instance 1 ..                              +--> the same Stage --> consumer
//!              function.rs chooses,   +--> ..            answers come back (reply.rs) +
//!              launch.rs hands over
//! ```
//!
//! There is one operator, in one stage, and it does what it always does: so order, control elements, timeouts, retries, limits, snapshots
//! and barriers are those of one stage, because there is one. The instances poll requests and do nothing else. That is the way in which
//! requests run ([`RunRequest`](crate::RunRequest)), as with [`spawn_requests`](crate::StageBuilder::spawn_requests), but on tasks that
//! live as long as the stage.

mod function;
mod launch;
mod reply;
mod task;

use alloc::sync::Arc;

use futures_core::Stream;

pub use self::function::{InstanceFunctions, OnInstance};
pub use self::launch::{OnInstances, RequestOnInstance};
pub use self::task::InstanceTask;
use crate::config_error::ConfigError;
use crate::element::{IntoElement, StreamKind};
use crate::function::AsyncFunction;
use crate::policy::{AsyncWait, Extras, KeySelector};
use crate::retry::RetryStrategy;
use crate::runtime::{InPlace, Runtime, Spawner};
use crate::stage::{ForRecord, FutureOf, Job, StageBuilder, job_around};
use crate::sync::{AtomicUsize, Ordering};

/// The instances of a stage's function: their number, the runtime of their tasks, and the choice of one for each record.
///
/// ```
/// # fn instances(runtime: impl inflight_core::Runtime + Clone) {
/// use inflight_core::Instances;
///
/// let two = Instances::on(runtime.clone(), 2);
/// let four = Instances::on(runtime, 4).spread();
/// # let _ = (two, four);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "instances do nothing by themselves"]
pub struct Instances<S> {
    runtime: S,
    count: usize,
    is_spread: bool,
}

impl<S> Instances<S> {
    /// `count` instances on tasks of `runtime`. Where the policy has a key
    /// ([`ordered_by_key`](AsyncWait::ordered_by_key), [`with_key`](AsyncWait::with_key)), records of one key always meet the same
    /// instance: number `key % count`, with the key as 64 bits. Without a key they are [spread](Self::spread).
    ///
    /// A count of zero is refused when the stage is started ([`ConfigError::ZeroInstances`]).
    pub const fn on(runtime: S, count: usize) -> Self {
        Self { runtime, count, is_spread: false }
    }

    /// Gives each attempt to the instance that has the fewest running, whatever its record's key is.
    pub const fn spread(mut self) -> Self {
        self.is_spread = true;
        self
    }
}

/// Adds [`async_wait_parallel`](Self::async_wait_parallel) to every stream.
pub trait ParallelExt: Stream + Sized {
    /// Asks one of several instances of a function for each record: `function` makes the instance with each number. Each instance's
    /// requests are polled on a task of its own, so that requests which keep a core busy use several (P1).
    ///
    /// In everything else this is one stage. Order, watermarks, statuses, barriers, capacity, limits, timeouts and retries are those of
    /// the whole, and so is its snapshot: a checkpoint does not know the number of instances, and any number can restore it (P2).
    ///
    /// The calls of [`invoke`](AsyncFunction::invoke) and [`on_timeout`](AsyncFunction::on_timeout) are on the stage's task; the futures that
    /// they return run on the instances' tasks. So work that keeps a core busy belongs into the future (`async move { .. }`), and not in
    /// front of it. All instances are opened before the first record, and closed after the last one. An instance's task starts with its
    /// first request.
    ///
    /// A retry of a record without a key may meet another instance. Without a key, any instance is asked what to do after a timeout.
    ///
    /// A panic in a request ends the stage, as it does when the stage polls the request itself (F3). Each request on a task of its own,
    /// with [`spawn_requests`](StageBuilder::spawn_requests), confines it to its record, and allocates that task.
    ///
    /// ```
    /// # fn stage<Rt>(
    /// #     photos: impl futures_core::Stream<Item = Vec<u8>> + Send + 'static,
    /// #     runtime: Rt,
    /// # ) where Rt: inflight_core::Runtime {
    /// use inflight_core::{AsyncWait, Instances, ParallelExt};
    ///
    /// let shrink = |photo: &Vec<u8>| {
    ///     let photo = photo.clone();
    ///     async move { Ok::<_, ()>(photo.into_iter().step_by(2).collect::<Vec<_>>()) }
    /// };
    /// # use std::pin::Pin;
    /// # struct Inline;
    /// # impl<F: Future> inflight_core::Spawner<F> for Inline where F: 'static, F::Output: 'static {
    /// #     type Handle = Pin<Box<dyn Future<Output = Result<F::Output, inflight_core::JoinError>>>>;
    /// #     fn spawn(&self, future: F) -> Self::Handle { Box::pin(async { Ok(future.await) }) }
    /// # }
    /// # impl inflight_core::Runtime for Inline {
    /// #     type Timer = Never;
    /// #     fn timer(&self) -> Result<Never, inflight_core::NoRuntime> { Err(inflight_core::NoRuntime) }
    /// # }
    /// # struct Never;
    /// # impl inflight_core::Timer for Never {
    /// #     fn now(&self) -> inflight_core::Instant { inflight_core::Instant::ZERO }
    /// #     fn arm(self: Pin<&mut Self>, _: Option<inflight_core::Instant>) {}
    /// #     fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> { std::task::Poll::Pending }
    /// # }
    /// # use Inline as Tokio;
    /// let stage = photos.async_wait_parallel(Instances::on(Tokio, 2), AsyncWait::ordered(64), |_| shrink);
    /// # let _ = (stage, runtime);
    /// # }
    /// ```
    fn async_wait_parallel<'c, V, M, F, R, K, X, S>(
        self,
        instances: Instances<S>,
        policy: AsyncWait<R, K, X>,
        function: impl FnMut(usize) -> F,
    ) -> StageBuilder<'c, InParallel<(Self, V, M, F, R, K, X, InPlace), S>>
    where
        Self::Item: IntoElement<V, M>,
        M: StreamKind,
        F: AsyncFunction<V>,
        R: RetryStrategy<V, F::Output, F::Error>,
        K: KeySelector<V> + Clone,
        X: Extras<V, F::Output, F::Error>,
        S: Runtime + Spawner<InstanceTask<F::Future, <S as Runtime>::Timer>>,
    {
        let Instances { runtime, count, is_spread } = instances;
        let loads = Arc::new(Loads::new(count));
        let key = (K::HAS_KEY && !is_spread).then(|| policy.key.clone());
        let functions = (0..count).map(function).collect();
        let functions = InstanceFunctions::new(functions, key, Arc::clone(&loads));
        let run_request = OnInstances::new(runtime, policy.settings.max_capacity(), loads);
        let stage = StageBuilder::with_run_request(self, policy, functions, run_request);
        if count == 0 { stage.refused(ConfigError::ZeroInstances) } else { stage }
    }
}

impl<St: Stream> ParallelExt for St {}

/// The running requests of each instance. Only the stage's task reads and writes it; it is atomic because that task moves between
/// threads.
#[derive(Debug)]
struct Loads(alloc::boxed::Box<[AtomicUsize]>);

impl Loads {
    fn new(instances: usize) -> Self {
        Self((0..instances).map(|_| AtomicUsize::new(0)).collect())
    }

    fn of(&self, instance: usize) -> usize {
        self.0[instance].load(Ordering::Relaxed)
    }

    fn add(&self, instance: usize) {
        self.0[instance].store(self.of(instance) + 1, Ordering::Relaxed);
    }

    fn remove(&self, instance: usize) {
        self.0[instance].store(self.of(instance) - 1, Ordering::Relaxed);
    }
}

job_around! {
    /// The job `J` with a function in several instances, each of which runs its requests on a task of its own, spawned by an `S`. A
    /// type without values.
    InParallel<J, S>
}

impl<J, S> Job for InParallel<J, S>
where
    J: Job<Invoke = ForRecord>,
    J::Function: AsyncFunction<J::Input, Output = J::Output, Error = J::Error>,
    S: Runtime + Spawner<InstanceTask<FutureOf<J>, <S as Runtime>::Timer>>,
{
    type Kind = J::Kind;
    type Source = J::Source;
    type Function = InstanceFunctions<J::Function, J::Key>;
    type Invoke = ForRecord;
    type RunRequest = OnInstances<
        FutureOf<J>,
        S,
        <S as Spawner<InstanceTask<FutureOf<J>, <S as Runtime>::Timer>>>::Handle,
    >;
    type Request = RequestOnInstance<FutureOf<J>>;
}

#[cfg(all(test, loom))]
mod loom_tests;
