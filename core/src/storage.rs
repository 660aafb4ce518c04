//! Where the operator keeps its tables: on the heap, or in place with a capacity in the type.
//!
//! The operator is written once, over slices and indices; a storage only says how a table grows.

use core::marker::PhantomData;

use crate::config::KeyOf;
use crate::element::Shape;
#[cfg(feature = "alloc")]
use crate::keys::Groups;
use crate::keys::{Chains, Keys};

/// Where tables live. Implemented by `Heap` (with the feature `alloc`) and by [`Fixed`]; not to be
/// implemented elsewhere.
pub trait Storage: sealed::Sealed {
    /// A table that grows at its end.
    #[doc(hidden)]
    type Table<T>: Table<T>;
    /// A queue.
    #[doc(hidden)]
    type Queue<T>: Queue<T>;
    /// Which slots of a table are in use.
    #[doc(hidden)]
    type InUse: InUse;
    /// Control elements in flight.
    #[doc(hidden)]
    type Controls<T: Movable>: Queue<T> + Movable;
    /// What finds the last record of a key.
    #[doc(hidden)]
    type Keys: Keys;
    /// Where a restore keeps what has no place yet.
    #[doc(hidden)]
    type Backlog<T>: Queue<T>;
    /// How many elements that can be.
    #[doc(hidden)]
    const MAX_BACKLOG: usize;
    /// Whether there can be control elements.
    #[doc(hidden)]
    const HOLDS_CONTROLS: bool = true;
    /// The largest capacity an operator over this storage can have.
    const MAX_CAPACITY: usize;
}

/// Storage on the heap. The capacity is chosen at run time, at most 2^24; tables grow as places are used for the
/// first time and are reused from then on.
#[cfg(feature = "alloc")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

/// Storage in place for at most `N` records in flight: no allocator, and an operator over it can
/// live in a `static`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed<const N: usize>;

mod sealed {
    pub trait Sealed {}
    #[cfg(feature = "alloc")]
    impl Sealed for super::Heap {}
    impl<const N: usize> Sealed for super::Fixed<N> {}
    impl<S, V, K, M> Sealed for super::Lean<S, V, K, M> {}
}

/// Tables grow as they are used, but a stage on a task of its own reserves address space for its
/// buffer at the start, and a capacity meant as "no limit" should be refused rather than tried.
#[cfg(feature = "alloc")]
const MAX_HEAP_CAPACITY: usize = if usize::BITS > 16 { 1 << 24 } else { 1 << 10 };

#[cfg(feature = "alloc")]
impl Storage for Heap {
    type Table<T> = alloc::vec::Vec<T>;
    type Queue<T> = alloc::collections::VecDeque<T>;
    type InUse = BitPerSlot;
    type Controls<T: Movable> = Self::Queue<T>;
    type Keys = Groups;
    type Backlog<T> = alloc::collections::VecDeque<T>;
    const MAX_BACKLOG: usize = MAX_HEAP_CAPACITY;
    const MAX_CAPACITY: usize = MAX_HEAP_CAPACITY;
}

impl<const N: usize> Storage for Fixed<N> {
    type Table<T> = heapless::Vec<T, N>;
    type Queue<T> = heapless::Deque<T, N>;
    type InUse = AnySlot;
    type Controls<T: Movable> = Self::Queue<T>;
    type Keys = Chains<N>;
    type Backlog<T> = NoRoom;
    const MAX_BACKLOG: usize = 0;
    const MAX_CAPACITY: usize = N;
}

/// A stage's storage: `S` without room for what none of the stage's elements can need. Without a key function
/// that is what finds keys, in a stream of plain values it is control elements.
#[derive(Debug)]
pub(crate) struct Lean<S, V, K, M>(PhantomData<fn() -> (S, V, K, M)>);

impl<S: Storage, V, K: KeyOf<V>, M: Shape> Storage for Lean<S, V, K, M> {
    type Table<T> = S::Table<T>;
    type Queue<T> = S::Queue<T>;
    type InUse = S::InUse;
    type Controls<T: Movable> = M::Controls<S, T>;
    type Keys = K::Keys<S>;
    type Backlog<T> = S::Backlog<T>;
    const MAX_BACKLOG: usize = S::MAX_BACKLOG;
    const HOLDS_CONTROLS: bool = M::HAS_CONTROLS;
    const MAX_CAPACITY: usize = S::MAX_CAPACITY;
}

/// What can be sent, shared and moved: said of tables whose kind a generic stage does not know, so that it still
/// can be.
#[doc(hidden)]
#[allow(unreachable_pub)]
pub trait Movable: Send + Sync + Unpin {}

impl<T: Send + Sync + Unpin> Movable for T {}

#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait Table<T>: AsRef<[T]> + AsMut<[T]> {
    const EMPTY: Self;
    /// Refuses when the storage's capacity is used up.
    fn push(&mut self, item: T) -> Result<(), T>;
    fn pop(&mut self) -> Option<T>;
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

    fn push(&mut self, item: T) -> Result<(), T> {
        self.push(item);
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        self.pop()
    }
}

impl<T, const N: usize> Table<T> for heapless::Vec<T, N> {
    const EMPTY: Self = Self::new();

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

/// A queue that holds nothing.
#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct NoRoom;

impl<T> Queue<T> for NoRoom {
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

/// Finds the slots of a table that are in use, without looking at all that ever were.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait InUse: Movable {
    const EMPTY: Self;
    /// The table has got this slot.
    fn grow(&mut self, slot: u32);
    /// A slot of the table is in use from now on.
    fn mark(&mut self, slot: u32);
    /// Forgets slots for which `is_used` does not hold.
    fn retain(&mut self, is_used: impl Fn(usize) -> bool);
    /// The slots in use, in ascending order, of a table of `len`; and those that were not forgotten.
    fn iter(&self, len: usize) -> impl Iterator<Item = usize>;
}

/// A bit for each slot, set when the slot is used. It is not cleared when the slot is given back, since that would cost every
/// record, but by who looks for the slots now and then: so each use of a slot costs one look at most.
#[cfg(feature = "alloc")]
#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct BitPerSlot(alloc::vec::Vec<u64>);

#[cfg(feature = "alloc")]
impl InUse for BitPerSlot {
    const EMPTY: Self = Self(alloc::vec::Vec::new());

    fn grow(&mut self, slot: u32) {
        if slot as usize / 64 == self.0.len() {
            self.0.push(0);
        }
    }

    #[inline(always)]
    fn mark(&mut self, slot: u32) {
        self.0[slot as usize / 64] |= 1 << (slot % 64);
    }

    fn retain(&mut self, is_used: impl Fn(usize) -> bool) {
        for (at, word) in self.0.iter_mut().enumerate() {
            for bit in bits(*word) {
                if !is_used(at * 64 + bit) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    fn iter(&self, _: usize) -> impl Iterator<Item = usize> {
        let words = self.0.iter().enumerate();
        words.flat_map(|(at, word)| bits(*word).map(move |bit| at * 64 + bit))
    }
}

/// The bits that are set, the lowest first.
#[cfg(feature = "alloc")]
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(lowest)
    })
}

/// In place there are few slots, and all of them are looked at.
#[doc(hidden)]
#[derive(Debug)]
#[allow(unreachable_pub)]
pub struct AnySlot;

impl InUse for AnySlot {
    const EMPTY: Self = Self;

    fn grow(&mut self, _: u32) {}

    #[inline(always)]
    fn mark(&mut self, _: u32) {}

    fn retain(&mut self, _: impl Fn(usize) -> bool) {}

    fn iter(&self, len: usize) -> impl Iterator<Item = usize> {
        0..len
    }
}
