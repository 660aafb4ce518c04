//! A stage on a task of its own: the future that drives it there, also while the consumer is busy (L1).

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker, ready};
use core::time::Duration;

use pin_project_lite::pin_project;

use super::drive::{ConsumerState, Delivered, Sink, drive};
use super::handle::Command;
use super::ring::Outlet;
use super::{Job, Stage, StageError, Stop};
use crate::element::StreamElement;
use crate::operator::{Metrics, Operator, OutcomeOf};
use crate::requests::StageWaker;
use crate::runtime::Timer;
use crate::storage::Heap;
use crate::time::Instant;

/// How often the histograms and the age of the oldest record are published, with few records in flight.
const FULL_NUMBERS_EVERY: Duration = Duration::from_millis(50);

/// With very many the time between is longer by this factor at most. Without a bound a stage that takes in records fast would never
/// publish them while its window fills, since the time would grow faster than it passes.
const RARELY: usize = 100;

/// With more records in flight a window takes too long to be published in any turn: it comes with the histograms.
const MANY_RECORDS: usize = 10_000;

pin_project! {
    /// Drives a stage and hands over its outputs: the future that is spawned.
    pub struct Driver<J, T>
    where
        J: Job,
    {
        #[pin]
        stage: Stage<J, T, Heap>,
        ring: RingSink<J>,
        // When all numbers were published last.
        published: Instant,
    }
}

/// Hands outputs over through a ring.
struct RingSink<J: Job> {
    outlet: Outlet<J::Kind, OutcomeOf<J>>,
    /// The capacity has changed in this turn.
    was_resized: bool,
}

/// However the task ends: at the end of the stage, by a panic, or cancelled.
impl<J: Job> Drop for RingSink<J> {
    fn drop(&mut self) {
        self.outlet.controls().end();
    }
}

impl<J: Job, T: Timer> Sink<J, T, Heap> for RingSink<J> {
    fn listen(&mut self, mut stage: Pin<&mut Stage<J, T, Heap>>) {
        self.was_resized = false;
        while let Some(command) = self.outlet.controls().next_command() {
            if let Command::Capacity(capacity) = command {
                self.outlet.resize(capacity);
                self.was_resized = true;
            }
            stage.as_mut().apply(command);
        }
        // Outputs in the ring count against the capacity.
        stage.project().operator.set_undelivered(self.outlet.undelivered());
    }

    // A buffer that is full takes none: if a turn left the records to the bypass then, the stage would never rest.
    fn takes_bypasses(&self) -> bool {
        !self.outlet.is_full()
    }

    fn deliver(
        &mut self,
        mut stage: Pin<&mut Stage<J, T, Heap>>,
        cx: &mut Context<'_>,
    ) -> Delivered {
        let has_left = match stage.may_bypass() {
            true => T::turn(cx, |cx| self.give_bypassing(stage.as_mut(), cx)),
            false => self.outlet.give(|undelivered| next_output(stage.as_mut(), undelivered)),
        };
        if has_left {
            stage.project().operator.set_undelivered(self.outlet.undelivered());
        }
        // A consumer that was taking an output meanwhile has seen the old capacity, and this task sees what it took in the
        // next turn: without a barrier for each record neither sees at once what the other has just written.
        if has_left || self.was_resized { Delivered::Something } else { Delivered::Nothing }
    }

    // Asked after each turn: the turn may have collected the wake-up that announces this.
    fn consumer(&self) -> ConsumerState {
        if self.outlet.is_abandoned() { ConsumerState::Gone } else { ConsumerState::Free }
    }
}

impl<J: Job> RingSink<J> {
    /// Hands over the outcomes of records that bypass the slots, and the outputs that come up meanwhile. This is work like a turn's,
    /// and may be as slow.
    fn give_bypassing<T: Timer>(
        &mut self,
        mut stage: Pin<&mut Stage<J, T, Heap>>,
        cx: &mut Context<'_>,
    ) -> bool {
        let began = stage.alarm.now();
        let has_left = self.outlet.give(|undelivered| {
            // As long as records may bypass the slots, no output waits.
            while stage.may_bypass() {
                stage.as_mut().project().operator.set_undelivered(undelivered);
                if !stage.operator.may_bypass() {
                    break; // the buffer has taken the last room
                }
                if let Some((value, timestamp)) = stage.as_mut().bypass(cx, false) {
                    return Some(Some(StreamElement::Record { value, timestamp }));
                }
            }
            next_output(stage.as_mut(), undelivered)
        });
        stage.note_end_of_turn(began);
        has_left
    }
}

/// The next output, as [`Outlet::give`] wants it. The operator learns how much is undelivered only where that matters at once: nearly all
/// outputs are records that go the shortest way.
#[inline(always)]
fn next_output<J: Job, T: Timer>(
    mut stage: Pin<&mut Stage<J, T, Heap>>,
    undelivered: usize,
) -> Option<Option<StreamElement<OutcomeOf<J>>>> {
    let operator = stage.as_mut().project().operator;
    let in_flight = operator.in_flight();
    if let Some((value, timestamp)) = operator.poll_record() {
        return Some(Some(StreamElement::Record { value, timestamp }));
    }
    if operator.in_flight() < in_flight {
        return Some(None); // a record that was dropped
    }
    operator.set_undelivered(undelivered); // restored elements may get slots
    stage.as_mut().has_output().then(|| stage.as_mut().poll_output())
}

impl<J: Job, T: Timer> Future for Driver<J, T> {
    type Output = Result<(), StageError<J::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        // The consumer may be gone although the runtime has not cancelled this task (L2).
        let is_gone = this.ring.outlet.is_abandoned();
        let ended = match is_gone {
            true => Poll::Ready(()),
            false => drive(this.stage.as_mut(), cx, this.ring).map(|_| ()),
        };
        self.as_mut().publish(ended.is_ready());
        ready!(ended);
        Poll::Ready(self.project().stage.take_failure())
    }
}

impl<J: Job, T: Timer> Driver<J, T> {
    pub(super) fn new(stage: Stage<J, T, Heap>, outlet: Outlet<J::Kind, OutcomeOf<J>>) -> Self {
        let ring = RingSink { outlet, was_resized: false };
        Self { stage, ring, published: Instant::ZERO }
    }

    /// Publishes the stage's numbers: the quick ones after every poll, all of them now and then,
    /// and less often the more slots have to be looked at for them.
    fn publish(mut self: Pin<&mut Self>, last: bool) {
        let mut this = self.as_mut().project();
        let stage = this.stage.as_mut().project();
        let (operator, slow_turns) = (stage.operator, stage.pace.slow_turns());
        let now = operator.now();
        let all = last || now - *this.published >= full_numbers_every(operator.in_flight());
        if all {
            *this.published = now;
            operator.forget_vacant();
        }
        let numbers = if all { operator.metrics(now) } else { operator.quick_metrics(now) };
        let numbers = Metrics { slow_turns, ..numbers };
        this.ring.outlet.controls().publish(&numbers, all);
        if !last && this.ring.outlet.controls().window.is_wanted() {
            self.publish_window(all);
        }
    }

    #[cold]
    #[inline(never)]
    fn publish_window(self: Pin<&mut Self>, all: bool) {
        let this = self.project();
        let operator = this.stage.project().operator;
        if all || operator.is_ordered() || operator.in_flight() <= MANY_RECORDS {
            let cells = operator.window(operator.now());
            this.ring.outlet.controls().window.publish(operator.in_flight(), cells);
        }
    }
}

/// The time between two publications of all numbers.
fn full_numbers_every(in_flight: usize) -> Duration {
    FULL_NUMBERS_EVERY * (1 + in_flight / MANY_RECORDS).min(RARELY) as u32
}

impl<J: Job, T: Timer> Stage<J, T, Heap> {
    /// A waker that gives the stage another turn.
    pub(super) fn consumer_waker(&self) -> Waker {
        self.requests.own_waker(StageWaker::Consumer)
    }

    fn apply(self: Pin<&mut Self>, command: Command) {
        let this = self.project();
        // The handle has checked the numbers.
        match command {
            Command::Capacity(capacity) => _ = this.operator.set_capacity(capacity),
            Command::MaxRunning(attempts) => _ = this.operator.set_max_running(attempts),
            Command::Pause => this.operator.pause(this.alarm.now()),
            Command::Resume => this.operator.resume(this.alarm.now()),
            Command::Stop(limit) => {
                let limit = limit.map(|limit| (limit, Operator::shut_down as _));
                *this.stop = Some(Stop::Asked(limit));
            }
        }
    }
}

impl<J: Job, T> fmt::Debug for Driver<J, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("stage", &self.stage).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // M1, M2: all numbers and windows come within five seconds, however many records are in flight.
    #[test]
    fn all_numbers_come_within_five_seconds() {
        let times = [0, 9_999, 10_000, 990_000, 1 << 24].map(full_numbers_every);
        assert_eq!(times.map(|time| time.as_millis()), [50, 50, 100, 5000, 5000]);
        assert_eq!(full_numbers_every(usize::MAX), times[4]);
    }
}
