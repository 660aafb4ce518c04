//! A source that comes back from its stage, with the records that the stage has not taken.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};

use futures_core::Stream;

use crate::sync::{Consumer, Producer, RingBuffer};

/// Lends a stream to a stage: the stream for the stage, and its way back.
pub(crate) fn lend<St>(source: St) -> (Lent<St>, Lender<St>) {
    let (back, lender) = RingBuffer::new(1);
    (Lent { source: Some(source), back }, Lender(lender))
}

/// A stream that goes back to its [`Lender`] when it is dropped: see [`lend`](crate::AsyncWaitExt::lend).
pub struct Lent<St> {
    /// `None` only while it is dropped.
    source: Option<St>,
    back: Producer<St>,
}

impl<St: Stream + Unpin> Stream for Lent<St> {
    type Item = St::Item;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<St::Item>> {
        match &mut self.source {
            Some(source) => Pin::new(source).poll_next(cx),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.source.as_ref().map_or((0, Some(0)), Stream::size_hint)
    }
}

/// Nothing in it is pinned: only a source that is `Unpin` is ever polled.
impl<St> Unpin for Lent<St> {}

impl<St> Drop for Lent<St> {
    fn drop(&mut self) {
        if let Some(source) = self.source.take() {
            let pushed = self.back.push(source);
            debug_assert!(pushed.is_ok(), "there is room for one, and there is one");
        }
    }
}

impl<St> fmt::Debug for Lent<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lent(..)")
    }
}

/// Takes a stream back that was lent to a stage: see [`lend`](crate::AsyncWaitExt::lend).
#[must_use = "what the stage has not taken is lost with it"]
pub struct Lender<St>(Consumer<St>);

impl<St> Lender<St> {
    /// The source, with everything that the stage has not taken from it. `None` as long as the stage has it, and after it was taken back.
    ///
    /// The stage has given it back when the stage's stream ends. A stage that is dropped gives it back when the runtime has dropped the
    /// stage's task, which may be a little later.
    pub fn take_back(&mut self) -> Option<St> {
        self.0.pop().ok()
    }
}

impl<St> fmt::Debug for Lender<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lender(..)")
    }
}
