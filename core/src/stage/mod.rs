//! The stage: the operator driven with futures, a source and a timer.

mod bypass;
#[cfg(feature = "alloc")]
mod handle;
#[cfg(feature = "alloc")]
mod ring;
mod run;
mod start;
mod stream;
#[cfg(feature = "alloc")]
mod task;

use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use futures_core::Stream;
use pin_project_lite::pin_project;

#[cfg(feature = "alloc")]
pub use self::handle::StageHandle;
#[cfg(feature = "alloc")]
pub use self::ring::SpawnedStage;
pub use self::run::Run;
pub use self::start::{AsyncWaitExt, Next, StageBuilder, StartError};
pub use self::stream::StageError;
#[cfg(feature = "alloc")]
pub use self::task::Driver;
use crate::element::{IntoElement, StreamElement, StreamKind};
use crate::function::AsyncFunction;
use crate::operator::{Expired, Operator};
use crate::outcome::{Failure, Outcome};
use crate::policy::KeySelector;
use crate::requests::{Requests, StageStorage, StageWaker, TURN_BUDGET, WakeEvent};
use crate::retry::RetryStrategy;
use crate::runtime::{RunRequest, Timer};
use crate::storage::{StageTables, Storage};
use crate::time::Instant;

/// What of its budget a turn does not spend on what was woken, but keeps for new requests.
const REFILL_RESERVE: usize = TURN_BUDGET / 4;

/// Turns in a row after which deadlines are judged, where a pass has ended, although some request is always woken.
const NOISY_TURNS: usize = 8;

/// After a gap, so many deadlines that have passed are judged one after the other, each after another pass of the runtime: a
/// request may only just have been started on its task. The others are judged together, or they would come later and later
/// beside neighbours that take their time.
const ONE_BY_ONE: u8 = 16;

/// With more calls done than this, and some to hand out, a turn polls only as many requests as a stage in place hands out
/// between two turns (what is left of half the budget without the reserve: 32), so that those it works at are few and in
/// the cache.
const PLENTY: usize = 1024;

/// Turns after which a stage that could always go on gives way to its neighbours.
pub(crate) const TURNS_BEFORE_YIELD: usize = 8;

/// The outcome of a call in a stage with the function `F`.
pub(crate) type OutcomeOf<V, F> =
    Outcome<V, <F as AsyncFunction<V>>::Output, <F as AsyncFunction<V>>::Error>;

/// The operator of such a stage.
pub(crate) type OperatorOf<V, M, F, R, K, S> = Operator<
    V,
    <F as AsyncFunction<V>>::Output,
    <F as AsyncFunction<V>>::Error,
    R,
    StageTables<<S as StageStorage>::Storage, V, K, M>,
>;

pin_project! {
    /// A stage that is driven by whoever polls it: a stream of outcomes.
    ///
    /// Requests make progress only while the stream is polled. A consumer that awaits something else
    /// between two outcomes holds them up, and their timeouts run: prefer a stage on a task of its
    /// own unless the consumer does nothing but poll.
    ///
    /// Dropping it cancels everything in flight. If the function's opening fails, the stream ends at once
    /// and [`end`](Self::end) says why.
    ///
    /// # Panics
    ///
    /// A panic in a request comes out of `poll_next`. Polling again after it may still hand out what was done, and
    /// then panics: the other records in flight are lost, and that must not look like the end of the stream.
    #[must_use = "a stage does nothing unless it is polled"]
    pub struct Stage<St, V, M, F, R, K, Q, T, S>
    where
        M: StreamKind,
        K: KeySelector<V>,
        F: AsyncFunction<V>,
        Q: RunRequest<F::Future>,
        S: StageStorage,
    {
        // `None` once it has ended.
        #[pin]
        source: Option<St>,
        source_woken: bool,
        #[pin]
        timer: T,
        timer_woken: bool,
        armed: Option<Instant>,
        // Up to here the runtime has delivered what had come: its timer, armed for this instant, has fired, and the task has
        // given way once since. No running request is timed out for a later deadline (T6).
        delivered: Instant,
        // How many deadlines that have passed are still judged one after the other.
        one_by_one: u8,
        operator: OperatorOf<V, M, F, R, K, S>,
        function: F,
        function_woken: bool,
        key: K,
        launch: Q,
        #[pin]
        requests: S::Requests<Q::Request>,
        phase: Phase,
        failure: Option<StageError<F::Error>>,
        stop: Option<Stop>,
        // How many outputs may be handed out before the next turn.
        before_refill: usize,
        // How many records may pass before the next turn; none unless nothing is in flight.
        passing: usize,
        // Whether the request that was started last was ready as soon as it was started.
        ready_at_once: bool,
        before_yield: usize,
        // Turns in a row that have left something woken, since deadlines were judged.
        noisy_turns: usize,
        in_turn: bool,
        shape: PhantomData<fn() -> M>,
    }
}

/// Where a stage is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The function is being opened.
    Opening,
    Running,
    /// Everything is through, or opening has failed; the function is being closed.
    Closing,
    Ended,
}

/// The stage takes no more input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// And what is in flight has this long to finish.
    Asked(Option<Duration>),
    /// Until then.
    Until(Instant),
}

/// What a turn has polled of what was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Polled {
    /// Everything, also what was woken meanwhile.
    All,
    /// Everything that was woken before the pass began that has ended now; and there has been too much for many turns.
    Enough,
    /// As much as a turn may.
    Some,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to do.
    Busy,
    /// There is nothing to do until something is woken.
    Idle,
    /// There never will be.
    End,
}

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
    pub(crate) fn new(
        source: St,
        operator: OperatorOf<V, M, F, R, K, S>,
        function: F,
        key: K,
        launch: Q,
        timer: T,
        requests: S::Requests<Q::Request>,
    ) -> Self {
        Self {
            source: Some(source),
            source_woken: true,
            timer,
            timer_woken: false,
            armed: None,
            delivered: Instant::ZERO,
            one_by_one: ONE_BY_ONE,
            requests,
            operator,
            function,
            function_woken: true,
            key,
            launch,
            phase: Phase::Opening,
            failure: None,
            stop: None,
            before_refill: 0,
            passing: 0,
            ready_at_once: true,
            before_yield: TURNS_BEFORE_YIELD,
            noisy_turns: 0,
            in_turn: false,
            shape: PhantomData,
        }
    }

    pub(crate) fn operator(self: Pin<&mut Self>) -> &mut OperatorOf<V, M, F, R, K, S> {
        self.project().operator
    }

    /// Whether something leaves next, with an element to hand out or without. What a restore has brought gets its
    /// place then, and its time counts from then.
    fn has_output(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        if this.operator.has_backlog() {
            this.operator.advance(this.timer.now());
            this.operator.admit();
        }
        this.operator.has_output()
    }

    /// What leaves next. What a restore has brought gets its place then, and its time counts from then.
    #[inline]
    fn poll_output(self: Pin<&mut Self>) -> Option<StreamElement<OutcomeOf<V, F>>> {
        let this = self.project();
        if this.operator.has_backlog() {
            this.operator.advance(this.timer.now());
        }
        this.operator.poll_output()
    }

    pub(crate) fn take_failure(self: Pin<&mut Self>) -> Option<StageError<F::Error>> {
        self.project().failure.take()
    }

    /// Makes sure of another turn: at once when there is more to do, otherwise when something is
    /// woken. The poll of the stage ends here.
    pub(crate) fn rest(mut self: Pin<&mut Self>, turn: Turn, cx: &mut Context<'_>) {
        *self.as_mut().project().before_yield = TURNS_BEFORE_YIELD;
        let has_fired = self.as_mut().poll_timer();
        if has_fired || turn != Turn::Idle || !self.project().requests.sleep(cx) {
            cx.waker().wake_by_ref();
        }
    }

    /// Whether the timer has fired. It is armed for the earliest deadline; or, when many have passed, for the latest instant
    /// seen, so that they are judged together.
    ///
    /// Armed again only when it has fired or something earlier has come, never because the earliest left: that makes about
    /// one call of the runtime per timeout, not one per record.
    fn poll_timer(self: Pin<&mut Self>) -> bool {
        let mut this = self.project();
        let now = this.operator.now();
        let stop = match this.stop {
            Some(Stop::Until(end)) => Some(*end),
            _ => None,
        };
        let deadline = match this.phase {
            Phase::Running => this.operator.poll_deadline(),
            _ => None, // nobody judges it: what a restore has brought waits for the function to open
        };
        let deadline = deadline.into_iter().chain(stop).min();
        if deadline.is_none_or(|deadline| deadline > now) {
            *this.one_by_one = ONE_BY_ONE;
        }
        if let Some(deadline) = deadline {
            let at = if *this.one_by_one > 0 { deadline } else { deadline.max(now) };
            if this.armed.is_none_or(|armed| at < armed) {
                this.timer.as_mut().arm(Some(at));
                *this.armed = Some(at);
                *this.timer_woken = true;
            }
        }
        let Some(armed) = *this.armed else { return false };
        if !core::mem::take(this.timer_woken) {
            return false;
        }
        let timer = this.timer;
        let has_fired = this.requests.with_own(StageWaker::Timer, |cx| timer.poll(cx)).is_ready();
        if has_fired {
            *this.armed = None;
            *this.delivered = armed.max(*this.delivered);
            *this.one_by_one = this.one_by_one.saturating_sub(1);
        }
        has_fired
    }

    /// The unit of work: the clock once, the requests that were woken, what is due, new calls. With
    /// `lets_pass` it leaves the next records to [`pass`](Self::pass), if they may.
    ///
    /// `listen` reads what others have written and announced by a wake-up of the stage. It is called when the wake-ups
    /// have been collected, and before anything depends on it: read before that, a value could be out of date, and the
    /// wake-up that says so would be gone.
    pub(crate) fn turn(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        lets_pass: bool,
        listen: impl FnOnce(Pin<&mut Self>),
    ) -> Turn {
        self.as_mut().project().requests.begin(cx);
        T::turn(cx, |_| {
            let mut stage = self;
            assert!(!stage.in_turn, "a stage was polled again after one of its requests panicked");
            let this = stage.as_mut().project();
            (*this.in_turn, *this.passing) = (true, 0);
            let turn = stage.as_mut().work(lets_pass, listen);
            *stage.project().in_turn = false;
            turn
        })
    }

    fn work(
        mut self: Pin<&mut Self>,
        lets_pass: bool,
        listen: impl FnOnce(Pin<&mut Self>),
    ) -> Turn {
        let now = self.timer.now();
        self.as_mut().operator().advance(now);
        if self.operator.has_failed() {
            self.as_mut().fail(); // between two turns
        }
        let mut budget = self.budget();
        let polled = self.as_mut().poll_woken(&mut budget);
        listen(self.as_mut());
        if self.stop.is_some() {
            self.as_mut().stop_now(now);
        }
        if self.phase != Phase::Running {
            return self.open_or_close();
        }
        if polled != Polled::Some {
            self.as_mut().judge_deadlines(polled, &mut budget);
        }
        if polled == Polled::All && lets_pass && self.as_mut().let_pass() {
            return Turn::Busy;
        }
        self.as_mut().refill(now, &mut budget);
        if self.operator.has_failed() {
            self.as_mut().fail();
        }
        if self.source.is_none() && self.operator.is_empty() {
            let this = self.as_mut().project();
            (*this.phase, *this.function_woken) = (Phase::Closing, true);
            return self.open_or_close();
        }
        if polled == Polled::All && budget > 0 { Turn::Idle } else { Turn::Busy }
    }

    /// How many requests a turn may poll or start. What is due is polled beyond that, too.
    #[inline]
    fn budget(&self) -> usize {
        let has_plenty = self.operator.done() > PLENTY && self.operator.has_output();
        S::Requests::<Q::Request>::TURN_BUDGET - if has_plenty { TURN_BUDGET / 2 } else { 0 }
    }

    /// What a stage does that is not running.
    #[cold]
    fn open_or_close(self: Pin<&mut Self>) -> Turn {
        let mut this = self.project();
        if *this.phase == Phase::Ended {
            return Turn::End;
        }
        if !core::mem::take(this.function_woken) {
            return Turn::Idle;
        }
        let (requests, function) = (this.requests, this.function);
        if *this.phase == Phase::Opening {
            match requests.with_own(StageWaker::Function, |cx| function.poll_open(cx)) {
                Poll::Pending => return Turn::Idle,
                Poll::Ready(Ok(())) => {
                    *this.phase = Phase::Running;
                    return Turn::Busy;
                }
                Poll::Ready(Err(error)) => {
                    *this.failure = Some(StageError::Open(error));
                    this.source.set(None);
                    *this.phase = Phase::Closing;
                }
            }
        }
        match requests.with_own(StageWaker::Function, |cx| function.poll_close(cx)) {
            Poll::Pending => Turn::Idle,
            Poll::Ready(()) => {
                *this.phase = Phase::Ended;
                Turn::End
            }
        }
    }

    /// A failure has ended the job: no more input, and no more requests.
    #[cold]
    fn fail(self: Pin<&mut Self>) {
        let mut this = self.project();
        this.source.set(None);
        this.requests.clear();
        this.failure.get_or_insert(StageError::Failed);
        if *this.phase == Phase::Opening {
            *this.phase = Phase::Running; // only to hand on what a restore had brought
        }
    }

    /// Takes no more input; and ends what is in flight when its time is over.
    #[cold]
    fn stop_now(self: Pin<&mut Self>, now: Instant) {
        let mut this = self.project();
        this.source.set(None);
        this.operator.finish(now);
        *this.stop = match *this.stop {
            Some(Stop::Asked(limit)) => limit.map(|limit| Stop::Until(now + limit)),
            stop => stop,
        };
        if matches!(this.stop, Some(Stop::Until(end)) if *end <= *this.delivered) {
            *this.stop = None;
            this.requests.as_mut().clear();
            this.operator.shut_down(now);
            if *this.phase == Phase::Opening {
                *this.phase = Phase::Running; // only to hand on what a restore had brought
            }
        }
    }

    /// Polls what was woken, until nothing is any more or the budget for it is spent.
    #[inline]
    fn poll_woken(self: Pin<&mut Self>, budget: &mut usize) -> Polled {
        let mut this = self.project();
        let mut quiet = this.requests.is_between_passes();
        let mut passed = false;
        if quiet && let Some(slot) = this.operator.next_to_leave() {
            // In a large window, what is done before it only fills the cache while it waits.
            this.requests.as_mut().begin_at(slot);
        }
        while *budget > REFILL_RESERVE {
            match this.requests.as_mut().next_woken() {
                None if quiet => {
                    *this.noisy_turns = 0;
                    return Polled::All;
                }
                None => {
                    (quiet, passed) = (true, true); // one more pass
                    continue;
                }
                Some(WakeEvent::Own(StageWaker::Source)) => *this.source_woken = true,
                Some(WakeEvent::Own(StageWaker::Timer)) => *this.timer_woken = true,
                Some(WakeEvent::Own(StageWaker::Function)) => *this.function_woken = true,
                Some(WakeEvent::Own(StageWaker::Consumer)) => {}
                Some(WakeEvent::Request(slot)) => {
                    *budget -= 1;
                    if let Some(Poll::Ready(result)) = this.requests.as_mut().poll(slot)
                        && end_running(this.operator, slot, result)
                    {
                        return Polled::Some;
                    }
                }
            }
            quiet = false;
        }
        *this.noisy_turns += 1;
        if !passed || *this.noisy_turns < NOISY_TURNS {
            return Polled::Some;
        }
        *this.noisy_turns = 0;
        Polled::Enough
    }

    /// Judges what is due. What is ready is not timed out because it was looked at late: the runtime has delivered what had
    /// come, and everything that was woken has been polled. Where that is enough and not all, what is due and has been woken
    /// since is polled now.
    #[inline]
    fn judge_deadlines(self: Pin<&mut Self>, polled: Polled, budget: &mut usize) {
        let mut this = self.project();
        this.operator.judge_barriers(*this.delivered);
        while let Some(slot) = this.operator.first_due(*this.delivered) {
            // Not what is woken only because another one was cancelled here: it would begin when its time is up.
            if polled == Polled::Enough && this.requests.as_mut().take_woken(slot) {
                *budget = budget.saturating_sub(1); // less is left for new calls, but what is due is not put off
                if let Some(Poll::Ready(result)) = this.requests.as_mut().poll(slot) {
                    let _ = end_running(this.operator, slot, result);
                    continue; // or nothing is due any more
                }
            }
            let Some(expired) = this.operator.judge(slot) else { continue };
            this.requests.as_mut().remove(slot);
            if let Expired::Call(id) = expired {
                this.operator.resolve_timeout(id, |input| this.function.on_timeout(input));
            }
        }
    }

    /// Starts the attempts that are wanted, and pulls elements while there is room for them.
    #[inline]
    fn refill(self: Pin<&mut Self>, now: Instant, budget: &mut usize) {
        let mut this = self.project();
        let mut room = this.operator.room();
        while *budget > 0 {
            let call = if this.operator.has_attempt() {
                this.operator.poll_attempt(now)
            } else if room == 0 || !*this.source_woken {
                return;
            } else {
                let Some(source) = this.source.as_mut().as_pin_mut() else { return };
                match this.requests.with_own(StageWaker::Source, |cx| source.poll_next(cx)) {
                    Poll::Ready(Some(item)) => match item.into_element() {
                        StreamElement::Record { value, timestamp } => {
                            room -= 1;
                            let key = this.key.key_of(&value);
                            this.operator.push_and_call(key, value, timestamp)
                        }
                        control => {
                            let pushed = this.operator.push(now, control);
                            debug_assert!(pushed.is_ok(), "there was room for it");
                            room = this.operator.room();
                            None
                        }
                    },
                    Poll::Ready(None) => {
                        this.source.set(None);
                        this.operator.finish(now);
                        continue;
                    }
                    Poll::Pending => {
                        *this.source_woken = false;
                        return;
                    }
                }
            };
            *budget -= 1; // also for what starts no call: the budget bounds what is pulled as well
            let Some(call) = call else { continue };
            let slot = call.id.slot();
            let request = this.launch.launch(|| this.function.invoke(call.input, call.attempt));
            let polled = this.requests.as_mut().start(slot, request);
            *this.ready_at_once = polled.is_ready();
            if let Poll::Ready(result) = polled
                && end_running(this.operator, slot, result)
            {
                return;
            }
        }
    }
}

/// An attempt has ended. Returns whether the job has, too. The operator's code for that is long, and inlined: without a
/// heap there is one copy of it.
#[cfg_attr(feature = "alloc", inline(always))]
#[cfg_attr(not(feature = "alloc"), inline(never))]
fn end_running<V, Out, E, R, S>(
    operator: &mut Operator<V, Out, E, R, S>,
    slot: usize,
    result: Result<Out, Failure<E>>,
) -> bool
where
    R: RetryStrategy<V, Out, E>,
    S: Storage,
{
    operator.end_running(slot, result)
}
