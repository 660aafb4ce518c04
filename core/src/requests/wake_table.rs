//! Exact wake-ups without an allocator: the wakers' half of a stage, in a `static`.

use core::cell::RefCell;
use core::fmt;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::task::{Context, Waker};

use critical_section::Mutex;

use super::fixed::Wakes;
use crate::requests::heap::lane_waker;

/// Tells a stage in place which of its requests were woken, so that a wake polls that request and no
/// other. For at most `N` records in flight; it lives in a `static`, and one stage at a time uses it.
///
/// A stage over [`Fixed`](crate::Fixed) needs no such table: it polls all its requests whenever it is
/// polled itself, with the waker of its own task. That is cheap for a few dozen requests, and it is the
/// only way for requests that accept no waker but their executor's: so do `embassy-time`'s timers, unless
/// the program turns on one of the features `generic-queue-*` of `embassy-time-queue-utils` (and says so, or this
/// does not compile: see [`Runtime::ANY_WAKER`](crate::Runtime::ANY_WAKER)). Otherwise use
/// this where there are many requests, or polling one costs much. The source, the timer and the function
/// are polled with the waker of the stage's own task in any case.
///
/// A wake takes a critical section of a few instructions (crate `critical-section`, for which the program
/// chooses an implementation; with the standard library that is its feature `std`), and no
/// compare-and-swap, which some processors do not have. It may come from an interrupt.
///
/// ```
/// use inflight_core::WakeTable;
///
/// static WAKES: WakeTable<16> = WakeTable::new();
/// // .. source.async_wait(policy, function).in_place_over(runtime, &WAKES)
/// ```
#[repr(C)]
pub struct WakeTable<const N: usize> {
    /// First, so that a pointer to a lane tells where the table is. A request's waker points to its lane.
    lanes: [Lane; N],
    state: Mutex<RefCell<State>>,
}

pub(crate) struct Lane {
    /// Written in critical sections; read also outside, as a hint.
    woken: AtomicBool,
    /// Its number, by which a waker finds the table.
    pub(crate) number: u16,
}

struct State {
    claimed: bool,
    /// Some lane was woken since the last pass began.
    woken: bool,
    /// Who polls the stage, while it sleeps.
    parent: Option<Waker>,
}

const _: () = assert!(offset_of!(WakeTable<1>, lanes) == 0);

impl<const N: usize> WakeTable<N> {
    /// A table that no stage uses yet.
    ///
    /// # Panics
    ///
    /// When `N` is more than 65 535; that is an error when the program is compiled, in a `static`.
    #[must_use]
    pub const fn new() -> Self {
        assert!(N <= u16::MAX as usize, "a wake table has at most 65 535 places");
        let mut lanes = [const { Lane::new(0) }; N];
        let mut number = 0;
        while number < N {
            lanes[number] = Lane::new(number as u16);
            number += 1;
        }
        let state = State { claimed: false, woken: false, parent: None };
        Self { lanes, state: Mutex::new(RefCell::new(state)) }
    }

    /// The table for a stage, unless another one has it.
    pub(super) fn claim(&'static self) -> Option<WakeTableGuard<N>> {
        let is_free = self.with_state(|state| !core::mem::replace(&mut state.claimed, true));
        is_free.then(|| WakeTableGuard { table: self, next: 0 })
    }

    /// Wakes a lane.
    pub(crate) fn wake(&self, number: usize) {
        let parent = self.with_state(|state| {
            if let Some(lane) = self.lanes.get(number) {
                lane.woken.store(true, Relaxed);
            }
            state.woken = true;
            state.parent.take()
        });
        if let Some(parent) = parent {
            parent.wake();
        }
    }

    fn with_state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        critical_section::with(|cs| with(&mut self.state.borrow_ref_mut(cs)))
    }
}

impl Lane {
    const fn new(number: u16) -> Self {
        Self { woken: AtomicBool::new(false), number }
    }

    /// In a critical section.
    fn take(&self) -> bool {
        let woken = self.woken.load(Relaxed);
        self.woken.store(false, Relaxed);
        woken
    }
}

impl<const N: usize> Default for WakeTable<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for WakeTable<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claimed = self.with_state(|state| state.claimed);
        f.debug_struct("WakeTable").field("claimed", &claimed).finish_non_exhaustive()
    }
}

/// A stage's hold on its table, and how far its pass over the lanes has come.
#[doc(hidden)]
#[derive(Debug)]
pub struct WakeTableGuard<const N: usize> {
    table: &'static WakeTable<N>,
    /// The next lane of the pass; zero between two passes.
    next: usize,
}

impl<const N: usize> Wakes for WakeTableGuard<N> {
    fn begin(&mut self) {}

    fn with_waker<T>(&self, slot: usize, _: &Waker, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        poll(&mut Context::from_waker(&lane_waker(self.table, slot)))
    }

    fn next(&mut self, _: usize) -> Option<usize> {
        let table = self.table;
        if self.next == 0 && !table.with_state(|state| core::mem::take(&mut state.woken)) {
            return None;
        }
        while let Some(lane) = table.lanes.get(self.next) {
            self.next += 1;
            // What is set while the pass goes on is seen by it or by the next one.
            if lane.woken.load(Relaxed) && table.with_state(|_| lane.take()) {
                return Some(usize::from(lane.number));
            }
        }
        self.next = 0;
        None
    }

    fn take_woken(&mut self, slot: usize) -> bool {
        self.table.lanes.get(slot).is_some_and(|lane| self.table.with_state(|_| lane.take()))
    }

    fn sleep(&mut self, cx: &Context<'_>) -> bool {
        if self.next != 0 {
            return false;
        }
        // Cloned, and the one before dropped, outside of the critical section.
        let waker = cx.waker().clone();
        let before = self.table.with_state(|state| match state.woken {
            true => Err(waker),
            false => Ok(state.parent.replace(waker)),
        });
        before.is_ok()
    }
}

impl<const N: usize> Drop for WakeTableGuard<N> {
    fn drop(&mut self) {
        for lane in &self.table.lanes {
            lane.woken.store(false, Relaxed);
        }
        let parent = self.table.with_state(|state| {
            state.claimed = false;
            state.woken = false;
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

    fn woken<const N: usize>(claim: &mut WakeTableGuard<N>) -> Vec<usize> {
        core::iter::from_fn(|| claim.next(N)).collect()
    }

    fn waker<const N: usize>(claim: &WakeTableGuard<N>, lane: usize) -> Waker {
        claim.with_waker(lane, Waker::noop(), |cx| cx.waker().clone())
    }

    // L6: a wake names its lane and no other, in the first place, in the last, and in between.
    #[test]
    fn a_wake_names_its_lane() {
        static TABLE: WakeTable<100> = WakeTable::new();
        let mut claim = TABLE.claim().unwrap();
        for lane in 0..100 {
            let waker = waker(&claim, lane);
            waker.wake_by_ref();
            waker.wake_by_ref();
            assert_eq!(woken(&mut claim), [lane]);
            assert_eq!(woken(&mut claim), []);
        }
    }

    // L6: none is lost and none wakes the parent twice.
    #[test]
    fn the_parent_is_woken_once_a_sleep() {
        static TABLE: WakeTable<12> = WakeTable::new();
        let mut claim = TABLE.claim().unwrap();
        let count = Arc::new(Count::default());
        let parent = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&parent);
        assert!(claim.sleep(&cx) && claim.sleep(&cx));
        (0..12).for_each(|lane| waker(&claim, lane).wake());
        assert_eq!(count.0.load(SeqCst), 1);
        assert!(!claim.sleep(&cx), "what is not collected keeps the stage awake");
        assert_eq!(claim.next(12), Some(0));
        assert!(!claim.sleep(&cx), "nor does it sleep in the middle of a pass");
        assert_eq!(woken(&mut claim).len(), 11);
        assert!(claim.sleep(&cx));
        waker(&claim, 7).wake();
        assert_eq!(count.0.load(SeqCst), 2);
    }

    // One stage at a time; what the one before was woken for is no business of the next.
    #[test]
    fn a_table_is_for_one_stage_at_a_time() {
        static TABLE: WakeTable<2> = WakeTable::new();
        let claim = TABLE.claim().unwrap();
        assert!(TABLE.claim().is_none());
        let late = waker(&claim, 1);
        late.wake_by_ref();
        let parent = Arc::new(Count::default());
        drop(claim);
        let mut claim = TABLE.claim().unwrap();
        assert_eq!(woken(&mut claim), []);
        assert!(claim.sleep(&Context::from_waker(&Waker::from(Arc::clone(&parent)))));
        drop(claim);
        assert_eq!(
            Arc::strong_count(&parent),
            1,
            "the table keeps no waker of a stage that is gone"
        );
        late.wake();
    }

    // From any thread, and to one that sleeps: every wake is seen.
    #[test]
    fn wakes_come_from_other_threads() {
        static TABLE: WakeTable<64> = WakeTable::new();
        struct Unpark(std::thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let mut claim = TABLE.claim().unwrap();
        let parent = Waker::from(Arc::new(Unpark(std::thread::current())));
        let cx = Context::from_waker(&parent);
        // Miri takes half a second for each.
        for _ in 0..if cfg!(miri) { 10 } else { 200 } {
            let wakers: Vec<_> = (0..64).map(|lane| waker(&claim, lane)).collect();
            let threads = std::thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
            let mut seen = 0;
            while seen < 64 {
                seen += woken(&mut claim).len();
                if seen < 64 && claim.sleep(&cx) {
                    std::thread::park();
                }
            }
            threads.join().unwrap();
            assert_eq!(woken(&mut claim), [], "each lane once");
        }
    }
}
