//! The smallest set-up without inflight.
#![no_std]
#![no_main]

use cortex_m4::{exit, say, start};
use embassy_executor::Spawner;

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    start();
    let passed = gateway::smallest::without().await;
    say(if passed { "smallest: PASS\n" } else { "smallest: FAIL\n" });
    exit(passed)
}
