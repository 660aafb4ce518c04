//! A request that wakes itself whenever it is polled, as one that yields does: everything else has its
//! turn all the same (L5, T3).

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, Failure, Instant, NoRuntime, Outcome, Runtime, Timer,
};

/// A clock that stands still, and so never fires.
#[derive(Clone)]
struct Still(Rc<Cell<i64>>);

impl Runtime for Still {
    type Timer = Self;

    fn timer(&self) -> Result<Self, NoRuntime> {
        Ok(self.clone())
    }
}

impl Timer for Still {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.get())
    }

    fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Always has another one.
struct Numbers(u32);

impl Stream for Numbers {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        self.0 += 1;
        Poll::Ready(Some(self.0))
    }
}

#[test]
fn a_busy_request_does_not_starve_the_others() {
    let clock = Still(Rc::default());
    let policy = AsyncWait::unordered(2).timeout(Duration::from_nanos(10));
    let invoked = Cell::new(0);
    let ask = |number: &u32| {
        let number = *number;
        invoked.set(number);
        async move {
            if number == 1 {
                let busy = poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    Poll::<()>::Pending
                });
                busy.await;
            }
            pending::<Result<(), ()>>().await
        }
    };
    let mut stage = Box::pin(Numbers(0).async_wait(policy, ask).in_place(clock.clone()).unwrap());
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..20 {
        assert!(stage.as_mut().poll_next(cx).is_pending());
    }
    assert_eq!(invoked.get(), 2, "the source has its turn");
    let mut timed_out = Vec::new();
    for _ in 0..20 {
        clock.0.set(clock.0.get() + 10);
        while let Poll::Ready(Some(Outcome { input, result, .. })) = stage.as_mut().poll_next(cx) {
            assert_eq!(result, Err(Failure::TimedOut));
            timed_out.push(input);
        }
        if !timed_out.is_empty() {
            break;
        }
    }
    timed_out.truncate(2);
    timed_out.sort_unstable();
    assert_eq!(timed_out, [1, 2], "its own time ends, and that of the other");
}
