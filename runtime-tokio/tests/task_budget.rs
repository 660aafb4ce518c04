//! tokio lets a task poll 128 resources, and then ready ones return pending. A stage in place polls some
//! requests outside of a turn, and must not take that for an answer.

use std::future::{poll_fn, ready};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_core::Stream;
use inflight_core::{AsyncWait, AsyncWaitExt};
use inflight_tokio::Tokio;
use tokio::runtime::Builder;
use tokio::task::coop::{has_budget_remaining, poll_proceed};

/// A single record, and the task's budget is used up.
struct Spendthrift(bool);

impl Stream for Spendthrift {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<()>> {
        for _ in 0..128 {
            if let Poll::Ready(permit) = poll_proceed(cx) {
                permit.made_progress();
            }
        }
        Poll::Ready((!std::mem::replace(&mut self.0, true)).then_some(()))
    }
}

#[test] // T6
fn a_request_that_is_ready_passes_whatever_is_left_of_the_budget() {
    let ask = |(): &()| {
        poll_fn(|cx| {
            poll_proceed(cx).map(|permit| {
                permit.made_progress();
                Ok::<_, ()>(7)
            })
        })
    };
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let stage = Spendthrift(false).async_wait(AsyncWait::ordered(4), ask).in_place(Tokio);
        let mut stage = pin!(stage.expect("a stage"));
        let mut polls = 0;
        let first = poll_fn(|cx| {
            polls += 1;
            assert!(polls < 3, "it opens, and then it has an outcome");
            stage.as_mut().poll_next(cx)
        });
        assert_eq!(first.await.map(|outcome| outcome.result), Some(Ok(7)));
        assert!(!has_budget_remaining());
    });
}

/// A stream of numbers that uses the task's budget.
struct Budgeted(u32);

impl Stream for Budgeted {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        poll_proceed(cx).map(|permit| {
            permit.made_progress();
            self.0 += 1;
            Some(self.0)
        })
    }
}

#[test] // L5: a neighbour in the same task that always uses up the budget
fn a_source_is_not_starved_of_the_budget() {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let ask = |number: &u32| ready(Ok::<u32, ()>(*number));
        let stage = Budgeted(0).async_wait(AsyncWait::ordered(16), ask).in_place(Tokio);
        let mut stage = pin!(stage.expect("a stage"));
        let (mut polls, mut outcomes) = (0, 0);
        poll_fn(|cx| {
            while let Poll::Ready(permit) = poll_proceed(cx) {
                permit.made_progress();
            }
            for _ in 0..100 {
                outcomes += u32::from(stage.as_mut().poll_next(cx).is_ready());
            }
            polls += 1;
            if polls == 100 {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        assert!(outcomes > 100, "{outcomes}");
    });
}
