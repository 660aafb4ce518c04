//! The consumer that is run with its stage as one future.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::clock::{Alarm, Clock};
use crate::runtime::Virtual;
use crate::subject::Element;
use crate::watch::Watch;

/// Takes elements, one at a time.
pub(crate) struct Consumer {
    watch: Rc<Watch>,
    clock: Rc<Clock>,
    alarm: Rc<Alarm>,
    taken: u32,
}

impl Consumer {
    pub(crate) fn new(runtime: &Virtual) -> Self {
        let (watch, clock) = (Rc::clone(&runtime.watch), Rc::clone(&runtime.clock));
        Self { alarm: clock.alarm(), watch, clock, taken: 0 }
    }

    pub(crate) fn take(&mut self, element: Element) -> Busy {
        let plan = self.watch.look().plan;
        self.watch.given(element);
        self.taken += 1;
        let time = match plan.busy_for {
            0 => 0,
            most => plan.random_for(self.taken, 254).below(most as usize) as i64,
        };
        self.alarm.set(Some(self.clock.now() + time));
        let (watch, clock) = (Rc::clone(&self.watch), Rc::clone(&self.clock));
        Busy { watch, clock, alarm: Rc::clone(&self.alarm), sleeps: time > 0 }
    }
}

/// With an element: for some time, and then until it wants another one.
pub(crate) struct Busy {
    watch: Rc<Watch>,
    clock: Rc<Clock>,
    alarm: Rc<Alarm>,
    sleeps: bool,
}

impl Future for Busy {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.sleeps && self.alarm.poll(&self.clock, cx).is_pending() {
            return Poll::Pending;
        }
        self.sleeps = false;
        self.watch.desk_polled(cx)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.alarm.set(None);
    }
}
