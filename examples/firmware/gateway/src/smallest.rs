//! The smallest useful program: it calibrates readings in order, within a second, and sums them up. No
//! retries, no checkpoints, no formatting.

use core::future::poll_fn;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, ready};

use embassy_time::{Duration, with_timeout};
use futures_core::Stream;
use inflight_core::{AsyncWait, AsyncWaitExt, Fixed};
use inflight_embassy::Embassy;

use crate::bus;
use crate::mission::{CAPACITY, TIMEOUT};
use crate::sensors::{Event, Position, Reading, Sensors};

/// The expected result: the sum, and the number of failures. (There are no retries.)
const EXPECTED: (i32, u32) = (1_222_348, 38);

/// With inflight. Returns true if the result was right; `None` if the stage could not be started.
pub async fn with() -> Option<bool> {
    let policy = AsyncWait::ordered(CAPACITY).timeout(TIMEOUT);
    let stage = Readings(Sensors::from(Position::default()))
        .async_wait(policy, |reading| bus::ask(*reading, 1))
        .in_place_over(Embassy, Fixed::<CAPACITY>);
    let mut stage = pin!(stage.ok()?);
    let (mut sum, mut failed) = (0, 0);
    while let Some(outcome) = stage.as_mut().next_pinned().await {
        match outcome.result {
            Ok(value) => sum += value,
            Err(_) => failed += 1,
        }
    }
    Some((sum, failed) == EXPECTED)
}

/// Without inflight: one reading at a time.
pub async fn without() -> bool {
    let mut readings = pin!(Readings(Sensors::from(Position::default())));
    let (mut sum, mut failed) = (0, 0);
    while let Some(reading) = poll_fn(|cx| readings.as_mut().poll_next(cx)).await {
        match with_timeout(Duration::from_millis(1000), bus::ask(reading, 1)).await {
            Ok(Ok(value)) => sum += value,
            _ => failed += 1,
        }
    }
    (sum, failed) == EXPECTED
}

/// The readings alone.
struct Readings(Sensors);

impl Stream for Readings {
    type Item = Reading;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Reading>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_next(cx)) {
                Some(Event::Reading(reading)) => return Poll::Ready(Some(reading)),
                Some(_) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}
