//! M1: turns that keep their thread longer than 50 ms are counted. They hint at a request that blocks.
#![cfg(feature = "alloc")]

#[path = "late/thread.rs"]
mod thread;

use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_core::Stream;
use inflight_core::{AsyncWait, AsyncWaitExt, Metrics};

use crate::thread::{Millis, Thread};

/// The numbers from 0 to 7.
struct Numbers(u32);

impl Stream for Numbers {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        self.0 += 1;
        Poll::Ready((self.0 <= 8).then_some(self.0 - 1))
    }
}

/// Sleeps, each number for a time of its own; and 2 and 5 compute for so long after it.
async fn ask(thread: Thread, number: u32, computes: Millis) -> Result<(), ()> {
    thread.clone().sleep(10 + 200 * Millis::from(number)).await;
    if matches!(number, 2 | 5) {
        thread.compute(computes);
    }
    Ok(())
}

/// The numbers of a stage at its end.
async fn at_end<S: Stream>(stage: S, thread: Thread, numbers: impl Fn(&S) -> Metrics) -> Metrics {
    let mut stage = pin!(stage);
    while std::future::poll_fn(|cx| stage.as_mut().poll_next(cx)).await.is_some() {
        thread.compute(60); // the consumer's time is not the stage's
    }
    numbers(&stage)
}

#[test] // M1
fn a_request_that_blocks_its_thread_is_seen() {
    for (computes, slow) in [(50, 0), (51, 2)] {
        for (on_task, spawns_requests) in [(true, false), (false, false), (true, true)] {
            let thread = Thread::default();
            let runtime = thread.clone();
            let found = thread.clone().run(async move {
                let asked = runtime.clone();
                let asks = move |number: &u32| ask(asked.clone(), *number, computes);
                let stage = Numbers(0).async_wait(AsyncWait::ordered(8), asks);
                match (on_task, spawns_requests) {
                    (true, false) => {
                        let stage = stage.spawn(runtime.clone()).unwrap();
                        at_end(stage, runtime, |stage| stage.metrics()).await
                    }
                    (false, _) => {
                        let stage = stage.in_place(runtime.clone()).unwrap();
                        at_end(stage, runtime, |stage| stage.metrics()).await
                    }
                    (true, true) => {
                        let stage = stage.spawn_requests(runtime.clone());
                        let stage = stage.spawn(runtime.clone()).unwrap();
                        at_end(stage, runtime, |stage| stage.metrics()).await
                    }
                }
            });
            // On a task of its own a request keeps no turn; and a stage in place does not look at the clock again.
            let expected = if on_task && !spawns_requests { slow } else { 0 };
            assert_eq!(found.slow_turns, expected, "{computes} ms, {on_task}, {spawns_requests}");
        }
    }
}

#[test] // M1: a request that is ready at its first poll takes no part in a turn
fn a_request_that_blocks_at_its_first_poll_is_seen() {
    for (computes, slow) in [(50, 0), (51, 2)] {
        let thread = Thread::default();
        let runtime = thread.clone();
        let found = thread.clone().run(async move {
            let asked = runtime.clone();
            let asks = move |number: &u32| {
                if matches!(number, 2 | 5) {
                    asked.compute(computes);
                }
                std::future::ready(Ok::<(), ()>(()))
            };
            let stage = Numbers(0).async_wait(AsyncWait::ordered(1), asks);
            let stage = stage.spawn(runtime.clone()).unwrap();
            at_end(stage, runtime, |stage| stage.metrics()).await
        });
        assert_eq!(found.slow_turns, slow, "{computes} ms");
    }
}
