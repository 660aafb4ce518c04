//! Virtual time: a clock that moves when it is told to, and the alarms that it rings.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// In nanoseconds. Alarms ring at multiples of the resolution.
pub(crate) struct Clock {
    now: Cell<i64>,
    resolution: i64,
    alarms: RefCell<Vec<Rc<Alarm>>>,
}

/// What one timer is armed for.
#[derive(Default)]
pub(crate) struct Alarm {
    at: Cell<Option<i64>>,
    waker: RefCell<Option<Waker>>,
}

impl Clock {
    pub(crate) fn new(now: i64, resolution: i64) -> Rc<Self> {
        Rc::new(Self { now: Cell::new(now), resolution, alarms: RefCell::default() })
    }

    pub(crate) fn now(&self) -> i64 {
        self.now.get()
    }

    pub(crate) fn alarm(&self) -> Rc<Alarm> {
        let alarm = Rc::new(Alarm::default());
        self.alarms.borrow_mut().push(Rc::clone(&alarm));
        alarm
    }

    /// When an alarm rings that is set to `at`: not before it (rule 2 of timers).
    pub(crate) fn rounded(&self, at: i64) -> i64 {
        at.div_euclid(self.resolution) * self.resolution
            + if at.rem_euclid(self.resolution) == 0 { 0 } else { self.resolution }
    }

    /// When the next alarm rings.
    pub(crate) fn next_alarm(&self) -> Option<i64> {
        let alarms = self.alarms.borrow();
        let times = alarms.iter().filter_map(|alarm| alarm.at.get()).map(|at| self.rounded(at));
        times.filter(|at| *at > self.now()).min()
    }

    pub(crate) fn advance_to(&self, now: i64) {
        self.now.set(now.max(self.now()));
        for alarm in &*self.alarms.borrow() {
            if alarm.at.get().is_some_and(|at| self.rounded(at) <= self.now()) {
                alarm.wake();
            }
        }
    }

    /// Wakes whoever waits for an alarm, although it is not time.
    pub(crate) fn wake_for_nothing(&self) {
        for alarm in &*self.alarms.borrow() {
            let waker = alarm.waker.borrow().clone();
            waker.iter().for_each(Waker::wake_by_ref);
        }
    }
}

impl Alarm {
    pub(crate) fn set(&self, at: Option<i64>) {
        self.at.set(at);
    }

    /// What it is set to and has not told.
    pub(crate) fn is_set_to(&self) -> Option<i64> {
        self.at.get()
    }

    /// Fires once (rule 5); otherwise keeps the waker of the latest poll (rule 4).
    pub(crate) fn poll(&self, clock: &Clock, cx: &Context<'_>) -> Poll<()> {
        if self.at.get().is_some_and(|at| clock.rounded(at) <= clock.now()) {
            self.at.set(None);
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
