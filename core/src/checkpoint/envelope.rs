//! The versioned, checksummed header of all stored bytes (K6): checkpoints, the snapshots inside them, and
//! the slots of a store.
//!
//! ```text
//! magic 4 | format version 2 | schema version 4 | body length 8 | CRC-32 of all the rest 4 | body
//! ```
//! Numbers are little-endian.
//!
//! ```
//! use inflight_core::envelope::{FormatError, HEADER_LEN, open, seal};
//!
//! let mut frame = [&[0; HEADER_LEN][..], b"the body"].concat();
//! seal(&mut frame, *b"mine", 3);
//! assert_eq!(open(&frame, *b"mine"), Ok((3, &b"the body"[..])));
//!
//! frame[HEADER_LEN] ^= 1;
//! assert_eq!(open(&frame, *b"mine"), Err(FormatError::Damaged));
//! ```

use core::fmt;

/// The length of the header, which stands before the body, in bytes.
pub const HEADER_LEN: usize = 22;

/// The format that [`seal`] writes and [`open`] reads. Kinds of bodies that have formats of their own count on from it.
const FORMAT: u16 = 1;

const CHECKSUM_AT: core::ops::Range<usize> = 18..22;

/// Four bytes that name the kind of the body.
pub type Magic = [u8; 4];

/// Writes the header into the first [`HEADER_LEN`] bytes of `frame`. The body must already follow them.
///
/// # Panics
///
/// If `frame` is shorter than the header.
pub fn seal(frame: &mut [u8], magic: Magic, schema: u32) {
    seal_as(frame, magic, FORMAT, schema);
}

/// Does what [`seal`] does, for a kind of body that has formats of its own: `format` is the one of this body, 1 or more.
///
/// # Panics
///
/// If `frame` is shorter than the header.
pub fn seal_as(frame: &mut [u8], magic: Magic, format: u16, schema: u32) {
    let length = (frame.len() - HEADER_LEN) as u64;
    frame[..4].copy_from_slice(&magic);
    frame[4..6].copy_from_slice(&format.to_le_bytes());
    frame[6..10].copy_from_slice(&schema.to_le_bytes());
    frame[10..18].copy_from_slice(&length.to_le_bytes());
    // Covers the header as well, so that damage there is found.
    let checksum = checksum(frame);
    frame[CHECKSUM_AT].copy_from_slice(&checksum.to_le_bytes());
}

/// Checks the header of `frame` and returns the schema version and the body.
///
/// Bytes after the body are ignored, so that a frame can lie in a larger preallocated slot.
///
/// # Errors
///
/// [`FormatError`] names the fault. For any bytes, nothing is allocated and nothing panics.
pub fn open(frame: &[u8], magic: Magic) -> Result<(u32, &[u8]), FormatError> {
    open_up_to(frame, magic, FORMAT).map(|(_, schema, body)| (schema, body))
}

/// Does what [`open`] does, for a kind of body whose newest format is `newest`. Returns the body's format, the schema version and
/// the body.
///
/// # Errors
///
/// [`FormatError`] names the fault. For any bytes, nothing is allocated and nothing panics.
pub fn open_up_to(
    frame: &[u8],
    magic: Magic,
    newest: u16,
) -> Result<(u16, u32, &[u8]), FormatError> {
    let Some(header) = frame.first_chunk::<HEADER_LEN>() else {
        return Err(FormatError::Truncated {
            expected: HEADER_LEN as u64,
            found: frame.len() as u64,
        });
    };
    // The order of the checks matters. Without the right magic the other fields mean nothing; a newer format may store the
    // length elsewhere; and the checksum needs all bytes.
    if header[..4] != magic {
        return Err(FormatError::Foreign);
    }
    let format = u16::from_le_bytes([header[4], header[5]]);
    if format > newest {
        return Err(FormatError::Newer { found: format, supported: newest });
    }
    let schema = u32::from_le_bytes([header[6], header[7], header[8], header[9]]);
    let mut length = [0; 8];
    length.copy_from_slice(&header[10..18]);
    // Saturates, because a damaged length may be close to `u64::MAX`.
    let expected = u64::from_le_bytes(length).saturating_add(HEADER_LEN as u64);
    if expected > frame.len() as u64 {
        return Err(FormatError::Truncated { expected, found: frame.len() as u64 });
    }
    // Not more than `frame.len()`, so the cast loses nothing.
    let frame = &frame[..expected as usize];
    // No version has written format 0. The checksum covers the version, so a flipped bit there is damage as well.
    if header[CHECKSUM_AT] != checksum(frame).to_le_bytes() || format == 0 {
        return Err(FormatError::Damaged);
    }
    Ok((format, schema, &frame[HEADER_LEN..]))
}

/// The checksum of the header and the body, without the checksum's own bytes.
#[cfg(feature = "alloc")]
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..CHECKSUM_AT.start]);
    hasher.update(&frame[CHECKSUM_AT.end..]);
    hasher.finalize()
}

/// The same checksum without a table: a table takes 16 KiB, more than the rest of the program on a small machine.
#[cfg(not(feature = "alloc"))]
fn checksum(frame: &[u8]) -> u32 {
    static CRC: crc::Crc<u32, crc::NoTable> = crc::Crc::<u32, _>::new(&crc::CRC_32_ISO_HDLC);
    let mut digest = CRC.digest();
    digest.update(&frame[..CHECKSUM_AT.start]);
    digest.update(&frame[CHECKSUM_AT.end..]);
    digest.finalize()
}

/// The reason why stored bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes end too early.
    Truncated {
        /// The length that the header states (or the length of the header itself), in bytes.
        expected: u64,
        /// The length of the bytes.
        found: u64,
    },
    /// The magic number does not match: the bytes are something else.
    Foreign,
    /// A newer version of this library wrote them.
    Newer {
        /// The format version found.
        found: u16,
        /// The newest version this library reads.
        supported: u16,
    },
    /// The checksum does not match: at least one bit has changed.
    Damaged,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { expected, found } => {
                write!(f, "cut short: {expected} bytes expected, {found} found")
            }
            Self::Foreign => f.write_str("not written by inflight: the magic number differs"),
            Self::Newer { found, supported } => {
                write!(f, "written in format {found}; this version reads formats up to {supported}")
            }
            Self::Damaged => f.write_str("damaged: the checksum does not match"),
        }
    }
}

impl core::error::Error for FormatError {}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: Magic = *b"TEST";

    fn frame() -> [u8; HEADER_LEN + 5] {
        let mut frame = [0; HEADER_LEN + 5];
        frame[HEADER_LEN..].copy_from_slice(b"hello");
        seal(&mut frame, MAGIC, 7);
        frame
    }

    #[test]
    fn a_sealed_frame_opens() {
        assert_eq!(open(&frame(), MAGIC), Ok((7, &b"hello"[..])));
    }

    // K6: cut short anywhere, one bit flipped anywhere.
    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let whole = frame();
        for length in 0..whole.len() {
            assert!(matches!(open(&whole[..length], MAGIC), Err(FormatError::Truncated { .. })));
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&flipped, MAGIC).is_err(), "bit {bit}");
        }
    }

    // K6: foreign, from a newer format.
    #[test]
    fn foreign_bytes_and_newer_formats_have_errors_of_their_own() {
        assert_eq!(open(&frame(), *b"ELSE"), Err(FormatError::Foreign));
        let mut newer = frame();
        newer[4] = 2;
        assert_eq!(open(&newer, MAGIC), Err(FormatError::Newer { found: 2, supported: 1 }));
    }

    // K6: each kind of body has formats of its own.
    #[test]
    fn a_format_up_to_the_newest_of_its_kind_opens() {
        for format in 1..=3 {
            let mut frame = frame();
            seal_as(&mut frame, MAGIC, format, 7);
            assert_eq!(open_up_to(&frame, MAGIC, 3), Ok((format, 7, &b"hello"[..])));
            assert_eq!(open(&frame, MAGIC).is_ok(), format == 1);
        }
        let mut frame = frame();
        seal_as(&mut frame, MAGIC, 0, 7); // no version has written it
        assert_eq!(open_up_to(&frame, MAGIC, 3), Err(FormatError::Damaged));
        seal_as(&mut frame, MAGIC, 4, 7);
        let newer = FormatError::Newer { found: 4, supported: 3 };
        assert_eq!(open_up_to(&frame, MAGIC, 3), Err(newer));
    }

    #[test]
    fn bytes_after_the_body_are_ignored() {
        let mut slot = [0xff; 64];
        slot[..HEADER_LEN + 5].copy_from_slice(&frame());
        assert_eq!(open(&slot, MAGIC), Ok((7, &b"hello"[..])));
    }
}
