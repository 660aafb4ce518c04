//! Memory as such: what the program's stack uses of it, what is lost in a power cut, what is not.

use cortex_m::register::msp;
use gateway::outside::Outside;

const PAINT: u32 = 0xdead_beef;

// From the linker's script: where the statics begin, where they end, where the stack starts (it grows down
// to the statics).
unsafe extern "C" {
    static mut __sdata: u32;
    static mut __sheap: u32;
    static mut _stack_start: u32;
}

/// Behind the program's RAM: nothing that starts the program knows of it.
const OUTSIDE: usize = 0x2010_0000;
/// Beside it, where the most of the stack that any life has used is noted.
const NOTE: usize = 0x200f_fff0;

/// # Safety
///
/// Once in each life.
pub(crate) unsafe fn outside() -> &'static mut Outside {
    // SAFETY: the board has memory there; it is all words, so whatever they hold is a value of it; and the
    // caller asks once.
    unsafe { &mut *core::ptr::with_exposed_provenance_mut::<Outside>(OUTSIDE) }
}

/// Paints what of the stack is free now.
#[inline(never)]
pub(crate) fn paint_stack() {
    fill(&raw mut __sheap, (msp::read() - 64) as *mut u32, PAINT);
}

/// Overwrites all statics.
#[inline(never)]
pub(crate) fn spoil() {
    fill(&raw mut __sdata, &raw mut __sheap, PAINT);
}

fn fill(mut from: *mut u32, to: *mut u32, word: u32) {
    while from < to {
        // SAFETY: the two callers name memory between the statics' start and the stack's end that nothing
        // refers to any more, or yet.
        unsafe { from.write_volatile(word) };
        from = from.wrapping_add(1);
    }
}

/// Notes what this life has used of the stack.
pub(crate) fn note_stack() {
    let note = core::ptr::with_exposed_provenance_mut::<u32>(NOTE);
    // SAFETY: the board has memory there, and nothing else uses it.
    unsafe { note.write_volatile(note.read_volatile().max(used_since_painting())) };
}

/// The most bytes of the stack that any life has used since it was painted.
pub fn stack_used() -> u32 {
    note_stack();
    // SAFETY: as above.
    unsafe { core::ptr::with_exposed_provenance::<u32>(NOTE).read_volatile() }
}

fn used_since_painting() -> u32 {
    let mut word = &raw const __sheap;
    let top = &raw const _stack_start;
    // SAFETY: up to the stack's start this is memory.
    while word < top && unsafe { word.read_volatile() } == PAINT {
        word = word.wrapping_add(1);
    }
    top as u32 - word as u32
}
