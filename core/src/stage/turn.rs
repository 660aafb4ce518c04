//! One turn of a stage: the unit of its work.

use core::pin::Pin;
use core::task::{Context, Poll};

use super::drive::Sink;
use super::function::Invoke as _;
use super::job::{AnswerOf, RequestForOf};
use super::pace::{Budget, Polled, Turn};
use super::request_for::{NextRequest as _, RequestFor};
use super::source::Pulled;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use super::source::Source;
use super::{Job, Life, OperatorOf, Stage, StageError, Stop};
use crate::operator::{Completion, Expired};
use crate::outcome::Failure;
use crate::requests::{Requests, StageStorage, StageWaker, WakeEvent};
use crate::runtime::{RunRequest, Timer};
use crate::time::Instant;

impl<J: Job, T: Timer, S: StageStorage> Stage<J, T, S> {
    /// Reads the clock, polls woken requests, handles deadlines, and starts requests. It leaves the next records to the
    /// [bypass](Self::bypass), if the sink lets them use it and they may.
    ///
    /// The sink [listens](Sink::listen) after the wake-ups have been collected, and before anything depends on what it reads. Read
    /// earlier, a value could be out of date, and the wake-up that announces the new one would be gone.
    pub(super) fn turn<K: Sink<J, T, S>>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        sink: &mut K,
    ) -> Turn {
        self.as_mut().project().requests.begin(cx);
        T::turn(cx, |_| {
            let mut stage = self;
            assert!(!stage.in_turn, "a stage was polled again after one of its requests panicked");
            *stage.as_mut().project().in_turn = true; // it stays so if the turn panics
            let now = stage.alarm.now();
            let turn = stage.as_mut().work(now, sink);
            // A stage that its consumer polls takes a turn for a few records, which would cost each of them 4 instructions.
            #[cfg(feature = "alloc")]
            if !K::IN_PLACE {
                stage.as_mut().note_end_of_turn(now);
            }
            #[cfg(all(feature = "alloc", feature = "checkpoint"))]
            stage.as_mut().report();
            *stage.project().in_turn = false;
            turn
        })
    }

    fn work<K: Sink<J, T, S>>(mut self: Pin<&mut Self>, now: Instant, sink: &mut K) -> Turn {
        if cfg!(feature = "alloc") {
            // Before `listen` applies commands, and before numbers are published. Without a heap there is neither.
            self.as_mut().project().operator.advance(now);
        }
        if self.operator.has_failed() {
            self.as_mut().fail(); // since the last turn: a record on the bypass, or a restored one
        }
        let operator = &self.operator;
        let table = S::Requests::<J::Request>::TURN_BUDGET;
        let mut budget = Budget::new(table, operator.done(), || operator.has_output());
        let polled = self.as_mut().poll_woken(now, &mut budget);
        sink.listen(self.as_mut());
        if self.stop.is_some() {
            self.as_mut().stop_input(now);
        }
        // After the stop, which also ends a stage whose function is not open yet.
        if self.life != Life::Running {
            #[cfg(all(feature = "alloc", feature = "checkpoint"))]
            if self.life == Life::Opening && self.source.is_barrier_due() {
                self.as_mut().fetch_barrier(now, &mut budget);
                if !budget.is_left() {
                    return Turn::Busy;
                }
            }
            return self.open_or_close();
        }
        // A request that is left woken may have its answer, which then counts (T6).
        if polled != Polled::Some {
            self.as_mut().handle_deadlines(now, polled, &mut budget);
        }
        if polled == Polled::All && sink.takes_bypasses() && self.as_mut().allow_bypass(K::IN_PLACE)
        {
            return Turn::Busy;
        }
        let is_done = loop {
            let is_done = self.as_mut().start_requests(now, &mut budget);
            let this = self.as_mut().project();
            if !this.share.get_permit(this.operator, &*this.requests, is_done) {
                break is_done;
            }
        };
        if self.operator.has_failed() {
            self.as_mut().fail();
        }
        if self.source.is_closed() && self.operator.is_empty() {
            let this = self.as_mut().project();
            (*this.life, *this.function_woken) = (Life::Closing, true); // woken, so that it is polled at once
            return self.open_or_close();
        }
        if polled == Polled::All && is_done { Turn::Idle } else { Turn::Busy }
    }

    /// A turn ends that began at `began`.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    pub(super) fn note_end_of_turn(self: Pin<&mut Self>, began: Instant) {
        let this = self.project();
        this.pace.turn_took(this.alarm.now().since(began));
    }

    /// Polls woken requests and no others (L6), until none is woken or the budget for them is spent (L5).
    #[inline]
    fn poll_woken(self: Pin<&mut Self>, now: Instant, budget: &mut Budget) -> Polled {
        let mut this = self.project();
        // A pass that begins now hands out everything that is woken. One that began in an earlier turn has gone past requests
        // that may have been woken since.
        let mut sees_all = this.requests.is_between_passes();
        let mut has_passed = false;
        if sees_all && let Some(place) = RequestForOf::<J>::head(this.operator) {
            // In a large ordered window, completing the other calls first only fills the cache with outcomes that wait.
            this.requests.as_mut().begin_at(place);
        }
        while budget.is_enough_for_woken() {
            match this.requests.as_mut().next_woken() {
                None if sees_all => return this.pace.polled_all(),
                None => {
                    (sees_all, has_passed) = (true, true); // one more pass
                    continue;
                }
                Some(WakeEvent::Own(StageWaker::Source)) => this.source.as_mut().wake(),
                Some(WakeEvent::Own(StageWaker::Timer)) => this.alarm.as_mut().wake(),
                Some(WakeEvent::Own(StageWaker::Function)) => *this.function_woken = true,
                Some(WakeEvent::Own(StageWaker::Consumer)) => {}
                Some(WakeEvent::Request(place)) => {
                    budget.spend();
                    if let Some(Poll::Ready(answer)) = this.requests.as_mut().poll(place)
                        && complete::<J, S>(this.operator, now, place, answer) == Completion::Final
                    {
                        return Polled::Some; // no deadline counts any more, and this turn drops all requests
                    }
                }
            }
            sees_all = false; // a request may have been woken by the poll
        }
        this.pace.polled_some(has_passed)
    }

    /// Handles the deadlines that have passed (T4, T6): up to the instant of which the runtime has delivered everything, and
    /// after all woken requests were polled. After a mere [pass](Polled::Pass), a request that has been woken since is
    /// polled once more before it expires.
    #[inline]
    fn handle_deadlines(self: Pin<&mut Self>, now: Instant, polled: Polled, budget: &mut Budget) {
        let mut this = self.project();
        let delivered = this.alarm.delivered();
        loop {
            let requests = &mut this.requests;
            let expired = this.operator.expire(now, delivered, |operator, id| {
                // When all woken requests were polled, only the cancellation of another one below can have woken this one since (a
                // permit has come free, say). It would begin its work after its own deadline.
                let Some(place) = RequestForOf::<J>::place_of(operator, id) else { return };
                if polled != Polled::Pass || !requests.as_mut().take_woken(place) {
                    return;
                }
                budget.overdraw();
                if let Some(Poll::Ready(answer)) = requests.as_mut().poll(place) {
                    let _ = complete::<J, S>(operator, now, place, answer);
                }
            });
            let Some(expired) = expired else { return };
            if let Some(place) = RequestForOf::<J>::cancelled(this.operator, expired) {
                this.requests.as_mut().remove(place);
            }
            if let Expired::Call(id) = expired {
                this.operator
                    .resolve_timeout(id, |call| J::Invoke::on_timeout(this.function, call));
            }
        }
    }

    /// Starts the requests of attempts that are due, and of new records while there is room for them. Returns `false` if the budget
    /// has ended before the work.
    #[inline]
    fn start_requests(self: Pin<&mut Self>, now: Instant, budget: &mut Budget) -> bool {
        let mut this = self.project();
        let mut room = this.operator.room(now);
        while budget.is_left() {
            let next = if RequestForOf::<J>::has_next(this.operator) {
                RequestForOf::<J>::poll_next(this.operator, now)
            } else {
                let pulled = if room == 0 {
                    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
                    if pull_beyond::<J, S>(
                        this.source.as_mut(),
                        this.operator,
                        &*this.requests,
                        now,
                    ) {
                        budget.spend();
                        room = this.operator.room(now);
                        continue;
                    }
                    Pulled::Nothing
                } else if !this.source.is_woken() {
                    Pulled::Nothing
                } else {
                    this.source.as_mut().pull(&*this.requests)
                };
                match pulled {
                    Pulled::Element(element) => {
                        // A control element may have used up the room for control elements, so the room is asked for again below.
                        room = if element.is_record() { room - 1 } else { 0 };
                        let Ok(next) = RequestForOf::<J>::push(this.operator, now, element) else {
                            unreachable!("there was room for it");
                        };
                        next
                    }
                    Pulled::End => {
                        this.operator.finish(now);
                        continue;
                    }
                    Pulled::Nothing if RequestForOf::<J>::has_last(this.operator) => {
                        RequestForOf::<J>::poll_next(this.operator, now)
                    }
                    Pulled::Nothing => return true,
                }
            };
            budget.spend(); // also for an element that starts no request: the budget bounds how much is pulled
            let Some(next) = next else {
                room = this.operator.room(now);
                // A record that waits for a permit only. With one, its attempt comes next.
                this.share.get_permit(this.operator, &*this.requests, budget.is_left());
                continue;
            };
            let place = next.place();
            let request = this.run_request.launch(|| J::Invoke::invoke(this.function, next));
            let polled = this.requests.as_mut().start(place, request);
            this.pace.started(polled.is_ready());
            if let Poll::Ready(answer) = polled
                && complete::<J, S>(this.operator, now, place, answer) == Completion::Final
            {
                return true;
            }
        }
        false
    }

    /// Takes in an announced barrier, and all that comes before it, while the function is being opened (K11).
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    #[cold]
    fn fetch_barrier(self: Pin<&mut Self>, now: Instant, budget: &mut Budget) {
        let mut this = self.project();
        let requests = &*this.requests;
        while budget.is_left()
            && pull_beyond::<J, S>(this.source.as_mut(), this.operator, requests, now)
        {
            budget.spend();
        }
    }

    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    #[inline(always)]
    fn report(self: Pin<&mut Self>) {
        let this = self.project();
        // Where checkpoints hold nothing of the stage, its attempts are no news.
        let progress = if this.operator.keeps_nothing() { 0 } else { this.operator.progress() };
        this.source.report(progress, this.operator.has_backlog());
    }

    /// Opens or closes the function.
    #[cold]
    fn open_or_close(self: Pin<&mut Self>) -> Turn {
        let mut this = self.project();
        if *this.life == Life::Ended {
            return Turn::End;
        }
        #[cfg(all(feature = "alloc", feature = "checkpoint"))]
        if *this.life == Life::Opening && this.source.is_held() {
            // A source that has ended before its first barrier has broken off, and so does the pipeline.
            if this.source.is_closed() {
                *this.life = Life::Ended;
                return Turn::End;
            }
            return Turn::Idle;
        }
        if !core::mem::take(this.function_woken) {
            return Turn::Idle;
        }
        let (requests, function) = (this.requests, this.function);
        if *this.life == Life::Opening {
            match requests.with_own(StageWaker::Function, |cx| J::Invoke::poll_open(function, cx)) {
                Poll::Pending => return Turn::Idle,
                Poll::Ready(Ok(())) => {
                    *this.life = Life::Running;
                    return Turn::Busy;
                }
                Poll::Ready(Err(error)) => {
                    *this.failure = Some(StageError::Open(error));
                    this.source.as_mut().close();
                    *this.life = Life::Closing;
                }
            }
        }
        match requests.with_own(StageWaker::Function, |cx| J::Invoke::poll_close(function, cx)) {
            Poll::Pending => Turn::Idle,
            Poll::Ready(()) => {
                *this.life = Life::Ended;
                Turn::End
            }
        }
    }

    /// A failure has ended the job: no more input, and no more requests (F6).
    #[cold]
    pub(super) fn fail(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.source.as_mut().close();
        this.requests.clear();
        this.share.end();
        this.failure.get_or_insert(StageError::Failed); // the first reason stays
        if *this.life == Life::Opening {
            *this.life = Life::Running; // only to hand on restored outcomes
        }
    }

    /// The stage was asked to stop: no more input, and calls in flight end when their time is over.
    #[cold]
    fn stop_input(self: Pin<&mut Self>, now: Instant) {
        let mut this = self.project();
        this.source.as_mut().close();
        this.operator.finish(now);
        let limit = match this.stop.take() {
            Some(Stop::Asked(limit)) => limit.map(|(limit, shut_down)| (now + limit, shut_down)),
            Some(Stop::Until(end, shut_down)) => Some((end, shut_down)),
            None => None,
        };
        let Some((end, shut_down)) = limit else { return };
        // Judged like the deadline of a running request: not before the runtime has delivered all answers up to it (T6).
        if end > this.alarm.delivered() {
            *this.stop = Some(Stop::Until(end, shut_down));
        } else {
            this.requests.as_mut().clear();
            shut_down(this.operator, now);
            if *this.life == Life::Opening {
                *this.life = Life::Running; // only to hand on restored outcomes
            }
        }
    }

    /// Ends the poll and makes sure of another turn: at once when there is more to do, otherwise when something is
    /// woken.
    pub(super) fn end_poll(self: Pin<&mut Self>, turn: Turn, cx: &mut Context<'_>) {
        let mut this = self.project();
        this.pace.end_poll();
        let stop = match this.stop {
            Some(Stop::Until(end, _)) => Some(*end),
            _ => None,
        };
        let deadline = match this.life {
            Life::Running => this.operator.poll_deadline(),
            _ => None, // restored calls wait until the function is open
        };
        let deadline = deadline.into_iter().chain(stop).min();
        let now = this.operator.now();
        let run_request = this.run_request;
        let settled = |cx: &mut Context<'_>| run_request.poll_settled(cx);
        let has_fired = this.alarm.as_mut().poll(deadline, now, &*this.requests, settled);
        // Asked last: `sleep` takes the waker of `cx`, and refuses if something was woken that no turn has seen.
        if has_fired || turn != Turn::Idle || !this.requests.sleep(cx) {
            cx.waker().wake_by_ref();
        }
    }
}

/// Pulls an element although there is no room for records: a barrier is on its way and must not wait for room (K11), or the last
/// record is behind and only barriers can come. Returns false if there is nothing to pull now.
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
#[cold]
fn pull_beyond<J: Job, S: StageStorage>(
    mut source: Pin<&mut Source<J::Source>>,
    operator: &mut OperatorOf<J, S>,
    requests: &S::Requests<J::Request>,
    now: Instant,
) -> bool {
    let wanted = source.is_barrier_due() || operator.is_finished();
    // One barrier leaves before the next one comes in.
    if !wanted || operator.has_overtaking() || !source.is_woken() {
        return false;
    }
    match source.as_mut().pull(requests) {
        Pulled::Element(element) => {
            let pushed = operator.push_beyond(now, element);
            assert!(
                pushed.is_ok(),
                "the source has handed out a record behind the end of its records"
            );
            true
        }
        Pulled::End => {
            operator.finish(now);
            true
        }
        Pulled::Nothing => false,
    }
}

/// The request at this place has completed. The operator's code for that is long, and inlined for speed. Without a heap there is one
/// copy of it, since flash counts for more there.
#[cfg_attr(feature = "alloc", inline(always))]
#[cfg_attr(not(feature = "alloc"), inline(never))]
pub(super) fn complete<J: Job, S: StageStorage>(
    operator: &mut OperatorOf<J, S>,
    now: Instant,
    place: usize,
    answer: Result<AnswerOf<J>, Failure<J::Error>>,
) -> Completion {
    J::Invoke::complete(operator, now, place, answer)
}
