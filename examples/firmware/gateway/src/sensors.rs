//! The sensors: a reading every 40 ms, a watermark every second, a checkpoint at intervals.

use core::pin::Pin;
use core::task::{Context, Poll};

use embassy_time::{Duration, Instant, Timer};
use futures_core::Stream;
use serde::{Deserialize, Serialize};

/// The number of sensors, which take turns.
pub(crate) const SENSORS: u32 = 8;
/// The number of readings.
pub(crate) const READINGS: u32 = 250;
/// Milliseconds between two readings.
pub(crate) const PERIOD: u32 = 40;
/// The number of readings between two checkpoints.
const CHECKPOINT_EVERY: u32 = 35;

/// A sensor's measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Its number, counted over all sensors.
    pub number: u32,
    /// Its sensor.
    pub sensor: u8,
    /// The raw value.
    pub raw: u16,
}

impl Reading {
    /// Sensors keep their measurements, so a restarted gateway can ask for them again.
    pub(crate) fn numbered(number: u32) -> Self {
        let sensor = (number % SENSORS) as u8;
        Self { number, sensor, raw: (number * 37 % 1000) as u16 }
    }

    /// The time of the measurement, in milliseconds since the first.
    pub fn millis(&self) -> u32 {
        self.number * PERIOD
    }
}

/// An event of the sensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A reading.
    Reading(Reading),
    /// A second is over: no reading up to this time follows.
    Second(u32),
    /// A checkpoint is due, with the position to resume from.
    Checkpoint(Position),
}

/// The position in the stream of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The next reading.
    pub next: u32,
    /// The number of seconds that are over.
    pub seconds: u32,
}

impl Position {
    /// The position as bytes.
    pub fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.next.to_le_bytes());
        bytes[4..].copy_from_slice(&self.seconds.to_le_bytes());
        bytes
    }

    /// The position from its bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (next, rest) = bytes.split_first_chunk()?;
        let (seconds, _) = rest.split_first_chunk()?;
        Some(Self { next: u32::from_le_bytes(*next), seconds: u32::from_le_bytes(*seconds) })
    }

    /// The time of the next event, in milliseconds since the first reading; and true if it is a reading.
    fn due(&self) -> (u32, bool) {
        let (reading, second) = (self.next * PERIOD, (self.seconds + 1) * 1000);
        if reading < second && self.next < READINGS { (reading, true) } else { (second, false) }
    }

    fn is_end(&self) -> bool {
        self.next == READINGS && self.seconds * 1000 >= READINGS * PERIOD
    }
}

/// All sensors, as a stream.
#[derive(Debug)]
pub struct Sensors {
    at: Position,
    /// The time of the first reading, real or theoretical.
    start: Instant,
    timer: Option<Timer>,
    checkpoint_at: u32,
}

impl Sensors {
    /// The events from this position on; each comes at its scheduled time.
    pub fn from(at: Position) -> Self {
        // Ticks may be earlier than the machine's start, but a duration since then cannot be negative.
        let start = Instant::from_ticks(
            Instant::now().as_ticks().wrapping_sub(millis(at.due().0).as_ticks()),
        );
        Self { at, start, timer: None, checkpoint_at: at.next + CHECKPOINT_EVERY }
    }

    fn take(&mut self, is_reading: bool, millis: u32) -> Event {
        if is_reading {
            self.at.next += 1;
            Event::Reading(Reading::numbered(self.at.next - 1))
        } else {
            self.at.seconds += 1;
            Event::Second(millis - 1)
        }
    }
}

fn millis(millis: u32) -> Duration {
    Duration::from_millis(millis.into())
}

impl Stream for Sensors {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.at.is_end() {
            return Poll::Ready(None);
        }
        if self.at.next == self.checkpoint_at {
            self.checkpoint_at += CHECKPOINT_EVERY;
            return Poll::Ready(Some(Event::Checkpoint(self.at)));
        }
        let (due, is_reading) = self.at.due();
        let at = Instant::from_ticks(self.start.as_ticks().wrapping_add(millis(due).as_ticks()));
        if Instant::now() < at {
            let timer = self.timer.get_or_insert_with(|| Timer::at(at));
            if Pin::new(timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.timer = None;
        Poll::Ready(Some(self.take(is_reading, due)))
    }
}
