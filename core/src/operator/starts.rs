//! When attempts may start: limits, rates and pauses.

use core::time::Duration;

use super::Operator;
use super::call::{Call, ResultOf};
use super::metrics::Metrics;
use super::record::State;
use crate::outcome::Failure;
use crate::policy::Extras;
use crate::storage::{BatchTables, PerSlot, Storage};
use crate::time::{Instant, Span};

/// Whether and since when no attempt may start.
#[derive(Clone, Copy)]
pub(super) struct Pause {
    /// When the pause began, or [`NEVER`](Self::NEVER). Call times stand still from there on, but for those of running attempts.
    began: Instant,
    /// A failure holds attempts back until this instant, if it is not [`LONG_AGO`](Self::LONG_AGO).
    until: Instant,
    /// Somebody has paused the operator, and has to resume it.
    by_hand: bool,
}

impl Pause {
    /// In place of an `Option`, which would take eight bytes more.
    const NEVER: Instant = Instant::FAR_FUTURE;
    const LONG_AGO: Instant = Instant::from_nanos(i64::MIN);

    pub(super) const NONE: Self =
        Self { began: Self::NEVER, until: Self::LONG_AGO, by_hand: false };

    pub(super) fn is_on(&self) -> bool {
        self.by_hand || self.until().is_some()
    }

    /// The instant until which a failure holds attempts back.
    pub(super) fn until(&self) -> Option<Instant> {
        (self.until != Self::LONG_AGO).then_some(self.until)
    }
}

impl<C: Call, S: Storage> Operator<C, S> {
    /// Starts no attempt until [`resume`](Self::resume) is called (A2). Attempts that run go on, and records are taken in while there
    /// is room. No retry is used up, and the time of no call passes whose attempt is not running; backoffs pass.
    ///
    /// A snapshot does not hold the pause. Without the feature `alloc` a pause takes flash that most programs need for something else: there
    /// this compiles for a policy that is [`pausable`](crate::AsyncWait::pausable), or has [`pause_on`](crate::AsyncWait::pause_on).
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, Instant, StreamElement};
    ///
    /// let mut op = AsyncWait::ordered(4).build_core::<u32, u32, ()>().unwrap();
    /// let now = Instant::ZERO;
    /// op.pause(now);
    /// op.push(now, StreamElement::value(20)).unwrap();
    /// assert!(op.poll_attempt(now).is_none() && op.is_paused());
    ///
    /// op.resume(now);
    /// assert!(op.poll_attempt(now).is_some());
    /// # }
    /// ```
    pub fn pause(&mut self, now: Instant) {
        const {
            assert!(
                Self::MAY_PAUSE,
                "without a heap, only a policy that is `.pausable()` can be paused"
            );
        }
        self.advance(now);
        self.limits.pause.by_hand = true;
        self.begin_pause();
    }

    /// Ends a [`pause`](Self::pause). One that a failure has asked for ([`pause_on`](crate::AsyncWait::pause_on)) goes on until its
    /// time is over. It takes a step for each slot that was ever used, because the times of calls in backoff move.
    pub fn resume(&mut self, now: Instant) {
        self.advance(now);
        self.limits.pause.by_hand = false;
        self.end_pause(self.now);
    }

    /// Whether no attempt starts, because of [`pause`](Self::pause) or of a failure that has asked for it.
    pub fn is_paused(&self) -> bool {
        Self::MAY_PAUSE && self.limits.pause.is_on()
    }

    /// Whether attempts can be held back at all.
    pub(super) const MAY_PAUSE: bool = cfg!(feature = "alloc") || C::Extras::PAUSES;

    /// Whether the clock of a call whose attempt is not running has come to this instant, or will without a resume.
    pub(super) fn reaches(&self, instant: Instant) -> bool {
        !Self::MAY_PAUSE || instant <= self.limits.pause.began
    }

    /// Whether one more attempt may run (C7): there is no pause, and fewer run than may.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn may_run(&self) -> bool {
        let running = self.running_requests();
        running < self.limits.start_below
            && (!C::Extras::THROTTLES || running < self.extras.limit())
    }

    /// The most attempts, or batches, that may run now: [`max_running`](crate::AsyncWait::max_running), or the adaptive limit if that is lower; zero in a
    /// pause.
    pub fn running_limit(&self) -> usize {
        if self.is_paused() { 0 } else { self.limit() }
    }

    /// The same as if there were no pause.
    fn limit(&self) -> usize {
        self.limits.max_running.min(self.extras.limit())
    }

    /// Bounds the attempts that run at once by what the caller has permits for, beside the limit of the policy (C9).
    #[cfg(feature = "alloc")]
    pub(crate) fn permit(&mut self, attempts: usize) {
        self.limits.permitted = attempts;
        self.update_start_below();
    }

    /// Whether an attempt waits that may start as soon as there is a permit for it: all that [`has_attempt`](Self::has_attempt) asks,
    /// but for permits.
    #[cfg(feature = "alloc")]
    pub(crate) fn wants_permit(&self) -> bool {
        self.running_requests() < self.running_limit()
            && match C::Extras::BATCHES {
                true => self.is_batch_due() && self.is_batch_ready(),
                false => !self.to_start.is_empty() && self.is_next_ready(),
            }
    }

    /// Whether the rate allows the next attempt now.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn is_next_ready(&self) -> bool {
        !C::Extras::THROTTLES || self.next_ready_at().is_none_or(|at| at <= self.now)
    }

    /// From when on the rate allows the next attempt, if one waits.
    fn next_ready_at(&self) -> Option<Instant> {
        let record = self.records.all().get(self.to_start.first()? as usize)?;
        self.extras.ready_at(record.input.iter())
    }

    /// The next instant at which an attempt may start that may not start now.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn start_deadline(&self) -> Option<Instant> {
        if !C::Extras::THROTTLES && !C::Extras::BATCHES {
            return None;
        }
        match self.limits.pause.until() {
            Some(until) => Some(until),
            None if self.running_requests() < self.running_limit() => match C::Extras::BATCHES {
                true => self.batch_deadline(),
                false => self.next_ready_at().filter(|at| *at > self.now),
            },
            None => None,
        }
    }

    /// Adds the numbers of what holds attempts up.
    pub(super) fn count_holds(&self, now: Instant, metrics: &mut Metrics) {
        let limit = self.limit();
        metrics.limit = (limit < usize::MAX).then_some(limit as u64);
        // A failure's pause whose end has passed is over, although the operator has not been told the time.
        let pause = &self.limits.pause;
        metrics.paused = Self::MAY_PAUSE && (pause.by_hand || pause.until() > Some(now));
        metrics.next_start = self.next_start(now);
        if let Some(batches) = self.batches.get() {
            metrics.requests = batches.started_so_far();
        }
    }

    /// How long after `now` the next attempt may start that a rate, the pause of a failure or a batch that fills holds up, if nothing
    /// else does.
    fn next_start(&self, now: Instant) -> Option<Duration> {
        let may_be_held_up = (C::Extras::THROTTLES || C::Extras::BATCHES)
            && !self.limits.pause.by_hand
            && !self.to_start.is_empty()
            && self.running_requests() < self.limit();
        if !may_be_held_up {
            return None;
        }
        let ready_at = match C::Extras::BATCHES {
            true => self.batch_deadline(),
            false => self.next_ready_at(),
        };
        let at = self.limits.pause.until().max(ready_at)?; // `None` is less than every instant
        (at > now).then(|| at.since(now).into())
    }

    /// An attempt of the record in this slot starts.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn note_start(&mut self, slot: u32) {
        // A batch is noted when it starts as a whole.
        if C::Extras::THROTTLES && !C::Extras::BATCHES {
            let now = self.now;
            self.start_times.set(slot, now);
            self.extras.started(now, self.records.at(slot).input.iter());
        }
    }

    /// The running attempt of the record in this slot ends with this result. It counts as running still.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn note_end(&mut self, slot: u32, result: &ResultOf<C>) {
        if C::Extras::BATCHES {
            return self.leave_batch(slot, result);
        }
        if C::Extras::THROTTLES {
            let failure = result.as_ref().err();
            let since = self.start_times.get(slot).unwrap_or(self.now);
            let latency = Duration::from(self.now.since(since));
            self.extras.ended(latency, self.counters.running, failure);
            if let Some(failure) = failure {
                self.hold_back(failure);
            }
        }
    }

    /// Begins the pause that a failure asks for, if it does.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn hold_back(&mut self, failure: &Failure<C::Error>) {
        if C::Extras::THROTTLES
            && let Some(pause) = self.extras.pause_after(failure)
            && !pause.is_zero()
        {
            let until = self.now.plus(Span::of(pause));
            self.limits.pause.until = self.limits.pause.until.max(until);
            self.begin_pause();
        }
    }

    /// Time has passed: ends a pause that a failure has asked for if its time is over. It has ended then, however late this is.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn check_pause(&mut self) {
        if C::Extras::THROTTLES
            && let Some(until) = self.limits.pause.until()
            && until <= self.now
        {
            self.limits.pause.until = Pause::LONG_AGO;
            self.end_pause(until);
        }
    }

    /// Computes anew below how many running attempts one more may start.
    pub(super) fn update_start_below(&mut self) {
        self.limits.start_below = match self.is_paused() {
            true => 0,
            false => self.limits.max_running,
        };
        #[cfg(feature = "alloc")]
        if self.limits.permitted < self.limits.start_below {
            self.limits.start_below = self.limits.permitted;
        }
    }

    fn begin_pause(&mut self) {
        self.limits.pause.began = self.limits.pause.began.min(self.now);
        self.update_start_below();
    }

    /// The pause has ended at this instant, if nothing else keeps it up.
    #[cold]
    fn end_pause(&mut self, at: Instant) {
        if self.limits.pause.is_on() {
            return;
        }
        let began = core::mem::replace(&mut self.limits.pause.began, Pause::NEVER);
        if began == Pause::NEVER {
            return;
        }
        self.update_start_below();
        for slot in 0..self.records.all().len() as u32 {
            let record = self.records.at(slot);
            if record.state() == State::Backoff {
                let retry_at = record.done_at();
                record.move_start(at.min(retry_at).since(began));
                self.set_backoff_deadline(slot, retry_at);
            }
        }
    }

    /// The present of the calls whose attempts are not running: it stands still in a pause (A2).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn waiting_now(&self) -> Instant {
        if Self::MAY_PAUSE { self.now.min(self.limits.pause.began) } else { self.now }
    }
}
