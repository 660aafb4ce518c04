//! Polls futures on the calling thread: to their end, or only so many times.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// A task of the calling thread: knows whether it was woken.
pub(crate) struct Task {
    woken: Arc<Woken>,
    waker: Waker,
}

struct Woken {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Task {
    pub(crate) fn new() -> Self {
        let woken = Arc::new(Woken { thread: thread::current(), is_woken: AtomicBool::new(false) });
        Self { waker: Waker::from(Arc::clone(&woken)), woken }
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// Waits until the task is woken, and forgets that; false if it is not within the time.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while !self.woken.is_woken.swap(false, Ordering::SeqCst) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::park_timeout(left);
        }
        true
    }
}

/// Polls a future up to `polls` times, waiting for its wake-ups in between; `None` if it is not ready by then.
pub(crate) fn poll_times<F: Future>(
    mut future: Pin<&mut F>,
    polls: usize,
    patience: Duration,
) -> Option<F::Output> {
    let task = Task::new();
    for left in (0..polls).rev() {
        if let Poll::Ready(output) = future.as_mut().poll(&mut task.context()) {
            return Some(output);
        }
        if left > 0 {
            task.wait(patience);
        }
    }
    None
}

/// Polls a future up to `polls` times and drops it; `None` if it was not ready by then.
pub(crate) fn drop_after<F: Future>(
    polls: usize,
    patience: Duration,
    future: F,
) -> Option<F::Output> {
    poll_times(pin!(future), polls, patience)
}
