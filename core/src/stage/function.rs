//! How a stage calls its function: for one record, or for a batch of them.

use core::future::Future;
use core::task::{Context, Poll};

use super::request_for::{ForBatch, ForRecord, RequestFor};
use crate::batch_function::AsyncBatchFunction;
use crate::function::{AsyncFunction, AttemptInfo, TimedOutCall, TimeoutAction};
use crate::operator::{Attempt, Batch, Call, Completion, Operator, ResultOf};
use crate::outcome::Failure;
use crate::storage::Storage;
use crate::time::Instant;

/// How a stage calls its function `F`: an [`AsyncFunction`] for each record ([`ForRecord`]), or an [`AsyncBatchFunction`] for each batch
/// ([`ForBatch`]).
#[allow(unreachable_pub, missing_docs)] // part of a sealed trait
pub trait Invoke<In, F> {
    /// The answer for a record.
    type Output;
    /// The function's own error.
    type Error;
    /// What a request answers with: for one record, or for a batch.
    type Answer;
    /// A request under way.
    type Future: Future<Output = Result<Self::Answer, Self::Error>>;
    /// What a request is for.
    type RequestFor: RequestFor;

    fn poll_open(function: &mut F, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;

    fn poll_close(function: &mut F, cx: &mut Context<'_>) -> Poll<()>;

    fn on_timeout(
        function: &mut F,
        call: TimedOutCall<'_, In, Self::Output, Self::Error>,
    ) -> TimeoutAction<Self::Output, Self::Error>;

    /// Makes the next request.
    fn invoke(
        function: &mut F,
        next: <Self::RequestFor as RequestFor>::Next<'_, In>,
    ) -> Self::Future;

    /// The request at a place of the table has ended.
    fn complete<C, S>(
        operator: &mut Operator<C, S>,
        now: Instant,
        place: usize,
        answer: Result<Self::Answer, Failure<Self::Error>>,
    ) -> Completion
    where
        C: Call<Input = In, Output = Self::Output, Error = Self::Error>,
        S: Storage;

    /// Makes the request of a record that bypasses the slots.
    fn invoke_alone(function: &mut F, input: &In, attempt: AttemptInfo) -> Self::Future;

    /// The result of a record that bypasses the slots.
    fn result_alone(
        answer: Result<Self::Answer, Failure<Self::Error>>,
    ) -> Result<Self::Output, Failure<Self::Error>>;
}

impl<In, F: AsyncFunction<In>> Invoke<In, F> for ForRecord {
    type Output = F::Output;
    type Error = F::Error;
    type Answer = F::Output;
    type Future = F::Future;
    type RequestFor = ForRecord;

    #[inline(always)]
    fn poll_open(function: &mut F, cx: &mut Context<'_>) -> Poll<Result<(), F::Error>> {
        function.poll_open(cx)
    }

    #[inline(always)]
    fn poll_close(function: &mut F, cx: &mut Context<'_>) -> Poll<()> {
        function.poll_close(cx)
    }

    #[inline(always)]
    fn on_timeout(
        function: &mut F,
        call: TimedOutCall<'_, In, F::Output, F::Error>,
    ) -> TimeoutAction<F::Output, F::Error> {
        function.on_timeout(call)
    }

    #[inline(always)]
    fn invoke(function: &mut F, next: Attempt<'_, In>) -> F::Future {
        function.invoke(next.input, next.info)
    }

    #[inline(always)]
    fn complete<C, S>(
        operator: &mut Operator<C, S>,
        now: Instant,
        place: usize,
        answer: ResultOf<C>,
    ) -> Completion
    where
        C: Call<Input = In, Output = F::Output, Error = F::Error>,
        S: Storage,
    {
        operator.handle_completion_in(now, place, answer)
    }

    #[inline(always)]
    fn invoke_alone(function: &mut F, input: &In, attempt: AttemptInfo) -> F::Future {
        function.invoke(input, attempt)
    }

    #[inline(always)]
    fn result_alone(
        answer: Result<F::Output, Failure<F::Error>>,
    ) -> Result<F::Output, Failure<F::Error>> {
        answer
    }
}

impl<In, F: AsyncBatchFunction<In>> Invoke<In, F> for ForBatch {
    type Output = F::Output;
    type Error = F::Error;
    type Answer = F::Answers;
    type Future = F::Future;
    type RequestFor = ForBatch;

    fn poll_open(function: &mut F, cx: &mut Context<'_>) -> Poll<Result<(), F::Error>> {
        function.poll_open(cx)
    }

    fn poll_close(function: &mut F, cx: &mut Context<'_>) -> Poll<()> {
        function.poll_close(cx)
    }

    fn on_timeout(
        function: &mut F,
        call: TimedOutCall<'_, In, F::Output, F::Error>,
    ) -> TimeoutAction<F::Output, F::Error> {
        function.on_timeout(call)
    }

    fn invoke(function: &mut F, next: Batch<'_, In>) -> F::Future {
        function.invoke(next)
    }

    fn complete<C, S>(
        operator: &mut Operator<C, S>,
        now: Instant,
        place: usize,
        answer: Result<F::Answers, Failure<F::Error>>,
    ) -> Completion
    where
        C: Call<Input = In, Output = F::Output, Error = F::Error>,
        S: Storage,
    {
        let Some(id) = operator.batch_in(place) else { return Completion::Late };
        match answer {
            Ok(answers) => {
                let answers = answers.into_iter().map(|answer| answer.map_err(Failure::Error));
                operator.handle_batch_completion(now, id, answers)
            }
            Err(failure) => operator.handle_batch_failure(now, id, failure),
        }
    }

    fn invoke_alone(_: &mut F, _: &In, _: AttemptInfo) -> F::Future {
        unreachable!("where there are batches, no record bypasses the slots")
    }

    fn result_alone(
        _: Result<F::Answers, Failure<F::Error>>,
    ) -> Result<F::Output, Failure<F::Error>> {
        unreachable!("where there are batches, no record bypasses the slots")
    }
}
