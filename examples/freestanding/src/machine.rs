//! What stands in for a machine: an entry point, two system calls, and the memory functions that the
//! compiler takes for granted.

use core::arch::{asm, global_asm};
use core::fmt;

global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym start,
);

extern "C" fn start() -> ! {
    crate::main()
}

/// SAFETY: the caller knows what the system call does with its arguments.
unsafe fn system_call(number: usize, first: usize, second: usize, third: usize) {
    // SAFETY: `syscall` clobbers rcx, r11 and rax, and does not touch the stack.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => _,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
}

/// Ends the program.
pub(crate) fn exit(status: usize) -> ! {
    const EXIT_GROUP: usize = 231;
    loop {
        // SAFETY: it takes a number and does not return.
        unsafe { system_call(EXIT_GROUP, status, 0, 0) }
    }
}

/// Standard output.
pub(crate) struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const WRITE: usize = 1;
        // SAFETY: it reads `text` and nothing else.
        unsafe { system_call(WRITE, 1, text.as_ptr() as usize, text.len()) }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = fmt::Write::write_fmt(&mut Console, format_args!("freestanding: {info}\n"));
    exit(101)
}

// The prebuilt `core` was compiled to unwind and names this; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    exit(102)
}

// SAFETY (all five): the contracts of C's functions of these names. They are written with string
// instructions, so that the compiler does not turn them into calls of themselves.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: see above.
    unsafe {
        asm!("rep movsb", inout("rcx") length => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= length {
        // SAFETY: copying upwards never overtakes itself here.
        return unsafe { memcpy(to, from, length) };
    }
    let last = length.wrapping_sub(1);
    // SAFETY: see above; from the end downwards.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") length => _,
            inout("rdi") to.wrapping_add(last) => _, inout("rsi") from.wrapping_add(last) => _,
            options(nostack));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    // SAFETY: see above.
    unsafe {
        asm!("rep stosb", inout("rcx") length => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    for at in 0..length {
        // SAFETY: see above. Volatile, so that it is not turned into a call of itself.
        let (a, b) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(one, other, length) }
}
