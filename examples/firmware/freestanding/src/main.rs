//! The gateway on x86-64 Linux without libc, std and allocator. The program sets its own clock, so it runs as
//! fast as it can. It prints its own verdict.
#![no_std]
#![no_main]

mod clock;
mod machine;

use core::fmt::{self, Write};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use embassy_executor::raw::Executor;
use gateway::outside::Outside;
use gateway::{Board, Ended};
use machine::{Console, exit};

const BOARD: Board = Board { cut_power: machine::reset, print };

fn print(line: fmt::Arguments<'_>) {
    let _ = writeln!(Console, "{line}");
}

/// Called by the entry point.
pub(crate) fn main() -> ! {
    let outside = machine::outside(size_of::<Outside>()).cast::<Outside>();
    // SAFETY: there is as much memory, zero or what an earlier life has left, all words; and this is the
    // only reference.
    let outside = unsafe { &mut *outside }.power_up();
    let executor = Executor::new(ptr::null_mut());
    // SAFETY: this function does not return.
    let executor: &'static Executor = unsafe { &*ptr::from_ref(&executor) };
    let spawner = executor.spawner();
    let life = outside.life();
    match (gateway_task(outside), blackout_task(life)) {
        (Ok(gateway), Ok(blackout)) => {
            spawner.spawn(gateway);
            spawner.spawn(blackout);
        }
        _ => exit(3),
    }
    loop {
        // SAFETY: nothing else polls it, and this is no task.
        unsafe { executor.poll() };
        if !PENDING.swap(false, Relaxed) && !clock::advance() {
            exit(4) // no event will ever happen
        }
    }
}

static PENDING: AtomicBool = AtomicBool::new(false);

/// embassy's executor calls this when a task is to be polled.
#[unsafe(export_name = "__pender")]
fn pender(_: *mut ()) {
    PENDING.store(true, Relaxed);
}

#[embassy_executor::task]
async fn gateway_task(outside: &'static mut Outside) {
    match gateway::live(BOARD, outside).await {
        Ended::Mission => machine::reset(),
        Ended::Program(passed) => {
            let verdict = if passed { "PASS" } else { "FAIL" };
            print(format_args!("freestanding: {verdict}"));
            exit(usize::from(!passed))
        }
    }
}

#[embassy_executor::task]
async fn blackout_task(life: u32) {
    gateway::blackout(BOARD, life).await;
}
