//! The wake-up protocol on the heap, without locks.
//!
//! Requests are grouped in blocks, and each block has a [`WakeWord`] with one bit, a *lane*, for each of its
//! wakers. A [`WakeSet`] has a *summary* with one bit for each block. A wake sets its lane's bit, then its
//! block's bit in the summary. The stage takes the bits out, first those of the summary, then those of the
//! blocks ([`WakePass`]). So it polls the requests that were woken and no others, and while it is busy, its
//! own task is woken at most once, however many wakes arrive.
//!
//! All orderings are sequentially consistent. Going to sleep and waking each write one location and then
//! read the one that the other writes; with weaker orderings both could read the old values, and the wake-up would be
//! lost. The loom tests below check the protocol.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::task::Waker;

use crate::sync::Ordering::SeqCst;
use crate::sync::{AtomicBool, AtomicUsize, AtomicWaker, is_asleep, load};

/// Lanes in a block: one machine word of bits.
pub(super) const LANES: usize = usize::BITS as usize;

/// The bits of one block.
pub(super) struct WakeWord {
    /// A bit for each lane that was woken.
    woken: AtomicUsize,
    /// The block's number, for its bit in the summary.
    block: usize,
    set: Arc<WakeSet>,
}

impl WakeWord {
    /// The word of a block, by its number.
    pub(super) fn new(block: usize, set: &Arc<WakeSet>) -> Self {
        Self { woken: AtomicUsize::new(0), block, set: Arc::clone(set) }
    }

    /// Wakes a lane.
    pub(super) fn wake(&self, lane: usize) {
        let set = &*self.set;
        let bit = 1 << lane;
        // The bit may still be set by an earlier wake. Then that wake sets the summary bit, if it has not done
        // so yet, and the stage takes the lane's bit later: it will poll the request after this wake, too.
        if self.woken.fetch_or(bit, SeqCst) & bit != 0 {
            return;
        }
        let (summary, bit) = (&set.summary[self.block / LANES], 1 << (self.block % LANES));
        // The stage takes the summary bit before the block's word. So where the summary bit is still set, the stage
        // will find the lane's bit, and a load is enough: it leaves the cache line shared.
        if load(summary) & bit == 0 {
            summary.fetch_or(bit, SeqCst);
        }
        // Of all wakes that find the stage asleep, the one whose swap returns true wakes the parent.
        if is_asleep(&set.asleep) && set.asleep.swap(false, SeqCst) {
            set.parent.wake();
        }
    }

    /// Whether a lane's bit is set.
    #[inline(always)]
    pub(super) fn is_woken(&self, lane: usize) -> bool {
        load(&self.woken) & (1 << lane) != 0
    }

    /// Takes the bit of one lane, and returns whether it was set. The summary bit stays: so a block whose bit is
    /// set in the summary may have no woken lane.
    pub(super) fn take_lane(&self, lane: usize) -> bool {
        self.is_woken(lane) && self.woken.fetch_and(!(1 << lane), SeqCst) & (1 << lane) != 0
    }

    /// Takes the bits of all lanes.
    pub(super) fn take(&self) -> usize {
        self.woken.swap(0, SeqCst)
    }
}

/// The state that all blocks of a stage share.
pub(super) struct WakeSet {
    /// A bit for each block in which a lane was woken.
    summary: Box<[AtomicUsize]>,
    /// The waker of the task that polls the stage.
    parent: AtomicWaker,
    /// Whether the next wake must wake the parent.
    asleep: AtomicBool,
}

impl WakeSet {
    /// A set for this many blocks.
    pub(super) fn new(blocks: usize) -> Self {
        let summary = (0..blocks.div_ceil(LANES)).map(|_| AtomicUsize::new(0)).collect();
        Self { summary, parent: AtomicWaker::new(), asleep: AtomicBool::new(false) }
    }

    /// Registers `waker` for the next wake. Returns `false` if one of the first `summary_words` words of the summary has a bit
    /// already: then the stage must not sleep.
    fn sleep(&self, waker: &Waker, summary_words: usize) -> bool {
        self.parent.register(waker);
        // A swap costs as much as a store of this ordering, and loom would not order a store.
        self.asleep.swap(true, SeqCst);
        // A wake that read `asleep` before this swap did not wake the parent, but it had set its summary bit
        // before that; so the bit is seen here.
        let woken = self.summary.iter().take(summary_words).any(|word| load(word) != 0);
        if woken {
            self.asleep.swap(false, SeqCst);
        }
        !woken
    }
}

/// Takes the bits out of a wake set, a *pass* after the other. It keeps the bits that it has taken and not yet
/// handed out: blocks of one summary word, and lanes of one block.
///
/// A pass takes every word of the summary that was in use when the pass began, and none more than twice. So
/// everything that was woken before the pass began is handed out before it ends, and a lane that is woken again
/// and again does not starve the others.
pub(super) struct WakePass {
    /// How many words of the summary are in use.
    summary_words: usize,
    /// Of these, how many this pass has still to take.
    summary_left: usize,
    /// The summary word that was taken last.
    summary_word: usize,
    /// Blocks of `summary_word` that are still to be taken.
    blocks: usize,
    /// The block that was taken last.
    block: usize,
    /// Lanes of `block` that are still to be handed out.
    lanes: usize,
}

impl WakePass {
    /// For the first `blocks` blocks of a set.
    pub(super) fn new(blocks: usize) -> Self {
        let words = blocks.div_ceil(LANES);
        Self {
            summary_words: words,
            summary_left: words,
            summary_word: 0,
            blocks: 0,
            block: 0,
            lanes: 0,
        }
    }

    /// From now on there are `blocks` blocks, not fewer than before.
    pub(super) fn extend(&mut self, blocks: usize) {
        let more = blocks.div_ceil(LANES) - self.summary_words;
        self.summary_words += more;
        // The pass goes round from `summary_word`: with more words, those that this pass has not taken yet are
        // still reached, some only behind the new ones.
        self.summary_left += more;
    }

    /// Goes to sleep, as [`WakeSet::sleep`] does, unless there are bits that were taken and not handed out.
    pub(super) fn sleep(&self, set: &WakeSet, waker: &Waker) -> bool {
        self.lanes == 0 && self.blocks == 0 && set.sleep(waker, self.summary_words)
    }

    /// Takes back a lane's bit that was taken from its word and not handed out. Returns whether there was one.
    pub(super) fn take_lane(&mut self, block: usize, lane: usize) -> bool {
        let bit = if self.block == block { self.lanes & (1 << lane) } else { 0 };
        self.lanes -= bit;
        bit != 0
    }

    /// Whether the next call of [`Self::next`] begins a pass.
    pub(super) fn is_between_passes(&self) -> bool {
        self.summary_left == self.summary_words
    }

    /// Begins the next pass at the summary word of a block. Within a pass this would skip words.
    #[inline(always)]
    pub(super) fn begin_at(&mut self, block: usize) {
        debug_assert!(self.is_between_passes());
        // `next_block` goes on behind `summary_word`.
        self.summary_word = (block / LANES).checked_sub(1).unwrap_or(self.summary_words - 1);
    }

    /// The block and the lane of a wake; `take_word` takes the bits of a block's word. `None` ends a pass, and the
    /// next call begins another one.
    #[inline(always)]
    pub(super) fn next(
        &mut self,
        set: &WakeSet,
        mut take_word: impl FnMut(usize) -> usize,
    ) -> Option<(usize, usize)> {
        while self.lanes == 0 {
            self.block = self.next_block(set)?;
            self.lanes = take_word(self.block);
        }
        Some((self.block, take_lowest(&mut self.lanes)))
    }

    #[inline]
    fn next_block(&mut self, set: &WakeSet) -> Option<usize> {
        let words = self.summary_words;
        while self.blocks == 0 {
            let Some(left) = self.summary_left.checked_sub(1) else {
                self.summary_left = words;
                return None;
            };
            self.summary_left = left;
            self.summary_word =
                if self.summary_word + 1 < words { self.summary_word + 1 } else { 0 };
            let word = &set.summary[self.summary_word];
            if load(word) != 0 {
                self.blocks = word.swap(0, SeqCst);
            }
        }
        Some(self.summary_word * LANES + take_lowest(&mut self.blocks))
    }
}

/// Clears the lowest bit that is set and returns its number.
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
        crate::sync::model(3, run);
    }

    struct Shared {
        set: alloc::sync::Arc<WakeSet>,
        words: [WakeWord; 2],
        /// Set by each of the three threads before it wakes its lane.
        done: [AtomicUsize; 3],
    }

    /// The block and the lane that each thread wakes: two lanes in one block, one in another.
    const LANE: [(usize, usize); 3] = [(0, 0), (0, 5), (1, 0)];

    fn shared() -> Arc<Shared> {
        let set = alloc::sync::Arc::new(WakeSet::new(2));
        let words = [WakeWord::new(0, &set), WakeWord::new(1, &set)];
        let done = [AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0)];
        Arc::new(Shared { set, words, done })
    }

    fn waker_thread(shared: &Arc<Shared>, which: usize) -> loom::thread::JoinHandle<()> {
        let shared = Arc::clone(shared);
        loom::thread::spawn(move || {
            shared.done[which].store(1, SeqCst);
            let (block, lane) = LANE[which];
            shared.words[block].wake(lane);
        })
    }

    /// Takes wakes until those of all `threads` have been seen, with `done` set, and sleeps in between. loom reports a
    /// deadlock if a wake-up is lost, or comes before its thread's write to `done`.
    fn take_all(shared: &Shared, threads: &[usize]) {
        let mut pass = WakePass::new(2);
        let mut seen = [false; 3];
        loom::future::block_on(core::future::poll_fn(|cx| {
            loop {
                while let Some(woken) = pass.next(&shared.set, |block| shared.words[block].take()) {
                    let which = LANE.iter().position(|lane| *lane == woken).unwrap();
                    seen[which] |= shared.done[which].load(SeqCst) == 1;
                }
                if threads.iter().all(|which| seen[*which]) {
                    return core::task::Poll::Ready(());
                }
                if pass.sleep(&shared.set, cx.waker()) {
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
            take_all(&shared, &[0, 1]);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    // L6
    #[test]
    fn loom_no_wake_up_is_lost_between_two_blocks() {
        model(|| {
            let shared = shared();
            let threads = [waker_thread(&shared, 1), waker_thread(&shared, 2)];
            take_all(&shared, &[1, 2]);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    // L6, T6: a look at a wake leaves it in place, and after a wake is seen or taken, its thread's earlier writes are seen too.
    #[test]
    fn loom_a_wake_that_is_looked_at_stays_until_it_is_taken() {
        model(|| {
            let shared = shared();
            shared.words[0].wake(0);
            assert!(shared.words[0].is_woken(0) && !shared.words[0].is_woken(5));
            let threads = [waker_thread(&shared, 0), waker_thread(&shared, 1)];
            let is_woken = shared.words[0].is_woken(5);
            let is_done = shared.done[1].load(SeqCst) == 1;
            assert!(is_done || !is_woken);
            let is_taken = shared.words[0].take_lane(5);
            assert!(is_taken || !is_woken);
            assert!(shared.done[1].load(SeqCst) == 1 || !is_taken);
            take_all(&shared, if is_taken { &[0] } else { &[0, 1] });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    // L6: a lane that is woken twice is handed out at least once after the first wake.
    #[test]
    fn loom_a_lane_woken_twice() {
        model(|| {
            let shared = shared();
            let threads = [waker_thread(&shared, 2), waker_thread(&shared, 2)];
            take_all(&shared, &[2]);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
