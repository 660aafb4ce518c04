//! Requests on the heap. A wake polls the request that it is for, and no other.
//!
//! Requests are kept in blocks of [`LANES`], each with a [`WakerBlock`]: the request in slot `s` has lane
//! `s % LANES` of block `s / LANES`. Blocks are allocated when they are first used, so a large capacity costs
//! little until then. One more block has the stage's own wakers: it is number 0 in the [`WakeSet`], and the
//! blocks of requests follow.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use super::raw::{WakerBlock, pinned_element};
use super::wake_bits::{LANES, WakePass, WakeSet, WakeWord};
use super::{Requests, StageWaker, TURN_BUDGET, WakeEvent, poll_in_place};

/// The stage's own wakers, in the order of their lanes.
const STAGE_WAKERS: [StageWaker; 4] =
    [StageWaker::Source, StageWaker::Timer, StageWaker::Function, StageWaker::Consumer];

/// A table of requests on the heap, at most one in each slot.
#[allow(unreachable_pub, missing_debug_implementations)]
pub struct HeapRequests<F> {
    /// The stage's own wakers.
    stage_wakers: Arc<WakerBlock>,
    blocks: Vec<Block<F>>,
    wake_set: Arc<WakeSet>,
    pass: WakePass,
}

struct Block<F> {
    wakers: Arc<WakerBlock>,
    requests: Pin<Box<[Option<F>; LANES]>>,
}

impl<F> HeapRequests<F> {
    /// A table with room for `capacity` requests, whose blocks are allocated as they are used.
    pub(super) fn new(capacity: usize) -> Self {
        let wake_set = Arc::new(WakeSet::new(1 + capacity.div_ceil(LANES)));
        let stage_wakers = WakerBlock::new(WakeWord::new(0, &wake_set));
        Self { stage_wakers, blocks: Vec::new(), wake_set, pass: WakePass::new(1) }
    }

    /// One of the stage's own wakers.
    pub(crate) fn own_waker(&self, waker: StageWaker) -> Waker {
        self.stage_wakers.with_waker(waker as usize, |cx| cx.waker().clone())
    }

    /// A slot's entry, and the wakers of its block, which is allocated if need be.
    #[inline(always)]
    fn entry_or_grow(&mut self, slot: usize) -> (&Arc<WakerBlock>, Pin<&mut Option<F>>) {
        if self.blocks.len() <= slot / LANES {
            self.grow(slot / LANES);
        }
        let Some(entry) = self.entry(slot) else {
            unreachable!("the table has grown to hold the slot");
        };
        entry
    }

    /// A slot's entry, and the wakers of its block; `None` if the block has never been used.
    #[inline(always)]
    fn entry(&mut self, slot: usize) -> Option<(&Arc<WakerBlock>, Pin<&mut Option<F>>)> {
        let Block { wakers, requests } = self.blocks.get_mut(slot / LANES)?;
        let entry = pinned_element(requests.as_mut(), slot % LANES)?;
        Some((wakers, entry))
    }

    /// Allocates blocks up to and including this one.
    #[cold]
    fn grow(&mut self, block: usize) {
        while self.blocks.len() <= block {
            let requests: Box<[Option<F>]> = (0..LANES).map(|_| None).collect();
            let Ok(requests) = Box::<[Option<F>; LANES]>::try_from(requests) else {
                unreachable!("there is an entry for each lane");
            };
            let word = WakeWord::new(1 + self.blocks.len(), &self.wake_set);
            let wakers = WakerBlock::new(word);
            self.blocks.push(Block { wakers, requests: requests.into() });
        }
        self.pass.extend(1 + self.blocks.len());
    }
}

impl<F: Future> Requests<F> for HeapRequests<F> {
    const TURN_BUDGET: usize = TURN_BUDGET;
    const BETWEEN_TURNS: bool = true;

    #[inline(always)]
    fn begin(self: Pin<&mut Self>, _: &Context<'_>) {}

    #[inline(always)]
    fn start(self: Pin<&mut Self>, slot: usize, request: F) -> Poll<F::Output> {
        let (wakers, mut entry) = self.get_mut().entry_or_grow(slot);
        entry.set(Some(request));
        wakers.with_waker(slot % LANES, |cx| poll_in_place(entry, cx)).unwrap_or(Poll::Pending)
    }

    // The wake's bit is looked at, not taken. So no wake is lost here, and a later wake of this lane finds the bit set and
    // returns at once.
    #[inline(always)]
    fn start_alone(
        self: Pin<&mut Self>,
        slot: usize,
        request: F,
        is_alone: impl FnOnce() -> bool,
    ) -> Poll<F::Output> {
        let (wakers, mut entry) = self.get_mut().entry_or_grow(slot);
        entry.set(Some(request));
        let polled = wakers.with_waker(slot % LANES, |cx| {
            let polled = poll_in_place(entry.as_mut(), cx);
            match polled {
                Some(Poll::Pending) if wakers.word.is_woken(slot % LANES) && is_alone() => {
                    poll_in_place(entry, cx)
                }
                polled => polled,
            }
        });
        polled.unwrap_or(Poll::Pending)
    }

    fn remove(self: Pin<&mut Self>, slot: usize) {
        if let Some((_, mut entry)) = self.get_mut().entry(slot) {
            entry.set(None);
        }
    }

    fn clear(mut self: Pin<&mut Self>) {
        for slot in 0..self.blocks.len() * LANES {
            self.as_mut().remove(slot);
        }
    }

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, slot: usize) -> Option<Poll<F::Output>> {
        let (wakers, entry) = self.get_mut().entry(slot)?;
        wakers.with_waker(slot % LANES, |cx| poll_in_place(entry, cx))
    }

    #[inline(always)]
    fn with_own<T>(&self, waker: StageWaker, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.stage_wakers.with_waker(waker as usize, poll)
    }

    #[inline(always)]
    fn is_between_passes(&self) -> bool {
        self.pass.is_between_passes()
    }

    #[inline(always)]
    fn begin_at(self: Pin<&mut Self>, slot: usize) {
        self.get_mut().pass.begin_at(1 + slot / LANES);
    }

    #[inline(always)]
    fn next_woken(self: Pin<&mut Self>) -> Option<WakeEvent> {
        let Self { stage_wakers, blocks, wake_set, pass } = self.get_mut();
        let (block, lane) = pass.next(wake_set, |block| match block {
            0 => stage_wakers.word.take(),
            block => blocks.get(block - 1).map_or(0, |block| block.wakers.word.take()),
        })?;
        Some(match block {
            0 => WakeEvent::Own(STAGE_WAKERS[lane.min(STAGE_WAKERS.len() - 1)]),
            block => WakeEvent::Request((block - 1) * LANES + lane),
        })
    }

    fn take_woken(mut self: Pin<&mut Self>, slot: usize) -> bool {
        let (block, lane) = (slot / LANES, slot % LANES);
        // The lane may have been woken again after the pass took its bit: both bits are taken.
        let was_in_pass = self.pass.take_lane(1 + block, lane);
        let block = self.blocks.get(block);
        block.is_some_and(|block| block.wakers.word.take_lane(lane)) || was_in_pass
    }

    #[inline(always)]
    fn sleep(self: Pin<&mut Self>, cx: &Context<'_>) -> bool {
        self.pass.sleep(&self.wake_set, cx.waker())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use atomic_waker::AtomicWaker;

    use super::*;

    /// Takes everything that was woken.
    fn woken<F: Future>(requests: &mut HeapRequests<F>) -> Vec<WakeEvent> {
        core::iter::from_fn(|| Pin::new(&mut *requests).next_woken()).collect()
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

    fn parked(requests: &mut HeapRequests<Parked>, slot: usize) -> Waker {
        let cell = Arc::new(AtomicWaker::new());
        let request = Parked(Arc::clone(&cell));
        assert_eq!(Pin::new(requests).start(slot, request), Poll::Pending);
        cell.take().expect("the request has registered its waker")
    }

    // L6: a wake names its request and no other.
    #[test]
    fn a_wake_names_its_request() {
        for capacity in [1, 64, 65, 5000] {
            let mut requests = HeapRequests::new(capacity);
            for slot in [0, capacity / 2, capacity - 1] {
                let waker = parked(&mut requests, slot);
                assert_eq!(woken(&mut requests), []);
                waker.wake_by_ref();
                waker.wake_by_ref();
                assert_eq!(woken(&mut requests), [WakeEvent::Request(slot)]);
                waker.wake();
                assert_eq!(woken(&mut requests), [WakeEvent::Request(slot)]);
            }
        }
    }

    // L6: a wake that `take_woken` has taken is not handed out again.
    #[test]
    fn a_wake_that_was_taken_is_not_handed_out_again() {
        let mut requests = HeapRequests::new(100);
        let wakers: Vec<_> = (0..100).map(|slot| parked(&mut requests, slot)).collect();
        assert!(!Pin::new(&mut requests).take_woken(7));
        wakers.iter().for_each(Waker::wake_by_ref);
        assert_eq!(Pin::new(&mut requests).next_woken(), Some(WakeEvent::Request(0)));
        for slot in [7, 70] {
            assert!(Pin::new(&mut requests).take_woken(slot), "taken by the pass or not");
            assert!(!Pin::new(&mut requests).take_woken(slot));
        }
        assert!(!Pin::new(&mut requests).take_woken(1_000_000), "there is no such block");
        let rest = (1..100).filter(|slot| ![7, 70].contains(slot)).map(WakeEvent::Request);
        assert!(woken(&mut requests).into_iter().eq(rest));
        wakers[7].wake_by_ref();
        assert!(Pin::new(&mut requests).take_woken(7));
        assert_eq!(woken(&mut requests), []);
    }

    // T6: a pass hands out everything that was woken before it began, even if the table grows meanwhile.
    #[test]
    fn a_pass_goes_on_when_the_table_grows() {
        let summary_word = LANES * LANES;
        let mut requests = HeapRequests::new(3 * summary_word);
        for at in [0, summary_word, 2 * summary_word] {
            let wakers: Vec<_> = (at..at + 70).map(|slot| parked(&mut requests, slot)).collect();
            let early: Vec<_> = [0, 69].map(|slot| parked(&mut requests, slot)).into();
            early.into_iter().chain(wakers).for_each(Waker::wake);
            let first = Pin::new(&mut requests).next_woken();
            let _ = parked(&mut requests, (at + summary_word).min(3 * summary_word - 1));
            let mut pass = woken(&mut requests);
            pass.extend(first);
            for slot in (at..at + 70).chain([0, 69]) {
                assert!(pass.contains(&WakeEvent::Request(slot)), "{slot} at {at}: {pass:?}");
            }
        }
    }

    // T6: a pass takes all blocks, wherever it begins.
    #[test]
    fn a_pass_begins_where_it_is_told_to() {
        let summary_word = LANES * LANES;
        let mut requests = HeapRequests::new(4 * summary_word);
        let woken_slots = [0, 1, 2, 3].map(|word| word * summary_word);
        let wakers: Vec<_> = woken_slots.map(|slot| parked(&mut requests, slot)).into();
        for (at, begin) in woken_slots.into_iter().enumerate() {
            assert_eq!(woken(&mut requests), []);
            wakers.iter().for_each(Waker::wake_by_ref);
            Pin::new(&mut requests).begin_at(begin);
            let round = (0..4).map(|step| WakeEvent::Request(woken_slots[(at + step) % 4]));
            assert!(woken(&mut requests).into_iter().eq(round), "from {begin}");
        }
    }

    #[test]
    fn the_stages_own_wakers_are_told_apart() {
        let mut requests = HeapRequests::<Parked>::new(3);
        for waker in STAGE_WAKERS {
            requests.own_waker(waker).wake();
            assert_eq!(woken(&mut requests), [WakeEvent::Own(waker)]);
        }
    }

    // L6: no wake is lost, and only the first one after a sleep wakes the parent.
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

        let mut requests = HeapRequests::new(100);
        let wakers: Vec<_> = (0..100).map(|slot| parked(&mut requests, slot)).collect();
        assert!(Pin::new(&mut requests).sleep(&cx));
        wakers.iter().for_each(Waker::wake_by_ref);
        assert_eq!(count.0.load(SeqCst), 1);
        assert!(
            !Pin::new(&mut requests).sleep(&cx),
            "wakes that were not handed out keep the stage awake"
        );
        assert_eq!(woken(&mut requests).len(), 100);
        assert!(Pin::new(&mut requests).sleep(&cx));
        wakers[7].wake_by_ref();
        assert_eq!(count.0.load(SeqCst), 2);
    }

    // A waker may outlive the stage; then a wake has no effect.
    #[test]
    fn wakers_outlive_the_stage() {
        let mut requests = HeapRequests::new(2);
        let waker = parked(&mut requests, 1);
        let other = waker.clone();
        drop(requests);
        other.wake();
        drop(waker);
    }

    // L2: `remove` drops a request, and the table drops those that are left.
    #[test]
    fn requests_are_dropped() {
        let witness = Arc::new(AtomicWaker::new());
        let mut requests = HeapRequests::new(2);
        let _ = Pin::new(&mut requests).start(0, Parked(Arc::clone(&witness)));
        let _ = Pin::new(&mut requests).start(1, Parked(Arc::clone(&witness)));
        assert_eq!(Arc::strong_count(&witness), 3);
        Pin::new(&mut requests).remove(0);
        assert_eq!(Arc::strong_count(&witness), 2);
        assert_eq!(Pin::new(&mut requests).poll(0), None);
        drop(requests);
        assert_eq!(Arc::strong_count(&witness), 1);
    }
}
