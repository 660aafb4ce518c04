//! Atomics, a waker cell and a ring buffer, for data that threads share. In a build with `--cfg loom` they are loom's, or
//! built from loom's, so that loom can check the code that uses them.

#[cfg(not(loom))]
pub(crate) use self::real::*;

#[cfg(loom)]
pub(crate) use self::model::*;

#[cfg(not(loom))]
mod real {
    pub(crate) use atomic_waker::AtomicWaker;
    use concurrent_queue::ConcurrentQueue;
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};
    pub(crate) use rtrb::{Consumer, Producer, RingBuffer};

    #[inline(always)]
    pub(crate) fn load(word: &AtomicUsize) -> usize {
        word.load(Ordering::SeqCst)
    }

    #[inline(always)]
    pub(crate) fn is_asleep(flag: &AtomicBool) -> bool {
        flag.load(Ordering::SeqCst)
    }

    #[inline(always)]
    pub(crate) fn is_empty<T>(queue: &ConcurrentQueue<T>) -> bool {
        queue.is_empty()
    }
}

#[cfg(loom)]
mod model {
    use alloc::collections::VecDeque;
    use alloc::sync::Arc;

    use concurrent_queue::ConcurrentQueue;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, fence};

    // loom treats a sequentially consistent load as an acquire load, and would report lost wake-ups that
    // cannot happen. It models a read-modify-write in full, so these loads write back the value they read.

    pub(crate) fn load(word: &AtomicUsize) -> usize {
        word.fetch_or(0, Ordering::SeqCst)
    }

    pub(crate) fn is_asleep(flag: &AtomicBool) -> bool {
        flag.fetch_or(false, Ordering::SeqCst)
    }

    // It models a fence in full, too. The queue's own loads are sequentially consistent.
    pub(crate) fn is_empty<T>(queue: &ConcurrentQueue<T>) -> bool {
        fence(Ordering::SeqCst);
        queue.is_empty()
    }

    /// loom's `AtomicWaker` with the methods of the real one.
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self(loom::future::AtomicWaker::new())
        }

        pub(crate) fn register(&self, waker: &core::task::Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn wake(&self) {
            self.0.wake();
        }
    }

    /// A model of `rtrb`'s ring buffer. As there, two counters and a flag order the accesses of the two ends. The items are behind
    /// a lock of the standard library: loom does not see it, so it orders nothing in the model.
    pub(crate) struct RingBuffer<T> {
        items: std::sync::Mutex<VecDeque<T>>,
        capacity: usize,
        pushed: AtomicUsize,
        popped: AtomicUsize,
        is_abandoned: AtomicBool,
    }

    pub(crate) struct Producer<T>(Arc<RingBuffer<T>>);

    pub(crate) struct Consumer<T>(Arc<RingBuffer<T>>);

    impl<T> RingBuffer<T> {
        #[allow(clippy::new_ret_no_self)] // as `rtrb`'s
        pub(crate) fn new(capacity: usize) -> (Producer<T>, Consumer<T>) {
            let ring = Arc::new(Self {
                items: std::sync::Mutex::default(),
                capacity,
                pushed: AtomicUsize::new(0),
                popped: AtomicUsize::new(0),
                is_abandoned: AtomicBool::new(false),
            });
            (Producer(Arc::clone(&ring)), Consumer(ring))
        }

        fn items(&self) -> std::sync::MutexGuard<'_, VecDeque<T>> {
            self.items.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    impl<T> Producer<T> {
        pub(crate) fn is_full(&self) -> bool {
            let pushed = self.0.pushed.load(Ordering::Relaxed);
            pushed - self.0.popped.load(Ordering::Acquire) == self.0.capacity
        }

        pub(crate) fn push(&mut self, item: T) -> Result<(), T> {
            if self.is_full() {
                return Err(item);
            }
            self.0.items().push_back(item);
            let pushed = self.0.pushed.load(Ordering::Relaxed);
            self.0.pushed.store(pushed + 1, Ordering::Release);
            Ok(())
        }

        pub(crate) fn is_abandoned(&self) -> bool {
            self.0.is_abandoned.load(Ordering::Acquire)
        }
    }

    impl<T> Consumer<T> {
        pub(crate) fn pop(&mut self) -> Result<T, ()> {
            let popped = self.0.popped.load(Ordering::Relaxed);
            if self.0.pushed.load(Ordering::Acquire) == popped {
                return Err(());
            }
            let item = self.0.items().pop_front().ok_or(())?;
            self.0.popped.store(popped + 1, Ordering::Release);
            Ok(item)
        }

        #[cfg(test)]
        pub(crate) fn slots(&self) -> usize {
            let popped = self.0.popped.load(Ordering::Relaxed);
            self.0.pushed.load(Ordering::Acquire) - popped
        }

        pub(crate) fn is_abandoned(&self) -> bool {
            self.0.is_abandoned.load(Ordering::Acquire)
        }
    }

    impl<T> Drop for Producer<T> {
        fn drop(&mut self) {
            self.0.is_abandoned.store(true, Ordering::Release);
        }
    }

    impl<T> Drop for Consumer<T> {
        fn drop(&mut self) {
            self.0.is_abandoned.store(true, Ordering::Release);
        }
    }
}

/// Runs a test in all interleavings with at most so many preemptions.
#[cfg(all(test, loom))]
pub(crate) fn model(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}
