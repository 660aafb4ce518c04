//! The first program on smol: only the line that names the runtime differs, and the executor is yours.
//!
//! ```text
//! cargo run --example on_smol
//! ```
//!
//! A stage that spawns its requests (`.spawn_requests(..)`) keeps the executor, so it needs `Smol(Arc::clone(&executor))`, or an
//! executor in a `static`.

use std::time::Duration;

use inflight::prelude::*;
use smol::Timer;

#[derive(Debug)]
struct Busy;

async fn temperature_at(place: String) -> Result<f64, Busy> {
    Timer::after(Duration::from_millis(20)).await; // a real program asks a service here
    Ok(place.len() as f64)
}

fn main() -> Result<(), StartError> {
    let executor = smol::Executor::new();
    smol::block_on(executor.run(async {
        let places = smol::stream::iter(["Bergen", "Lima", "Hanoi"].map(String::from));
        let policy = AsyncWait::ordered(100).timeout(Duration::from_secs(2));
        let mut answers = places.async_wait_owned(policy, temperature_at).spawn(Smol(&executor))?;

        let mut lines = Vec::new();
        while let Some(done) = answers.next().await {
            lines.push(format!("{}: {:?}", done.input, done.result.ok()));
        }
        assert_eq!(lines, ["Bergen: Some(6.0)", "Lima: Some(4.0)", "Hanoi: Some(5.0)"]);
        println!("on_smol: PASS, {}", lines.join(", "));
        Ok(())
    }))
}
