//! A NOR flash memory with its restrictions: it is erased by sectors, written by words, and a written word
//! cannot be written again before its sector is erased.

use core::fmt;

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use crate::Board;
use crate::outside::Supply;

/// Bytes in a sector.
pub const SECTOR: usize = 2048;
/// Bytes in a word.
pub const WORD: usize = 4;
/// Number of words.
pub(crate) const WORDS: usize = 2 * SECTOR / WORD;

const ERASED: u32 = u32::MAX;

/// The content of the flash memory, which survives resets.
#[derive(Debug)]
pub(crate) struct Cells {
    words: [u32; WORDS],
}

impl Cells {
    /// The content of a new chip.
    pub(crate) fn erase_all(&mut self) {
        self.words.fill(ERASED);
    }
}

/// The driver of the flash memory.
#[derive(Debug)]
pub struct Flash<'a> {
    pub(crate) cells: &'a mut Cells,
    pub(crate) supply: &'a mut Supply,
    pub(crate) board: Board,
}

/// The reason why an operation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashError {
    /// Not at a boundary of a word or of a sector.
    NotAligned,
    /// The address is out of range.
    OutOfBounds,
    /// The word was written before, and not erased since.
    NotErased,
}

impl fmt::Display for FlashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAligned => "not aligned",
            Self::OutOfBounds => "out of bounds",
            Self::NotErased => "written twice without an erase",
        })
    }
}

impl core::error::Error for FlashError {}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::NotAligned => NorFlashErrorKind::NotAligned,
            Self::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            Self::NotErased => NorFlashErrorKind::Other,
        }
    }
}

impl ErrorType for Flash<'_> {
    type Error = FlashError;
}

impl Flash<'_> {
    /// The words from one offset up to another, both multiples of `unit`.
    fn words(&mut self, from: u32, to: usize, unit: usize) -> Result<&mut [u32], FlashError> {
        let from = from as usize;
        if !from.is_multiple_of(unit) || !to.is_multiple_of(unit) {
            return Err(FlashError::NotAligned);
        }
        self.cells.words.get_mut(from / WORD..to / WORD).ok_or(FlashError::OutOfBounds)
    }
}

impl ReadNorFlash for Flash<'_> {
    const READ_SIZE: usize = WORD;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let words = self.words(offset, offset as usize + bytes.len(), WORD)?;
        for (bytes, word) in bytes.chunks_exact_mut(WORD).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        WORDS * WORD
    }
}

impl NorFlash for Flash<'_> {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        self.words(from, to as usize, SECTOR)?.fill(ERASED);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.words(offset, offset as usize + bytes.len(), WORD)?;
        let middle = bytes.len() / WORD / 2;
        let fails = self.supply.fails_in_this_write(bytes.len());
        for (place, bytes) in bytes.chunks_exact(WORD).enumerate() {
            if fails && place == middle {
                (self.board.print)(format_args!("the power fails in the middle of a write"));
                (self.board.cut_power)();
            }
            let word = &mut self.cells.words[offset as usize / WORD + place];
            if *word != ERASED {
                return Err(FlashError::NotErased);
            }
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Ok(())
    }
}
