//! The bypass: a record whose request is ready when it is first polled needs no slot in the operator and no turn, while
//! nothing is in flight, or in an unordered stage. That takes a third of the instructions.
//!
//! A stage that its consumer polls has it, and one on a task of its own, whose outcomes go into a buffer at once. With
//! [`run`](Stage::run) a stage has none: its outcomes wait in their slots for the consumer.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use super::function::Invoke as _;
use super::job::RequestForOf;
use super::pace::Pace;
use super::request_for::RequestFor;
use super::source::Pulled;
use super::turn::complete;
use super::{Job, Stage};
use crate::element::StreamElement;
use crate::operator::{OutcomeOf, ResultOf};
use crate::policy::Extras;
use crate::requests::{Requests, StageStorage};
use crate::runtime::{RunRequest, Timer};
use crate::time::Timestamp;

impl<J: Job, T: Timer, S: StageStorage> Stage<J, T, S> {
    /// Whether the next record may bypass the slots.
    #[inline(always)]
    pub(super) fn may_bypass(&self) -> bool {
        S::Requests::<J::Request>::BETWEEN_TURNS && self.pace.may_bypass()
    }

    /// Lets the next records bypass the slots, if it is likely that they can. Returns whether the turn leaves them to the bypass.
    ///
    /// Not if each request needs a permit, which it gets in a turn. And not while outcomes wait, which leave first. If few
    /// requests wait for answers, a stage `in_place` starts none in its turns until its consumer has taken these: otherwise there would be more outcomes
    /// after each turn, and the bypass would never have its turn. A barrier that is due does not wait for that (K11).
    #[inline]
    pub(super) fn allow_bypass(self: Pin<&mut Self>, in_place: bool) -> bool {
        let this = self.project();
        let may_bypass = S::Requests::<J::Request>::BETWEEN_TURNS
            && !RequestForOf::<J>::BATCH
            && !<J::Extras as Extras<J::Input, J::Output, J::Error>>::THROTTLES
            && this.pace.expects_bypass()
            && this.source.is_woken()
            && !this.source.is_closed()
            && this.operator.may_bypass()
            && !this.share.is_limited();
        if may_bypass && this.operator.has_output() {
            #[cfg(all(feature = "alloc", feature = "checkpoint"))]
            let in_place = in_place && !this.source.is_barrier_due();
            return in_place
                && Pace::may_put_off(this.operator.running(), this.operator.capacity());
        }
        if may_bypass {
            this.pace.allow_bypass(this.operator.is_empty());
        }
        may_bypass
    }

    /// Pulls a record, starts its first attempt, and returns its outcome. `None` if it needs a slot after all, which it has then; or if
    /// something else than a record came. In an unordered stage the next ones may bypass a record that waits in its slot; otherwise
    /// no more records bypass the slots then, until a turn allows it.
    ///
    /// In a stage `in_place`, while nothing is in flight, a request that has woken itself at its first poll is polled once more.
    #[inline(always)]
    pub(super) fn bypass(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        in_place: bool,
    ) -> Option<(OutcomeOf<J>, Option<Timestamp>)> {
        let mut this = self.as_mut().project();
        let permission = this.pace.take_bypasses();
        if this.source.is_closed() {
            return None;
        }
        let slot = this.operator.vacant_slot()?;
        *this.in_turn = true; // a panic below loses the record that was pulled, and must not go unnoticed
        let (value, timestamp) = match this.source.as_mut().pull(&*this.requests) {
            Pulled::Element(StreamElement::Record { value, timestamp }) => (value, timestamp),
            other => {
                self.no_record(other);
                return None;
            }
        };
        let attempt = this.operator.first_attempt(&value);
        let request =
            this.run_request.launch(|| J::Invoke::invoke_alone(this.function, &value, attempt));
        let operator = &*this.operator;
        let is_alone = || in_place && operator.in_flight() == 0;
        let polled = this.requests.as_mut().start_alone(slot, request, is_alone);
        let first = match polled {
            Poll::Ready(answer) => {
                let result = J::Invoke::result_alone(answer);
                match this.operator.second_attempt_in(&value, &result) {
                    None if result.is_ok() || this.operator.failure_may_bypass() => {
                        *this.in_turn = false;
                        this.pace.bypassed(permission);
                        let outcome = this.operator.bypass(value, result);
                        if outcome.result.is_err() && this.operator.has_failed() {
                            this.pace.forbid_bypass();
                        }
                        return Some((outcome, timestamp));
                    }
                    delay => Some((result, delay)),
                }
            }
            Poll::Pending => None,
        };
        self.take_slot(cx, (value, timestamp), first, permission);
        None
    }

    /// The source has a control element, or nothing.
    #[cold]
    #[inline(never)]
    fn no_record(self: Pin<&mut Self>, pulled: Pulled<J::Input>) {
        let this = self.project();
        // If nothing is in flight, no time counts from here.
        let now = if this.operator.is_empty() { this.operator.now() } else { this.alarm.now() };
        match pulled {
            Pulled::Element(control) => {
                let pushed = this.operator.push(now, control);
                debug_assert!(pushed.is_ok(), "no control element is in flight, so there is room");
            }
            Pulled::End => this.operator.finish(now),
            // The next records are pulled in a turn, as many as there is room for, and their requests start together.
            Pulled::Nothing => this.pace.started(false),
        }
        *this.in_turn = false;
    }

    /// Gives a slot to a record that cannot bypass the slots. Its first attempt is running, or has failed, and perhaps another one is wanted.
    ///
    /// On a runtime with a budget of polls a request may also answer `Pending` because that is spent. It is polled once more then, with
    /// the budget suspended: the runtime may put its wake-up off for so long that its deadline passes first (T6).
    #[cold]
    #[inline(never)]
    fn take_slot(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        (value, timestamp): (J::Input, Option<Timestamp>),
        first: Option<(ResultOf<J>, Option<Duration>)>,
        permission: usize,
    ) {
        let is_budget_spent = T::is_budget_spent();
        let mut this = self.as_mut().project();
        // The last turn can have been long ago, if the consumer was busy with outcomes that bypassed the slots.
        let now = this.alarm.now();
        let element = StreamElement::Record { value, timestamp };
        let Ok(Some(attempt)) = this.operator.push_start(now, element) else {
            unreachable!(
                "the record may bypass the slots, so there is room, and its attempt may start"
            );
        };
        let slot = attempt.id.slot();
        this.pace.started(first.is_some());
        if let Some((result, delay)) = first {
            this.operator.end_first_attempt(slot, result, delay);
        } else if is_budget_spent
            && let Some(Poll::Ready(answer)) = T::turn(cx, |_| this.requests.as_mut().poll(slot))
        {
            this.pace.started(true);
            let _ = complete::<J, S>(this.operator, now, slot, answer);
        }
        *this.in_turn = false;
        if this.operator.has_failed() {
            self.fail();
        } else if !is_budget_spent && this.operator.may_bypass() && !this.operator.has_output() {
            this.pace.waits(permission, this.operator.progress());
        }
    }
}
