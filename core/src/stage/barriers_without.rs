//! Without a heap, or without checkpoints, a barrier comes through the source and no other way.

/// Connects a stage with nothing.
#[derive(Default)]
pub(super) struct Seat;

impl Seat {
    #[allow(clippy::unused_self)] // as with a signal
    pub(super) fn is_open(&self) -> bool {
        true
    }

    #[allow(clippy::unused_self)] // as with a signal
    #[inline(always)]
    pub(super) fn is_due(&self) -> bool {
        false
    }

    #[allow(clippy::unused_self)] // as with a signal
    #[inline(always)]
    pub(super) fn arrived(&mut self) {}
}
