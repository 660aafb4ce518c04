//! How much may be in flight, and for how long.

use super::Operator;
use super::call::Call;
use super::ending::Phase;
use super::record::Record;
use super::starts::Pause;
use crate::config_error::ConfigError;
use crate::policy::{Extras as _, Settings, check_capacity, check_max_running};
use crate::retry::RetryStrategy;
use crate::storage::{Queue as _, Storage};
use crate::time::{Instant, Span};

/// The policy's settings, as the operator asks for them.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) capacity: usize,
    max_capacity: usize,
    pub(super) max_running: usize,
    /// The number of running attempts below which one more may start: `max_running`, or zero in a pause, or fewer while the caller has
    /// fewer permits. One comparison for each attempt instead of three.
    pub(super) start_below: usize,
    pub(super) pause: Pause,
    /// The attempts for which the caller has permits.
    #[cfg(feature = "alloc")]
    pub(super) permitted: usize,
    /// Records that have left the operator and still count against its capacity.
    undelivered: usize,
    /// The number of records in flight below which a new one is taken in: the capacity without the undelivered records, or zero when
    /// the input is over. One comparison for each record instead of three.
    intake: usize,
    pub(super) timeout: Option<Span>,
    pub(super) attempt_timeout: Option<Span>,
    /// Checkpoints hold nothing of this operator, because its source hands out again the records that were in flight (K14).
    pub(super) keeps_nothing: bool,
}

impl Limits {
    pub(super) const fn new(settings: &Settings) -> Self {
        let max_running = match settings.max_running {
            Some(attempts) => attempts,
            None => usize::MAX,
        };
        Self {
            capacity: settings.capacity,
            max_capacity: settings.max_capacity(),
            max_running,
            start_below: max_running,
            pause: Pause::NONE,
            #[cfg(feature = "alloc")]
            permitted: usize::MAX,
            undelivered: 0,
            intake: settings.capacity,
            timeout: Span::of_some(settings.timeout),
            attempt_timeout: Span::of_some(settings.attempt_timeout),
            keeps_nothing: false,
        }
    }

    pub(super) fn undelivered(&self) -> usize {
        self.undelivered
    }

    fn intake(&self, is_open: bool) -> usize {
        if is_open { self.capacity.saturating_sub(self.undelivered) } else { 0 }
    }
}

impl<C: Call, S: Storage> Operator<C, S> {
    /// The instant by which the call of this record has to be over, which has begun (T1, T9).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn deadline(
        limits: &Limits,
        extras: &C::Extras,
        record: &Record<C>,
    ) -> Option<Instant> {
        let own = match &record.input {
            Some(input) if C::Extras::HAS_TIMEOUTS => extras.timeout_of(input),
            _ => None,
        };
        let timeout = own.map(Span::of).or(limits.timeout);
        timeout.map(|timeout| record.started().plus(timeout))
    }

    /// How many records would be taken in at `now`; zero also when a control element would not be. Records that a restore has
    /// brought get a slot first, and their time counts from `now`.
    ///
    /// Pull no more from a source than this, and no [`push`](Self::push) is refused (C4).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn room(&mut self, now: Instant) -> usize {
        self.advance(now);
        self.admit();
        let takes_all = self.order.controls() < self.limits.capacity
            && self.overtaking.is_none()
            && self.backlog.len() == 0;
        if takes_all { self.limits.intake.saturating_sub(self.records.len()) } else { 0 }
    }

    /// Whether a new record is taken in: there is room (C2), the input is not over, and no restored record waits for a slot (K5).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn takes_record(&self) -> bool {
        debug_assert_eq!(self.limits.intake, self.limits.intake(self.ending.phase == Phase::Open));
        self.records.len() < self.limits.intake && self.backlog.len() == 0
    }

    /// Computes the intake anew, after the input has ended, or the capacity or the undelivered records have changed.
    pub(super) fn update_intake(&mut self) {
        self.limits.intake = self.limits.intake(self.ending.phase == Phase::Open);
    }

    /// Whether a record has room, also a restored one after the end of the input (C2).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn has_room_for_record(&self) -> bool {
        self.records.len().saturating_add(self.limits.undelivered) < self.limits.capacity
    }

    /// Sets the number of undelivered records: they have left the operator, and its consumer has not taken them (they are in a buffer
    /// between the two). They count against the capacity. At first the number is zero.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn set_undelivered(&mut self, records: usize) {
        self.limits.undelivered = records;
        self.update_intake();
    }

    /// Changes how many records may be in flight. A lower capacity takes effect as records leave (C8).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when it is zero, or more than the policy's
    /// [`max_capacity`](crate::AsyncWait::max_capacity).
    pub fn set_capacity(&mut self, capacity: usize) -> Result<(), ConfigError> {
        check_capacity(capacity, self.limits.max_capacity)?;
        self.limits.capacity = capacity;
        self.update_intake();
        // The clock of `blocked` runs while the slots are full.
        match self.records.len() < capacity {
            true => self.counters.not_full(self.now),
            false => self.counters.full(self.now),
        }
        Ok(())
    }

    /// Changes how many attempts may run at once. A lower limit takes effect as attempts end (C8).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when it is zero.
    pub fn set_max_running(&mut self, attempts: usize) -> Result<(), ConfigError> {
        check_max_running(attempts)?;
        self.limits.max_running = attempts;
        self.update_start_below();
        Ok(())
    }

    /// The most records in flight.
    pub fn capacity(&self) -> usize {
        self.limits.capacity
    }

    /// The highest capacity that [`set_capacity`](Self::set_capacity) accepts.
    pub fn max_capacity(&self) -> usize {
        self.limits.max_capacity
    }

    /// Whether the settings of the retry strategy and of the policy's optional parts make sense. Every way to build an operator asks this but
    /// [`build_static`](crate::AsyncWait::build_static).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when they do not.
    pub fn check_retry(&self) -> Result<(), ConfigError> {
        self.retry.check()?;
        self.extras.check()
    }
}
