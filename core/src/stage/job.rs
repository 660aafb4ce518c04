//! The types of a stage, under one name.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;

use futures_core::Stream;

use super::function::Invoke;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use super::position_ids::WithPositionIds;
use super::request_for::{ForBatch, ForRecord};
use crate::batch_function::AsyncBatchFunction;
use crate::element::{IntoElement, StreamKind};
use crate::function::AsyncFunction;
use crate::operator::Call;
use crate::operator::call::sealed::Sealed;
use crate::outcome::Failure;
use crate::policy::{Extras, KeySelector};
use crate::retry::RetryStrategy;
use crate::runtime::{RequestOnTask, RunRequest, SpawnEach, Spawner};
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use crate::tracked::Tracked;

/// The types of a stage, under one name. Sealed: [`async_wait`](crate::AsyncWaitExt::async_wait) makes it, as a tuple of the
/// source, the record, the kind of stream, the function, the retry strategy, the key, the optional parts, and how requests run.
///
/// Code that is generic over stages says `J: Job`, and finds each type by its name:
///
/// ```
/// use core::pin::Pin;
/// use inflight_core::{Fixed, Job, Stage, Timer};
///
/// /// Stops a stage on the board when the battery is low.
/// fn watch<J: Job, T: Timer>(stage: Pin<&mut Stage<J, T, Fixed<16>>>, battery_is_low: bool) {
///     if battery_is_low {
///         stage.stop();
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the types of a stage: the type of a stage that `.spawn(Tokio)` has started is `TokioStage<Input, Output, Error>`, \
               and `SmolStage` with smol",
    label = "not a stage's types",
    note = "for a stage in place, be generic: `struct Mine<J: Job, T, S: StageStorage> {{ stage: Stage<J, T, S> }}`"
)]
pub trait Job: Call<Key: KeySelector<<Self as Call>::Input>> {
    /// Plain values, or elements.
    type Kind: StreamKind;
    /// The stream of records.
    type Source: Stream<Item: IntoElement<Self::Input, Self::Kind>>;
    /// The user's function.
    type Function;
    /// How the function is called: for each record, or for each batch.
    #[doc(hidden)]
    type Invoke: Invoke<Self::Input, Self::Function, Output = Self::Output, Error = Self::Error>;
    /// How requests run: polled by the stage, or each on a task of its own.
    type RunRequest: RunRequest<FutureOf<Self>, AnswerOf<Self>, Self::Error, Request = Self::Request>;
    /// A request, as the stage polls it.
    type Request: Future<Output = Result<AnswerOf<Self>, Failure<Self::Error>>>;
}

/// What the function of a stage returns.
pub(crate) type FutureOf<J> =
    <<J as Job>::Invoke as Invoke<<J as Call>::Input, <J as Job>::Function>>::Future;

/// What a request of a stage answers with.
pub(super) type AnswerOf<J> =
    <<J as Job>::Invoke as Invoke<<J as Call>::Input, <J as Job>::Function>>::Answer;

/// What a request of a stage is for.
pub(super) type RequestForOf<J> =
    <<J as Job>::Invoke as Invoke<<J as Call>::Input, <J as Job>::Function>>::RequestFor;

impl<St, V, M, F, R, K, X, Q> Call for (St, V, M, F, R, K, X, Q)
where
    F: AsyncFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
    X: Extras<V, F::Output, F::Error>,
{
    type Input = V;
    type Output = F::Output;
    type Error = F::Error;
    type Retry = R;
    type Key = K;
    type Extras = X;
}

impl<St, V, M, F, R, K, X, Q> Job for (St, V, M, F, R, K, X, Q)
where
    St: Stream,
    St::Item: IntoElement<V, M>,
    M: StreamKind,
    F: AsyncFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
    K: KeySelector<V>,
    X: Extras<V, F::Output, F::Error>,
    Q: RunRequest<F::Future, F::Output, F::Error>,
{
    type Kind = M;
    type Source = St;
    type Function = F;
    type Invoke = ForRecord;
    type RunRequest = Q;
    type Request = Q::Request;
}

impl<St, V, M, F, R, K, X, Q> Sealed for (St, V, M, F, R, K, X, Q) {}

/// A job of these types whose function takes batches (B1): [`async_wait_batch`](crate::AsyncWaitExt::async_wait_batch) makes it, with
/// the same tuple as [`async_wait`](crate::AsyncWaitExt::async_wait). A type without values.
pub struct InBatches<J>(PhantomData<fn() -> J>);

impl<J> fmt::Debug for InBatches<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InBatches")
    }
}

impl<St, V, M, F, R, K, X, Q> Call for InBatches<(St, V, M, F, R, K, X, Q)>
where
    F: AsyncBatchFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
    X: Extras<V, F::Output, F::Error>,
{
    type Input = V;
    type Output = F::Output;
    type Error = F::Error;
    type Retry = R;
    type Key = K;
    type Extras = X;
}

impl<St, V, M, F, R, K, X, Q> Job for InBatches<(St, V, M, F, R, K, X, Q)>
where
    St: Stream,
    St::Item: IntoElement<V, M>,
    M: StreamKind,
    F: AsyncBatchFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
    K: KeySelector<V>,
    X: Extras<V, F::Output, F::Error>,
    Q: RunRequest<F::Future, F::Answers, F::Error>,
{
    type Kind = M;
    type Source = St;
    type Function = F;
    type Invoke = ForBatch;
    type RunRequest = Q;
    type Request = Q::Request;
}

impl<J> Sealed for InBatches<J> {}

/// Defines a job around the job `J`, whose call has the same types. A type without values.
macro_rules! job_around {
    ($(#[$meta:meta])* $name:ident<J $(, $other:ident)?>) => {
        $(#[$meta])*
        pub struct $name<J $(, $other)?>(core::marker::PhantomData<fn() -> (J, $($other)?)>);

        impl<J $(, $other)?> core::fmt::Debug for $name<J $(, $other)?> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        impl<J: $crate::operator::Call $(, $other)?> $crate::operator::Call for $name<J $(, $other)?> {
            type Input = J::Input;
            type Output = J::Output;
            type Error = J::Error;
            type Retry = J::Retry;
            type Key = J::Key;
            type Extras = J::Extras;
        }

        impl<J $(, $other)?> $crate::operator::call::sealed::Sealed for $name<J $(, $other)?> {}
    };
}

#[cfg(feature = "alloc")]
pub(crate) use job_around;

job_around! {
    /// The job `J` with each attempt on a task of its own, spawned by an `S`. A type without values.
    SpawningRequests<J, S>
}

impl<J: Job, S: Spawner<FutureOf<J>>> Job for SpawningRequests<J, S> {
    type Kind = J::Kind;
    type Source = J::Source;
    type Function = J::Function;
    type Invoke = J::Invoke;
    type RunRequest = SpawnEach<S>;
    type Request = RequestOnTask<S::Handle>;
}

#[cfg(all(feature = "alloc", feature = "checkpoint"))]
job_around! {
    /// The job `J` with request ids that come from the records' positions. A type without values.
    PositionsOnly<J>
}

#[cfg(all(feature = "alloc", feature = "checkpoint"))]
impl<V, J: Job<Input = Tracked<V>>> Job for PositionsOnly<J> {
    type Kind = J::Kind;
    type Source = J::Source;
    type Function = J::Function;
    type Invoke = WithPositionIds<J::Invoke>;
    type RunRequest = J::RunRequest;
    type Request = J::Request;
}
