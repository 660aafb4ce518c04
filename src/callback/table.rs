//! Places in a `static`, for handles that an interrupt completes.

use core::cell::RefCell;
use core::fmt;

use critical_section::Mutex;

use super::cell::Cell;
use super::function::Places;
use super::handle::{Handle, Place};

/// `N` places in a `static`, for handles that an interrupt may complete; no allocator is needed. There should be as many
/// as attempts can run at once.
///
/// Completing a handle takes a short [critical section](critical_section), in which no code of the user's runs. The
/// program must have an implementation of `critical-section`.
///
/// ```
/// use inflight::callback::{CompletionTable, TableHandle, with_callback_in};
///
/// static ANSWERS: CompletionTable<Result<u16, ()>, 16> = CompletionTable::new();
///
/// fn start_conversion(_channel: u8, _handle: TableHandle<u16, (), 16>) {
///     // puts the handle where the interrupt finds it, and starts the hardware
/// }
///
/// let function = with_callback_in(&ANSWERS, |channel: &u8, handle| start_conversion(*channel, handle));
/// # let _ = function;
/// ```
pub struct CompletionTable<T, const N: usize> {
    table: Mutex<RefCell<Table<T, N>>>,
}

struct Table<T, const N: usize> {
    slots: [Slot<T>; N],
    /// The first vacant slot; `N` if there is none.
    vacant: usize,
}

struct Slot<T> {
    cell: Cell<T>,
    /// Counts the attempts that have had this slot, so that an old handle is told from a new one. It never wraps.
    generation: u64,
    /// The next vacant slot, if this is one.
    next: usize,
}

/// The handle of an attempt that has its place in a [`CompletionTable`].
pub type TableHandle<Out, E, const N: usize> = Handle<Out, E, PlaceInTable<Result<Out, E>, N>>;

impl<T, const N: usize> CompletionTable<T, N> {
    /// A table of `N` places.
    #[must_use]
    pub const fn new() -> Self {
        let mut slots = [const { Slot { cell: Cell::new(), generation: 0, next: 0 } }; N];
        let mut number = 0;
        while number < N {
            slots[number].next = number + 1;
            number += 1;
        }
        Self { table: Mutex::new(RefCell::new(Table { slots, vacant: 0 })) }
    }

    fn with<R>(&self, with: impl FnOnce(&mut Table<T, N>) -> R) -> R {
        critical_section::with(|cs| with(&mut self.table.borrow_ref_mut(cs)))
    }
}

impl<T, const N: usize> Default for CompletionTable<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> fmt::Debug for CompletionTable<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionTable").field("places", &N).finish_non_exhaustive()
    }
}

impl<T: 'static, const N: usize> Places<T> for &'static CompletionTable<T, N> {
    type Place = PlaceInTable<T, N>;

    fn claim(&self) -> Option<PlaceInTable<T, N>> {
        self.with(|table| {
            let number = table.vacant;
            let slot = table.slots.get_mut(number)?;
            slot.cell = Cell::new(); // the old state was dropped when the slot became vacant
            table.vacant = slot.next;
            Some(PlaceInTable { table: self, number, generation: slot.generation })
        })
    }
}

/// The place of one attempt, in a table.
pub struct PlaceInTable<T: 'static, const N: usize> {
    table: &'static CompletionTable<T, N>,
    number: usize,
    generation: u64,
}

impl<T, const N: usize> Place<T> for PlaceInTable<T, N> {
    fn with<R>(&self, with: impl FnOnce(&mut Cell<T>) -> R) -> Option<R> {
        self.table.with(|table| {
            let slot = table.slots.get_mut(self.number)?;
            (slot.generation == self.generation).then(|| with(&mut slot.cell))
        })
    }

    fn close(&self) {
        drop(self.table.with(|table| {
            let slot = table.slots.get_mut(self.number)?;
            slot.generation += 1;
            slot.next = core::mem::replace(&mut table.vacant, self.number);
            Some(slot.cell.close())
        }));
    }
}

impl<T, const N: usize> Clone for PlaceInTable<T, N> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<T, const N: usize> fmt::Debug for PlaceInTable<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PlaceInTable").field(&self.number).finish()
    }
}
