//! Exact wake-ups without a heap: a table of wakers in a `static`.

use core::cell::RefCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::task::{Context, Waker};

use critical_section::Mutex;

use super::fixed::WakeTracker;
use super::raw::{StaticLanes, WakeLane};

/// Tells a stage in place which of its requests were woken, so that a wake polls that request and no
/// other. It lives in a `static`, has room for `N` records in flight, and serves one stage at a time.
///
/// A stage over [`Fixed`](crate::Fixed) needs no such table: whenever it is polled, it polls all its
/// requests, with the waker of its own task. That is cheap for a few dozen requests. It is also the only
/// way for requests that accept no waker but their executor's, such as `embassy-time`'s timers. (Those accept any waker
/// if the program turns on one of the features `generic-queue-*` of `embassy-time-queue-utils`; until the
/// runtime says so, a stage over this table does not compile: see
/// [`Runtime::ANY_WAKER`](crate::Runtime::ANY_WAKER).) Use this table for many requests, or for
/// requests that are expensive to poll. In both cases the source, the timer and the function are polled with the waker of
/// the stage's own task.
///
/// A wake may come from an interrupt. It takes a critical section of a few instructions and no
/// compare-and-swap, which some processors do not have. The program chooses the implementation of the crate
/// `critical-section`; with the standard library that is its feature `std`.
///
/// ```
/// use inflight_core::WakeTable;
///
/// static WAKES: WakeTable<16> = WakeTable::new();
/// // .. source.async_wait(policy, function).in_place_over(runtime, &WAKES)
/// ```
pub struct WakeTable<const N: usize> {
    /// A request's waker points to the lane of its slot.
    lanes: StaticLanes<WakeFlags<N>, N>,
}

/// Where a table's wakes are noted.
struct WakeFlags<const N: usize> {
    /// A flag for each slot, set and taken in critical sections. The stage also reads flags outside of them, as a
    /// hint.
    woken: [AtomicBool; N],
    state: Mutex<RefCell<State>>,
}

struct State {
    /// Whether a stage uses the table.
    claimed: bool,
    /// Whether any slot was woken since the last pass began.
    any_woken: bool,
    /// The waker of the task that polls the stage, while the stage sleeps.
    parent: Option<Waker>,
}

impl<const N: usize> WakeTable<N> {
    /// A table that no stage uses yet.
    ///
    /// # Panics
    ///
    /// When `N` is more than 65 535; for a `static`, that is a compile-time error.
    #[must_use]
    pub const fn new() -> Self {
        let state = State { claimed: false, any_woken: false, parent: None };
        let woken = [const { AtomicBool::new(false) }; N];
        let flags = WakeFlags { woken, state: Mutex::new(RefCell::new(state)) };
        Self { lanes: StaticLanes::new(flags) }
    }

    /// Gives the table to a stage, unless another stage uses it.
    pub(super) fn claim(&'static self) -> Option<WakeTableGuard<N>> {
        let flags = &self.lanes.target;
        let is_free = flags.with_state(|state| !core::mem::replace(&mut state.claimed, true));
        is_free.then(|| WakeTableGuard { table: self, next: 0 })
    }
}

impl<const N: usize> WakeFlags<N> {
    /// Takes a slot's flag, and returns whether it was set.
    fn take(&self, slot: usize) -> bool {
        self.woken.get(slot).is_some_and(|flag| {
            self.with_state(|_| {
                let woken = flag.load(Relaxed);
                flag.store(false, Relaxed);
                woken
            })
        })
    }

    fn with_state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        critical_section::with(|cs| with(&mut self.state.borrow_ref_mut(cs)))
    }
}

impl<const N: usize> WakeLane for WakeFlags<N> {
    fn wake(&self, lane: usize) {
        let parent = self.with_state(|state| {
            if let Some(flag) = self.woken.get(lane) {
                flag.store(true, Relaxed);
            }
            state.any_woken = true;
            state.parent.take()
        });
        // Outside of the critical section: waking may take long, and may take one of its own.
        if let Some(parent) = parent {
            parent.wake();
        }
    }
}

impl<const N: usize> Default for WakeTable<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for WakeTable<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claimed = self.lanes.target.with_state(|state| state.claimed);
        f.debug_struct("WakeTable").field("claimed", &claimed).finish_non_exhaustive()
    }
}

/// A stage's exclusive use of its table; dropping it frees the table. Tracks the pass over the flags.
#[doc(hidden)]
#[derive(Debug)]
pub struct WakeTableGuard<const N: usize> {
    table: &'static WakeTable<N>,
    /// The next slot of the pass; zero between two passes.
    next: usize,
}

impl<const N: usize> WakeTracker for WakeTableGuard<N> {
    fn begin(&mut self) {}

    fn with_waker<T>(&self, slot: usize, _: &Waker, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.table.lanes.with_waker(slot, poll)
    }

    fn next(&mut self, _: usize) -> Option<usize> {
        let flags = &self.table.lanes.target;
        if self.next == 0 && !flags.with_state(|state| core::mem::take(&mut state.any_woken)) {
            return None;
        }
        while let Some(flag) = flags.woken.get(self.next) {
            let slot = self.next;
            self.next += 1;
            // The look outside of the critical section may miss a wake that comes during this pass. That wake has
            // set `any_woken` again, so the next pass finds its flag.
            if flag.load(Relaxed) && flags.take(slot) {
                return Some(slot);
            }
        }
        self.next = 0;
        None
    }

    fn take_woken(&mut self, slot: usize) -> bool {
        self.table.lanes.target.take(slot)
    }

    fn sleep(&mut self, cx: &Context<'_>) -> bool {
        if self.next != 0 {
            return false;
        }
        // Cloning and dropping wakers may run foreign code: keep it outside of the critical section.
        let waker = cx.waker().clone();
        let before = self.table.lanes.target.with_state(|state| match state.any_woken {
            true => Err(waker),
            false => Ok(state.parent.replace(waker)),
        });
        before.is_ok()
    }
}

impl<const N: usize> Drop for WakeTableGuard<N> {
    fn drop(&mut self) {
        let flags = &self.table.lanes.target;
        for flag in &flags.woken {
            flag.store(false, Relaxed);
        }
        let parent = flags.with_state(|state| {
            state.claimed = false;
            state.any_woken = false;
            state.parent.take()
        });
        drop(parent);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::Arc;
    use std::task::Wake;
    use std::vec::Vec;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn woken<const N: usize>(guard: &mut WakeTableGuard<N>) -> Vec<usize> {
        core::iter::from_fn(|| guard.next(N)).collect()
    }

    fn waker<const N: usize>(guard: &WakeTableGuard<N>, slot: usize) -> Waker {
        guard.with_waker(slot, Waker::noop(), |cx| cx.waker().clone())
    }

    // L6: a wake names its slot and no other, in the first place, in the last, and in between.
    #[test]
    fn a_wake_names_its_slot() {
        static TABLE: WakeTable<100> = WakeTable::new();
        let mut guard = TABLE.claim().unwrap();
        for slot in 0..100 {
            let waker = waker(&guard, slot);
            waker.wake_by_ref();
            waker.wake_by_ref();
            assert_eq!(woken(&mut guard), [slot]);
            assert_eq!(woken(&mut guard), []);
        }
    }

    // L6: no wake is lost, and only the first one after a sleep wakes the parent.
    #[test]
    fn the_parent_is_woken_once_a_sleep() {
        static TABLE: WakeTable<12> = WakeTable::new();
        let mut guard = TABLE.claim().unwrap();
        let count = Arc::new(Count::default());
        let parent = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&parent);
        assert!(guard.sleep(&cx) && guard.sleep(&cx));
        (0..12).for_each(|slot| waker(&guard, slot).wake());
        assert_eq!(count.0.load(SeqCst), 1);
        assert!(!guard.sleep(&cx), "wakes that were not handed out keep the stage awake");
        assert_eq!(guard.next(12), Some(0));
        assert!(!guard.sleep(&cx), "nor does it sleep in the middle of a pass");
        assert_eq!(woken(&mut guard).len(), 11);
        assert!(guard.sleep(&cx));
        waker(&guard, 7).wake();
        assert_eq!(count.0.load(SeqCst), 2);
    }

    // One stage at a time; a stage sees no wakes that were meant for the one before.
    #[test]
    fn a_table_is_for_one_stage_at_a_time() {
        static TABLE: WakeTable<2> = WakeTable::new();
        let guard = TABLE.claim().unwrap();
        assert!(TABLE.claim().is_none());
        let late = waker(&guard, 1);
        late.wake_by_ref();
        let parent = Arc::new(Count::default());
        drop(guard);
        let mut guard = TABLE.claim().unwrap();
        assert_eq!(woken(&mut guard), []);
        assert!(guard.sleep(&Context::from_waker(&Waker::from(Arc::clone(&parent)))));
        drop(guard);
        assert_eq!(
            Arc::strong_count(&parent),
            1,
            "the table keeps no waker of a stage that is gone"
        );
        late.wake();
    }

    // L6: no wake from another thread is lost, even if it comes while the stage goes to sleep.
    #[test]
    fn wakes_come_from_other_threads() {
        static TABLE: WakeTable<64> = WakeTable::new();
        struct Unpark(std::thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let mut guard = TABLE.claim().unwrap();
        let parent = Waker::from(Arc::new(Unpark(std::thread::current())));
        let cx = Context::from_waker(&parent);
        // Miri takes half a second for each.
        for _ in 0..if cfg!(miri) { 10 } else { 200 } {
            let wakers: Vec<_> = (0..64).map(|slot| waker(&guard, slot)).collect();
            let threads = std::thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
            let mut seen = 0;
            while seen < 64 {
                seen += woken(&mut guard).len();
                if seen < 64 && guard.sleep(&cx) {
                    std::thread::park();
                }
            }
            threads.join().unwrap();
            assert_eq!(woken(&mut guard), [], "each slot once");
        }
    }
}
