//! Virtual time that passes only when there is no work.

use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::task::Waker;

use critical_section::{Mutex, RawRestoreState};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

struct Clock {
    ticks: AtomicU64,
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock {
    ticks: AtomicU64::new(0),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

impl Driver for Clock {
    fn now(&self) -> u64 {
        self.ticks.load(Relaxed)
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| self.queue.borrow_ref_mut(cs).schedule_wake(at, waker));
    }
}

/// Advances to the next event. `false` if there is none.
pub(crate) fn advance() -> bool {
    critical_section::with(|cs| {
        let mut queue = CLOCK.queue.borrow_ref_mut(cs);
        let next = queue.next_expiration(CLOCK.now());
        if next == u64::MAX {
            return false;
        }
        CLOCK.ticks.store(next.max(CLOCK.now()), Relaxed);
        queue.next_expiration(next); // wakes the due timers
        true
    })
}

/// There is one thread and no signals, so nothing has to be excluded.
struct Alone;
critical_section::set_impl!(Alone);

// SAFETY: nothing else can run between the two.
unsafe impl critical_section::Impl for Alone {
    unsafe fn acquire() -> RawRestoreState {
        false
    }

    unsafe fn release(_: RawRestoreState) {}
}
