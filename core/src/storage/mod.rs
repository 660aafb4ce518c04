//! Storage of the operator's tables: on the heap, or in place with a capacity in the type.
//!
//! The operator is written once, over slices and indices; a storage only decides how a table grows.

mod batches;
mod in_use;
pub(crate) mod keys;
mod per_slot;
pub(crate) mod sort;

#[allow(unreachable_pub)] // part of a sealed trait
pub use self::batches::{BatchId, BatchTables, Batches};
pub(crate) use self::batches::{FormingBatch, NoBatches};
use self::in_use::AnySlot;
#[cfg(feature = "alloc")]
use self::in_use::BitPerSlot;
pub(crate) use self::in_use::InUse;
#[cfg(feature = "alloc")]
use self::keys::Groups;
use self::keys::{Buckets, Keys};
#[allow(unreachable_pub)] // part of a sealed trait
pub use self::per_slot::PerSlot;
pub(crate) use self::per_slot::{Column, Nothing};

/// The end of a list, in place of a slot's number.
pub(crate) const NONE: u32 = u32::MAX;

/// The kind of memory that tables live in: `Heap` (with the feature `alloc`) or [`Fixed`]. Sealed: no other type can
/// implement it.
pub trait Storage: sealed::Sealed {
    /// A table that grows at its end.
    #[doc(hidden)]
    type Table<T>: Table<T>;
    /// A table of numbers, whose auto traits a generic policy knows.
    #[doc(hidden)]
    type Numbers<T: AutoTraits>: Table<T> + AutoTraits;
    /// A queue.
    #[doc(hidden)]
    type Queue<T>: Queue<T>;
    /// The set of slots of a table that are in use.
    #[doc(hidden)]
    type InUse: InUse;
    /// Control elements in flight.
    #[doc(hidden)]
    type Controls<T: AutoTraits>: Queue<T> + AutoTraits;
    /// The table that finds the last record of a key.
    #[doc(hidden)]
    type Keys: Keys;
    /// The queue of restored elements that have no slot yet (K5: a restore into a smaller capacity).
    #[doc(hidden)]
    type Backlog<T>: Queue<T>;
    /// The most elements that the backlog can hold.
    #[doc(hidden)]
    const MAX_BACKLOG: usize;
    /// True if the queue of control elements can hold any.
    #[doc(hidden)]
    const HOLDS_CONTROLS: bool = true;
    /// The largest capacity an operator over this storage can have.
    const MAX_CAPACITY: usize;
}

/// Storage on the heap. The capacity is chosen at run time, at most 2^24; a table grows when a slot is used for the
/// first time, and reuses the slot from then on.
#[cfg(feature = "alloc")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

/// Storage in place for at most `N` records in flight: no allocator, and an operator over it can
/// live in a `static`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed<const N: usize>;

pub(crate) mod sealed {
    #[allow(unreachable_pub)]
    pub trait Sealed {}
    #[cfg(feature = "alloc")]
    impl Sealed for super::Heap {}
    impl<const N: usize> Sealed for super::Fixed<N> {}
}

/// Tables grow as they are used, but a stage on a task of its own reserves address space for its
/// buffer at the start, and a capacity meant as "no limit" should be refused rather than tried.
#[cfg(feature = "alloc")]
const MAX_HEAP_CAPACITY: usize = if usize::BITS > 16 { 1 << 24 } else { 1 << 10 };

#[cfg(feature = "alloc")]
impl Storage for Heap {
    type Table<T> = alloc::vec::Vec<T>;
    type Numbers<T: AutoTraits> = alloc::vec::Vec<T>;
    type Queue<T> = alloc::collections::VecDeque<T>;
    type InUse = BitPerSlot;
    type Controls<T: AutoTraits> = Self::Queue<T>;
    type Keys = Groups;
    type Backlog<T> = alloc::collections::VecDeque<T>;
    const MAX_BACKLOG: usize = MAX_HEAP_CAPACITY;
    const MAX_CAPACITY: usize = MAX_HEAP_CAPACITY;
}

impl<const N: usize> Storage for Fixed<N> {
    type Table<T> = heapless::Vec<T, N>;
    type Numbers<T: AutoTraits> = heapless::Vec<T, N>;
    type Queue<T> = heapless::Deque<T, N>;
    type InUse = AnySlot;
    type Controls<T: AutoTraits> = Self::Queue<T>;
    type Keys = Buckets<N>;
    type Backlog<T> = EmptyQueue;
    // Without an allocator a restored snapshot has to fit into the capacity.
    const MAX_BACKLOG: usize = 0;
    const MAX_CAPACITY: usize = N;
}

/// Bounds on tables whose type a generic stage does not know, so that the stage still implements `Send`, `Sync` and `Unpin`.
#[doc(hidden)]
#[allow(unreachable_pub)]
pub trait AutoTraits: Send + Sync + Unpin {}

impl<T: Send + Sync + Unpin> AutoTraits for T {}

#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait Table<T>: AsRef<[T]> + AsMut<[T]> {
    const EMPTY: Self;
    const ON_HEAP: bool;
    /// True if it can have few entries only, so that an algorithm with a step for each of them takes a bounded number of steps, and
    /// one that does better is not worth its flash.
    const IS_SMALL: bool;
    /// Refuses when the storage's capacity is used up.
    fn push(&mut self, item: T) -> Result<(), T>;
    fn pop(&mut self) -> Option<T>;

    /// The entry of a slot, in a table that has one for each slot up to it: those that are missing are added as `vacant`. Slots are numbered
    /// from 0 as they are first used, so it adds one entry in most cases.
    fn at_slot(&mut self, slot: u32, vacant: T) -> &mut T
    where
        T: Copy,
    {
        while self.as_ref().len() <= slot as usize {
            if self.push(vacant).is_err() {
                unreachable!("the storage has room for as many entries as for slots");
            }
        }
        &mut self.as_mut()[slot as usize]
    }
}

#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait Queue<T> {
    const EMPTY: Self;
    fn len(&self) -> usize;
    /// Refuses when the storage's capacity is used up.
    fn push_back(&mut self, item: T) -> Result<(), T>;
    fn push_front(&mut self, item: T) -> Result<(), T>;
    fn pop_front(&mut self) -> Option<T>;
    fn get_mut(&mut self, index: usize) -> Option<&mut T>;
    fn back_mut(&mut self) -> Option<&mut T>;
    fn iter<'a>(&'a self) -> impl Iterator<Item = &'a T>
    where
        T: 'a;
}

#[cfg(feature = "alloc")]
impl<T> Table<T> for alloc::vec::Vec<T> {
    const EMPTY: Self = Self::new();
    const ON_HEAP: bool = true;
    const IS_SMALL: bool = false;

    fn push(&mut self, item: T) -> Result<(), T> {
        self.push(item); // the inherent method, here and below: no recursion
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        self.pop()
    }
}

impl<T, const N: usize> Table<T> for heapless::Vec<T, N> {
    const EMPTY: Self = Self::new();
    const ON_HEAP: bool = false;
    const IS_SMALL: bool = N <= 32;

    fn push(&mut self, item: T) -> Result<(), T> {
        self.push(item)
    }

    fn pop(&mut self) -> Option<T> {
        self.pop()
    }
}

#[cfg(feature = "alloc")]
impl<T> Queue<T> for alloc::collections::VecDeque<T> {
    const EMPTY: Self = Self::new();

    fn len(&self) -> usize {
        self.len()
    }

    fn push_back(&mut self, item: T) -> Result<(), T> {
        self.push_back(item);
        Ok(())
    }

    fn push_front(&mut self, item: T) -> Result<(), T> {
        self.push_front(item);
        Ok(())
    }

    fn pop_front(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.get_mut(index)
    }

    fn back_mut(&mut self) -> Option<&mut T> {
        self.back_mut()
    }

    fn iter<'a>(&'a self) -> impl Iterator<Item = &'a T>
    where
        T: 'a,
    {
        self.iter()
    }
}

impl<T, const N: usize> Queue<T> for heapless::Deque<T, N> {
    const EMPTY: Self = Self::new();

    fn len(&self) -> usize {
        // A deque is a ring: it may be in two pieces.
        self.as_slices().0.len() + self.as_slices().1.len()
    }

    fn push_back(&mut self, item: T) -> Result<(), T> {
        self.push_back(item)
    }

    fn push_front(&mut self, item: T) -> Result<(), T> {
        self.push_front(item)
    }

    fn pop_front(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.get_mut(index)
    }

    fn back_mut(&mut self) -> Option<&mut T> {
        self.back_mut()
    }

    fn iter<'a>(&'a self) -> impl Iterator<Item = &'a T>
    where
        T: 'a,
    {
        self.iter()
    }
}

/// A queue that has no room: it refuses every item.
#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct EmptyQueue;

impl<T> Queue<T> for EmptyQueue {
    const EMPTY: Self = Self;

    fn len(&self) -> usize {
        0
    }

    fn push_back(&mut self, item: T) -> Result<(), T> {
        Err(item)
    }

    fn push_front(&mut self, item: T) -> Result<(), T> {
        Err(item)
    }

    fn pop_front(&mut self) -> Option<T> {
        None
    }

    fn get_mut(&mut self, _: usize) -> Option<&mut T> {
        None
    }

    fn back_mut(&mut self) -> Option<&mut T> {
        None
    }

    fn iter<'a>(&'a self) -> impl Iterator<Item = &'a T>
    where
        T: 'a,
    {
        core::iter::empty()
    }
}
