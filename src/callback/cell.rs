//! The state that an attempt's handles and its future share: the first result counts, later ones are handed back.

use core::fmt;
use core::task::{Context, Poll, Waker};

/// Why a result came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lateness {
    /// The attempt has been completed before.
    AlreadyCompleted,
    /// The attempt is over: it has timed out, or the stage is gone. Over a [`CompletionTable`](super::CompletionTable)
    /// this also stands for a completed attempt whose result the stage has taken, since its place is free again.
    NobodyWaits,
}

/// A result that came too late; it is handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLate<T> {
    /// The result.
    pub result: T,
    /// The reason.
    pub reason: Lateness,
}

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyCompleted => "the attempt has been completed before",
            Self::NobodyWaits => "the attempt is over",
        })
    }
}

impl<T> fmt::Display for TooLate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<T: fmt::Debug> core::error::Error for TooLate<T> {}

/// The state of one attempt, behind a lock. It runs no foreign code but the waker's `clone`, so that the lock may be a
/// critical section, which keeps interrupts off.
#[allow(unreachable_pub, missing_debug_implementations)]
pub struct Cell<T> {
    state: State<T>,
    handles: u32,
}

enum State<T> {
    Waiting(Option<Waker>),
    Completed(T),
    /// The future has the result.
    Taken,
    /// All handles were dropped without a result.
    Dropped,
    /// The future is gone.
    Over,
}

impl<T> Cell<T> {
    /// With one handle.
    pub(crate) const fn new() -> Self {
        Self { state: State::Waiting(None), handles: 1 }
    }

    /// Returns the waker of the future, to be woken outside of the lock.
    pub(crate) fn complete(&mut self, result: T) -> Result<Option<Waker>, TooLate<T>> {
        match &mut self.state {
            State::Waiting(waker) => {
                let waker = waker.take();
                self.state = State::Completed(result);
                Ok(waker)
            }
            State::Completed(_) | State::Taken => {
                Err(TooLate { result, reason: Lateness::AlreadyCompleted })
            }
            State::Dropped | State::Over => Err(TooLate { result, reason: Lateness::NobodyWaits }),
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// Returns the result, or `None` if all handles were dropped without one; and the waker that this poll has
    /// replaced. The caller drops that waker outside of the lock, since handles may be dropped with it.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> (Poll<Option<T>>, Option<Waker>) {
        if let State::Waiting(waker) = &mut self.state {
            let same = waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            let replaced = if same { None } else { waker.replace(cx.waker().clone()) };
            return (Poll::Pending, replaced);
        }
        let result = match core::mem::replace(&mut self.state, State::Taken) {
            State::Completed(result) => Some(result),
            _ => None,
        };
        (Poll::Ready(result), None)
    }

    pub(crate) fn add_handle(&mut self) {
        self.handles += 1;
    }

    /// Returns the waker of the future if this was the last handle, to be woken outside of the lock.
    pub(crate) fn remove_handle(&mut self) -> Option<Waker> {
        self.handles -= 1;
        match &mut self.state {
            State::Waiting(waker) if self.handles == 0 => {
                let waker = waker.take();
                self.state = State::Dropped;
                waker
            }
            _ => None,
        }
    }

    /// Notes that the future is gone. Returns the old state, to be dropped outside of the lock.
    pub(crate) fn close(&mut self) -> impl Sized + use<T> {
        let next = match self.state {
            State::Waiting(_) | State::Dropped | State::Over => State::Over,
            State::Completed(_) | State::Taken => State::Taken,
        };
        core::mem::replace(&mut self.state, next)
    }
}
