//! embassy's time from the processor's own timer, a hundred ticks per second.

use core::cell::RefCell;
use core::task::Waker;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use critical_section::Mutex;
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

/// The board's processor runs at 25 MHz.
const CYCLES_A_TICK: u32 = 250_000;

struct Clock {
    state: Mutex<RefCell<(u64, Queue)>>,
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock {
    state: Mutex::new(RefCell::new((0, Queue::new()))),
});

impl Driver for Clock {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.state.borrow_ref(cs).0)
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            self.state.borrow_ref_mut(cs).1.schedule_wake(at, waker);
        });
    }
}

/// Starts the clock.
pub(crate) fn start(mut timer: SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(CYCLES_A_TICK - 1);
    timer.clear_current();
    timer.enable_counter();
    timer.enable_interrupt();
}

#[cortex_m_rt::exception]
fn SysTick() {
    critical_section::with(|cs| {
        let mut state = CLOCK.state.borrow_ref_mut(cs);
        state.0 += 1;
        let now = state.0;
        state.1.next_expiration(now); // wakes the due timers
    });
}
