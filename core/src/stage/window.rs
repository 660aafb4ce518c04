//! The window of a stage on a task of its own: published by the stage when a handle has asked for it, and read without locks (M2).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use crate::operator::{CELLS, Cell, CellState};
use crate::sync::{AtomicBool, AtomicU32, Ordering, fence};
use crate::time::Span;

/// The records in flight in a stage and their states, as of one moment (M2): returned by
/// [`StageHandle::window`](crate::StageHandle::window).
///
/// ```
/// use inflight_core::{CellState, Window};
///
/// /// A letter for each record, the oldest first.
/// fn line(window: &Window) -> String {
///     let letter = |state| match state {
///         CellState::Waiting => 'w',
///         CellState::Running => 'r',
///         CellState::Backoff => 'b',
///         CellState::Done => 'd',
///     };
///     window.cells.iter().map(|cell| letter(cell.state)).collect()
/// }
/// # assert_eq!(line(&Window::default()), "");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Window {
    /// The oldest records in flight, in the order in which they came: all of them, or the first [`CELLS`](Self::CELLS).
    pub cells: Vec<Cell>,
    omitted: u64,
}

impl Window {
    /// The most cells of a window.
    pub const CELLS: usize = CELLS;

    /// The number of records in flight that have no cell, because all cells show older ones.
    pub fn omitted(&self) -> u64 {
        self.omitted
    }
}

/// How often a reader begins anew because the stage has published a window meanwhile. A reader asks for a window and the stage then
/// publishes one, so many in a row are rare.
const TRIES: usize = 100;

/// A window in atomics, and whether a handle wants a new one.
pub(super) struct PublishedWindow {
    is_wanted: AtomicBool,
    /// Counts the beginnings and the ends of publications: odd during one.
    version: AtomicU32,
    shown: AtomicU32,
    omitted: AtomicU32,
    /// The two halves of each cell, since not every machine has atomics of 64 bits.
    cells: Box<[[AtomicU32; 2]]>,
}

impl PublishedWindow {
    pub(super) fn new(max_capacity: usize) -> Self {
        let cell = |_| [AtomicU32::new(0), AtomicU32::new(0)];
        Self {
            is_wanted: AtomicBool::new(false),
            version: AtomicU32::new(0),
            shown: AtomicU32::new(0),
            omitted: AtomicU32::new(0),
            cells: (0..max_capacity.min(CELLS)).map(cell).collect(),
        }
    }

    /// Wants a new window. The caller wakes the stage.
    pub(super) fn want(&self) {
        self.is_wanted.store(true, Ordering::Release);
    }

    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// Publishes a window. The stage alone calls it.
    pub(super) fn publish(&self, in_flight: usize, cells: impl Iterator<Item = Cell>) {
        self.is_wanted.store(false, Ordering::Relaxed); // asked for during this, a window may be this one
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release); // a reader of anything below sees the odd version
        let mut shown = 0;
        for (published, cell) in self.cells.iter().zip(cells) {
            let bits = pack(cell);
            published[0].store(bits as u32, Ordering::Relaxed);
            published[1].store((bits >> 32) as u32, Ordering::Relaxed);
            shown += 1;
        }
        self.shown.store(shown, Ordering::Relaxed);
        self.omitted.store((in_flight as u32).saturating_sub(shown), Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// The last window that was published. (If the stage is held up in the middle of a publication, parts are of the one before.)
    pub(super) fn read(&self) -> Window {
        for _ in 0..TRIES {
            if let Some(window) = self.read_whole() {
                return window;
            }
            core::hint::spin_loop();
        }
        self.read_once()
    }

    /// The last window that was published; `None` if the stage publishes one meanwhile.
    fn read_whole(&self) -> Option<Window> {
        let version = self.version.load(Ordering::Acquire);
        let window = self.read_once();
        fence(Ordering::Acquire);
        (version.is_multiple_of(2) && version == self.version.load(Ordering::Relaxed))
            .then_some(window)
    }

    fn read_once(&self) -> Window {
        let shown = self.shown.load(Ordering::Relaxed) as usize;
        let cells = self.cells.iter().take(shown).map(|halves| {
            let [low, high] = [0, 1].map(|half| u64::from(halves[half].load(Ordering::Relaxed)));
            unpack(high << 32 | low)
        });
        let cells = cells.collect();
        Window { cells, omitted: u64::from(self.omitted.load(Ordering::Relaxed)) }
    }
}

/// The age of a cell has 46 bits of microseconds (two years), its attempts have 16 bits, its state two. All saturate.
const AGE_BITS: u32 = 46;
const MAX_AGE: u64 = (1 << AGE_BITS) - 1;

fn pack(cell: Cell) -> u64 {
    let state = match cell.state {
        CellState::Waiting => 0,
        CellState::Running => 1,
        CellState::Backoff => 2,
        CellState::Done => 3,
    };
    let attempts = u64::from(cell.attempts.min(u32::from(u16::MAX)));
    let age = (Span::of(cell.age).as_nanos() / 1000).min(MAX_AGE);
    (attempts << 2 | state) << AGE_BITS | age
}

fn unpack(bits: u64) -> Cell {
    let rest = bits >> AGE_BITS;
    let state = match rest & 3 {
        0 => CellState::Waiting,
        1 => CellState::Running,
        2 => CellState::Backoff,
        _ => CellState::Done,
    };
    Cell::new(state, (rest >> 2) as u32, Duration::from_micros(bits & MAX_AGE))
}

#[cfg(all(test, loom))]
mod loom_tests {
    use alloc::sync::Arc;
    use alloc::vec;

    use super::*;

    // M2: a window that is read is one that was published, in all interleavings of two publications and a read.
    #[test]
    fn loom_a_window_is_not_torn() {
        // Both halves of the cell differ from one window to the next, and so does the number of omitted records.
        let cell = |number: u32| {
            Cell::new(CellState::Running, number, Duration::from_micros(u64::from(number)))
        };
        let shown = move |number: u32| match number {
            0 => Window::default(),
            _ => Window { cells: vec![cell(number)], omitted: u64::from(number) },
        };
        crate::sync::model(3, move || {
            let published = Arc::new(PublishedWindow::new(1));
            let stage = Arc::clone(&published);
            let writer = loom::thread::spawn(move || {
                for number in 1..=2 {
                    stage.publish(1 + number as usize, core::iter::once(cell(number)));
                }
            });
            if let Some(window) = published.read_whole() {
                assert!((0..=2).any(|number| window == shown(number)), "{window:?}");
            }
            writer.join().unwrap();
            assert_eq!(published.read_whole(), Some(shown(2)));
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    // M2: a reader gets the cells that were published, ages to the microsecond.
    #[test]
    fn cells_round_trip() {
        let states = [CellState::Waiting, CellState::Running, CellState::Backoff, CellState::Done];
        let ages = [Duration::ZERO, Duration::from_micros(1), Duration::from_secs(86_400 * 365)];
        for (state, age) in states.into_iter().zip(ages.into_iter().cycle()) {
            for attempts in [0, 1, u32::from(u16::MAX)] {
                let cell = Cell::new(state, attempts, age);
                assert_eq!(unpack(pack(cell)), cell);
            }
        }
        let most = unpack(pack(Cell::new(CellState::Done, u32::MAX, Duration::MAX)));
        assert_eq!((most.state, most.attempts), (CellState::Done, u32::from(u16::MAX)));
        assert!(most.age > Duration::from_secs(2 * 86_400 * 365));
    }

    // M2: a window has at most as many cells as there is room for, and says how many records have none.
    #[test]
    fn records_without_a_cell_are_counted() {
        let published = PublishedWindow::new(3);
        assert_eq!(published.read(), Window::default());
        let cell = Cell::new(CellState::Running, 1, Duration::from_millis(7));
        published.publish(5, core::iter::repeat_n(cell, 5));
        let window = published.read();
        assert_eq!((window.cells.as_slice(), window.omitted()), ([cell; 3].as_slice(), 2));
        published.publish(1, core::iter::once(cell));
        let window = published.read();
        assert_eq!((window.cells.as_slice(), window.omitted()), ([cell].as_slice(), 0));
        assert_eq!(PublishedWindow::new(1 << 24).cells.len(), Window::CELLS);
    }
}
