//! What is there when the gateway's memory is gone: its flash, its power supply, and the receiver at the
//! other end of the uplink.

use crate::Board;
use crate::flash::{Cells, Flash};
use crate::slots::Slots;

/// The world around the gateway. It is made of words, so that whatever stood in its memory before is a
/// value of it.
#[derive(Debug)]
#[repr(C)]
pub struct Outside {
    magic: u32,
    /// Which mission this is.
    pub mission: u32,
    /// Missions that went wrong.
    pub failures: u32,
    /// The most of the stack that was ever used, in bytes.
    pub stack: u32,
    pub(crate) supply: Supply,
    cells: Cells,
    /// What went over the uplink.
    pub received: Received,
}

/// The power supply, which fails when it is planned to.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Supply {
    /// How often it has come back.
    pub(crate) lives: u32,
    /// Long writes to flash until it fails in the middle of one; 0 for never.
    writes_to_failure: u32,
}

impl Supply {
    /// Told at every write of so many bytes.
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
    /// Called at every start: a new world at the first one, and whatever it has become later.
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

    /// Which life of the gateway this is in its mission, from 0.
    pub fn life(&self) -> u32 {
        self.supply.lives - 1
    }

    /// The next mission starts with the next life, with nothing in flash and nothing received.
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

/// What went over the uplink, as its receiver keeps it.
#[derive(Debug)]
#[repr(C)]
pub struct Received {
    length: u32,
    entries: [[u32; 2]; 300],
}

/// One thing that went over the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A reading that was calibrated.
    Calibrated(u32, i32),
    /// A reading that was refused by its sensor.
    Refused(u32),
    /// A reading whose sensor was silent.
    Silent(u32),
    /// Nothing up to this time, in milliseconds, follows.
    Complete(u32),
    /// What the gateway never sends.
    Nonsense,
}

impl Received {
    /// The receiver takes one thing more. What is beyond its memory is lost, and the verdict will say so.
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

    /// How much it has.
    pub(crate) fn len(&self) -> u32 {
        self.length
    }

    /// Forgets what came after: the gateway has started again, and goes on from there.
    pub(crate) fn cut_back(&mut self, length: u32) {
        self.length = self.length.min(length);
    }

    /// All of it, in order.
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
