//! Request ids that come from the records' positions, for pipelines that keep positions only (K14).

use core::fmt;
use core::marker::PhantomData;
use core::task::{Context, Poll};

use super::function::Invoke;
use super::request_for::{NextRequest as _, RequestFor};
use crate::function::{AttemptInfo, TimedOutCall, TimeoutAction};
use crate::operator::{Call, Completion, Operator};
use crate::outcome::Failure;
use crate::storage::Storage;
use crate::time::Instant;
use crate::tracked::Tracked;

/// Calls a function with request ids that come from the records' positions, in the way `A`. A type without values.
pub struct WithPositionIds<A>(PhantomData<fn() -> A>);

impl<A> fmt::Debug for WithPositionIds<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WithPositionIds")
    }
}

impl<V, F, A: Invoke<Tracked<V>, F>> Invoke<Tracked<V>, F> for WithPositionIds<A> {
    type Output = A::Output;
    type Error = A::Error;
    type Answer = A::Answer;
    type Future = A::Future;
    type RequestFor = A::RequestFor;

    fn poll_open(function: &mut F, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
        A::poll_open(function, cx)
    }

    fn poll_close(function: &mut F, cx: &mut Context<'_>) -> Poll<()> {
        A::poll_close(function, cx)
    }

    fn on_timeout(
        function: &mut F,
        call: TimedOutCall<'_, Tracked<V>, A::Output, A::Error>,
    ) -> TimeoutAction<A::Output, A::Error> {
        let TimedOutCall { input, attempts, last } = call;
        input.lend(|input| A::on_timeout(function, TimedOutCall { input, attempts, last }))
    }

    fn invoke(
        function: &mut F,
        next: <A::RequestFor as RequestFor>::Next<'_, Tracked<V>>,
    ) -> A::Future {
        next.each(Tracked::begin_lending);
        let request = A::invoke(function, next.with_request_ids(Tracked::request_id));
        next.each(Tracked::end_lending);
        request
    }

    fn complete<C, S>(
        operator: &mut Operator<C, S>,
        now: Instant,
        place: usize,
        answer: Result<A::Answer, Failure<A::Error>>,
    ) -> Completion
    where
        C: Call<Input = Tracked<V>, Output = A::Output, Error = A::Error>,
        S: Storage,
    {
        A::complete(operator, now, place, answer)
    }

    fn invoke_alone(function: &mut F, input: &Tracked<V>, attempt: AttemptInfo) -> A::Future {
        let attempt = AttemptInfo { request_id: Tracked::request_id(input), ..attempt };
        input.lend(|input| A::invoke_alone(function, input, attempt))
    }

    fn result_alone(
        answer: Result<A::Answer, Failure<A::Error>>,
    ) -> Result<A::Output, Failure<A::Error>> {
        A::result_alone(answer)
    }
}
