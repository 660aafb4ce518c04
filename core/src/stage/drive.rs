//! The loop that drives a stage: turns, and outputs handed to a sink between them.

use core::pin::Pin;
use core::task::{Context, Poll};

use super::pace::Turn;
use super::{Job, Stage, StageError};
use crate::element::StreamElement;
use crate::operator::OutcomeOf;
use crate::requests::StageStorage;
use crate::runtime::Timer;

/// The taker of a stage's outputs: a ring to another task, a consumer's function, or the caller of `poll_next`.
pub(super) trait Sink<J: Job, T: Timer, S: StageStorage> {
    /// Whether the consumer itself polls the stage. Then a turn without an output ends the poll: if it
    /// did not, a stage over another stage would poll that one in each of its turns, and turns would multiply (L5).
    const IN_PLACE: bool = false;

    /// Reads the consumer's side of the shared state. Called in each turn, after the wake-ups have been collected.
    fn listen(&mut self, _stage: Pin<&mut Stage<J, T, S>>) {}

    /// Whether it takes outcomes of records that [bypass](Stage::bypass) the slots, after this turn.
    #[inline(always)]
    fn takes_bypasses(&self) -> bool {
        Self::IN_PLACE
    }

    /// Hands over outputs, as far as the consumer takes them now.
    fn deliver(&mut self, stage: Pin<&mut Stage<J, T, S>>, cx: &mut Context<'_>) -> Delivered;

    /// The state of the consumer.
    fn consumer(&self) -> ConsumerState {
        ConsumerState::Free
    }
}

/// The result of [`Sink::deliver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// Nothing has left the stage.
    Nothing,
    /// Something has left, with an element or (a dropped record) without: there may be room for more, or it was the last.
    Something,
    /// The caller of `poll_next` takes the next output itself: driving ends.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumerState {
    Free,
    /// It works on an element, and wakes the task when it is free.
    Busy,
    /// Nobody takes outputs any more.
    #[cfg(feature = "alloc")] // a consumer of its own: the stage is on a task
    Gone,
}

/// The reason for which [`drive`] has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driven {
    /// The caller of `poll_next` takes the next output.
    Delivered,
    /// The stage has ended, or nobody takes its outputs.
    End,
}

/// Takes turns and hands over outputs, until there is nothing to do, or the poll has had all its turns.
#[inline]
pub(super) fn drive<J, T, S, K>(
    mut stage: Pin<&mut Stage<J, T, S>>,
    cx: &mut Context<'_>,
    sink: &mut K,
) -> Poll<Driven>
where
    J: Job,
    T: Timer,
    S: StageStorage,
    K: Sink<J, T, S>,
{
    while stage.as_mut().take_turn() {
        let turn = stage.as_mut().turn(cx, sink);
        let delivered = sink.deliver(stage.as_mut(), cx);
        match (turn, delivered, sink.consumer()) {
            // This is no end of a poll: the caller comes again, and its turns count on, so that it gives way after some (L5).
            (_, Delivered::All, _) => return Poll::Ready(Driven::Delivered),
            // The consumer is at the last element. It wakes the task itself.
            (Turn::End, _, ConsumerState::Busy) => {
                stage.project().pace.end_poll();
                return Poll::Pending;
            }
            (Turn::End, _, _) => return Poll::Ready(Driven::End),
            // A busy stage sees this at its next poll, which is certain to come.
            #[cfg(feature = "alloc")]
            (Turn::Idle, _, ConsumerState::Gone) => return Poll::Ready(Driven::End),
            // Nothing has left, so there is no new room. An idle stage sleeps; a stage in place gives way even if it is busy.
            (turn, Delivered::Nothing, _) if K::IN_PLACE || turn == Turn::Idle => {
                stage.end_poll(turn, cx);
                return Poll::Pending;
            }
            (Turn::Idle | Turn::Busy, ..) => {} // there is more to do, or room for more
        }
    }
    stage.end_poll(Turn::Busy, cx);
    Poll::Pending
}

impl<J: Job, T: Timer, S: StageStorage> Stage<J, T, S> {
    fn take_turn(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        this.pace.take_turn(this.operator.capacity())
    }

    /// Whether an output may leave, with an element or (a dropped record) without.
    pub(super) fn has_output(mut self: Pin<&mut Self>) -> bool {
        self.as_mut().admit();
        self.operator.has_output()
    }

    /// Takes the next output.
    #[inline]
    pub(super) fn poll_output(mut self: Pin<&mut Self>) -> Option<StreamElement<OutcomeOf<J>>> {
        self.as_mut().admit();
        self.project().operator.poll_output()
    }

    /// Takes the reason for which the stage has ended early, if it has.
    pub(super) fn take_failure(self: Pin<&mut Self>) -> Result<(), StageError<J::Error>> {
        self.project().failure.take().map_or(Ok(()), Err)
    }

    /// Gives slots to restored elements as outputs make room for them. Their time counts from then, and the last turn may be long
    /// ago, so the clock is read.
    fn admit(self: Pin<&mut Self>) {
        let this = self.project();
        if this.operator.has_backlog() {
            let _ = this.operator.room(this.alarm.now());
        }
    }
}
