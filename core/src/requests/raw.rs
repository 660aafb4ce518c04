//! The one file with `unsafe`. It offers three primitives; the tables that use them are safe code:
//!
//! 1. [`pinned_element`] pins one element of a pinned slice.
//! 2. [`WakerBlock`] makes wakers that point into a block on the heap.
//! 3. [`StaticLanes`] makes wakers that point into a static table.
//!
//! A *lane* is one waker of a block or of a table. A waker is a thin pointer to its lane; the lane's address
//! tells the block or the table, and the lane's number. So a request needs no allocation for its waker.
#![allow(unsafe_code)]

#[cfg(feature = "alloc")]
use alloc::sync::Arc;
use core::mem::{ManuallyDrop, offset_of};
use core::pin::Pin;
use core::task::{Context, RawWaker, RawWakerVTable, Waker};

#[cfg(feature = "alloc")]
use super::wake_bits::{LANES, WakeWord};

/// The element of a pinned slice at an index, pinned; `None` if the slice is shorter.
#[inline(always)]
pub(super) fn pinned_element<T>(slice: Pin<&mut [T]>, index: usize) -> Option<Pin<&mut T>> {
    if index >= slice.len() {
        return None;
    }
    // SAFETY: the elements of a slice lie in it and move only with it, which pinning has ruled out; a slice
    // has no `Drop` of its own that could move one; and it is `Unpin` only if its elements are.
    Some(unsafe { slice.map_unchecked_mut(|slice| &mut slice[index]) })
}

/// Runs `poll` with a waker of these parts that is never dropped, and so must own nothing.
///
/// # Safety
///
/// While `poll` runs, the parts must keep the contract of [`RawWaker`], but for its drop.
#[inline(always)]
unsafe fn lend_waker<O>(
    lane: *const (),
    vtable: &'static RawWakerVTable,
    poll: impl FnOnce(&mut Context<'_>) -> O,
) -> O {
    // SAFETY: this is the caller's promise. `poll` sees the waker through a reference that ends with the
    // call, so it can clone the waker but not keep or drop it.
    let waker = ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(lane, vtable)) });
    poll(&mut Context::from_waker(&waker))
}

/// A wake word and the wakers of its lanes. A waker owns one reference to the block's `Arc`.
///
/// The block is not generic over the effect of a wake, because a generic type cannot keep its vtable in a
/// `static`. The compiler may copy any other vtable, and `Waker::will_wake` compares addresses: with copies,
/// futures would clone a waker that they already have.
#[cfg(feature = "alloc")]
#[repr(C, align(64))]
pub(super) struct WakerBlock {
    /// Only the addresses count: the bytes are neither read nor written.
    lanes: [u8; LANES],
    pub(super) word: WakeWord,
}

#[cfg(feature = "alloc")]
static BLOCK_VTABLE: RawWakerVTable = RawWakerVTable::new(
    WakerBlock::clone,
    WakerBlock::wake,
    WakerBlock::wake_by_ref,
    WakerBlock::drop,
);

#[cfg(feature = "alloc")]
const _: () = {
    // `locate` relies on both.
    assert!(offset_of!(WakerBlock, lanes) == 0 && LANES <= align_of::<WakerBlock>());
    // A waker is used and dropped on any thread.
    const fn is_send_and_sync<T: Send + Sync + 'static>() {}
    is_send_and_sync::<WakerBlock>();
};

#[cfg(feature = "alloc")]
impl WakerBlock {
    pub(super) fn new(word: WakeWord) -> Arc<Self> {
        Arc::new(Self { lanes: [0; LANES], word })
    }

    /// Runs `poll` with the waker of a lane, which costs no reference unless `poll` clones it.
    ///
    /// # Panics
    ///
    /// When there is no such lane.
    #[inline(always)]
    pub(super) fn with_waker<O>(
        self: &Arc<Self>,
        lane: usize,
        poll: impl FnOnce(&mut Context<'_>) -> O,
    ) -> O {
        assert!(lane < LANES, "a block has no such lane");
        let lane = Arc::as_ptr(self).cast::<u8>().wrapping_add(lane).cast::<()>();
        // SAFETY: the vtable's functions keep the contract of `RawWaker` for a pointer to a lane of a block
        // in an `Arc`: see each of them. `self` keeps the block alive while `poll` runs.
        unsafe { lend_waker(lane, &BLOCK_VTABLE, poll) }
    }

    /// The block of a lane, and the lane's number.
    fn locate(lane: *const ()) -> (*const Self, usize) {
        // The lanes are the block's first bytes, and there are at most as many as the block's alignment: so
        // the low bits of the address are the number. `with_waker` derived the pointer from one to the whole
        // block, and `map_addr` keeps that provenance.
        const LOW_BITS: usize = align_of::<WakerBlock>() - 1;
        (lane.map_addr(|address| address & !LOW_BITS).cast(), lane.addr() & LOW_BITS)
    }

    unsafe fn clone(lane: *const ()) -> RawWaker {
        let (block, _) = Self::locate(lane);
        // SAFETY: `block` is from `Arc::as_ptr`, and the waker that is cloned keeps the `Arc` alive.
        unsafe { Arc::increment_strong_count(block) };
        RawWaker::new(lane, &BLOCK_VTABLE)
    }

    unsafe fn wake(lane: *const ()) {
        // SAFETY: the caller hands over its waker, with a reference: it is used, then given back.
        unsafe {
            Self::wake_by_ref(lane);
            Self::drop(lane);
        }
    }

    unsafe fn wake_by_ref(lane: *const ()) {
        let (block, lane) = Self::locate(lane);
        // SAFETY: the caller's waker keeps the block alive for the length of this call, and as long as there
        // are wakers the block is only used through shared references.
        unsafe { &*block }.word.wake(lane);
    }

    unsafe fn drop(lane: *const ()) {
        let (block, _) = Self::locate(lane);
        // SAFETY: `block` is from `Arc::as_ptr`. The waker that is dropped was made by `clone` and owns a
        // reference, since `with_waker` never drops the one that it lends.
        unsafe { Arc::decrement_strong_count(block) };
    }
}

/// The effect of a wake that comes through a static table.
pub(super) trait WakeLane: Sync + 'static {
    fn wake(&self, lane: usize);
}

/// `N` lanes in a `static`, and the target of their wakes. A waker counts no references.
#[repr(C)]
pub(super) struct StaticLanes<T, const N: usize> {
    /// Every lane holds its number. Only `new` writes them.
    lanes: [u16; N],
    pub(super) target: T,
}

const _: () = assert!(offset_of!(StaticLanes<u64, 3>, lanes) == 0); // as in every `repr(C)`

impl<T, const N: usize> StaticLanes<T, N> {
    /// # Panics
    ///
    /// When a lane's number would not fit into 16 bits.
    pub(super) const fn new(target: T) -> Self {
        assert!(N <= u16::MAX as usize, "a wake table has at most 65 535 slots");
        let mut lanes = [0; N];
        let mut number = 0;
        while number < N {
            lanes[number] = number as u16;
            number += 1;
        }
        Self { lanes, target }
    }
}

impl<T: WakeLane, const N: usize> StaticLanes<T, N> {
    const VTABLE: &RawWakerVTable =
        &RawWakerVTable::new(Self::clone, Self::wake, Self::wake, Self::drop);

    /// Runs `poll` with the waker of a lane.
    ///
    /// # Panics
    ///
    /// When there is no such lane.
    pub(super) fn with_waker<O>(
        &'static self,
        lane: usize,
        poll: impl FnOnce(&mut Context<'_>) -> O,
    ) -> O {
        assert!(lane < N, "a table has no such lane");
        let lane = core::ptr::from_ref(self).cast::<u16>().wrapping_add(lane).cast::<()>();
        // SAFETY: the vtable's functions keep the contract of `RawWaker` for a pointer to a lane of a static
        // table: see each of them. Any thread may call them, since the target is `Sync`.
        unsafe { lend_waker(lane, Self::VTABLE, poll) }
    }

    unsafe fn clone(lane: *const ()) -> RawWaker {
        RawWaker::new(lane, Self::VTABLE)
    }

    unsafe fn wake(lane: *const ()) {
        let lane = lane.cast::<u16>();
        // SAFETY: `lane` is from `with_waker`, so it points to a lane of a static table of this type, which is
        // only used through shared references.
        let number = usize::from(unsafe { *lane });
        // SAFETY: a lane's number is its index, and the lanes are the table's first bytes, so this points to
        // the table. `with_waker` derived the pointer from one to the whole table, and that provenance is kept.
        let table = unsafe { &*lane.sub(number).cast::<Self>() };
        table.target.wake(number);
    }

    unsafe fn drop(_: *const ()) {}
}

#[cfg(all(test, not(loom)))]
mod tests {
    extern crate std;

    use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::vec;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn an_element_of_a_pinned_slice_is_pinned_where_it_lies() {
        let mut slice = vec![core::future::ready(1), core::future::ready(2)].into_boxed_slice();
        let mut slice = Pin::new(&mut slice[..]);
        let address = &raw const slice[1];
        let element = pinned_element(slice.as_mut(), 1).unwrap();
        assert_eq!(&raw const *element, address);
        assert!(pinned_element(slice, 2).is_none());
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn a_waker_of_a_block_owns_one_reference() {
        use crate::requests::wake_bits::WakeSet;

        let set = Arc::new(WakeSet::new(1));
        let block = WakerBlock::new(WakeWord::new(0, &set));
        for lane in [0, 1, LANES - 1] {
            let lent = block.with_waker(lane, |_| Arc::strong_count(&block));
            assert_eq!(lent, 1, "a lent waker counts nothing");
            let waker = block.with_waker(lane, |cx| cx.waker().clone());
            assert!(block.with_waker(lane, |cx| waker.will_wake(cx.waker())));
            let other = waker.clone();
            assert_eq!(Arc::strong_count(&block), 3);
            other.wake();
            assert_eq!(Arc::strong_count(&block), 2);
            waker.wake_by_ref();
            drop(waker);
            assert_eq!(Arc::strong_count(&block), 1);
            assert_eq!(block.word.take(), 1 << lane);
        }
        let last = block.with_waker(0, |cx| cx.waker().clone());
        drop(block);
        last.wake();
        assert_eq!(Arc::strong_count(&set), 1, "the last waker drops the block");
    }

    #[cfg(feature = "alloc")]
    #[test]
    #[should_panic(expected = "no such lane")]
    fn a_block_has_as_many_lanes_as_a_word_has_bits() {
        let word = WakeWord::new(0, &Arc::new(crate::requests::wake_bits::WakeSet::new(1)));
        WakerBlock::new(word).with_waker(LANES, |_| ());
    }

    struct Wakes<const N: usize>([AtomicUsize; N]);

    impl<const N: usize> WakeLane for Wakes<N> {
        fn wake(&self, lane: usize) {
            self.0[lane].fetch_add(1, SeqCst);
        }
    }

    type Table<const N: usize> = StaticLanes<Wakes<N>, N>;

    #[test]
    fn a_waker_of_a_static_table_finds_its_lane() {
        static TABLE: Table<300> = StaticLanes::new(Wakes([const { AtomicUsize::new(0) }; 300]));
        let wakers: Vec<_> =
            (0..300).map(|lane| TABLE.with_waker(lane, |cx| cx.waker().clone())).collect();
        for waker in wakers.iter().step_by(7) {
            let other = waker.clone();
            waker.wake_by_ref();
            other.wake();
        }
        for (lane, wakes) in TABLE.target.0.iter().enumerate() {
            assert_eq!(wakes.load(SeqCst), if lane % 7 == 0 { 2 } else { 0 }, "lane {lane}");
        }
    }

    #[test]
    #[should_panic(expected = "no such lane")]
    fn a_static_table_has_no_more_lanes_than_it_says() {
        static TABLE: Table<3> = StaticLanes::new(Wakes([const { AtomicUsize::new(0) }; 3]));
        TABLE.with_waker(3, |_| ());
    }
}
