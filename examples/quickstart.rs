//! Asks a slow service about every place: up to 100 requests at once, answers in the order of the places.

use futures::stream;
use inflight::prelude::*;
use std::time::Duration;

#[derive(Debug)]
struct Busy;

async fn temperature_at(place: String) -> Result<f64, Busy> {
    Ok(place.len() as f64) // a real program asks a service here
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), StartError> {
    let places = stream::iter(["Bergen", "Lima", "Hanoi"].map(String::from));

    let policy = AsyncWait::ordered(100) // at most 100 in flight
        .timeout(Duration::from_secs(2)) // for a record, with all its attempts
        .attempt_timeout(Duration::from_millis(500))
        .retry(ExponentialBackoff::new(Duration::from_millis(50)).max_retries(3));

    // On a task of its own: requests make progress while this task does something else.
    let mut answers = places.async_wait_owned(policy, temperature_at).spawn(Tokio)?;

    while let Some(done) = answers.next().await {
        match done.result {
            Ok(celsius) => println!("{}: {celsius}", done.input),
            Err(failure) => eprintln!("{}: {failure:?}", done.input),
        }
    }
    Ok(())
}
