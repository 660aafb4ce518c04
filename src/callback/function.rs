//! A client that calls back, as a function of a stage.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use inflight_core::{AsyncFunction, AttemptInfo};

use super::handle::{Handle, Place};
#[cfg(feature = "std")]
use super::heap::{CompletionHandle, OnHeap};
use super::table::{CompletionTable, TableHandle};

/// How an attempt of a client that calls back fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallbackError<E> {
    /// It was completed with this error.
    Error(E),
    /// All its handles were dropped, and none had completed it.
    Dropped,
    /// The [`CompletionTable`] has no vacant place, so the request was not started. A table needs as many places as
    /// attempts can run at once: the stage's capacity, or its limit of running attempts.
    TableFull,
}

impl<E: fmt::Display> fmt::Display for CallbackError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Dropped => f.write_str("the completion handle was dropped without a result"),
            Self::TableFull => f.write_str("the completion table has no vacant place"),
        }
    }
}

// The bound is not `Error`, as for `inflight_core::Failure`: a boxed error is not an `Error` itself.
impl<E: fmt::Debug + fmt::Display> core::error::Error for CallbackError<E> {}

/// Makes a stage's function from a function that starts a request and returns: `start` gets the record and a
/// [`CompletionHandle`], and the client completes the handle when it has the answer.
///
/// `start` is called on the stage's task and must not block. Once the attempt has timed out,
/// [`is_wanted`](Handle::is_wanted) is false.
#[cfg(feature = "std")]
pub fn with_callback<In, Out, E, F>(start: F) -> WithCallback<F, OnHeap, Out, E>
where
    F: FnMut(&In, CompletionHandle<Out, E>),
{
    WithCallback { start, places: OnHeap, result: PhantomData }
}

/// The same without an allocator: handles have their places in `table`, and an interrupt may complete them.
pub fn with_callback_in<In, Out, E, F, const N: usize>(
    table: &'static CompletionTable<Result<Out, E>, N>,
    start: F,
) -> WithCallback<F, &'static CompletionTable<Result<Out, E>, N>, Out, E>
where
    F: FnMut(&In, TableHandle<Out, E, N>),
{
    WithCallback { start, places: table, result: PhantomData }
}

/// A source of places, one for each attempt.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait Places<T> {
    type Place: Place<T>;

    fn claim(&self) -> Option<Self::Place>;
}

/// Returned by [`with_callback_in`] and, with the feature `std`, `with_callback`.
pub struct WithCallback<F, P, Out, E> {
    start: F,
    places: P,
    result: PhantomData<fn() -> Result<Out, E>>,
}

impl<In, Out, E, F, P> AsyncFunction<In> for WithCallback<F, P, Out, E>
where
    P: Places<Result<Out, E>>,
    F: FnMut(&In, Handle<Out, E, P::Place>),
{
    type Output = Out;
    type Error = CallbackError<E>;
    type Future = CallbackFuture<Out, E, P::Place>;

    fn invoke(&mut self, input: &In, attempt: AttemptInfo) -> Self::Future {
        // The future comes first: if `start` panics, dropping the future gives the place back.
        let future = CallbackFuture { place: self.places.claim(), result: PhantomData };
        if let Some(place) = &future.place {
            (self.start)(input, Handle::new(place.clone(), attempt));
        }
        future
    }
}

impl<F, P, Out, E> fmt::Debug for WithCallback<F, P, Out, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WithCallback(..)")
    }
}

/// Waits for its attempt's handle to be completed.
///
/// Cancellation: dropping it ends the attempt; a later [`complete`](Handle::complete) is refused.
#[must_use = "futures do nothing unless they are polled"]
pub struct CallbackFuture<Out, E, P: Place<Result<Out, E>>> {
    place: Option<P>,
    result: PhantomData<fn() -> Result<Out, E>>,
}

impl<Out, E, P: Place<Result<Out, E>>> Future for CallbackFuture<Out, E, P> {
    type Output = Result<Out, CallbackError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(place) = &self.place else { return Poll::Ready(Err(CallbackError::TableFull)) };
        let (polled, _replaced) =
            place.with(|cell| cell.poll(cx)).unwrap_or((Poll::Ready(None), None));
        polled.map(|result| match result {
            Some(result) => result.map_err(CallbackError::Error),
            None => Err(CallbackError::Dropped),
        })
    }
}

impl<Out, E, P: Place<Result<Out, E>>> Drop for CallbackFuture<Out, E, P> {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            place.close();
        }
    }
}

impl<Out, E, P: Place<Result<Out, E>>> fmt::Debug for CallbackFuture<Out, E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackFuture(..)")
    }
}
