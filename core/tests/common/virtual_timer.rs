//! A timer on a clock that the test sets.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use inflight_core::{Instant, Timer};

use crate::clock::{Alarm, Clock};

pub(crate) struct VirtualTimer {
    clock: Rc<Clock>,
    alarm: Rc<Alarm>,
}

impl VirtualTimer {
    pub(crate) fn new(clock: &Rc<Clock>) -> Self {
        Self { clock: Rc::clone(clock), alarm: clock.alarm() }
    }
}

impl Timer for VirtualTimer {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.now())
    }

    fn arm(self: Pin<&mut Self>, at: Option<Instant>) {
        self.alarm.set(at.map(Instant::as_nanos));
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(&self.clock, cx)
    }
}
