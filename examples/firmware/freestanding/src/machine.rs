//! The machine: an entry point, a few system calls, and the memory functions that the compiler requires.

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

/// SAFETY: the caller knows the effect of the system call on its arguments.
unsafe fn system_call(number: usize, arguments: [usize; 6]) -> isize {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result;
    // SAFETY: `syscall` clobbers rcx, r11 and rax, and does not touch the stack.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            in("r9") sixth,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Ends the program.
pub(crate) fn exit(status: usize) -> ! {
    const EXIT_GROUP: usize = 231;
    loop {
        // SAFETY: it takes a number and does not return.
        unsafe { system_call(EXIT_GROUP, [status, 0, 0, 0, 0, 0]) };
    }
}

/// Restarts the program. Of its memory, only that of [`outside`] survives.
pub(crate) fn reset() -> ! {
    const EXECVE: usize = 59;
    let path = c"/proc/self/exe".as_ptr() as usize;
    let no_arguments = [0_usize];
    let list = no_arguments.as_ptr() as usize;
    // SAFETY: a string that ends with a zero, and two lists that do.
    unsafe { system_call(EXECVE, [path, list, list, 0, 0, 0]) };
    exit(103)
}

/// Memory that a [`reset`] does not touch, initially zero: a file without a name, whose descriptor stays open
/// when the program restarts.
pub(crate) fn outside(length: usize) -> *mut u8 {
    const MMAP: usize = 9;
    const DUP2: usize = 33;
    const FTRUNCATE: usize = 77;
    const MEMFD_CREATE: usize = 319;
    const DESCRIPTOR: usize = 100;
    const READ_AND_WRITE: usize = 3;
    const SHARED: usize = 1;
    // SAFETY: a mapping at an address of the kernel's choice; nothing is there yet.
    let map = || unsafe { system_call(MMAP, [0, length, READ_AND_WRITE, SHARED, DESCRIPTOR, 0]) };
    let mut address = map();
    if address < 0 {
        let name = c"outside".as_ptr() as usize;
        // SAFETY: a string that ends with a zero; the others take numbers.
        unsafe {
            let file = system_call(MEMFD_CREATE, [name, 0, 0, 0, 0, 0]) as usize;
            system_call(DUP2, [file, DESCRIPTOR, 0, 0, 0, 0]);
            system_call(FTRUNCATE, [DESCRIPTOR, length, 0, 0, 0, 0]);
        }
        address = map();
    }
    if address < 0 {
        exit(104)
    }
    core::ptr::with_exposed_provenance_mut(address as usize)
}

/// Standard output.
pub(crate) struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const WRITE: usize = 1;
        // SAFETY: it reads `text` and nothing else.
        unsafe { system_call(WRITE, [1, text.as_ptr() as usize, text.len(), 0, 0, 0]) };
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = fmt::Write::write_fmt(&mut Console, format_args!("{info}\n"));
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
