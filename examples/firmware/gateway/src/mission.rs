//! The gateway with inflight: sixteen readings in flight at a time.

use core::cell::Cell;
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use core::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, AttemptInfo, Barrier, Checkpoint, CheckpointId, Failure, Fixed,
    FixedDelay, Operator, Outcome, StreamElement, Timestamp, Unkeyed, with_attempt,
};
use inflight_embassy::Embassy;
use static_cell::ConstStaticCell;

use crate::bus::{self, Refused};
use crate::flash::Flash;
use crate::outside::{Outside, Received, Sent};
use crate::sensors::{Event, Position, Reading, Sensors};
use crate::slots::{ROOM, Slots};
use crate::verdict::Order;
use crate::{Board, Fault};

/// Readings in flight at a time.
pub const CAPACITY: usize = 16;

pub(crate) const TIMEOUT: Duration = Duration::from_millis(1000);
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(400);
const BACKOFF: Duration = Duration::from_millis(50);

/// Checks on this machine the memory of an operator that docs/bare-metal.md states.
const _: () = {
    let (fixed, slot) = if usize::BITS == 64 { (1128, 196) } else { (776, 180) };
    let result = size_of::<Option<Result<i32, Failure<Refused>>>>().next_multiple_of(8);
    let values = size_of::<Option<Reading>>() + size_of::<Option<Result<i32, Failure<Refused>>>>();
    let slots = CAPACITY * (values.next_multiple_of(8) + slot);
    let found =
        size_of::<Operator<(Reading, i32, Refused, FixedDelay, Unkeyed, ()), Fixed<CAPACITY>>>();
    assert!(found <= fixed + result + slots + size_of::<FixedDelay>());
};

/// One life of a mission: to its end, or until the power fails.
///
/// # Errors
///
/// [`Fault`] if the gateway cannot continue.
///
/// # Panics
///
/// If it is called twice in a life, because there is one buffer for checkpoints.
pub async fn live(order: Order, board: Board, outside: &mut Outside) -> Result<(), Fault> {
    static BUFFER: ConstStaticCell<[u8; ROOM]> = ConstStaticCell::new([0; ROOM]);
    let buffer: &'static mut [u8] = BUFFER.take();
    let sensor = |reading: &Reading| reading.sensor;
    let policy = match order {
        Order::Ordered => AsyncWait::ordered(CAPACITY).with_key(sensor),
        Order::BySensor => AsyncWait::ordered_by_key(CAPACITY, sensor),
    };
    let life = outside.life();
    let (mut slots, receiver) = outside.connect(board);
    let Resumed { checkpoint, buffer, position, sent } = resume(&mut slots, buffer, life, board)?;
    receiver.cut_back(sent);

    let home = Cell::new(buffer);
    let last = checkpoint.as_ref().map_or(CheckpointId(0), Checkpoint::id);
    let source = Source { sensors: Sensors::from(position), home: &home, last };
    let policy = policy
        .timeout(TIMEOUT)
        .attempt_timeout(ATTEMPT_TIMEOUT)
        .retry(FixedDelay::new(BACKOFF).max_retries(2));
    let ask = |reading: &Reading, attempt: AttemptInfo| bus::ask(*reading, attempt.number);
    let stage = source
        .async_wait_with(policy, with_attempt(ask))
        .checkpointed("stage", 1)
        .restore(checkpoint.as_ref())
        .in_place_over(Embassy, Fixed::<CAPACITY>);
    let mut stage = pin!(stage.map_err(|_| Fault::Start)?);
    if let Some(checkpoint) = checkpoint {
        home.set(checkpoint.into_buffer());
    }

    while let Some(element) = stage.as_mut().next_pinned().await {
        match element {
            StreamElement::Record { value, .. } => send(value, board, receiver),
            StreamElement::Watermark(at) => {
                let (millis, sent) = (at.as_millis() as u32, receiver.len());
                receiver.take(Sent::Complete(millis));
                (board.print)(format_args!("{millis:>6} ms: {sent} sent"));
            }
            StreamElement::Barrier(barrier) => {
                home.set(save(barrier.checkpoint, receiver.len(), &mut slots, board)?);
            }
            StreamElement::Status(_) => {}
        }
    }
    Ok(())
}

/// The start of a life.
struct Resumed {
    checkpoint: Option<Checkpoint>,
    /// The buffer for checkpoints, if no checkpoint is in it.
    buffer: Option<&'static mut [u8]>,
    position: Position,
    /// The number of messages that the receiver had then.
    sent: u32,
}

/// Reads the checkpoint that an earlier life has written to flash.
fn resume(
    slots: &mut Slots<Flash<'_>>,
    buffer: &'static mut [u8],
    life: u32,
    board: Board,
) -> Result<Resumed, Fault> {
    let Some((length, slot)) = slots.load(buffer)? else {
        (board.print)(format_args!("life {life}: nothing in flash"));
        let position = Position::default();
        return Ok(Resumed { checkpoint: None, buffer: Some(buffer), position, sent: 0 });
    };
    let checkpoint = Checkpoint::from_buffer(buffer).map_err(|_| Fault::Checkpoint)?;
    let (position, sent) = position(&checkpoint).ok_or(Fault::Checkpoint)?;
    (board.print)(format_args!(
        "life {life}: {length} bytes in slot {slot}, resumes after reading {} with {sent} sent",
        position.next
    ));
    Ok(Resumed { checkpoint: Some(checkpoint), buffer: None, position, sent })
}

/// Completes a checkpoint and writes it to flash. Returns its buffer.
fn save(
    mut checkpoint: Checkpoint,
    sent: u32,
    slots: &mut Slots<Flash<'_>>,
    board: Board,
) -> Result<Option<&'static mut [u8]>, Fault> {
    checkpoint.put("uplink", &sent.to_le_bytes()).map_err(|_| Fault::Checkpoint)?;
    let bytes = checkpoint.bytes().map_err(|_| Fault::Checkpoint)?;
    let (length, slot) = (bytes.len(), slots.store(bytes)?);
    (board.print)(format_args!("checkpoint: {length} bytes in slot {slot}"));
    Ok(checkpoint.into_buffer())
}

/// The position of the source, and the number of messages sent.
fn position(checkpoint: &Checkpoint) -> Option<(Position, u32)> {
    let position = Position::from_bytes(checkpoint.section("sensors")?)?;
    let sent = checkpoint.section("uplink")?.try_into().ok()?;
    Some((position, u32::from_le_bytes(sent)))
}

fn send(outcome: Outcome<Reading, i32, Refused>, board: Board, receiver: &mut Received) {
    let Reading { number, sensor, .. } = outcome.input;
    let attempts = outcome.attempts;
    receiver.take(match outcome.result {
        Ok(value) => Sent::Calibrated(number, value),
        Err(failure) => {
            let (sent, why) = match failure {
                Failure::Error(Refused) => (Sent::Refused(number), "refuses"),
                failure if failure.is_timeout() => (Sent::Silent(number), "is silent"),
                _ => (Sent::Nonsense, "is lost"),
            };
            (board.print)(format_args!(
                "reading {number}: sensor {sensor} {why} ({attempts} attempts)"
            ));
            sent
        }
    });
}

/// The sensors' events as elements of a stream.
struct Source<'a> {
    sensors: Sensors,
    /// The buffer, if no checkpoint is under way.
    home: &'a Cell<Option<&'static mut [u8]>>,
    /// The previous checkpoint.
    last: CheckpointId,
}

impl Stream for Source<'_> {
    type Item = StreamElement<Reading>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let event = core::task::ready!(Pin::new(&mut self.sensors).poll_next(cx));
            return Poll::Ready(match event {
                Some(Event::Reading(reading)) => {
                    let at = Timestamp::from_millis(reading.millis().into());
                    Some(StreamElement::record(reading, at))
                }
                Some(Event::Second(millis)) => {
                    Some(StreamElement::Watermark(Timestamp::from_millis(millis.into())))
                }
                Some(Event::Checkpoint(position)) => {
                    let Some(buffer) = self.home.take() else { continue };
                    self.last = self.last.next();
                    let mut checkpoint = Checkpoint::in_buffer(self.last, buffer);
                    if let Err(error) = checkpoint.put("sensors", &position.to_bytes()) {
                        checkpoint.fail(error);
                    }
                    Some(StreamElement::Barrier(Barrier::snapshot(checkpoint)))
                }
                None => None,
            });
        }
    }
}
