//! A stage on an executor that was written by hand.
//!
//! ```text
//! cargo run --example own_runtime
//! ```
//!
//! `executor.rs` contains the executor and, at its end, the three traits that make it a runtime for inflight.
//! `tests/own_runtime.rs` runs inflight's conformance suite on the same file.
#![allow(unreachable_pub, reason = "in a program, `pub` is for its other modules")]

mod executor;

use std::process::ExitCode;
use std::time::Duration;

use executor::Executor;
use futures::stream;
use inflight::prelude::*;
use inflight::{Runtime, Timer};

fn main() -> ExitCode {
    let executor = Executor::default();
    let answers = executor.block_on(answers(&executor));
    println!("{answers:?}");
    let expected =
        (1..=20).map(|number| (number, if number % 7 == 0 { None } else { Some(2 * number) }));
    match answers {
        Ok(answers) if answers.iter().copied().eq(expected) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Twenty numbers, five at a time; requests that take too long time out.
async fn answers(executor: &Executor) -> Result<Vec<(u32, Option<u32>)>, StartError> {
    let clock = executor.clone();
    let policy = AsyncWait::ordered(5).timeout(Duration::from_millis(250));
    let mut stage = stream::iter(1..=20)
        .async_wait(policy, move |number: &u32| {
            let (number, clock) = (*number, clock.clone());
            async move {
                let time = if number % 7 == 0 { Duration::MAX } else { Duration::from_millis(3) };
                sleep(&clock, time).await;
                Ok::<u32, ()>(2 * number)
            }
        })
        .spawn(executor.clone())?;
    let mut answers = Vec::new();
    while let Some(done) = stage.next().await {
        answers.push((done.input, done.result.ok()));
    }
    Ok(answers)
}

/// Requests have timers of the same kind as the stage.
async fn sleep(executor: &Executor, time: Duration) {
    let Ok(timer) = executor.timer() else { return };
    let mut timer = std::pin::pin!(timer);
    let at = timer.now() + time; // instants saturate
    timer.as_mut().arm(Some(at));
    std::future::poll_fn(|cx| timer.as_mut().poll(cx)).await;
}
