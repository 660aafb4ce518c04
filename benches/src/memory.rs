//! An allocator that counts while it is switched on, for the whole process or for one thread, and otherwise costs one load.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// The system's allocator, counted.
pub(crate) struct Counting;

/// [`NOBODY`], [`EVERYBODY`], or the thread whose allocations count ([`this_thread`]).
static COUNTED: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = 0;
const EVERYBODY: usize = 1;

thread_local! {
    /// Its address is the thread's name. Neither constructed nor dropped at run time, so the allocator may use it.
    static OWN: Cell<[u8; 2]> = const { Cell::new([0; 2]) };
}

fn this_thread() -> usize {
    OWN.with(|own| own.as_ptr() as usize)
}

fn counts() -> bool {
    match COUNTED.load(Relaxed) {
        NOBODY => false,
        EVERYBODY => true,
        thread => thread == this_thread(),
    }
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

fn grow(bytes: usize) {
    if counts() {
        ALLOCATIONS.fetch_add(1, Relaxed);
        let now = BYTES.fetch_add(bytes as i64, Relaxed) + bytes as i64;
        PEAK.fetch_max(now, Relaxed);
    }
}

fn shrink(bytes: usize) {
    if counts() {
        BYTES.fetch_sub(bytes as i64, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's contract is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's contract is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: the caller's contract is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size);
        shrink(layout.size());
        // SAFETY: the caller's contract is handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Counts from zero from here on, in all threads.
pub(crate) fn start() {
    begin(EVERYBODY);
}

/// Counts from zero from here on, in the calling thread. The other threads of a program that runs tests do not disturb it.
pub(crate) fn start_here() {
    begin(this_thread());
}

fn begin(counted: usize) {
    ALLOCATIONS.store(0, Relaxed);
    BYTES.store(0, Relaxed);
    PEAK.store(0, Relaxed);
    COUNTED.store(counted, Relaxed);
}

/// Stops counting.
pub(crate) fn stop() {
    COUNTED.store(NOBODY, Relaxed);
}

/// Allocations since [`start`].
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.load(Relaxed)
}

/// Bytes allocated since [`start`] and not freed.
pub(crate) fn bytes() -> u64 {
    BYTES.load(Relaxed).max(0) as u64
}

/// The largest value of [`bytes`] since [`start`].
pub(crate) fn peak_bytes() -> u64 {
    PEAK.load(Relaxed).max(0) as u64
}
