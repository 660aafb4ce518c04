//! The sections of a checkpoint as bytes, one after the other:
//!
//! ```text
//! name length 1 | name | section length 8 | section
//! ```
//!
//! Numbers are little-endian.

use super::CheckpointError;
use super::buffer::Buffer;

/// A section being written.
pub(crate) struct Section<'a> {
    buffer: &'a mut Buffer,
    /// The length that the buffer would have if everything had fitted.
    needed: usize,
}

impl Section<'_> {
    /// Appends bytes. Once a caller's buffer is full, it only counts them, so that the error can name the size that is
    /// needed.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        // If an earlier piece did not fit, a shorter one must not be written in its place.
        let fits_so_far = self.needed == self.buffer.as_slice().len();
        self.needed += bytes.len();
        if fits_so_far {
            // `write_section` reports the error, when the whole size is known.
            let _ = self.buffer.extend(bytes);
        }
    }

    /// The bytes written since `start`, for a header to be written over their front; `None` if they did not fit.
    pub(crate) fn written_since(&mut self, start: usize) -> Option<&mut [u8]> {
        let whole = self.needed == self.buffer.as_slice().len();
        self.buffer.as_mut_slice().get_mut(start..).filter(|_| whole)
    }

    /// Overwrites the bytes at `start` with `bytes`, if they fitted.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn fill_in(&mut self, start: usize, bytes: &[u8]) {
        let place = self.buffer.as_mut_slice().get_mut(start..start + bytes.len());
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }

    /// Makes room for `room` bytes at `start`, if they fit: the bytes from there on move up. The room is not cleared.
    pub(crate) fn move_up(&mut self, start: usize, room: usize) {
        for _ in 0..room {
            self.extend(&[0]);
        }
        let Some(bytes) = self.written_since(start) else { return };
        for to in (room..bytes.len()).rev() {
            bytes[to] = bytes[to - room];
        }
    }

    /// The length of the buffer up to here, counting bytes that did not fit.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(crate) fn len(&self) -> usize {
        self.needed
    }
}

/// Appends a section that `write` writes. After an error the buffer may hold a part of it, which the caller cuts off.
pub(super) fn write_section(
    buffer: &mut Buffer,
    name: &str,
    write: impl FnOnce(&mut Section<'_>) -> Result<(), CheckpointError>,
) -> Result<(), CheckpointError> {
    let name_length = u8::try_from(name.len()).map_err(|_| CheckpointError::NameTooLong)?;
    let mut section = Section { needed: buffer.as_slice().len(), buffer };
    section.extend(&[name_length]);
    section.extend(name.as_bytes());
    // The length is known when the section has been written; until then zeros keep its place.
    let length_at = section.len();
    section.extend(&[0; 8]);
    let start = section.len();
    write(&mut section)?;
    let needed = section.needed;
    let length = ((needed - start) as u64).to_le_bytes();
    if needed > buffer.as_slice().len() {
        return Err(CheckpointError::BufferFull { needed });
    }
    buffer.as_mut_slice()[length_at..start].copy_from_slice(&length);
    Ok(())
}

/// Splits the first section off: its name, its bytes and the rest. `None` if `bytes` is no section (K6: a typed error and
/// no panic, for any bytes).
pub(super) fn split_section(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&name_length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(name_length))?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let (section, rest) = rest.split_at_checked(length)?;
    is_utf8(name).then_some((name, section, rest))
}

/// Whether the bytes are a `str`. Without a heap, flash counts for more than speed, and the standard library's check takes 400
/// bytes more of it.
fn is_utf8(bytes: &[u8]) -> bool {
    match cfg!(feature = "alloc") {
        true => core::str::from_utf8(bytes).is_ok(),
        false => is_utf8_char_by_char(bytes),
    }
}

fn is_utf8_char_by_char(mut bytes: &[u8]) -> bool {
    while let Some((&first, mut rest)) = bytes.split_first() {
        // The first byte has as many ones at its front as the character has bytes, or none if that is one.
        let ones = first.leading_ones();
        let mut code = u32::from(first) & (0x7f >> ones);
        for _ in 1..ones {
            let Some((&next, behind)) = rest.split_first() else { return false };
            if next & 0xc0 != 0x80 {
                return false;
            }
            code = code << 6 | u32::from(next & 0x3f);
            rest = behind;
        }
        // Refuses surrogates, too large a number, a number in more bytes than it needs, and a byte that can only come second.
        if char::from_u32(code).is_none_or(|char| char.len_utf8() as u32 != ones.max(1))
            || ones == 1
        {
            return false;
        }
        bytes = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    // K6: the short check and the standard library's agree, on all pairs of bytes and on those behind them that matter.
    #[test]
    fn both_checks_of_a_name_agree() {
        let check = |bytes: &[u8]| {
            let expected = core::str::from_utf8(bytes).is_ok();
            assert_eq!(is_utf8_char_by_char(bytes), expected, "{bytes:x?}");
        };
        check(&[]);
        let edges = [0, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff];
        for pair in 0..=u16::MAX {
            let [first, second] = pair.to_le_bytes();
            check(&[first]);
            check(&[first, second]);
            for third in edges {
                check(&[first, second, third]);
                edges.iter().for_each(|&fourth| check(&[first, second, third, fourth]));
            }
        }
    }
}
