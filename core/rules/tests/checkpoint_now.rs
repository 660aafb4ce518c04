//! A checkpoint that is asked for is answered, also by a pipeline that has committed everything and cannot close.

#![cfg(feature = "alloc")]

#[path = "../../tests/common/still.rs"]
mod still;

use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use inflight_core::pipeline::{MemorySink, MemorySource, NoCheckpoint, Pipeline};
use inflight_core::{AsyncFunction, AsyncWait, AsyncWaitExt, AttemptInfo, MemoryStore};

use crate::still::Still;

/// Answers at once, and never closes.
struct NeverCloses;

impl AsyncFunction<u32> for NeverCloses {
    type Output = u32;
    type Error = ();
    type Future = Ready<Result<u32, ()>>;

    fn invoke(&mut self, number: &u32, _: AttemptInfo) -> Self::Future {
        ready(Ok(*number))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

// K16
#[test]
fn a_checkpoint_that_is_asked_for_is_answered_while_a_function_does_not_close() {
    let mut sink = MemorySink::new();
    let pipeline = Pipeline::new(MemorySource::new(0..3_u32), &mut sink, MemoryStore::new());
    let handle = pipeline.stop_handle();
    let mut run = pin!(pipeline.run(Still, |numbers, recovery| {
        let stage = numbers.async_wait_with(AsyncWait::ordered(2), NeverCloses);
        stage.checkpointed("numbers", 1).restore(recovery).in_place(Still)
    }));
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..100 {
        assert!(run.as_mut().poll(cx).is_pending(), "the function does not close");
    }
    let asked = pin!(handle.checkpoint_now());
    assert_eq!(asked.poll(cx), Poll::Ready(Err(NoCheckpoint::Ended)));
}
