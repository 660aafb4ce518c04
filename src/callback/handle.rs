//! The handle that a client completes.

use core::fmt;

use inflight_core::AttemptInfo;

use super::cell::{Cell, Lateness, TooLate};

/// A place for the state that one attempt's handles and its future share.
#[doc(hidden)]
#[allow(unreachable_pub, missing_docs)]
pub trait Place<T>: Clone + Unpin {
    /// Runs `with` on the state; `None` if the place is another attempt's by now.
    fn with<R>(&self, with: impl FnOnce(&mut Cell<T>) -> R) -> Option<R>;

    /// Notes that the future is gone.
    fn close(&self);
}

/// Completes an attempt: a [`TableHandle`](super::TableHandle) or, with the feature `std`, a `CompletionHandle`.
///
/// Any thread may complete it; an interrupt may complete a `TableHandle`. Clones complete the same attempt, and the first
/// result counts. If all clones are dropped without a result, the attempt fails with
/// [`CallbackError::Dropped`](super::CallbackError::Dropped).
///
/// ```
/// use inflight::callback::{CompletionHandle, Lateness, with_callback};
/// use inflight::{AsyncFunction, AttemptInfo};
///
/// let mut kept = None;
/// let mut function = with_callback(|_: &u32, handle: CompletionHandle<u32, ()>| {
///     kept = Some(handle);
/// });
/// let attempt = AttemptInfo { number: 1, retry: 0, request_id: 7, time_left: None };
/// let waiting = function.invoke(&1, attempt);
/// drop(function);
/// let handle = kept.expect("the function was called");
/// assert_eq!(handle.attempt().request_id, 7);
/// assert_eq!(handle.complete(Ok(5)), Ok(()));
/// assert_eq!(handle.complete(Ok(6)).unwrap_err().reason, Lateness::AlreadyCompleted);
/// # drop(waiting);
/// ```
pub struct Handle<Out, E, P: Place<Result<Out, E>>> {
    place: P,
    attempt: AttemptInfo,
    result: core::marker::PhantomData<fn(Result<Out, E>)>,
}

impl<Out, E, P: Place<Result<Out, E>>> Handle<Out, E, P> {
    pub(crate) fn new(place: P, attempt: AttemptInfo) -> Self {
        Self { place, attempt, result: core::marker::PhantomData }
    }

    /// The attempt that it completes.
    pub fn attempt(&self) -> AttemptInfo {
        self.attempt
    }

    /// Completes the attempt. It holds a lock for a moment, and wakes the stage after that.
    ///
    /// # Errors
    ///
    /// [`TooLate`] hands the result back when the attempt has been completed before, or is over.
    pub fn complete(&self, result: Result<Out, E>) -> Result<(), TooLate<Result<Out, E>>> {
        let mut result = Some(result);
        let completed = self.place.with(|cell| result.take().map(|result| cell.complete(result)));
        match (completed.flatten(), result) {
            (Some(Ok(waker)), _) => {
                waker.into_iter().for_each(core::task::Waker::wake);
                Ok(())
            }
            (Some(Err(late)), _) => Err(late),
            (None, Some(result)) => Err(TooLate { result, reason: Lateness::NobodyWaits }),
            (None, None) => unreachable!("a result is taken only to be handed over"),
        }
    }

    /// Whether the attempt still waits for a result. If not, the client may stop working on it.
    pub fn is_wanted(&self) -> bool {
        self.place.with(|cell| cell.is_waiting()).unwrap_or(false)
    }
}

impl<Out, E, P: Place<Result<Out, E>>> Clone for Handle<Out, E, P> {
    fn clone(&self) -> Self {
        self.place.with(Cell::add_handle);
        Self::new(self.place.clone(), self.attempt)
    }
}

impl<Out, E, P: Place<Result<Out, E>>> Drop for Handle<Out, E, P> {
    fn drop(&mut self) {
        let waker = self.place.with(Cell::remove_handle).flatten();
        waker.into_iter().for_each(core::task::Waker::wake);
    }
}

impl<Out, E, P: Place<Result<Out, E>>> fmt::Debug for Handle<Out, E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut handle = f.debug_struct("Handle");
        handle.field("attempt", &self.attempt).field("is_wanted", &self.is_wanted()).finish()
    }
}
