//! Two slots in flash, written in turn, so that one of them is intact whenever the power fails.
//!
//! A slot is a sector: `magic | sequence number | length | CRC-32 of the sequence number and the bytes |
//! bytes`, and the header is written last.

use crc::{CRC_32_ISO_HDLC, Crc, Digest, NoTable};
use embedded_storage::nor_flash::NorFlash;

use crate::flash::{FlashError, SECTOR, WORD};

const MAGIC: u32 = u32::from_le_bytes(*b"slot");
const HEADER: usize = 16;
/// The largest content.
pub const ROOM: usize = SECTOR - HEADER;

static CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// The slots, in the two first sectors of a flash memory.
#[derive(Debug)]
pub struct Slots<F> {
    flash: F,
}

/// The header of a slot.
#[derive(Clone, Copy, Debug)]
struct Header {
    sequence: u32,
    length: usize,
    checksum: u32,
}

impl<F: NorFlash<Error = FlashError>> Slots<F> {
    /// Takes the flash memory as it is.
    pub fn new(flash: F) -> Self {
        Self { flash }
    }

    /// Reads the newest intact slot to the start of `buffer`. Returns its length and its slot; `None` if
    /// there is none.
    pub fn load(&mut self, buffer: &mut [u8]) -> Result<Option<(usize, usize)>, FlashError> {
        let Some((slot, header)) = self.newest()? else { return Ok(None) };
        let bytes = buffer.get_mut(..header.length).ok_or(FlashError::OutOfBounds)?;
        self.read(slot, 0, bytes)?;
        Ok(Some((header.length, slot)))
    }

    /// Overwrites the older slot with `bytes` and returns the slot.
    pub fn store(&mut self, bytes: &[u8]) -> Result<usize, FlashError> {
        let (slot, sequence) = match self.newest()? {
            Some((slot, header)) => (1 - slot, header.sequence.wrapping_add(1)),
            None => (0, 0),
        };
        if bytes.len() > ROOM {
            return Err(FlashError::OutOfBounds);
        }
        let start = (slot * SECTOR) as u32;
        self.flash.erase(start, start + SECTOR as u32)?;
        let whole = bytes.len() / WORD * WORD;
        self.flash.write(start + HEADER as u32, &bytes[..whole])?;
        if whole < bytes.len() {
            let mut word = [0xff; WORD];
            word[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.flash.write(start + (HEADER + whole) as u32, &word)?;
        }
        let mut digest = digest(sequence);
        digest.update(bytes);
        let words = [MAGIC, sequence, bytes.len() as u32, digest.finalize()];
        let mut header = [0; HEADER];
        for (place, word) in header.chunks_exact_mut(WORD).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        self.flash.write(start, &header)?;
        Ok(slot)
    }

    /// The newest intact slot.
    fn newest(&mut self) -> Result<Option<(usize, Header)>, FlashError> {
        let mut newest: Option<(usize, Header)> = None;
        for slot in 0..2 {
            let Some(header) = self.header(slot)? else { continue };
            let is_older =
                newest.is_some_and(|(_, other)| is_older(header.sequence, other.sequence));
            if !is_older && self.is_whole(slot, header)? {
                newest = Some((slot, header));
            }
        }
        Ok(newest)
    }

    fn is_whole(&mut self, slot: usize, header: Header) -> Result<bool, FlashError> {
        let mut digest = digest(header.sequence);
        let mut chunk = [0; 16 * WORD];
        for from in (0..header.length).step_by(chunk.len()) {
            let part = &mut chunk[..(header.length - from).min(16 * WORD)];
            self.read(slot, from, part)?;
            digest.update(part);
        }
        Ok(digest.finalize() == header.checksum)
    }

    fn header(&mut self, slot: usize) -> Result<Option<Header>, FlashError> {
        let mut bytes = [0; HEADER];
        self.flash.read((slot * SECTOR) as u32, &mut bytes)?;
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let header = Header { sequence: word(4), length: word(8) as usize, checksum: word(12) };
        Ok((word(0) == MAGIC && header.length <= ROOM).then_some(header))
    }

    /// Reads a part of a slot's bytes that starts at a word boundary.
    fn read(&mut self, slot: usize, from: usize, part: &mut [u8]) -> Result<(), FlashError> {
        let start = slot * SECTOR + HEADER + from;
        let whole = part.len() / WORD * WORD;
        let (words, rest) = part.split_at_mut(whole);
        self.flash.read(start as u32, words)?;
        if !rest.is_empty() {
            let mut word = [0; WORD];
            self.flash.read((start + whole) as u32, &mut word)?;
            rest.copy_from_slice(&word[..rest.len()]);
        }
        Ok(())
    }
}

fn digest(sequence: u32) -> Digest<'static, u32, NoTable> {
    let mut digest = CRC.digest();
    digest.update(&sequence.to_le_bytes());
    digest
}

/// Sequence numbers wrap.
fn is_older(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

#[cfg(test)]
mod tests {
    use embedded_storage::nor_flash::{ErrorType, ReadNorFlash};

    use super::*;

    /// Bytes, and the number of words that can be written until the power fails.
    struct Bytes {
        bytes: [u8; 2 * SECTOR],
        words_left: usize,
    }

    impl ErrorType for Bytes {
        type Error = FlashError;
    }

    impl ReadNorFlash for Bytes {
        const READ_SIZE: usize = WORD;

        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
            let start = offset as usize;
            bytes.copy_from_slice(&self.bytes[start..start + bytes.len()]);
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.bytes.len()
        }
    }

    impl NorFlash for Bytes {
        const WRITE_SIZE: usize = WORD;
        const ERASE_SIZE: usize = SECTOR;

        fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
            self.bytes[from as usize..to as usize].fill(0xff);
            Ok(())
        }

        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
            for (place, word) in bytes.chunks_exact(WORD).enumerate() {
                self.words_left = self.words_left.checked_sub(1).ok_or(FlashError::NotErased)?;
                let start = offset as usize + place * WORD;
                self.bytes[start..start + WORD].copy_from_slice(word);
            }
            Ok(())
        }
    }

    fn slots() -> Slots<Bytes> {
        Slots::new(Bytes { bytes: [0xff; 2 * SECTOR], words_left: usize::MAX })
    }

    fn load(slots: &mut Slots<Bytes>) -> Option<([u8; 39], usize)> {
        let mut buffer = [0; 39];
        slots.load(&mut buffer).unwrap().map(|(length, _)| (buffer, length))
    }

    #[test]
    fn the_newest_is_read_back() {
        let mut slots = slots();
        assert_eq!(load(&mut slots), None);
        for round in 0..5 {
            slots.store(&[round; 39]).unwrap();
            assert_eq!(load(&mut slots), Some(([round; 39], 39)));
        }
        assert_eq!(slots.store(&[0; ROOM + 1]), Err(FlashError::OutOfBounds));
    }

    #[test]
    fn wherever_the_power_fails_the_one_before_is_whole() {
        const WORDS: usize = (HEADER + 40) / WORD;
        for words_left in 0..=WORDS {
            let mut slots = slots();
            slots.store(&[1; 39]).unwrap();
            slots.store(&[2; 39]).unwrap();
            slots.flash.words_left = words_left;
            let stored = slots.store(&[3; 39]);
            assert_eq!(stored.is_ok(), words_left == WORDS);
            let expected = if stored.is_ok() { 3 } else { 2 };
            assert_eq!(load(&mut slots), Some(([expected; 39], 39)), "after {words_left} words");
        }
    }

    #[test]
    fn a_bit_that_has_changed_is_noticed() {
        let mut slots = slots();
        slots.store(&[1; 39]).unwrap();
        slots.store(&[2; 39]).unwrap();
        for bit in 0..(HEADER + 39) * 8 {
            let byte = SECTOR + bit / 8;
            slots.flash.bytes[byte] ^= 1 << (bit % 8);
            assert_eq!(load(&mut slots), Some(([1; 39], 39)), "bit {bit}");
            slots.flash.bytes[byte] ^= 1 << (bit % 8);
        }
        assert_eq!(load(&mut slots), Some(([2; 39], 39)));
    }
}
