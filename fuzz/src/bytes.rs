//! Reads the fuzzer's bytes as numbers and choices.

use core::time::Duration;

/// Hands out the fuzzer's bytes one after the other; zeros when none are left.
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// At most this many bytes.
    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All remaining bytes.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    /// A number: mostly small, sometimes any, sometimes at the edge of a type.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..200 => small.into(),
            200..230 => u64::from(self.byte()) << self.below(64),
            230..245 => {
                let mut eight = [0; 8];
                let some = self.take(8);
                eight[..some.len()].copy_from_slice(some);
                u64::from_le_bytes(eight)
            }
            245 => i64::MAX as u64,
            246 => i64::MAX as u64 + 1,
            247 => u64::from(u32::MAX),
            248 => u64::from(u32::MAX) + 1,
            249 => 1 << 24,
            250..253 => u64::MAX - 1,
            _ => u64::MAX,
        }
    }

    /// A duration of up to 256 ns, the unit of the policies here, or occasionally any duration.
    pub fn duration(&mut self) -> Duration {
        match self.byte() {
            255 => Duration::from_nanos(self.number()),
            short => Duration::from_nanos(short.into()),
        }
    }
}
