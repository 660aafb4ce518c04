//! The slow bus: the sensors' answers to requests for the calibration of a reading.

use core::future::pending;

use embassy_time::Timer;

use crate::sensors::Reading;

/// The sensor exists and refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// The behaviour of a sensor when it is asked about a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Answers after so many milliseconds.
    Answers(u32),
    /// Refuses the first time, and answers the second time.
    RefusesAtFirst,
    /// Refuses every time.
    Refuses,
    /// Never answers.
    Silent,
}

/// The same in every life of the gateway.
pub(crate) fn manner(reading: &Reading) -> Manner {
    let round = reading.number / crate::sensors::SENSORS;
    match reading.sensor {
        0..=3 => Manner::Answers(20 + 10 * (reading.number % 7)),
        4 | 5 => Manner::Answers(300),
        6 if round % 5 == 4 => Manner::Refuses,
        6 => Manner::RefusesAtFirst,
        _ if round % 4 == 3 => Manner::Silent,
        _ => Manner::Answers(150),
    }
}

/// Asks a sensor to calibrate a reading, for the `attempt`-th time. Dropping the future cancels the request.
pub async fn ask(reading: Reading, attempt: u32) -> Result<i32, Refused> {
    const REFUSAL: u64 = 30;
    match manner(&reading) {
        Manner::Answers(millis) => Timer::after_millis(millis.into()).await,
        Manner::RefusesAtFirst if attempt > 1 => Timer::after_millis(60).await,
        Manner::RefusesAtFirst | Manner::Refuses => {
            Timer::after_millis(REFUSAL).await;
            return Err(Refused);
        }
        Manner::Silent => pending().await,
    }
    Ok(calibrated(&reading))
}

/// The answer.
fn calibrated(reading: &Reading) -> i32 {
    let (gain, offset) = (10 + i32::from(reading.sensor), 273 * i32::from(reading.sensor));
    i32::from(reading.raw) * gain - offset
}
