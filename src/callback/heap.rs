//! A place on the heap for each attempt.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::cell::Cell;
use super::function::Places;
use super::handle::{Handle, Place};

/// Places on the heap, one allocation an attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnHeap;

/// The handle of an attempt, on the heap.
pub type CompletionHandle<Out, E> = Handle<Out, E, PlaceOnHeap<Result<Out, E>>>;

/// The place of one attempt, on the heap.
pub struct PlaceOnHeap<T>(Arc<Mutex<Cell<T>>>);

impl<T> Places<T> for OnHeap {
    type Place = PlaceOnHeap<T>;

    fn claim(&self) -> Option<PlaceOnHeap<T>> {
        Some(PlaceOnHeap(Arc::new(Mutex::new(Cell::new()))))
    }
}

impl<T> Place<T> for PlaceOnHeap<T> {
    fn with<R>(&self, with: impl FnOnce(&mut Cell<T>) -> R) -> Option<R> {
        // Only a waker's `clone` could panic under the lock, and it runs before the cell changes.
        Some(with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn close(&self) {
        drop(self.with(Cell::close));
    }
}

impl<T> Clone for PlaceOnHeap<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for PlaceOnHeap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlaceOnHeap(..)")
    }
}
