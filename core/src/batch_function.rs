//! The user's function for batches: it makes one request for several records.

use core::future::Future;
use core::task::{Context, Poll};

use crate::function::{TimedOutCall, TimeoutAction};
use crate::operator::Batch;

/// The function that a stage with [batches](crate::AsyncWait::batch) calls for each batch (B1).
///
/// The request answers with a result for each record, in their order; or it fails as a whole, and each record has failed with a
/// clone of that error. Either way a record goes on for itself: what the retry strategy wants again joins later batches (B3).
/// If the number of results is not the number of records, each has failed with
/// [`Failure::WrongAnswers`](crate::Failure::WrongAnswers).
///
/// Every `FnMut(Batch<'_, In>) -> impl Future<Output = Result<Vec<Result<Output, Error>>, Error>>` implements it, and in place of the
/// `Vec` it may return anything that iterates over its results and knows how many they are. Implement it for a type of your own
/// when there is something to open or close, or to do at a timeout.
///
/// The future must own everything it needs. It cannot borrow the inputs, because the operator keeps them for the next attempts and for
/// the outcomes.
///
/// ```
/// use std::collections::HashMap;
///
/// use inflight_core::{AsyncBatchFunction, Batch};
///
/// # async fn select(ids: Vec<i64>) -> Result<HashMap<i64, String>, &'static str> { Ok(HashMap::new()) }
/// // SELECT id, name FROM users WHERE id = ANY($1)
/// let names = |batch: Batch<'_, i64>| {
///     let ids: Vec<i64> = batch.inputs().copied().collect();
///     async move {
///         let mut rows = select(ids.clone()).await?;
///         Ok(ids.iter().map(|id| rows.remove(id).ok_or("no such user")).collect::<Vec<_>>())
///     }
/// };
/// # fn is_one<F: AsyncBatchFunction<i64, Output = String, Error = &'static str>>(_: F) {}
/// # is_one(names);
/// ```
pub trait AsyncBatchFunction<In> {
    /// The answer for one record.
    type Output;
    /// The error of a record, or of a whole batch.
    type Error: Clone;
    /// The results of a batch, one for each of its records, in their order.
    type Answers: IntoIterator<
            Item = Result<Self::Output, Self::Error>,
            IntoIter: ExactSizeIterator<Item = Result<Self::Output, Self::Error>>,
        >;
    /// A request under way.
    type Future: Future<Output = Result<Self::Answers, Self::Error>>;

    /// Opens the function, as [`AsyncFunction::poll_open`](crate::AsyncFunction::poll_open) does (L4).
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Starts the attempts of a batch. Dropping the future cancels them.
    fn invoke(&mut self, batch: Batch<'_, In>) -> Self::Future;

    /// Chooses the end of a call that has timed out (T3, F5). By default the call fails. The other records of its batch go on; the
    /// request is cancelled when none is left.
    fn on_timeout(
        &mut self,
        call: TimedOutCall<'_, In, Self::Output, Self::Error>,
    ) -> TimeoutAction<Self::Output, Self::Error> {
        let _ = call;
        TimeoutAction::Fail
    }

    /// Closes the function, as [`AsyncFunction::poll_close`](crate::AsyncFunction::poll_close) does (L4).
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}

impl<In, F, Fut, Answers, Output, Error> AsyncBatchFunction<In> for F
where
    F: FnMut(Batch<'_, In>) -> Fut,
    Fut: Future<Output = Result<Answers, Error>>,
    Answers: IntoIterator<
            Item = Result<Output, Error>,
            IntoIter: ExactSizeIterator<Item = Result<Output, Error>>,
        >,
    Error: Clone,
{
    type Output = Output;
    type Error = Error;
    type Answers = Answers;
    type Future = Fut;

    fn invoke(&mut self, batch: Batch<'_, In>) -> Fut {
        self(batch)
    }
}
