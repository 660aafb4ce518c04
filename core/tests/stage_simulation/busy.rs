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

/// Has 1, and from when the gate is open always another one.
#[derive(Clone, Default)]
struct Numbers(Rc<Gate>);

#[derive(Default)]
struct Gate {
    last: Cell<u32>,
    is_open: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Gate {
    fn open(&self) {
        self.is_open.set(true);
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl Stream for Numbers {
    type Item = u32;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        let gate = &self.0;
        if gate.last.get() > 0 && !gate.is_open.get() {
            gate.waker.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        gate.last.set(gate.last.get() + 1);
        Poll::Ready(Some(gate.last.get()))
    }
}

/// Wakes itself whenever it is polled.
async fn busy() {
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    })
    .await;
}

#[test] // T6: whenever it was that the ration of the busy one ended
fn a_request_that_is_ready_is_not_late_beside_a_busy_one() {
    for polls in 1..20 {
        let clock = Still(Rc::default());
        let policy = AsyncWait::unordered(2).timeout(Duration::from_nanos(10));
        let (answer, waker) = (Cell::new(None), Cell::new(None));
        let wait = || {
            poll_fn(|cx: &mut Context<'_>| {
                waker.set(Some(cx.waker().clone()));
                answer.get().map_or(Poll::Pending, |answer| Poll::Ready(Ok::<u32, ()>(answer)))
            })
        };
        let ask = |number: &u32| {
            let number = *number;
            let wait = wait();
            async move {
                if number == 1 {
                    busy().await;
                }
                wait.await
            }
        };
        let numbers = Numbers::default();
        numbers.0.open();
        let stage = numbers.async_wait(policy, ask).in_place(clock.clone());
        let mut stage = Box::pin(stage.unwrap());
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..polls {
            assert!(stage.as_mut().poll_next(cx).is_pending());
        }
        answer.set(Some(7));
        waker.take().into_iter().for_each(Waker::wake);
        clock.0.set(20);
        let done = (0..20).find_map(|_| match stage.as_mut().poll_next(cx) {
            Poll::Ready(Some(done)) if done.input == 2 => Some(done.result),
            _ => None,
        });
        assert_eq!(done, Some(Ok(7)), "after {polls} polls");
    }
}

#[test] // T1, T6: whatever else is woken all the time, what is due is judged at once, and polled before if it was woken
fn what_is_due_is_judged_at_once_beside_more_busy_ones_than_a_turn_polls() {
    for is_ready in [false, true] {
        let clock = Still(Rc::default());
        let policy = AsyncWait::unordered(300).timeout(Duration::from_nanos(10));
        let (answer, waker) = (Cell::new(None), Cell::new(None));
        let ask = |number: &u32| {
            let (number, answer, waker) = (*number, &answer, &waker);
            async move {
                if number > 1 {
                    busy().await;
                }
                poll_fn(|cx| {
                    waker.set(Some(cx.waker().clone()));
                    answer.get().map_or(Poll::Pending, |answer| Poll::Ready(Ok::<u32, ()>(answer)))
                })
                .await
            }
        };
        let numbers = Numbers::default();
        let stage = numbers.clone().async_wait(policy, ask).in_place(clock.clone());
        let mut stage = Box::pin(stage.unwrap());
        let cx = &mut Context::from_waker(Waker::noop());
        while numbers.0.last.get() < 1 {
            assert!(stage.as_mut().poll_next(cx).is_pending());
        }
        clock.0.set(5);
        numbers.0.open();
        while numbers.0.last.get() < 300 {
            assert!(stage.as_mut().poll_next(cx).is_pending());
        }
        clock.0.set(12);
        if is_ready {
            answer.set(Some(7));
            waker.take().into_iter().for_each(Waker::wake);
        }
        let done = stage.as_mut().poll_next(cx).map(|done| done.map(|it| (it.input, it.result)));
        let expected = if is_ready { Ok(7) } else { Err(Failure::TimedOut) };
        assert_eq!(done, Poll::Ready(Some((1, expected))));
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
                busy().await;
            }
            pending::<Result<(), ()>>().await
        }
    };
    let numbers = Numbers::default();
    let stage = numbers.clone().async_wait(policy, ask).in_place(clock.clone());
    let mut stage = Box::pin(stage.unwrap());
    let cx = &mut Context::from_waker(Waker::noop());
    for polls in 0..40 {
        assert!(stage.as_mut().poll_next(cx).is_pending());
        if polls == 20 {
            numbers.0.open();
        }
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
