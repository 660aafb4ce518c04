//! Requests polled in place, and the wakers that tell which of them to poll.
//!
//! This is the one file with `unsafe`. Three things need it: a request is pinned inside a slice, a
//! waker is a thin pointer into a block that is shared or static, and it is made without an allocation
//! per request.
//!
//! *Lanes* are numbered. On the heap the first block of lanes belongs to the stage itself (its source,
//! its timer, its function, its consumer); the requests' lanes follow, in blocks that are allocated when
//! they are first used. What a wake does there is in `wake.rs`. Without a heap all lanes are in a static
//! `WakeTable`.
#![allow(unsafe_code)]

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

#[cfg(feature = "alloc")]
pub(crate) use self::heap::Slots;
use crate::requests::{Lane, WakeTable};

/// An element of a pinned slice.
#[inline(always)]
pub(crate) fn element<T>(slice: Pin<&mut [T]>, index: usize) -> Option<Pin<&mut T>> {
    if index >= slice.len() {
        return None;
    }
    // SAFETY: a projection to an element of a pinned slice. The elements of a slice lie in it and move
    // only with it, which pinning has ruled out; slices have no `Drop` of their own that could move
    // one; and a slice is `Unpin` only if its elements are.
    Some(unsafe { slice.map_unchecked_mut(|slice| &mut slice[index]) })
}

/// Polls the request in a place, if there is one, and drops it when it is ready.
#[inline(always)]
pub(crate) fn poll_in_place<F: Future>(
    mut place: Pin<&mut Option<F>>,
    cx: &mut Context<'_>,
) -> Option<Poll<F::Output>> {
    let polled = place.as_mut().as_pin_mut()?.poll(cx);
    if polled.is_ready() {
        place.set(None);
    }
    Some(polled)
}

/// A waker for a lane of a static table: a pointer to the lane, which counts no references.
///
/// # Panics
///
/// When there is no such lane.
pub(crate) fn lane_waker<const N: usize>(table: &'static WakeTable<N>, lane: usize) -> Waker {
    assert!(lane < N, "there is no lane {lane}");
    // The lanes are the table's first bytes. The pointer is derived from one to the whole table.
    let lane = core::ptr::from_ref(table).cast::<Lane>().wrapping_add(lane);
    // SAFETY: the functions of the table of functions keep the contract of `RawWaker` for a pointer to a
    // lane of a static `WakeTable<N>` (see each); they may be called from any thread, since that is
    // `Sync`.
    unsafe { Waker::from_raw(RawWaker::new(lane.cast(), StaticLane::<N>::VTABLE)) }
}

/// A table may be used from any thread: what wakers need.
const _: fn() = || {
    fn is_sync<T: Sync>() {}
    is_sync::<WakeTable<1>>();
};

/// What wakers of a static table of this size do.
struct StaticLane<const N: usize>;

impl<const N: usize> StaticLane<N> {
    const VTABLE: &RawWakerVTable =
        &RawWakerVTable::new(Self::clone, Self::wake, Self::wake, Self::drop);

    unsafe fn clone(lane: *const ()) -> RawWaker {
        RawWaker::new(lane, Self::VTABLE)
    }

    unsafe fn wake(lane: *const ()) {
        let lane = lane.cast::<Lane>();
        // SAFETY: `lane` came from `lane_waker` and so points to a lane of a static table, which is only
        // ever used through shared references.
        let number = usize::from(unsafe { &*lane }.number);
        // SAFETY: a lane's number is its place in its table, and the lanes are the table's first bytes;
        // so this points to the table. The pointer was derived from one to the whole table and keeps
        // that provenance.
        let table = unsafe { &*lane.sub(number).cast::<WakeTable<N>>() };
        table.wake(number);
    }

    unsafe fn drop(_: *const ()) {}
}

#[cfg(feature = "alloc")]
mod heap {
    use alloc::boxed::Box;
    use alloc::sync::Arc;
    use alloc::vec::Vec;
    use core::mem::ManuallyDrop;

    use super::*;
    use crate::requests::wake_bits::{Drain, LANES, WakeSet, WakeWord};
    use crate::requests::{Requests, StageWaker, TURN_BUDGET, WakeEvent};

    /// A block starts at a multiple of this, so that a lane's address tells the block's. At least
    /// [`LANES`].
    const BLOCK_ALIGNMENT: usize = 64;

    /// The stage's own lanes, by their numbers.
    const OWN_LANES: [StageWaker; 4] =
        [StageWaker::Source, StageWaker::Timer, StageWaker::Function, StageWaker::Consumer];

    /// A table of requests on the heap, at most one in each slot.
    #[allow(unreachable_pub, missing_debug_implementations)]
    pub struct Slots<F> {
        /// The stage's own lanes.
        own: Arc<Block>,
        blocks: Vec<(Arc<Block>, Pin<Box<[Option<F>; LANES]>>)>,
        hub: Arc<WakeSet>,
        collector: Drain,
    }

    impl<F> Slots<F> {
        /// A table with room for `capacity` requests. Memory for them is taken as they come.
        pub(crate) fn new(capacity: usize) -> Self {
            let hub = Arc::new(WakeSet::new(1 + capacity.div_ceil(LANES)));
            let own = Block::new(0, &hub);
            let collector = Drain::new(1);
            Self { own, blocks: Vec::new(), hub, collector }
        }

        /// A waker for one of the stage's own lanes.
        pub(crate) fn own_waker(&self, lane: StageWaker) -> Waker {
            (*self.own.borrowed_waker(lane as usize)).clone()
        }

        /// Makes room up to and including a block.
        #[cold]
        fn grow(&mut self, block: usize) {
            while self.blocks.len() <= block {
                let requests: Box<[Option<F>]> = (0..LANES).map(|_| None).collect();
                let Ok(requests) = Box::<[Option<F>; LANES]>::try_from(requests) else {
                    unreachable!("there is one for each lane");
                };
                self.blocks.push((Block::new(1 + self.blocks.len(), &self.hub), requests.into()));
            }
            self.collector.extend(1 + self.blocks.len());
        }

        #[inline(always)]
        fn place_or_grow(&mut self, slot: usize) -> (&Arc<Block>, Pin<&mut Option<F>>) {
            if self.blocks.len() <= slot / LANES {
                self.grow(slot / LANES);
            }
            let Some(place) = self.place(slot) else {
                unreachable!("the table has grown to hold the slot");
            };
            place
        }

        #[inline(always)]
        fn place(&mut self, slot: usize) -> Option<(&Arc<Block>, Pin<&mut Option<F>>)> {
            let (block, requests) = self.blocks.get_mut(slot / LANES)?;
            let place = element(requests.as_mut(), slot % LANES)?;
            Some((block, place))
        }
    }

    impl<F: Future> Requests<F> for Slots<F> {
        const TURN_BUDGET: usize = TURN_BUDGET;
        const BETWEEN_TURNS: bool = true;

        #[inline(always)]
        fn begin(self: Pin<&mut Self>, _: &Context<'_>) {}

        #[inline(always)]
        fn start(self: Pin<&mut Self>, slot: usize, request: F) -> Poll<F::Output> {
            let (block, mut place) = self.get_mut().place_or_grow(slot);
            place.set(Some(request));
            let waker = block.borrowed_waker(slot % LANES);
            poll_in_place(place, &mut Context::from_waker(&waker)).unwrap_or(Poll::Pending)
        }

        // The wake stays to be collected: so none can be lost here, and the next one finds its bit set and has little to
        // do.
        #[inline(always)]
        fn start_alone(self: Pin<&mut Self>, slot: usize, request: F) -> Poll<F::Output> {
            let (block, mut place) = self.get_mut().place_or_grow(slot);
            place.set(Some(request));
            let waker = block.borrowed_waker(slot % LANES);
            let cx = &mut Context::from_waker(&waker);
            let mut polled = poll_in_place(place.as_mut(), cx);
            if let Some(Poll::Pending) = polled
                && block.word.is_woken(slot % LANES)
            {
                polled = poll_in_place(place, cx);
            }
            polled.unwrap_or(Poll::Pending)
        }

        fn remove(self: Pin<&mut Self>, slot: usize) {
            if let Some((_, mut place)) = self.get_mut().place(slot) {
                place.set(None);
            }
        }

        fn clear(mut self: Pin<&mut Self>) {
            for slot in 0..self.blocks.len() * LANES {
                self.as_mut().remove(slot);
            }
        }

        #[inline(always)]
        fn poll(self: Pin<&mut Self>, slot: usize) -> Option<Poll<F::Output>> {
            let (block, place) = self.get_mut().place(slot)?;
            let waker = block.borrowed_waker(slot % LANES);
            poll_in_place(place, &mut Context::from_waker(&waker))
        }

        #[inline(always)]
        fn with_own<T>(&self, lane: StageWaker, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
            poll(&mut Context::from_waker(&self.own.borrowed_waker(lane as usize)))
        }

        #[inline(always)]
        fn is_between_passes(&self) -> bool {
            self.collector.is_between_passes()
        }

        #[inline(always)]
        fn begin_at(self: Pin<&mut Self>, slot: usize) {
            self.get_mut().collector.begin_at(1 + slot / LANES);
        }

        #[inline(always)]
        fn next_woken(self: Pin<&mut Self>) -> Option<WakeEvent> {
            let Self { own, blocks, hub, collector } = self.get_mut();
            let (block, lane) = collector.next(hub, |block| match block {
                0 => own.word.take(),
                block => blocks.get(block - 1).map_or(0, |(block, _)| block.word.take()),
            })?;
            Some(match block {
                0 => WakeEvent::Own(OWN_LANES[lane.min(OWN_LANES.len() - 1)]),
                block => WakeEvent::Request((block - 1) * LANES + lane),
            })
        }

        fn take_woken(mut self: Pin<&mut Self>, slot: usize) -> bool {
            let (block, lane) = (slot / LANES, slot % LANES);
            let was_collected = self.collector.take_lane(1 + block, lane);
            let word = self.blocks.get(block).map(|(block, _)| &block.word);
            word.is_some_and(|word| word.take_lane(lane)) || was_collected
        }

        #[inline(always)]
        fn sleep(self: Pin<&mut Self>, cx: &Context<'_>) -> bool {
            self.collector.sleep(&self.hub, cx.waker())
        }
    }

    /// The wakers of as many lanes as a word has bits. A waker is a pointer to its lane's byte, and
    /// stands for one reference to the block's `Arc`.
    #[repr(C, align(64))]
    struct Block {
        /// Nothing is stored here: the addresses are what counts.
        lanes: [u8; LANES],
        word: WakeWord,
        hub: Arc<WakeSet>,
    }

    const _: () = assert!(align_of::<Block>() == BLOCK_ALIGNMENT && LANES <= BLOCK_ALIGNMENT);

    impl Block {
        fn new(number: usize, hub: &Arc<WakeSet>) -> Arc<Self> {
            let (word, hub) = (WakeWord::new(number), Arc::clone(hub));
            Arc::new(Self { lanes: [0; LANES], word, hub })
        }
    }

    /// Wakers made of a pointer to a lane.
    trait LaneWaker {
        fn borrowed_waker(&self, lane: usize) -> ManuallyDrop<Waker>;
    }

    impl LaneWaker for Arc<Block> {
        /// A waker that holds no reference of its own and must not outlive `self`.
        #[inline(always)]
        fn borrowed_waker(&self, lane: usize) -> ManuallyDrop<Waker> {
            debug_assert!(lane < LANES);
            let pointer = Arc::as_ptr(self).cast::<u8>().wrapping_add(lane).cast::<()>();
            // SAFETY: the functions of the table keep the contract of `RawWaker` for a pointer to a lane
            // of a block in an `Arc` (see each); they are safe to call from any thread, since a block is
            // `Send` and `Sync`. Not dropping the waker gives back the reference that it never took.
            ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(pointer, &VTABLE)) })
        }
    }

    /// `Block` may be shared with and dropped by any thread: what wakers need.
    const _: fn() = || {
        fn is_send_and_sync<T: Send + Sync>() {}
        is_send_and_sync::<Block>();
    };

    static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

    /// The block that a lane's byte lies in, and which lane it is.
    fn locate(lane: *const ()) -> (*const Block, usize) {
        // The lanes are the block's first bytes and the block is aligned, so the low bits of the address
        // are the lane. The pointer was derived from one to the whole block and keeps that provenance.
        let block = lane.map_addr(|address| address & !(BLOCK_ALIGNMENT - 1));
        (block.cast::<Block>(), lane.addr() & (BLOCK_ALIGNMENT - 1))
    }

    unsafe fn clone(lane: *const ()) -> RawWaker {
        let (block, _) = locate(lane);
        // SAFETY: `block` came from `Arc::as_ptr`, and the caller's waker keeps the `Arc` alive.
        unsafe { Arc::increment_strong_count(block) };
        RawWaker::new(lane, &VTABLE)
    }

    unsafe fn wake(lane: *const ()) {
        // SAFETY: waking and dropping is what this function does, with the caller's reference.
        unsafe {
            wake_by_ref(lane);
            drop_waker(lane);
        }
    }

    unsafe fn wake_by_ref(lane: *const ()) {
        let (block, lane) = locate(lane);
        // SAFETY: the caller's waker keeps the block alive for the length of this call, and a block is
        // only ever used through shared references.
        let block = unsafe { &*block };
        block.word.wake(lane, &block.hub);
    }

    unsafe fn drop_waker(lane: *const ()) {
        let (block, _) = locate(lane);
        // SAFETY: `block` came from `Arc::as_ptr`, and the reference that a clone took is given back once.
        unsafe { Arc::decrement_strong_count(block) };
    }

    #[cfg(all(test, not(loom)))]
    mod tests {
        use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

        use atomic_waker::AtomicWaker;

        use super::*;

        /// Collects everything that has been woken.
        fn woken<F: Future>(slots: &mut Slots<F>) -> Vec<WakeEvent> {
            core::iter::from_fn(|| Pin::new(&mut *slots).next_woken()).collect()
        }

        /// Never ready; keeps a clone of its waker where the test finds it.
        struct Parked(Arc<AtomicWaker>);

        impl Future for Parked {
            type Output = ();

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
                self.0.register(cx.waker());
                Poll::Pending
            }
        }

        fn parked(slots: &mut Slots<Parked>, slot: usize) -> Waker {
            let cell = Arc::new(AtomicWaker::new());
            let request = Parked(Arc::clone(&cell));
            assert_eq!(Pin::new(slots).start(slot, request), Poll::Pending);
            cell.take().expect("the request has registered its waker")
        }

        // L6: a wake names its request and no other.
        #[test]
        fn a_wake_names_its_request() {
            for capacity in [1, 64, 65, 5000] {
                let mut slots = Slots::new(capacity);
                for slot in [0, capacity / 2, capacity - 1] {
                    let waker = parked(&mut slots, slot);
                    assert_eq!(woken(&mut slots), []);
                    waker.wake_by_ref();
                    waker.wake_by_ref();
                    assert_eq!(woken(&mut slots), [WakeEvent::Request(slot)]);
                    waker.wake();
                    assert_eq!(woken(&mut slots), [WakeEvent::Request(slot)]);
                }
            }
        }

        // L6: a wake that is taken out of turn is not handed out once more.
        #[test]
        fn a_wake_can_be_taken_out_of_turn() {
            let mut slots = Slots::new(100);
            let wakers: Vec<_> = (0..100).map(|slot| parked(&mut slots, slot)).collect();
            assert!(!Pin::new(&mut slots).take_woken(7));
            wakers.iter().for_each(Waker::wake_by_ref);
            assert_eq!(Pin::new(&mut slots).next_woken(), Some(WakeEvent::Request(0)));
            for slot in [7, 70] {
                assert!(Pin::new(&mut slots).take_woken(slot), "collected or not");
                assert!(!Pin::new(&mut slots).take_woken(slot));
            }
            assert!(!Pin::new(&mut slots).take_woken(1_000_000), "nobody is there");
            let rest = (1..100).filter(|slot| ![7, 70].contains(slot)).map(WakeEvent::Request);
            assert!(woken(&mut slots).into_iter().eq(rest));
            wakers[7].wake_by_ref();
            assert!(Pin::new(&mut slots).take_woken(7));
            assert_eq!(woken(&mut slots), []);
        }

        // T6: what was woken before a pass began is handed out before it ends, also when the table grows meanwhile.
        #[test]
        fn a_pass_goes_on_when_the_table_grows() {
            let places = LANES * LANES;
            let mut slots = Slots::new(3 * places);
            for at in [0, places, 2 * places] {
                let wakers: Vec<_> = (at..at + 70).map(|slot| parked(&mut slots, slot)).collect();
                let early: Vec<_> = [0, 69].map(|slot| parked(&mut slots, slot)).into();
                early.into_iter().chain(wakers).for_each(Waker::wake);
                let first = Pin::new(&mut slots).next_woken();
                let _ = parked(&mut slots, (at + places).min(3 * places - 1));
                let mut pass = woken(&mut slots);
                pass.extend(first);
                for slot in (at..at + 70).chain([0, 69]) {
                    assert!(pass.contains(&WakeEvent::Request(slot)), "{slot} at {at}: {pass:?}");
                }
            }
        }

        // T6: a pass goes over everything, wherever it begins.
        #[test]
        fn a_pass_begins_where_it_is_told_to() {
            let word = LANES * LANES;
            let mut slots = Slots::new(4 * word);
            let woken_slots = [0, word, 2 * word, 3 * word];
            let wakers: Vec<_> = woken_slots.map(|slot| parked(&mut slots, slot)).into();
            for (at, begin) in woken_slots.into_iter().enumerate() {
                assert_eq!(woken(&mut slots), []);
                wakers.iter().for_each(Waker::wake_by_ref);
                Pin::new(&mut slots).begin_at(begin);
                let round = (0..4).map(|step| WakeEvent::Request(woken_slots[(at + step) % 4]));
                assert!(woken(&mut slots).into_iter().eq(round), "from {begin}");
            }
        }

        #[test]
        fn own_lanes_are_told_apart() {
            let mut slots = Slots::<Parked>::new(3);
            for lane in
                [StageWaker::Source, StageWaker::Timer, StageWaker::Function, StageWaker::Consumer]
            {
                slots.own_waker(lane).wake();
                assert_eq!(woken(&mut slots), [WakeEvent::Own(lane)]);
            }
        }

        // L6: none is lost and none wakes the parent twice.
        #[test]
        fn the_parent_is_woken_once_a_sleep() {
            struct Count(AtomicUsize);
            impl alloc::task::Wake for Count {
                fn wake(self: Arc<Self>) {
                    self.0.fetch_add(1, SeqCst);
                }
            }
            let count = Arc::new(Count(AtomicUsize::new(0)));
            let parent = Waker::from(Arc::clone(&count));
            let cx = Context::from_waker(&parent);

            let mut slots = Slots::new(100);
            let wakers: Vec<_> = (0..100).map(|slot| parked(&mut slots, slot)).collect();
            assert!(Pin::new(&mut slots).sleep(&cx));
            wakers.iter().for_each(Waker::wake_by_ref);
            assert_eq!(count.0.load(SeqCst), 1);
            assert!(
                !Pin::new(&mut slots).sleep(&cx),
                "what is not collected keeps the stage awake"
            );
            assert_eq!(woken(&mut slots).len(), 100);
            assert!(Pin::new(&mut slots).sleep(&cx));
            wakers[7].wake_by_ref();
            assert_eq!(count.0.load(SeqCst), 2);
        }

        // Wakers may outlive the stage; waking one then has no effect.
        #[test]
        fn wakers_outlive_the_stage() {
            let mut slots = Slots::new(2);
            let waker = parked(&mut slots, 1);
            let other = waker.clone();
            drop(slots);
            other.wake();
            drop(waker);
        }

        // L2: what is in flight is dropped with the table, and by `remove`.
        #[test]
        fn requests_are_dropped() {
            let witness = Arc::new(AtomicWaker::new());
            let mut slots = Slots::new(2);
            let _ = Pin::new(&mut slots).start(0, Parked(Arc::clone(&witness)));
            let _ = Pin::new(&mut slots).start(1, Parked(Arc::clone(&witness)));
            assert_eq!(Arc::strong_count(&witness), 3);
            Pin::new(&mut slots).remove(0);
            assert_eq!(Arc::strong_count(&witness), 2);
            assert_eq!(Pin::new(&mut slots).poll(0), None);
            drop(slots);
            assert_eq!(Arc::strong_count(&witness), 1);
        }
    }
}
