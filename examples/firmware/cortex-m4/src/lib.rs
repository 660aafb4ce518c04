//! The board: time from SysTick, output and exit through semihosting, and a reset that loses the memory.
#![no_std]

mod clock;
mod memory;

use core::fmt;

use cortex_m::Peripherals;
use cortex_m::peripheral::SCB;
use cortex_m_semihosting::{debug, hio, hprintln};
use gateway::Board;
use gateway::outside::Outside;

pub use memory::stack_used;

/// The board as the gateway sees it.
pub const BOARD: Board = Board { cut_power, print };

/// The beginning of every program.
pub fn start() {
    memory::paint_stack();
    if let Some(peripherals) = Peripherals::take() {
        clock::start(peripherals.SYST);
    }
}

/// The world around the gateway. Call it once.
pub fn outside() -> &'static mut Outside {
    // SAFETY: it is called once in each life.
    unsafe { memory::outside() }.power_up()
}

fn print(line: fmt::Arguments<'_>) {
    hprintln!("{}", line);
}

/// Overwrites the memory and resets the processor.
fn cut_power() -> ! {
    cortex_m::interrupt::disable();
    memory::note_stack();
    memory::spoil();
    SCB::sys_reset()
}

/// Starts another life, with the memory lost.
pub fn restart() -> ! {
    cut_power()
}

/// Ends the emulation; the emulator's exit status is 0 if the program has passed.
pub fn exit(passed: bool) -> ! {
    debug::exit(if passed { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {
        cortex_m::asm::wfi();
    }
}

/// Prints a text without formatting.
pub fn say(text: &str) {
    if let Ok(mut console) = hio::hstdout() {
        let _ = console.write_all(text.as_bytes());
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    say("panic\n");
    exit(false)
}

#[cortex_m_rt::exception]
unsafe fn HardFault(_: &cortex_m_rt::ExceptionFrame) -> ! {
    say("hard fault\n");
    exit(false)
}
