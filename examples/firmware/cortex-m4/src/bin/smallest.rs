//! The smallest useful set-up.
#![no_std]
#![no_main]

use cortex_m4::{exit, say, start};
use embassy_executor::Spawner;

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    start();
    let passed = gateway::smallest::with().await == Some(true);
    say(if passed { "smallest: PASS\n" } else { "smallest: FAIL\n" });
    exit(passed)
}
