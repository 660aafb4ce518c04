//! A request that wakes itself whenever it is polled, as one that yields does: everything else has its
//! turn all the same (L5, T3).

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, Failure, Instant, NoRuntime, Outcome, Runtime, Timer,
};

/// A clock that is moved by hand.
#[derive(Clone, Default)]
struct ByHand(Rc<Hand>);

#[derive(Default)]
struct Hand {
    now: Cell<i64>,
    timer: Cell<Option<Waker>>,
}

impl ByHand {
    fn now(&self) -> i64 {
        self.0.now.get()
    }

    /// Wakes the timer, whatever it is armed for.
    fn set(&self, now: i64) {
        self.0.now.set(now);
        self.0.timer.take().into_iter().for_each(Waker::wake);
    }
}

struct TimerByHand {
    clock: ByHand,
    armed: Option<Instant>,
}

impl Runtime for ByHand {
    type Timer = TimerByHand;

    fn timer(&self) -> Result<TimerByHand, NoRuntime> {
        Ok(TimerByHand { clock: self.clone(), armed: None })
    }
}

impl Timer for TimerByHand {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.now())
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        self.armed = at;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.clock.0.timer.set(Some(cx.waker().clone()));
        let now = self.now();
        match self.armed.take_if(|at| *at <= now) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
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

#[test] // T6: at whatever request the budget of a busy turn ends
fn a_request_that_is_ready_is_not_late_beside_a_busy_one() {
    for polls in 1..20 {
        let clock = ByHand::default();
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
        clock.set(20);
        let done = (0..20).find_map(|_| match stage.as_mut().poll_next(cx) {
            Poll::Ready(Some(done)) if done.input == 2 => Some(done.result),
            _ => None,
        });
        assert_eq!(done, Some(Ok(7)), "after {polls} polls");
    }
}

#[test] // T1, T6: whatever else is woken all the time, what is due is judged soon, and polled before if it was woken
fn what_is_due_is_judged_soon_beside_more_busy_ones_than_a_turn_polls() {
    const WAITS: u32 = 150;
    // Wherever the stage is in going round them when the answer comes.
    for (polls, is_ready) in (0..24).flat_map(|polls| [(polls, false), (polls, true)]) {
        let clock = ByHand::default();
        let policy = AsyncWait::unordered(300).timeout(Duration::from_nanos(10));
        let (answer, waker) = (Cell::new(None), Cell::new(None));
        let ask = |number: &u32| {
            let (number, answer, waker) = (*number, &answer, &waker);
            if number == WAITS {
                clock.set(5); // those that come later are not due with it
            }
            async move {
                if number != WAITS {
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
        numbers.0.open();
        let stage = numbers.clone().async_wait(policy, ask).in_place(clock.clone());
        let mut stage = Box::pin(stage.unwrap());
        let cx = &mut Context::from_waker(Waker::noop());
        while numbers.0.last.get() < 300 {
            assert!(stage.as_mut().poll_next(cx).is_pending());
        }
        for _ in 0..polls {
            assert!(stage.as_mut().poll_next(cx).is_pending());
        }
        if is_ready {
            answer.set(Some(7));
            waker.take().into_iter().for_each(Waker::wake);
        }
        clock.set(12);
        let mut left = 2 * WAITS; // an outcome of each that is due, and some polls until they are judged
        let result = loop {
            left = left.checked_sub(1).expect("it is judged");
            match stage.as_mut().poll_next(cx) {
                Poll::Ready(Some(done)) if done.input == WAITS => break done.result,
                Poll::Ready(Some(done)) => assert_eq!(done.result, Err(Failure::TimedOut)),
                _ => {}
            }
        };
        let expected = if is_ready { Ok(7) } else { Err(Failure::TimedOut) };
        assert_eq!(result, expected, "after {polls} polls");
    }
}

#[test] // T6: one that was not woken, but would be by another one that was, and that a turn does not come to
fn what_waits_for_one_that_is_ready_is_not_late() {
    let clock = ByHand::default();
    let policy = AsyncWait::unordered(300).timeout(Duration::from_nanos(10));
    let (is_there, is_led) = (Cell::new(false), Cell::new(false));
    let (wakers, follower) = (RefCell::new(Vec::new()), Cell::new(None::<Waker>));
    let ask = |number: &u32| {
        let (number, is_there, is_led) = (*number, &is_there, &is_led);
        let (wakers, follower) = (&wakers, &follower);
        poll_fn(move |cx| {
            match number {
                1 if !is_led.get() => follower.set(Some(cx.waker().clone())),
                2.. if !is_there.get() => wakers.borrow_mut().push(cx.waker().clone()),
                _ => {
                    if number == 300 {
                        is_led.set(true);
                        follower.take().into_iter().for_each(Waker::wake);
                    }
                    return Poll::Ready(Ok::<u32, ()>(number));
                }
            }
            Poll::Pending
        })
    };
    let numbers = Numbers::default();
    let stage = numbers.clone().async_wait(policy, ask).in_place(clock.clone());
    let mut stage = Box::pin(stage.unwrap());
    let cx = &mut Context::from_waker(Waker::noop());
    while numbers.0.last.get() < 300 {
        assert!(stage.as_mut().poll_next(cx).is_pending());
        clock.set(5); // so the first is due alone
        numbers.0.open();
    }
    is_there.set(true);
    wakers.take().into_iter().for_each(Waker::wake);
    clock.set(12);
    for _ in 0..1000 {
        let Poll::Ready(Some(done)) = stage.as_mut().poll_next(cx) else { continue };
        assert_eq!(done.result, Ok(done.input));
        if done.input == 1 {
            return;
        }
    }
    panic!("the first has no outcome");
}

#[test] // no rule, but what the others wait for: wherever in the window that is
fn of_all_that_is_woken_at_once_what_leaves_next_is_polled_soon() {
    const WINDOW: u32 = 10_000;
    for first in [1, 1_001, 5_001, 9_001] {
        let (answered, polled) = (Cell::new(0), Cell::new(0));
        let wakers = RefCell::new(Vec::new());
        let wake_all = || wakers.take().into_iter().for_each(Waker::wake);
        let ask = |number: &u32| {
            let (number, answered, polled, wakers) = (*number, &answered, &polled, &wakers);
            poll_fn(move |cx| {
                polled.set(polled.get() + 1);
                if number <= answered.get() {
                    return Poll::Ready(Ok::<u32, ()>(number));
                }
                wakers.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            })
        };
        let numbers = Numbers::default();
        numbers.0.open();
        let policy = AsyncWait::ordered(WINDOW as usize);
        let stage = numbers.clone().async_wait(policy, ask).in_place(ByHand::default());
        let mut stage = Box::pin(stage.unwrap());
        let cx = &mut Context::from_waker(Waker::noop());
        while numbers.0.last.get() < WINDOW {
            assert!(stage.as_mut().poll_next(cx).is_pending());
        }
        answered.set(first - 1);
        wake_all();
        while polled.replace(0) > 0 || numbers.0.last.get() < WINDOW + first - 1 {
            let _ = stage.as_mut().poll_next(cx);
        }

        answered.set(u32::MAX);
        wake_all();
        let done = loop {
            if let Poll::Ready(done) = stage.as_mut().poll_next(cx) {
                break done.unwrap();
            }
        };
        assert_eq!(done.input, first);
        assert!(polled.get() < WINDOW / 2, "{} were polled before {first}", polled.get());
    }
}

#[test]
fn a_busy_request_does_not_starve_the_others() {
    let clock = ByHand::default();
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
    assert_eq!(invoked.get(), 2, "the source is polled");
    let mut timed_out = Vec::new();
    for _ in 0..20 {
        clock.set(clock.now() + 10);
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
