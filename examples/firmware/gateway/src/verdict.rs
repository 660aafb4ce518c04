//! The verdict: a check that the receiver has got every reading, correctly.

use crate::outside::{Received, Sent};
use crate::sensors::{PERIOD, READINGS, SENSORS};

/// The required order of the readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The order of measurement.
    Ordered,
    /// The order of measurement for each sensor.
    BySensor,
}

/// The fault in the received messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// This reading came twice, or before one that must precede it, or after the watermark.
    Order(u32),
    /// This reading came with the wrong result.
    Result(u32),
    /// A watermark is missing, or came twice.
    Watermark(u32),
    /// The receiver has a message that was never sent.
    Nonsense,
    /// The number of readings, and the sum of their values, are wrong.
    Totals(u32, i32),
}

const SECONDS: u32 = READINGS * PERIOD / 1000;

/// The expected sum of all values.
const SUM: i32 = if cfg!(feature = "wrong-value") { 1 } else { 1_371_574 };

/// Checks all received messages.
pub fn check(received: &Received, order: Order) -> Result<(), Wrong> {
    let mut next = [0; SENSORS as usize];
    let (mut readings, mut seconds, mut sum) = (0, 0, 0_i32);
    for sent in received.all() {
        let number = match sent {
            Sent::Complete(millis) => {
                seconds += 1;
                if millis != seconds * 1000 - 1 {
                    return Err(Wrong::Watermark(millis));
                }
                continue;
            }
            Sent::Calibrated(number, value) => {
                sum = sum.wrapping_add(value);
                number
            }
            Sent::Refused(number) | Sent::Silent(number) => number,
            Sent::Nonsense => return Err(Wrong::Nonsense),
        };
        let (sensor, round) = ((number % SENSORS) as usize, number / SENSORS);
        let is_late = number * PERIOD < seconds * 1000;
        if round != next[sensor] || is_late || order == Order::Ordered && number != readings {
            return Err(Wrong::Order(number));
        }
        next[sensor] += 1;
        readings += 1;
        let is_right = match sensor {
            6 if round % 5 == 4 => matches!(sent, Sent::Refused(_)),
            7 if round % 4 == 3 => matches!(sent, Sent::Silent(_)),
            _ => matches!(sent, Sent::Calibrated(..)),
        };
        if !is_right {
            return Err(Wrong::Result(number));
        }
    }
    if seconds != SECONDS {
        return Err(Wrong::Watermark(seconds * 1000));
    }
    if (readings, sum) != (READINGS, SUM) {
        return Err(Wrong::Totals(readings, sum));
    }
    Ok(())
}
