//! The methods that every stream gets: a policy and a function make a stage of it.

use core::future::Future;

use futures_core::Stream;

use super::job::InBatches;
use super::start::StageBuilder;
use crate::batch_function::AsyncBatchFunction;
use crate::element::{IntoElement, StreamKind};
use crate::function::{AsyncFunction, WithOwned, with_owned};
#[cfg(feature = "alloc")]
use crate::lent::{Lender, Lent, lend};
use crate::policy::{AsyncWait, Extras, KeySelector};
use crate::retry::RetryStrategy;
use crate::runtime::InPlace;

/// Adds [`async_wait`](Self::async_wait), [`async_wait_owned`](Self::async_wait_owned) and
/// [`async_wait_batch`](Self::async_wait_batch) to every stream.
pub trait AsyncWaitExt: Stream + Sized {
    /// Asks `function` for each record, many at a time, as `policy` says.
    ///
    /// The closure gets a reference to the record and returns a future that owns its data:
    /// clone them outside of the `async move` block. The record itself comes back with the outcome.
    ///
    /// Works on streams of plain values, and on streams of [`StreamElement`]s (annotate the
    /// closure's parameter there); outcomes come in the same kind of stream. Nothing runs until the result is
    /// given a runtime: `.spawn(..)`, `.in_place(..)`.
    ///
    /// ```
    /// # fn stage<Rt: inflight_core::Runtime<Timer: Unpin>>(
    /// #     orders: impl futures_core::Stream<Item = Order> + Unpin,
    /// #     runtime: Rt,
    /// # ) -> Result<impl futures_core::Stream, inflight_core::StartError> {
    /// use core::time::Duration;
    /// use inflight_core::{AsyncWait, AsyncWaitExt, ExponentialBackoff};
    ///
    /// struct Order {
    ///     customer: u64,
    ///     items: Vec<String>, // not cloned: the request does not need them
    /// }
    ///
    /// # #[derive(Clone)] struct Client;
    /// # impl Client { async fn name(&self, customer: u64) -> Result<String, std::io::Error> { Ok(String::new()) } }
    /// # let client = Client;
    /// let policy = AsyncWait::ordered(100)
    ///     .timeout(Duration::from_secs(5))
    ///     .retry(ExponentialBackoff::new(Duration::from_millis(50)).max_retries(3));
    ///
    /// let stage = orders.async_wait(policy, move |order| {
    ///     let (client, customer) = (client.clone(), order.customer);
    ///     async move { client.name(customer).await }
    /// });
    /// # #[cfg(feature = "alloc")]
    /// let stage = stage.in_place(runtime)?; // or, with a runtime that has tasks, `.spawn(Tokio)?`
    /// # #[cfg(not(feature = "alloc"))]
    /// # let stage = stage.in_place_over(runtime, inflight_core::Fixed::<100>)?;
    /// # Ok(stage)
    /// # }
    /// ```
    ///
    /// An async closure cannot be the function, since its future borrows from the closure. See
    /// [`async_wait_owned`](Self::async_wait_owned) for a function that takes its record by value.
    ///
    /// [`StreamElement`]: crate::StreamElement
    fn async_wait<'c, V, M, F, Fut, Out, E, R, K, X>(
        self,
        policy: AsyncWait<R, K, X>,
        function: F,
    ) -> StageBuilder<'c, (Self, V, M, F, R, K, X, InPlace)>
    where
        Self::Item: IntoElement<V, M>,
        M: StreamKind,
        // The compiler shows this line where the function is an async closure, or a method that borrows its argument.
        F: FnMut(&V) -> Fut, // not `async |x| ..`: the future owns its data, `|x| { let x = x.clone(); async move { .. } }`
        Fut: Future<Output = Result<Out, E>>,
        R: RetryStrategy<V, Out, E>,
        K: KeySelector<V>,
        X: Extras<V, Out, E>,
    {
        StageBuilder::new(self, policy, function)
    }

    /// The same for a function that takes its record by value: each attempt gets a clone of its own, and the record itself comes back
    /// with the outcome. So an `async fn` can be named as it is, and a closure needs no clone of its record before its `async` block.
    ///
    /// ```
    /// # fn stage(
    /// #     places: impl futures_core::Stream<Item = String> + Unpin,
    /// #     runtime: impl inflight_core::Runtime<Timer: Unpin>,
    /// # ) -> Result<impl futures_core::Stream, inflight_core::StartError> {
    /// use inflight_core::{AsyncWait, AsyncWaitExt};
    ///
    /// async fn temperature_at(place: String) -> Result<f64, std::io::Error> {
    ///     # let _ = place;
    ///     // ... asks a service
    ///     Ok(20.5)
    /// }
    ///
    /// let stage = places.async_wait_owned(AsyncWait::ordered(100), temperature_at);
    /// # #[cfg(feature = "alloc")]
    /// let stage = stage.in_place(runtime)?;
    /// # #[cfg(not(feature = "alloc"))]
    /// # let stage = stage.in_place_over(runtime, inflight_core::Fixed::<100>)?;
    /// # Ok(stage)
    /// # }
    /// ```
    ///
    /// Where a clone of the whole record is dear, clone what the request needs in [`async_wait`](Self::async_wait).
    fn async_wait_owned<'c, V, M, F, Fut, Out, E, R, K, X>(
        self,
        policy: AsyncWait<R, K, X>,
        function: F,
    ) -> StageBuilder<'c, (Self, V, M, WithOwned<F>, R, K, X, InPlace)>
    where
        Self::Item: IntoElement<V, M>,
        V: Clone,
        M: StreamKind,
        // As above, for an async closure that owns what it captures: its future would borrow that.
        F: FnMut(V) -> Fut, // not `async move |x| ..`: `move |x| { let client = client.clone(); async move { .. } }`
        Fut: Future<Output = Result<Out, E>>,
        R: RetryStrategy<V, Out, E>,
        K: KeySelector<V>,
        X: Extras<V, Out, E>,
    {
        StageBuilder::new(self, policy, with_owned(function))
    }

    /// The same for a type that implements [`AsyncFunction`], or a closure that is told its attempt
    /// ([`with_attempt`](crate::with_attempt)).
    fn async_wait_with<'c, V, M, F, R, K, X>(
        self,
        policy: AsyncWait<R, K, X>,
        function: F,
    ) -> StageBuilder<'c, (Self, V, M, F, R, K, X, InPlace)>
    where
        Self::Item: IntoElement<V, M>,
        M: StreamKind,
        F: AsyncFunction<V>,
        R: RetryStrategy<V, F::Output, F::Error>,
        K: KeySelector<V>,
        X: Extras<V, F::Output, F::Error>,
    {
        StageBuilder::new(self, policy, function)
    }

    /// Asks `function` for several records at a time, as many as the policy's [batch size](AsyncWait::batch) says (B1).
    ///
    /// Each record has its own outcome, in the order of the policy, as if it had been asked for alone. The request answers with a
    /// result for each record of the batch, in their order, or fails as a whole: see [`AsyncBatchFunction`].
    ///
    /// ```
    /// # #[cfg(feature = "alloc")]
    /// # fn stage(
    /// #     ids: impl futures_core::Stream<Item = i64> + Unpin,
    /// #     runtime: impl inflight_core::Runtime<Timer: Unpin>,
    /// # ) -> Result<impl futures_core::Stream, inflight_core::StartError> {
    /// use core::time::Duration;
    /// use inflight_core::{AsyncWait, AsyncWaitExt, Batch, BatchSize};
    ///
    /// # #[derive(Clone)] struct DbError;
    /// # async fn select(ids: Vec<i64>) -> Result<Vec<Result<String, DbError>>, DbError> { Ok(Vec::new()) }
    /// let size = BatchSize::records(50).within(Duration::from_millis(5));
    /// let stage = ids
    ///     .async_wait_batch(AsyncWait::ordered(500).batch(size), |batch: Batch<'_, i64>| {
    ///         select(batch.inputs().copied().collect())
    ///     })
    ///     .in_place(runtime)?;
    /// # Ok(stage)
    /// # }
    /// ```
    ///
    /// A policy without a batch size does not compile here, nor one with a batch size in [`async_wait`](Self::async_wait):
    ///
    /// ```compile_fail,E0080
    /// # fn stage(ids: impl futures_core::Stream<Item = i64>) {
    /// use inflight_core::{AsyncWait, AsyncWaitExt, Batch};
    ///
    /// let answer = |batch: Batch<'_, i64>| core::future::ready(Ok::<_, ()>([Ok(batch.len())]));
    /// let stage = ids.async_wait_batch(AsyncWait::ordered(500), answer);
    /// # }
    /// # stage(futures_lite::stream::empty());
    /// ```
    fn async_wait_batch<'c, V, M, F, R, K, X>(
        self,
        policy: AsyncWait<R, K, X>,
        function: F,
    ) -> StageBuilder<'c, InBatches<(Self, V, M, F, R, K, X, InPlace)>>
    where
        Self::Item: IntoElement<V, M>,
        M: StreamKind,
        F: AsyncBatchFunction<V>,
        R: RetryStrategy<V, F::Output, F::Error>,
        K: KeySelector<V>,
        X: Extras<V, F::Output, F::Error>,
    {
        StageBuilder::new(self, policy, function)
    }

    /// Lends the stream to a stage, and takes it back from the [`Lender`] when the stage is done with it (L3).
    ///
    /// A stage that is [stopped](crate::StageHandle::stop) finishes what is in flight and drops its source. A channel may have accepted
    /// more than the stage had taken by then, and nothing would tell of those records. They come back with the channel:
    ///
    /// ```
    /// # use inflight_core::{Runtime, StartError};
    /// # async fn enrich<Rt: Runtime<Timer: Unpin>>(
    /// #     receiver: impl futures_core::Stream<Item = u64> + Unpin,
    /// #     runtime: Rt,
    /// # ) -> Result<(), StartError> {
    /// use std::pin::Pin;
    /// use inflight_core::{AsyncWait, AsyncWaitExt};
    ///
    /// # async fn ask(id: u64) -> Result<u64, ()> { Ok(id) }
    /// # let has_to_end = || true;
    /// let (ids, mut lender) = receiver.lend();
    /// let mut stage = ids.async_wait_owned(AsyncWait::ordered(100), ask).in_place(runtime)?;
    /// # let mut stage = std::pin::pin!(stage);
    /// while let Some(done) = stage.as_mut().next_pinned().await {
    ///     if has_to_end() {
    ///         stage.as_mut().stop(); // or, on a task of its own, `handle.stop()`
    ///     }
    /// }
    /// if let Some(mut rest) = lender.take_back() {
    ///     // Close it, so that nobody sends any more, and put what it still holds where the next run finds it.
    ///     # let _ = &mut rest;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "alloc")]
    fn lend(self) -> (Lent<Self>, Lender<Self>)
    where
        Self: Unpin,
    {
        lend(self)
    }
}

impl<St: Stream> AsyncWaitExt for St {}
