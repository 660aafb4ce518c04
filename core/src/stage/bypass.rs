//! Records that pass: pulled between two turns while nothing is in flight, with a request that is ready when it is
//! first polled, or at once after it has woken itself then. They need no place in the operator and no turn.
//!
//! A stage in place does this. Elsewhere outcomes need a place anyway: the consumer comes for them later.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use futures_core::Stream;

use super::{OutcomeOf, Stage, end_running};
use crate::element::{IntoElement, StreamElement, StreamKind};
use crate::function::AsyncFunction;
use crate::outcome::Failure;
use crate::policy::KeySelector;
use crate::requests::{Requests, StageStorage, StageWaker};
use crate::retry::RetryStrategy;
use crate::runtime::{RunRequest, Timer};
use crate::time::Timestamp;

/// How many records may pass between two turns: as many as are handed out between two turns otherwise, at most.
const PASSING: usize = 32;

impl<St, V, M, F, R, K, Q, T, S> Stage<St, V, M, F, R, K, Q, T, S>
where
    St: Stream,
    St::Item: IntoElement<V, M>,
    M: StreamKind,
    F: AsyncFunction<V>,
    R: RetryStrategy<V, F::Output, F::Error>,
    K: KeySelector<V>,
    Q: RunRequest<F::Future>,
    Q::Request: Future<Output = Result<F::Output, Failure<F::Error>>>,
    T: Timer,
    S: StageStorage,
{
    /// Whether the next record may pass.
    #[inline(always)]
    pub(super) fn may_pass(&self) -> bool {
        S::Requests::<Q::Request>::BETWEEN_TURNS && self.passing > 0
    }

    /// Lets the next records pass, if it seems that they can.
    #[inline]
    pub(super) fn let_pass(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        let lets_pass = S::Requests::<Q::Request>::BETWEEN_TURNS
            && *this.ready_at_once
            && *this.source_woken
            && this.source.is_some()
            && this.operator.is_empty();
        if lets_pass {
            *this.passing = PASSING;
        }
        lets_pass
    }

    /// Pulls a record and starts its first attempt; its outcome, if it passes. Otherwise whatever has come has been taken
    /// in, and no more records pass until a turn lets them.
    #[inline(always)]
    pub(super) fn pass(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Option<(OutcomeOf<V, F>, Option<Timestamp>)> {
        let mut this = self.as_mut().project();
        let passing = core::mem::take(this.passing);
        let source = this.source.as_mut().as_pin_mut()?;
        let slot = this.operator.vacant_slot()?;
        *this.in_turn = true; // what panics below has taken a record with it
        let polled = this.requests.with_own(StageWaker::Source, |cx| source.poll_next(cx));
        let (value, timestamp) = match polled.map(|item| item.map(IntoElement::into_element)) {
            Poll::Ready(Some(StreamElement::Record { value, timestamp })) => (value, timestamp),
            other => {
                self.no_record(other);
                return None;
            }
        };
        let attempt = this.operator.first_attempt();
        let request = this.launch.launch(|| this.function.invoke(&value, attempt));
        let first = match this.requests.as_mut().start_alone(slot, request) {
            Poll::Ready(result) => match this.operator.second_attempt_in(&value, &result) {
                None => {
                    *this.in_turn = false;
                    *this.passing = passing - 1;
                    let outcome = this.operator.pass(value, result);
                    if outcome.result.is_err() && this.operator.has_failed() {
                        *this.passing = 0;
                    }
                    return Some((outcome, timestamp));
                }
                Some(delay) => Some((result, delay)),
            },
            Poll::Pending => None,
        };
        self.take_place(cx, (value, timestamp), first);
        None
    }

    /// The source has something else than a record, or nothing.
    #[cold]
    #[inline(never)]
    fn no_record(self: Pin<&mut Self>, polled: Poll<Option<StreamElement<V>>>) {
        let mut this = self.project();
        let now = this.operator.now(); // nothing is inside, so nothing counts from here
        match polled {
            Poll::Ready(Some(control)) => {
                let pushed = this.operator.push(now, control);
                debug_assert!(pushed.is_ok(), "there was room for it");
            }
            Poll::Ready(None) => {
                this.source.set(None);
                this.operator.finish(now);
            }
            Poll::Pending => {
                // What comes next is pulled in a turn, as much as there is room for, and asked for all at once.
                *this.source_woken = false;
                *this.ready_at_once = false;
            }
        }
        *this.in_turn = false;
    }

    /// A record that does not pass is given a place. Its first attempt runs, or has ended and another one is wanted.
    #[cold]
    #[inline(never)]
    fn take_place(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        (value, timestamp): (V, Option<Timestamp>),
        first: Option<(Result<F::Output, Failure<F::Error>>, Duration)>,
    ) {
        let is_ration_spent = T::is_ration_spent();
        let mut this = self.project();
        // The last turn can have been long ago: whoever polls the stage may have been busy with what passed before.
        this.operator.advance(this.timer.now());
        let key = this.key.key_of(&value);
        let Some(call) = this.operator.push_and_call(key, value, timestamp) else {
            unreachable!("nothing else is in flight, and no limit is zero");
        };
        let slot = call.id.slot();
        *this.ready_at_once = first.is_some();
        if let Some((result, delay)) = first {
            this.operator.end_first_attempt(slot, result, delay);
        } else if is_ration_spent {
            let polled = T::turn(cx, |_| this.requests.as_mut().poll(slot));
            if let Some(Poll::Ready(result)) = polled {
                *this.ready_at_once = true;
                let _ = end_running(this.operator, slot, result);
            }
        }
        *this.in_turn = false;
    }
}
