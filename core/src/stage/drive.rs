//! The loop that drives a stage: turns, and outputs handed to a sink between them.

use core::pin::Pin;
use core::task::{Context, Poll};

use super::pace::Turn;
use super::{Job, Stage, StageError};
use crate::element::StreamElement;
use crate::operator::OutcomeOf;
use crate::requests::StageStorage;
use crate::runtime::Timer;

/// Where the outputs of a stage go: into a ring to another task, to a consumer's function, or to the one who polls.
pub(super) trait Sink<J: Job, T: Timer, S: StageStorage> {
    /// Whether the consumer itself polls the stage. Then records may bypass the slots; and a turn without output ends the poll, since turns
    /// would multiply where stages lie over stages (L5).
    const IN_PLACE: bool = false;

    /// Reads what the consumer has written. Called in each turn, when wake-ups have been collected.
    fn listen(&mut self, _stage: Pin<&mut Stage<J, T, S>>) {}

    /// Hands over outputs, as far as the consumer takes them now.
    fn deliver(&mut self, stage: Pin<&mut Stage<J, T, S>>, cx: &mut Context<'_>) -> Delivered;

    /// The state of the consumer.
    fn consumer(&self) -> ConsumerState {
        ConsumerState::Free
    }
}

/// What a sink has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    /// Nothing has left the stage.
    Nothing,
    /// Something has left, be it a record that was dropped: there may be room for more, or it was the last.
    Something,
    /// The one who polls has an output, or comes for it: the poll ends.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumerState {
    Free,
    /// It works at an element, and wakes the task when it is done.
    Busy,
    /// Nobody takes outputs any more.
    #[cfg(feature = "alloc")] // a consumer of its own: the stage is on a task
    Gone,
}

/// Why driving has ended for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driven {
    Delivered,
    /// The stage has ended, or nobody takes its outputs.
    End,
}

/// Takes turns and hands over outputs, until there is nothing to do, or the poll has had its turns.
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
        let turn = stage.as_mut().turn(cx, K::IN_PLACE, |stage| sink.listen(stage));
        let delivered = sink.deliver(stage.as_mut(), cx);
        match (turn, delivered, sink.consumer()) {
            (_, Delivered::All, _) => return Poll::Ready(Driven::Delivered),
            (Turn::End, _, ConsumerState::Busy) => return Poll::Pending,
            (Turn::End, _, _) => return Poll::Ready(Driven::End),
            #[cfg(feature = "alloc")]
            (Turn::Idle, _, ConsumerState::Gone) => return Poll::Ready(Driven::End),
            (turn, Delivered::Nothing, _) if K::IN_PLACE || turn == Turn::Idle => {
                stage.end_poll(turn, cx);
                return Poll::Pending;
            }
            (Turn::Idle | Turn::Busy, ..) => {}
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

    /// Why the stage has ended early, if it has.
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
