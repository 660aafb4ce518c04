//! A sensor gateway without `std` and without an allocator, for any board.
//!
//! Readings of eight sensors come in. The gateway calibrates each by asking its sensor over a slow bus: some
//! sensors answer late, some refuse at first or permanently, some are silent. Sixteen readings are in flight
//! at a time ([`mission`]), or one ([`sequential`], for comparison). Calibrated readings go over the uplink,
//! and checkpoints go to flash at intervals. The power fails twice, once in the middle of a write. At the end
//! the receiver must have every reading exactly once, in order.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "std-wanted")]
extern crate std;

pub mod bus;
pub mod flash;
pub mod mission;
pub mod outside;
pub mod sensors;
pub mod sequential;
pub mod slots;
pub mod smallest;
pub mod verdict;

use core::fmt;

use embassy_time::{Instant, Timer};

use crate::verdict::Order;

/// The board that the program is linked with.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// Cuts the power: the memory is lost, and the program restarts.
    pub cut_power: fn() -> !,
    /// Prints a line.
    pub print: fn(fmt::Arguments<'_>),
}

/// The reason why the gateway gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The flash memory returned an error.
    Flash(flash::FlashError),
    /// A checkpoint was not complete, or does not fit.
    Checkpoint,
    /// The stage could not be started from the state in flash.
    Start,
}

impl From<flash::FlashError> for Fault {
    fn from(error: flash::FlashError) -> Self {
        Self::Flash(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash(error) => write!(f, "flash: {error}"),
            Self::Checkpoint => f.write_str("a checkpoint is not complete"),
            Self::Start => f.write_str("the stage could not be started"),
        }
    }
}

/// The result of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// There is another mission: restart.
    Mission,
    /// That was the last mission; true if all missions succeeded.
    Program(bool),
}

/// One life with inflight: of the first mission, with all readings in order, or of the second one, in order
/// for each sensor.
pub async fn live(board: Board, outside: &mut outside::Outside) -> Ended {
    let order = if outside.mission == 0 { Order::Ordered } else { Order::BySensor };
    let lived = mission::live(order, board, outside).await;
    judge(lived, order, board, outside, 2)
}

/// One life without inflight, of the one mission.
pub async fn live_without(board: Board, outside: &mut outside::Outside) -> Ended {
    let lived = sequential::live(board, outside).await;
    judge(lived, Order::Ordered, board, outside, 1)
}

/// Cuts the power in the first life, while readings are in flight.
pub async fn blackout(board: Board, life: u32) {
    if life == 0 {
        Timer::after_millis(4130).await;
        (board.print)(format_args!("the power fails"));
        (board.cut_power)();
    }
}

fn judge(
    lived: Result<(), Fault>,
    order: Order,
    board: Board,
    outside: &mut outside::Outside,
    missions: u32,
) -> Ended {
    let verdict = verdict::check(&outside.received, order);
    let time = Instant::now().as_millis();
    let passed = match (lived, verdict, outside.life()) {
        (Ok(()), Ok(()), 2) => {
            (board.print)(format_args!(
                "{order:?}: every reading once, {time} ms in the last life"
            ));
            true
        }
        (Err(fault), ..) => {
            (board.print)(format_args!("{order:?}: FAIL: {fault}"));
            false
        }
        (_, verdict, life) => {
            (board.print)(format_args!("{order:?}: FAIL: {verdict:?} in life {life}"));
            false
        }
    };
    outside.failures += u32::from(!passed);
    outside.end_mission();
    if outside.mission < missions { Ended::Mission } else { Ended::Program(outside.failures == 0) }
}
