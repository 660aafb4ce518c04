//! The waker of a stage inside of an operator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use timely::scheduling::SyncActivator;

/// Lets the worker schedule the operator when it is woken, from any thread, once for all wake-ups until the stage is polled.
pub(crate) struct Activation {
    operator: SyncActivator,
    /// The stage will be polled: an activation is on its way, or the operator is being scheduled.
    will_poll: AtomicBool,
}

impl Activation {
    pub(crate) fn new(operator: SyncActivator) -> Arc<Self> {
        Arc::new(Self { operator, will_poll: AtomicBool::new(false) })
    }

    /// The stage will be polled in this schedule, so that a wake-up before that needs no activation.
    pub(crate) fn will_poll(&self) {
        self.will_poll.store(true, Ordering::Release);
    }

    /// The stage is polled now. A wake-up from here on needs another poll.
    pub(crate) fn polls(&self) {
        // Pairs with the swap in `wake_by_ref`: what was done before a wake-up that found `true` is seen by this poll.
        self.will_poll.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Activation {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.will_poll.swap(true, Ordering::AcqRel) {
            // An error says that the worker is gone, and with it everything that there was to wake.
            let _ = self.operator.activate();
        }
    }
}
