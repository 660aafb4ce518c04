//! Two stages in a row, event time and a tumbling window (watermarks, windowed aggregation, group by minute).
//!
//! ```text
//! cargo run --example windows
//! ```
//!
//! Payments come with the time at which they were made. The first stage looks up the shop's country, the second one
//! the exchange rate; both are unordered and fast, because a window needs no order: it needs to know that it is complete. A
//! watermark says that, and no record crosses it, in either stage.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use inflight::prelude::*;
use tokio::time::sleep;

#[derive(Clone, Copy, Debug)]
struct Payment {
    at: i64, // milliseconds
    shop: u64,
    amount: u64,
}

const PAYMENTS: usize = 600;
const MINUTE: i64 = 60_000;

#[derive(Debug)]
struct Unavailable;

async fn country(shop: u64) -> Result<&'static str, Unavailable> {
    sleep(Duration::from_millis(shop * 7 % 40)).await; // a real program asks a service here
    Ok(if shop.is_multiple_of(2) { "NO" } else { "PE" })
}

async fn cents(country: &str, amount: u64) -> Result<u64, Unavailable> {
    sleep(Duration::from_millis(amount * 3 % 50)).await;
    Ok(if country == "NO" { amount * 9 } else { amount * 25 })
}

/// A payment about each second. Every tenth one is followed by a watermark: no payment at or before that time follows.
fn payments() -> impl Iterator<Item = (Payment, bool)> {
    (0_i64..).take(PAYMENTS).map(|n| {
        let payment =
            Payment { at: n * 1_000 + n * 37 % 900, shop: n as u64 % 11, amount: n as u64 % 101 };
        (payment, n % 10 == 9)
    })
}

/// The sum of each window of a minute, as `(start, sum)`, in the order in which the windows are complete.
#[derive(Default)]
struct Minutes {
    open: BTreeMap<i64, u64>,
    complete: Vec<(i64, u64)>,
}

impl Minutes {
    fn take(&mut self, element: StreamElement<u64>) {
        match element {
            StreamElement::Record { value, timestamp: Some(at) } => {
                let start = at.as_millis().div_euclid(MINUTE) * MINUTE;
                assert!(self.complete.iter().all(|done| done.0 < start), "a record that is late");
                *self.open.entry(start).or_default() += value;
            }
            StreamElement::Watermark(time) => {
                // A window is complete when its last millisecond has passed.
                let is_open = |start: &i64| start + MINUTE - 1 > time.as_millis();
                let first_open = self.open.keys().copied().find(is_open).unwrap_or(i64::MAX);
                let open = self.open.split_off(&first_open);
                self.complete.extend(std::mem::replace(&mut self.open, open));
            }
            _ => {}
        }
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), StartError> {
    let elements = payments().flat_map(|(payment, is_last)| {
        let at = Timestamp::from_millis(payment.at);
        [Some(StreamElement::record(payment, at)), is_last.then_some(StreamElement::Watermark(at))]
    });
    let located = stream::iter(elements.flatten())
        .ending_with_watermark() // or the last window would stay open
        .async_wait(AsyncWait::unordered(50), |payment: &Payment| country(payment.shop))
        .spawn(Tokio)?
        .split_outcomes(|letter| eprintln!("shop {}: {:?}", letter.input.shop, letter.failure));
    let mut converted = located
        .async_wait(AsyncWait::unordered(50), |located: &(Payment, &'static str)| {
            cents(located.1, located.0.amount)
        })
        .spawn(Tokio)?
        .split_outcomes(|letter| eprintln!("payment {:?}: {:?}", letter.input, letter.failure))
        .map_records(|(_, cents)| cents);

    let mut minutes = Minutes::default();
    while let Some(element) = converted.next().await {
        let known = minutes.complete.len();
        minutes.take(element);
        for (start, sum) in &minutes.complete[known..] {
            println!("minute {}: {sum} cents", start / MINUTE);
        }
    }

    let mut expected = BTreeMap::new();
    for (payment, _) in payments() {
        let rate = if payment.shop.is_multiple_of(2) { 9 } else { 25 };
        *expected.entry(payment.at / MINUTE * MINUTE).or_default() += payment.amount * rate;
    }
    assert_eq!(minutes.complete, Vec::from_iter(expected));
    println!("windows: PASS, {} windows, each complete and in order", minutes.complete.len());
    Ok(())
}
