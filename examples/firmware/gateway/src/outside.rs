//! The parts of the world that survive the loss of the gateway's memory: its flash, its power supply, and the
//! receiver at the other end of the uplink.

use crate::Board;
use crate::flash::{Cells, Flash};
use crate::slots::Slots;

/// The world around the gateway. It consists of words, so that any earlier content of its memory is a valid
/// value.
#[derive(Debug)]
#[repr(C)]
pub struct Outside {
    magic: u32,
    /// The number of the mission.
    pub mission: u32,
    /// The number of missions that failed.
    pub failures: u32,
    /// The deepest stack so far, in bytes.
    pub stack: u32,
    pub(crate) supply: Supply,
    cells: Cells,
    /// The receiver of the uplink.
    pub received: Received,
}

/// The power supply, which fails according to a plan.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Supply {
    /// The number of restarts.
    pub(crate) lives: u32,
    /// The number of long writes to flash until the power fails in the middle of one; 0 for never.
    writes_to_failure: u32,
}

impl Supply {
    /// Called at every write, with its number of bytes.
    pub(crate) fn fails_in_this_write(&mut self, bytes: usize) -> bool {
        let is_long = bytes > 64;
        if !is_long || self.writes_to_failure == 0 {
            return false;
        }
        self.writes_to_failure -= 1;
        self.writes_to_failure == 0
    }
}

impl Outside {
    /// Called at every start: creates a new world at the first one, and returns the existing one later.
    pub fn power_up(&mut self) -> &mut Self {
        const MAGIC: u32 = u32::from_le_bytes(*b"wrld");
        if self.magic != MAGIC {
            (self.magic, self.mission, self.failures, self.stack) = (MAGIC, 0, 0, 0);
            self.begin_mission();
        }
        self.supply.lives += 1;
        self.supply.writes_to_failure = if self.life() == 1 { 2 } else { 0 };
        self
    }

    /// The number of the gateway's life in its mission, from 0.
    pub fn life(&self) -> u32 {
        self.supply.lives - 1
    }

    /// Begins the next mission with the next life, with an erased flash and an empty receiver.
    pub fn end_mission(&mut self) {
        self.mission += 1;
        self.begin_mission();
    }

    fn begin_mission(&mut self) {
        self.supply.lives = 0;
        self.received.length = 0;
        self.cells.erase_all();
    }

    /// The flash memory's driver, and the receiver.
    pub(crate) fn connect(&mut self, board: Board) -> (Slots<Flash<'_>>, &mut Received) {
        let flash = Flash { cells: &mut self.cells, supply: &mut self.supply, board };
        (Slots::new(flash), &mut self.received)
    }
}

/// The messages that the receiver has got.
#[derive(Debug)]
#[repr(C)]
pub struct Received {
    length: u32,
    entries: [[u32; 2]; 300],
}

/// A message over the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A reading that was calibrated.
    Calibrated(u32, i32),
    /// A reading that was refused by its sensor.
    Refused(u32),
    /// A reading whose sensor was silent.
    Silent(u32),
    /// A watermark: no reading up to this time, in milliseconds, follows.
    Complete(u32),
    /// A message that the gateway never sends.
    Nonsense,
}

impl Received {
    /// The receiver stores a message. A message beyond its memory is lost, and the verdict reports that.
    pub(crate) fn take(&mut self, sent: Sent) {
        let entry = match sent {
            Sent::Calibrated(number, value) => [number, value as u32],
            Sent::Refused(number) => [1 << 24 | number, 0],
            Sent::Silent(number) => [2 << 24 | number, 0],
            Sent::Complete(millis) => [3 << 24, millis],
            Sent::Nonsense => [4 << 24, 0],
        };
        if let Some(place) = self.entries.get_mut(self.length as usize) {
            *place = entry;
        }
        self.length += 1;
    }

    /// The number of messages.
    pub(crate) fn len(&self) -> u32 {
        self.length
    }

    /// Forgets all later messages, because the gateway has restarted, and resumes from there.
    pub(crate) fn cut_back(&mut self, length: u32) {
        self.length = self.length.min(length);
    }

    /// All messages, in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = Sent> {
        self.entries.iter().take(self.length as usize).map(|[what, value]| {
            let number = what & 0xff_ffff;
            match what >> 24 {
                0 => Sent::Calibrated(number, *value as i32),
                1 => Sent::Refused(number),
                2 => Sent::Silent(number),
                3 => Sent::Complete(*value),
                _ => Sent::Nonsense,
            }
        })
    }
}
