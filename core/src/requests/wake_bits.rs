//! How a wake finds its way, without locks.
//!
//! A wake sets the lane's bit in its block's word, and the block's bit in the summary unless it is set;
//! the stage collects the bits, a word at a time. So a wake polls that request and no other,
//! and however many wakes come while the stage is busy, its own task is woken at most once.
//!
//! All orderings are sequentially consistent: going to sleep and being woken each write one thing and then
//! read the other's, and neither may read what was there before both. Checked with loom, below.

use alloc::boxed::Box;
use core::task::Waker;

use crate::sync::Ordering::SeqCst;
use crate::sync::{AtomicBool, AtomicUsize, AtomicWaker, is_asleep, load};

/// Lanes of a block: one machine word of bits.
pub(crate) const LANES: usize = usize::BITS as usize;

/// The bits of one block.
pub(crate) struct WakeWord {
    woken: AtomicUsize,
    /// The block's number, for its bit in the summary.
    number: usize,
}

impl WakeWord {
    pub(crate) fn new(number: usize) -> Self {
        Self { woken: AtomicUsize::new(0), number }
    }

    /// Wakes a lane.
    pub(crate) fn wake(&self, lane: usize, hub: &WakeSet) {
        let bit = 1 << lane;
        if self.woken.fetch_or(bit, SeqCst) & bit != 0 {
            return; // whoever set it first sees to the rest, and it has not been collected yet
        }
        let (summary, bit) = (&hub.summary[self.number / LANES], 1 << (self.number % LANES));
        // Whoever finds the block's bit in the summary collects its word after that, and so this lane.
        if load(summary) & bit == 0 {
            summary.fetch_or(bit, SeqCst);
        }
        if is_asleep(&hub.asleep) && hub.asleep.swap(false, SeqCst) {
            hub.parent.wake();
        }
    }

    /// Whether a lane has been woken since it was last collected.
    #[inline(always)]
    pub(crate) fn is_woken(&self, lane: usize) -> bool {
        load(&self.woken) & (1 << lane) != 0
    }

    /// Collects the bit of one lane. What the summary tells of the word may be out of date then.
    pub(crate) fn take_lane(&self, lane: usize) -> bool {
        self.is_woken(lane) && self.woken.fetch_and(!(1 << lane), SeqCst) & (1 << lane) != 0
    }

    /// Collects the bits.
    pub(crate) fn take(&self) -> usize {
        self.woken.swap(0, SeqCst)
    }
}

/// What all blocks of a stage share.
pub(crate) struct WakeSet {
    /// A bit for each block that has a woken lane.
    summary: Box<[AtomicUsize]>,
    /// Who polls the stage.
    parent: AtomicWaker,
    /// Whether the parent must be woken.
    asleep: AtomicBool,
}

impl WakeSet {
    /// For that many blocks.
    pub(crate) fn new(blocks: usize) -> Self {
        let summary = (0..blocks.div_ceil(LANES)).map(|_| AtomicUsize::new(0)).collect();
        Self { summary, parent: AtomicWaker::new(), asleep: AtomicBool::new(false) }
    }

    /// Asks for `waker` to be woken at the next wake. Returns `false` when there has been one already, in the
    /// words that are in use: then there is no sleep.
    fn sleep(&self, waker: &Waker, words: usize) -> bool {
        self.parent.register(waker);
        // Swapped, not stored: a store of this order costs the same, and loom would not order it.
        self.asleep.swap(true, SeqCst);
        // A wake that came before the line above did not see it, but left its bit in the summary.
        let woken = self.summary.iter().take(words).any(|word| load(word) != 0);
        if woken {
            self.asleep.swap(false, SeqCst);
        }
        !woken
    }
}

/// Goes over the summary, a *pass* at a time, and holds the bits that were collected and not yet handed
/// out: blocks of the summary word `word`, and lanes of the block `block`.
///
/// In a pass every word that was in use when it began is collected, and none more than twice. So a lane that is woken again
/// and again has its turn like all others, and what was woken before a pass began is handed out before it ends.
pub(crate) struct Drain {
    /// Words that are in use.
    words: usize,
    /// Of these, still to be collected in this pass.
    left: usize,
    word: usize,
    blocks: usize,
    block: usize,
    lanes: usize,
}

impl Drain {
    /// For the first so many blocks of a hub.
    pub(crate) fn new(blocks: usize) -> Self {
        let words = blocks.div_ceil(LANES);
        Self { words, left: words, word: 0, blocks: 0, block: 0, lanes: 0 }
    }

    /// From now on for so many blocks, which are not fewer than before.
    pub(crate) fn extend(&mut self, blocks: usize) {
        let more = blocks.div_ceil(LANES) - self.words;
        self.words += more;
        self.left += more; // so what was still to be collected in this pass is
    }

    /// Goes to sleep (see [`WakeSet::sleep`]), unless something is still to be handed out.
    pub(crate) fn sleep(&self, hub: &WakeSet, waker: &Waker) -> bool {
        self.lanes == 0 && self.blocks == 0 && hub.sleep(waker, self.words)
    }

    /// Takes a lane that was collected and not yet handed out, if it is this one.
    pub(crate) fn take_lane(&mut self, block: usize, lane: usize) -> bool {
        let bit = if self.block == block { self.lanes & (1 << lane) } else { 0 };
        self.lanes -= bit;
        bit != 0
    }

    /// Whether the next call begins a pass. One that goes on has left behind what was woken since it came by.
    pub(crate) fn is_between_passes(&self) -> bool {
        self.left == self.words
    }

    /// Begins the next pass with the word of this block. Not in a pass: that would leave out others.
    #[inline(always)]
    pub(crate) fn begin_at(&mut self, block: usize) {
        debug_assert!(self.is_between_passes());
        self.word = (block / LANES).checked_sub(1).unwrap_or(self.words - 1);
    }

    /// A block and a lane that have been woken; `take` collects the bits of a block. `None` ends a pass, and
    /// the next call begins another one.
    #[inline(always)]
    pub(crate) fn next(
        &mut self,
        hub: &WakeSet,
        mut take: impl FnMut(usize) -> usize,
    ) -> Option<(usize, usize)> {
        while self.lanes == 0 {
            self.block = self.next_block(hub)?;
            self.lanes = take(self.block);
        }
        Some((self.block, take_lowest(&mut self.lanes)))
    }

    #[inline]
    fn next_block(&mut self, hub: &WakeSet) -> Option<usize> {
        let words = self.words;
        while self.blocks == 0 {
            let Some(left) = self.left.checked_sub(1) else {
                self.left = words;
                return None;
            };
            self.left = left;
            self.word = if self.word + 1 < words { self.word + 1 } else { 0 };
            let word = &hub.summary[self.word];
            if load(word) != 0 {
                self.blocks = word.swap(0, SeqCst);
            }
        }
        Some(self.word * LANES + take_lowest(&mut self.blocks))
    }
}

/// Takes out the lowest bit that is set, and returns its number.
#[inline(always)]
fn take_lowest(bits: &mut usize) -> usize {
    let lowest = bits.trailing_zeros() as usize;
    *bits &= *bits - 1;
    lowest
}

/// `RUSTFLAGS="--cfg loom" cargo test -p inflight-core --features alloc --lib --release loom`
#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    /// All interleavings with at most three preemptions: more find nothing else and take hours.
    fn model(run: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(run);
    }

    struct Shared {
        hub: WakeSet,
        words: [WakeWord; 2],
        /// What each lane's wake announces.
        done: [AtomicUsize; 3],
    }

    /// The lanes of the three wakers: two in one block, one in another.
    const LANE: [(usize, usize); 3] = [(0, 0), (0, 5), (1, 0)];

    fn shared() -> Arc<Shared> {
        Arc::new(Shared {
            hub: WakeSet::new(2),
            words: [WakeWord::new(0), WakeWord::new(1)],
            done: [AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0)],
        })
    }

    fn waker_thread(shared: &Arc<Shared>, which: usize) -> loom::thread::JoinHandle<()> {
        let shared = Arc::clone(shared);
        loom::thread::spawn(move || {
            shared.done[which].store(1, SeqCst);
            let (block, lane) = LANE[which];
            shared.words[block].wake(lane, &shared.hub);
        })
    }

    /// Collects until all of `wakers` have been seen with what they announce, sleeping between. loom reports a deadlock
    /// if a wake-up is lost, or what it announces is not there.
    fn collect_all(shared: &Shared, wakers: &[usize]) {
        let mut collector = Drain::new(2);
        let mut seen = [false; 3];
        loom::future::block_on(core::future::poll_fn(|cx| {
            loop {
                while let Some(woken) =
                    collector.next(&shared.hub, |block| shared.words[block].take())
                {
                    let which = LANE.iter().position(|lane| *lane == woken).unwrap();
                    seen[which] |= shared.done[which].load(SeqCst) == 1;
                }
                if wakers.iter().all(|which| seen[*which]) {
                    return core::task::Poll::Ready(());
                }
                if collector.sleep(&shared.hub, cx.waker()) {
                    return core::task::Poll::Pending;
                }
            }
        }));
    }

    // L6
    #[test]
    fn loom_no_wake_up_is_lost_between_two_lanes_of_a_block() {
        model(|| {
            let shared = shared();
            let threads = [waker_thread(&shared, 0), waker_thread(&shared, 1)];
            collect_all(&shared, &[0, 1]);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    // L6
    #[test]
    fn loom_no_wake_up_is_lost_between_two_blocks() {
        model(|| {
            let shared = shared();
            let threads = [waker_thread(&shared, 1), waker_thread(&shared, 2)];
            collect_all(&shared, &[1, 2]);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    // L6, T6: also by who looks at a wake and leaves it there, or takes it out of turn: what it announces is seen then.
    #[test]
    fn loom_a_wake_that_is_looked_at_stays_until_it_is_taken() {
        model(|| {
            let shared = shared();
            shared.words[0].wake(0, &shared.hub);
            assert!(shared.words[0].is_woken(0) && !shared.words[0].is_woken(5));
            let threads = [waker_thread(&shared, 0), waker_thread(&shared, 1)];
            let is_woken = shared.words[0].is_woken(5);
            let is_done = shared.done[1].load(SeqCst) == 1;
            assert!(is_done || !is_woken);
            let is_taken = shared.words[0].take_lane(5);
            assert!(is_taken || !is_woken);
            assert!(shared.done[1].load(SeqCst) == 1 || !is_taken);
            collect_all(&shared, if is_taken { &[0] } else { &[0, 1] });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    // L6: the same lane woken twice is collected at least once after the first.
    #[test]
    fn loom_a_lane_woken_twice() {
        model(|| {
            let shared = shared();
            let threads = [waker_thread(&shared, 2), waker_thread(&shared, 2)];
            collect_all(&shared, &[2]);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
