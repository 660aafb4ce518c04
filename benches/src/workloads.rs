//! The requests of the workloads. The payloads are `u64`: the record, the answer and the error.

use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::cells::Asked;
use crate::meter::Answer;
use crate::runtimes::Rt;

/// A kind of request.
pub(crate) trait Workload: Copy + Send + Sync + Unpin + 'static {
    /// The result of a request.
    type Answer: Answer;
    /// A request in flight.
    type Request: Future<Output = Self::Answer> + Send + 'static;

    /// Asks for `value`.
    fn request(self, value: u64) -> Self::Request;
}

/// The error of a request.
pub(crate) type Plain = Result<u64, u64>;

/// Ready at once.
#[derive(Clone, Copy)]
pub(crate) struct ReadyAtOnce;

impl Workload for ReadyAtOnce {
    type Answer = Plain;
    type Request = Ready<Plain>;

    #[inline(always)]
    fn request(self, value: u64) -> Ready<Plain> {
        ready(Ok(value))
    }
}

/// Wakes itself once.
#[derive(Clone, Copy)]
pub(crate) struct PendingOnce;

/// See [`PendingOnce`].
pub(crate) struct Once {
    value: u64,
    polled: bool,
}

impl Workload for PendingOnce {
    type Answer = Plain;
    type Request = Once;

    #[inline(always)]
    fn request(self, value: u64) -> Once {
        Once { value, polled: false }
    }
}

impl Future for Once {
    type Output = Plain;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Plain> {
        if self.polled {
            return Poll::Ready(Ok(self.value));
        }
        self.polled = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Completed by another task, in a given order (see [`crate::cells`]).
#[derive(Clone, Copy)]
pub(crate) struct Elsewhere;

impl Workload for Elsewhere {
    type Answer = Plain;
    type Request = Asked;

    #[inline(always)]
    fn request(self, value: u64) -> Asked {
        Asked::new(value)
    }
}

/// A cache in front of [`Elsewhere`]: it answers most requests at once.
#[derive(Clone, Copy)]
pub(crate) struct BehindCache {
    /// How many of 100 requests wait for the other task.
    pub(crate) misses_of_100: u64,
}

/// See [`BehindCache`].
pub(crate) enum Cached {
    Hit(u64),
    Miss(Asked),
}

impl Workload for BehindCache {
    type Answer = Plain;
    type Request = Cached;

    #[inline(always)]
    fn request(self, value: u64) -> Cached {
        // The misses come at irregular distances, and at the same records for every contender.
        let scattered = value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        match (scattered * 100) >> 32 < self.misses_of_100 {
            true => Cached::Miss(Asked::new(value)),
            false => Cached::Hit(value),
        }
    }
}

impl Future for Cached {
    type Output = Plain;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Plain> {
        match self.get_mut() {
            Self::Hit(value) => Poll::Ready(Ok(*value)),
            Self::Miss(asked) => Pin::new(asked).poll(cx),
        }
    }
}

/// Sleeps for a while on the runtime's timer.
#[derive(Clone, Copy)]
pub(crate) struct Sleeping<R>(pub(crate) PhantomData<R>);

/// The duration of the sleep.
pub(crate) const NAP: Duration = Duration::from_millis(10);

pin_project! {
    /// See [`Sleeping`].
    pub(crate) struct Nap<S> {
        #[pin]
        sleep: S,
        value: u64,
    }
}

impl<R: Rt> Workload for Sleeping<R> {
    type Answer = Plain;
    type Request = Nap<R::Sleep>;

    #[inline(always)]
    fn request(self, value: u64) -> Self::Request {
        Nap { sleep: R::sleep(NAP), value }
    }
}

impl<S: Future> Future for Nap<S> {
    type Output = Plain;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Plain> {
        let this = self.project();
        this.sleep.poll(cx).map(|_| Ok(*this.value))
    }
}

/// The runtime's own timeout around each request, for the peers.
#[derive(Clone, Copy)]
pub(crate) struct Within<R, W>(pub(crate) W, pub(crate) PhantomData<R>);

/// Longer than any sample takes.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

impl<R, W> Workload for Within<R, W>
where
    R: Rt,
    W: Workload<Answer = Plain>,
{
    type Answer = Result<Plain, R::Elapsed>;
    type Request = R::Timeout<W::Request>;

    #[inline(always)]
    fn request(self, value: u64) -> Self::Request {
        R::timeout(TIMEOUT, self.0.request(value))
    }
}

/// Counts how often the requests are polled.
#[derive(Clone, Copy)]
pub(crate) struct Polled<W>(pub(crate) W);

/// Polls of [`Polled`] requests.
pub(crate) static POLLS: AtomicU64 = AtomicU64::new(0);

pin_project! {
    /// See [`Polled`].
    pub(crate) struct CountPolls<F> {
        #[pin]
        request: F,
    }
}

impl<W: Workload> Workload for Polled<W> {
    type Answer = W::Answer;
    type Request = CountPolls<W::Request>;

    #[inline(always)]
    fn request(self, value: u64) -> Self::Request {
        CountPolls { request: self.0.request(value) }
    }
}

impl<F: Future> Future for CountPolls<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        POLLS.fetch_add(1, Relaxed);
        self.project().request.poll(cx)
    }
}
