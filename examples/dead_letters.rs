//! Dead letters (dead letter queue, poison messages, rejected records): records that failed go into a file, with the reason, and are
//! tried again later.
//!
//! ```text
//! cargo run --example dead_letters
//! ```
//!
//! A failure is an outcome and does not end the stream. Errors that may pass are retried; the others, and those that
//! outlast the retries, become dead letters: the record, the failure, the number of attempts and the time, as one line of JSON.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use futures::stream;
use inflight::DeadLetter;
use inflight::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    number: u32,
    country: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum TaxError {
    Busy,
    UnknownCountry,
}

/// The tax in percent. In this example the service is busy for Peru until it has been repaired.
async fn tax(order: Order, is_repaired: bool) -> Result<u32, TaxError> {
    match order.country.as_str() {
        "Peru" if !is_repaired => Err(TaxError::Busy),
        "Norway" => Ok(25),
        "Peru" => Ok(18),
        _ => Err(TaxError::UnknownCountry),
    }
}

/// Returns the orders with their tax, and writes the others into the file `dead`.
async fn run(
    orders: Vec<Order>,
    is_repaired: bool,
    dead: &Path,
) -> Result<Vec<(u32, u32)>, Box<dyn std::error::Error>> {
    let retries = FixedDelay::new(Duration::from_millis(10)).max_retries(2);
    let policy = AsyncWait::ordered(100)
        .timeout(Duration::from_secs(5))
        .retry(retries.when_error(|error: &TaxError| *error == TaxError::Busy));
    let mut outcomes = stream::iter(orders)
        .async_wait_owned(policy, move |order| tax(order, is_repaired))
        .spawn(Tokio)?;

    let (mut taxed, mut dead) = (Vec::new(), File::create(dead)?);
    while let Some(done) = outcomes.next().await {
        match done.into_result() {
            Ok((order, percent)) => taxed.push((order.number, percent)),
            Err(letter) => {
                eprintln!("order {}: {:?}", letter.input.number, letter.failure);
                writeln!(dead, "{}", serde_json::to_string(&letter)?)?;
            }
        }
    }
    dead.sync_all()?;
    Ok(taxed)
}

fn read(path: &Path) -> Result<Vec<DeadLetter<Order, TaxError>>, Box<dyn std::error::Error>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let (first, second) = (folder.path().join("dead.jsonl"), folder.path().join("again.jsonl"));
    let countries = ["Norway", "Peru", "Atlantis", "Norway"];
    let orders =
        (0..).zip(countries).map(|(number, country)| Order { number, country: country.into() });

    let taxed = run(orders.collect(), false, &first).await?;
    assert_eq!(taxed, [(0, 25), (3, 25)]);
    print!("{}", fs::read_to_string(&first)?);
    let letters = read(&first)?;
    let why = |letter: &DeadLetter<Order, TaxError>| (letter.input.number, letter.attempts);
    assert_eq!(letters.iter().map(why).collect::<Vec<_>>(), [(1, 3), (2, 1)]);
    assert_eq!(letters[0].failure, Failure::Error(TaxError::Busy));

    // Later, when the service works again: the letters are the input.
    let taxed =
        run(letters.into_iter().map(|letter| letter.input).collect(), true, &second).await?;
    assert_eq!(taxed, [(1, 18)]);
    assert_eq!(read(&second)?.len(), 1, "nobody knows the tax of Atlantis");
    println!("dead_letters: PASS, 2 of 4 orders failed, 1 of them for good");
    Ok(())
}
