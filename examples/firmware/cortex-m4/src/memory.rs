//! The memory: the use of the stack, the part that a power cut loses, and the part that survives.

use cortex_m::register::msp;
use gateway::outside::Outside;

const PAINT: u32 = 0xdead_beef;

// Symbols of the linker's script: the start and the end of the statics, and the start of the stack (it grows
// down to the statics).
unsafe extern "C" {
    static mut __sdata: u32;
    static mut __sheap: u32;
    static mut _stack_start: u32;
}

/// The address after the program's RAM, which the start-up code does not touch.
const OUTSIDE: usize = 0x2010_0000;
/// The address of the record of the deepest stack in any life.
const NOTE: usize = 0x200f_fff0;

/// # Safety
///
/// Once in each life.
pub(crate) unsafe fn outside() -> &'static mut Outside {
    // SAFETY: the board has memory there; it is all words, so whatever they hold is a value of it; and the
    // caller asks once.
    unsafe { &mut *core::ptr::with_exposed_provenance_mut::<Outside>(OUTSIDE) }
}

/// Paints the free part of the stack.
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

/// Records the depth of the stack in this life.
pub(crate) fn note_stack() {
    let note = core::ptr::with_exposed_provenance_mut::<u32>(NOTE);
    // SAFETY: the board has memory there, and nothing else uses it.
    unsafe { note.write_volatile(note.read_volatile().max(used_since_painting())) };
}

/// The deepest stack of any life since the stack was painted, in bytes.
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
