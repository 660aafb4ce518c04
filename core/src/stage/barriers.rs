//! The way of a barrier into a stage that takes no records (K11), and the news that a checkpoint may be due (K13).

use core::task::Waker;

use crate::barrier_signal::BarrierSignal;

/// A stage's connection with a signal, if it has one.
pub(super) struct Seat(Option<Connected>);

struct Connected {
    signal: BarrierSignal,
    /// Its place in the signal, and the waker that belongs there.
    place: usize,
    waker: Waker,
    /// Announced barriers that have arrived.
    arrived: usize,
    is_overfull: bool,
    /// The operator's progress as of the last report.
    progress: u64,
}

impl Seat {
    pub(super) const NONE: Self = Self(None);

    /// Connects a stage, which `waker` gives a turn. `None` if the signal has no place for it.
    pub(super) fn connect(signal: &BarrierSignal, waker: Waker) -> Option<Self> {
        let (signal, place) = (signal.clone(), signal.connect(&waker)?);
        let arrived = signal.announced();
        Some(Self(Some(Connected {
            signal,
            place,
            waker,
            arrived,
            is_overfull: false,
            progress: 0,
        })))
    }

    /// Whether a barrier was announced and has not arrived.
    #[inline(always)]
    pub(super) fn is_due(&self) -> bool {
        self.0.as_ref().is_some_and(Connected::is_due)
    }

    /// Whether the function must not be opened yet.
    pub(super) fn is_held(&self) -> bool {
        let Some(connected) = &self.0 else { return false };
        let is_held = connected.signal.is_held();
        if !is_held {
            // The release has used the waker up.
            connected.signal.register(connected.place, &connected.waker);
        }
        is_held
    }

    /// A barrier has arrived.
    pub(super) fn arrived(&mut self) {
        let Some(connected) = &mut self.0 else { return };
        if connected.is_due() {
            connected.arrived = connected.arrived.wrapping_add(1);
            // The announcement has used the waker up.
            connected.signal.register(connected.place, &connected.waker);
        }
    }

    /// Reports the operator's state after a turn.
    #[inline]
    pub(super) fn report(&mut self, progress: u64, is_overfull: bool) {
        let Some(connected) = &mut self.0 else { return };
        if progress != connected.progress {
            connected.progress = progress;
            connected.signal.note_progress();
        }
        if is_overfull != connected.is_overfull {
            connected.is_overfull = is_overfull;
            connected.signal.note_overfull(is_overfull);
        }
    }
}

impl Drop for Connected {
    /// A stage that is gone holds nothing.
    fn drop(&mut self) {
        if self.is_overfull {
            self.signal.note_overfull(false);
        }
    }
}

impl Connected {
    #[inline(always)]
    fn is_due(&self) -> bool {
        self.signal.announced() != self.arrived
    }
}
