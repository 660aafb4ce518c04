//! The window: the state of each record in flight, so that people can see an operator at work (M2).

use core::time::Duration;

use super::Operator;
use super::call::Call;
use super::record::{Record, State};
use crate::storage::{NONE, Storage, Table as _};
use crate::time::Instant;

/// The most records that a window shows.
pub(crate) const CELLS: usize = 1024;

/// One record in flight, as a window shows it (M2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cell {
    /// What the record waits for.
    pub state: CellState,
    /// Attempts started, the running one included.
    pub attempts: u32,
    /// The time since the record's first invocation (or, before that, since it was taken in), as in
    /// [`Metrics::oldest`](crate::Metrics::oldest).
    pub age: Duration,
}

impl Cell {
    /// A cell of one's own making, for the test of a program that draws windows.
    pub const fn new(state: CellState, attempts: u32, age: Duration) -> Self {
        Self { state, attempts, age }
    }
}

/// The state of a record in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CellState {
    /// It waits for an attempt to start, the first one or another one: for the reasons of
    /// [`Metrics::waiting`](crate::Metrics::waiting).
    Waiting,
    /// An attempt runs.
    Running,
    /// An attempt has failed, and the time until the next one is not over.
    Backoff,
    /// Its call has ended. It waits for records before it, or to be taken out.
    Done,
}

impl<C: Call, S: Storage> Operator<C, S> {
    /// The window as of `now` (M2): the state of each record in flight, in the order in which the records came. It ends after 1,024
    /// records.
    ///
    /// With [`ordered`](crate::AsyncWait::ordered) it takes a step for each of these. In other orders the oldest records have to be
    /// found, so it looks at as many slots as [`metrics`](Self::metrics), and needs memory for 2,048 numbers of slots.
    pub fn window(&self, now: Instant) -> impl Iterator<Item = Cell> {
        let now = now.max(self.now);
        let slots = self.oldest();
        let shown = slots.as_ref().len().min(CELLS);
        (0..shown).map(move |at| cell(&self.records.all()[slots.as_ref()[at] as usize], now))
    }

    /// Whether a window takes no step for a record without a cell.
    #[cfg(feature = "alloc")]
    pub(crate) fn is_ordered(&self) -> bool {
        self.order.is_ordered()
    }

    /// The slots of the oldest records in flight, the oldest first.
    fn oldest(&self) -> S::Table<u32> {
        if !self.order.is_ordered() {
            return self.records.oldest(self.order.front_number(), CELLS);
        }
        let mut slots = S::Table::EMPTY;
        let mut next = self.order.head().unwrap_or(NONE);
        while next != NONE && slots.as_ref().len() < CELLS {
            let _ = slots.push(next); // the table has as much room as the slab
            next = self.records.all()[next as usize].successor;
        }
        slots
    }
}

fn cell<C: Call>(record: &Record<C>, now: Instant) -> Cell {
    let state = match record.state() {
        State::Queued | State::Vacant => CellState::Waiting,
        State::Running => CellState::Running,
        State::Backoff => CellState::Backoff,
        State::Done => CellState::Done,
    };
    Cell { state, attempts: record.attempts(), age: now - record.since() }
}
