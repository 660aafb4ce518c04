//! Records that bypass the slots, because their requests are ready as soon as they are
//! started, and nothing in flight has to leave before them. They count in everything in which other records count.

#![cfg(feature = "alloc")]

#[path = "../../tests/common/still.rs"]
mod still;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{AsyncWait, AsyncWaitExt, AttemptInfo, FixedDelay, RetryBudget, with_attempt};

use crate::still::Still;

/// A source that counts down to 1.
struct Down(u32);

impl Stream for Down {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        let number = (self.0 > 0).then_some(self.0);
        self.0 = self.0.saturating_sub(1);
        Poll::Ready(number)
    }
}

/// Collects all outputs.
fn all<St: Stream>(mut stage: Pin<&mut St>) -> Vec<St::Item> {
    let mut items = Vec::new();
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        match stage.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => items.push(item),
            Poll::Ready(None) => return items,
            Poll::Pending => {}
        }
    }
    panic!("it does not end");
}

#[test] // M1
fn bypassing_records_count_in_all_numbers() {
    let ask = |number: &u32| ready(if number.is_multiple_of(10) { Err(()) } else { Ok(*number) });
    let stage = Down(100).async_wait(AsyncWait::ordered(8), ask).in_place(Still);
    let mut stage = pin!(stage.expect("it makes sense"));
    assert_eq!(all(stage.as_mut()).len(), 100);
    let metrics = stage.metrics();
    let counts = [metrics.records_in, metrics.emitted, metrics.failed, metrics.attempts];
    assert_eq!(counts, [100, 100, 10, 100]);
    assert_eq!((metrics.call_time.count(), metrics.ordering_delay.count()), (100, 100));
}

#[test] // R1, R7: bypassing successes fill the retry budget, and the strategy is called once for each attempt
fn bypassing_successes_fill_the_retry_budget() {
    for (successes, is_retried) in [(1, false), (2, true)] {
        let asked = Cell::new(0);
        let (first, last) = (successes + 2, 1);
        let ask = |number: &u32, attempt: AttemptInfo| {
            let fails = [first, last].contains(number) && attempt.number == 1;
            ready(if fails { Err(()) } else { Ok(()) })
        };
        let retry = FixedDelay::new(Duration::ZERO).when_error(|(): &()| {
            asked.set(asked.get() + 1);
            true
        });
        // The bucket has one token, which the first retry takes. Each success adds a third of a token, also that of
        // the retry.
        let policy = AsyncWait::unordered(1).retry(retry).retry_budget(RetryBudget::new(1, 0.34));
        let stage = Down(first).async_wait_with(policy, with_attempt(ask)).in_place(Still);
        let outcomes = all(pin!(stage.expect("it makes sense")));
        let attempts: Vec<u32> = outcomes.iter().map(|outcome| outcome.attempts).collect();
        assert_eq!(attempts[0], 2);
        assert_eq!(attempts.last(), Some(if is_retried { &2 } else { &1 }), "{successes}");
        assert_eq!(outcomes.last().map(|outcome| outcome.result.is_ok()), Some(is_retried));
        assert_eq!(asked.get(), 2);
    }
}

/// A source that yields: it wakes itself at every poll and has no record.
struct GivesWay<'t>(&'t Cell<u32>);

impl Stream for GivesWay<'_> {
    type Item = u32;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        self.0.set(self.0.get() + 1);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[test] // L5: also with stages over stages, each of which could poll its source again and again
fn a_source_that_yields_is_not_polled_again_at_once() {
    let polls = Cell::new(0);
    let ask = |number: &u32| ready(Ok::<u32, ()>(*number));
    let policy = || AsyncWait::ordered(64);
    let values = |outcome: inflight_core::Outcome<u32, u32, ()>| outcome.input;
    let inner = GivesWay(&polls).async_wait(policy(), ask).in_place(Still).expect("a stage");
    let middle = Mapped(Box::pin(inner), values).async_wait(policy(), ask).in_place(Still);
    let outer = Mapped(Box::pin(middle.expect("a stage")), values).async_wait(policy(), ask);
    let mut stage = pin!(outer.in_place(Still).expect("a stage"));
    for _ in 0..20 {
        let before = polls.get();
        assert!(stage.as_mut().poll_next(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(polls.get() - before <= 2, "{} polls in one", polls.get() - before);
    }
    assert!(polls.get() >= 10, "it is asked again");
}

struct Mapped<St, F>(Pin<Box<St>>, F);

impl<St: Stream, T, F: FnMut(St::Item) -> T + Unpin> Stream for Mapped<St, F> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        this.0.as_mut().poll_next(cx).map(|item| item.map(&mut this.1))
    }
}

#[test] // O1, C2: the records that `run` has taken in come first
fn no_record_bypasses_those_that_run_has_taken_in() {
    let stage = Down(20)
        .async_wait(AsyncWait::ordered(4), |number: &u32| {
            let number = *number;
            async move {
                if number == 19 {
                    pending::<()>().await;
                }
                Ok::<u32, ()>(number)
            }
        })
        .in_place(Still);
    let mut run = pin!(stage.expect("a stage").run(|_| ready(())));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(run.as_mut().stage().poll_next(cx).is_pending(), "it opens");
    let first = run.as_mut().stage().poll_next(cx).map(|outcome| outcome.map(|it| it.input));
    assert_eq!(first, Poll::Ready(Some(20)));
    assert!(std::future::Future::poll(run.as_mut(), cx).is_pending());
    for _ in 0..3 {
        assert!(run.as_mut().stage().poll_next(cx).is_pending(), "19 is not through");
    }
}

#[test] // L6: the request is polled once more if it was woken, and not otherwise
fn a_request_that_wakes_itself_once_bypasses_the_slots() {
    let polls = Cell::new(0);
    let ask = |number: &u32| {
        let (number, polls) = (*number, &polls);
        let mut is_first = true;
        poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            if std::mem::take(&mut is_first) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok::<u32, ()>(number))
        })
    };
    let stage = Down(100).async_wait(AsyncWait::ordered(8), ask).in_place(Still);
    let mut stage = pin!(stage.expect("it makes sense"));
    let outcomes = all(stage.as_mut());
    assert!(outcomes.iter().map(|outcome| outcome.input).eq((1..=100).rev()));
    assert_eq!(polls.get(), 200);
    let waits = |_: &u32| {
        polls.set(polls.get() + 1);
        let mut polled = 0;
        poll_fn(move |_| {
            polled += 1;
            assert_eq!(polled, 1, "nothing has woken it");
            Poll::<Result<u32, ()>>::Pending
        })
    };
    let mut stage =
        Box::pin(Down(100).async_wait(AsyncWait::ordered(8), waits).in_place(Still).unwrap());
    for _ in 0..20 {
        assert!(stage.as_mut().poll_next(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(polls.get(), 208, "the window is full");
}

/// Asks a cache that misses every tenth number. A miss is answered when the test says so.
#[derive(Default)]
struct Cache {
    asked: Cell<u32>,
    answered: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Cache {
    fn ask(&self, number: u32) -> impl Future<Output = Result<u32, ()>> {
        self.asked.set(self.asked.get() + 1);
        poll_fn(move |cx| {
            if number.is_multiple_of(10) && !self.answered.get() {
                self.waiting.borrow_mut().push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(number))
        })
    }

    fn answer(&self) {
        self.answered.set(true);
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}

#[test] // C2, O2
fn a_hit_bypasses_the_misses_in_flight() {
    let cache = Cache::default();
    let ask = |number: &u32| cache.ask(*number);
    let stage = Down(100).async_wait(AsyncWait::unordered(8), ask).in_place(Still);
    let mut stage = pin!(stage.expect("it makes sense"));
    let cx = &mut Context::from_waker(Waker::noop());
    let mut take = || loop {
        match stage.as_mut().poll_next(cx) {
            Poll::Ready(outcome) => return outcome.map(|outcome| outcome.input),
            // A turn without an output ends the poll.
            Poll::Pending => assert!(cache.waiting.borrow().len() < 8, "every hit comes out"),
        }
    };
    for hits in 1..=63 {
        let number = take().expect("a hit");
        assert!(!number.is_multiple_of(10));
        let waiting = cache.waiting.borrow().len() as u32;
        assert_eq!(cache.asked.get(), hits + waiting, "no outcome waits in a slot");
        assert_eq!(number, 101 - cache.asked.get());
    }
    // What completes goes before hits that come later.
    cache.answer();
    let next: Vec<_> = std::iter::from_fn(&mut take).take(9).collect();
    let misses = next.iter().filter(|number| **number >= 40 && number.is_multiple_of(10));
    assert_eq!(misses.count(), 7, "{next:?}");
    assert!(std::iter::from_fn(take).count() == 28, "none is lost");
}

#[test] // L1: a window is filled at once if its requests wait
fn misses_in_a_row_are_asked_together() {
    let cache = Cache::default();
    let ask = |number: &u32| cache.ask(*number * 10);
    let stage = Down(100).async_wait(AsyncWait::unordered(64), ask).in_place(Still);
    let mut stage = pin!(stage.expect("it makes sense"));
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..3 {
        assert!(stage.as_mut().poll_next(cx).is_pending());
    }
    assert_eq!(cache.asked.get(), 64);
}
