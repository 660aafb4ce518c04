//! Without a heap, or without checkpoints, a barrier comes through the source and no other way.

/// Connects a stage with nothing.
pub(super) struct Seat;

impl Seat {
    pub(super) const NONE: Self = Self;

    #[allow(clippy::unused_self)] // as with a signal
    #[inline(always)]
    pub(super) fn arrived(&mut self) {}
}
