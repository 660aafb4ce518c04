//! The whole gateway: in order, then in order for each sensor.
#![no_std]
#![no_main]

use cortex_m4::{BOARD, exit, outside, restart, stack_used, start};
use embassy_executor::Spawner;
use gateway::Ended;
use gateway::outside::Outside;

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    start();
    let outside = outside();
    if let (Ok(blackout), Ok(live)) = (blackout(outside.life()), live(outside)) {
        spawner.spawn(blackout);
        spawner.spawn(live);
    }
}

#[embassy_executor::task]
async fn live(outside: &'static mut Outside) {
    match gateway::live(BOARD, outside).await {
        Ended::Mission => restart(),
        Ended::Program(passed) => {
            let verdict = if passed { "PASS" } else { "FAIL" };
            (BOARD.print)(format_args!("cortex-m: {verdict} stack={}", stack_used()));
            exit(passed)
        }
    }
}

#[embassy_executor::task]
async fn blackout(life: u32) {
    gateway::blackout(BOARD, life).await;
}
