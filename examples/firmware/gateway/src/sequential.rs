//! The gateway without inflight, for comparison: the same devices, one reading at a time, with the same
//! timeouts and retries.

use core::future::poll_fn;
use core::pin::pin;

use embassy_time::{Duration, Timer, with_timeout};
use futures_core::Stream;
use static_cell::ConstStaticCell;

use crate::bus::{self, Refused};
use crate::outside::{Outside, Sent};
use crate::sensors::{Event, Position, Reading, Sensors};
use crate::{Board, Fault};

/// One life of a mission: to its end, or until the power fails.
///
/// # Errors
///
/// [`Fault`] if the gateway cannot continue.
///
/// # Panics
///
/// If it is called twice in a life, because there is one buffer for checkpoints.
pub async fn live(board: Board, outside: &mut Outside) -> Result<(), Fault> {
    /// As many bytes as a stage's checkpoint has, so that the flash memory has the same work.
    static BUFFER: ConstStaticCell<[u8; 256]> = ConstStaticCell::new([0; 256]);
    let buffer = BUFFER.take();
    let life = outside.life();
    let (mut slots, receiver) = outside.connect(board);
    let found = slots.load(buffer)?;
    let (position, sent) = match found {
        Some(_) => saved(buffer).ok_or(Fault::Checkpoint)?,
        None => (Position::default(), 0),
    };
    match found {
        Some((length, slot)) => (board.print)(format_args!(
            "life {life}: {length} bytes in slot {slot}, resumes after reading {} with {sent} sent",
            position.next
        )),
        None => (board.print)(format_args!("life {life}: nothing in flash")),
    }
    receiver.cut_back(sent);

    let mut sensors = pin!(Sensors::from(position));
    while let Some(event) = poll_fn(|cx| sensors.as_mut().poll_next(cx)).await {
        match event {
            Event::Reading(reading) => {
                let Reading { number, sensor, .. } = reading;
                let (mut attempts, mut refusals) = (0, 0);
                let call = ask(reading, &mut attempts, &mut refusals);
                let result = with_timeout(Duration::from_millis(1000), call).await;
                let (sent, why) = match result {
                    Ok(Ok(value)) => (Sent::Calibrated(number, value), None),
                    Ok(Err(Refused)) if refusals > 0 => (Sent::Refused(number), Some("refuses")),
                    _ => (Sent::Silent(number), Some("is silent")),
                };
                if let Some(why) = why {
                    (board.print)(format_args!(
                        "reading {number}: sensor {sensor} {why} ({attempts} attempts)"
                    ));
                }
                receiver.take(sent);
            }
            Event::Second(millis) => {
                let sent = receiver.len();
                receiver.take(Sent::Complete(millis));
                (board.print)(format_args!("{millis:>6} ms: {sent} sent"));
            }
            Event::Checkpoint(position) => {
                buffer[..8].copy_from_slice(&position.to_bytes());
                buffer[8..12].copy_from_slice(&receiver.len().to_le_bytes());
                let (length, slot) = (buffer.len(), slots.store(buffer)?);
                (board.print)(format_args!("checkpoint: {length} bytes in slot {slot}"));
            }
        }
    }
    Ok(())
}

fn saved(buffer: &[u8]) -> Option<(Position, u32)> {
    let sent = *buffer.get(8..)?.first_chunk()?;
    Some((Position::from_bytes(buffer)?, u32::from_le_bytes(sent)))
}

/// A call with its attempts.
async fn ask(reading: Reading, attempts: &mut u32, refusals: &mut u32) -> Result<i32, Refused> {
    loop {
        *attempts += 1;
        let attempt = bus::ask(reading, *attempts);
        match with_timeout(Duration::from_millis(400), attempt).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(Refused)) => *refusals += 1,
            Err(_) => {}
        }
        if *attempts > 2 {
            return Err(Refused);
        }
        Timer::after_millis(50).await;
    }
}
