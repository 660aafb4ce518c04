//! Elements beyond the capacity, for the sake of a barrier (K11).

#![cfg(feature = "alloc")]

#[path = "../../tests/common/still.rs"]
mod still;

use std::future::pending;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use futures_lite::stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, Barrier, BarrierSignal, Checkpoint, CheckpointId, Fixed, Instant,
    NoRetry, Operator, PushError, StreamElement, Unkeyed,
};

use crate::still::Still;

#[test] // K11, F4: a storage in place has no room beyond its capacity, and loses nothing.
fn a_storage_in_place_hands_the_element_back() {
    let mut op: Operator<(u32, u32, (), NoRetry, Unkeyed, ()), Fixed<1>> =
        AsyncWait::ordered(1).build_static(NoRetry);
    let now = Instant::ZERO;
    op.push_beyond(now, StreamElement::value(1)).unwrap();
    let refused = op.push_beyond(now, StreamElement::value(2));
    assert_eq!(refused, Err(PushError::Full(StreamElement::value(2))));
    assert_eq!(op.in_flight(), 1);
}

#[test] // K11: the source waits while a stage holds more than its capacity, and no longer than the stage lives.
fn a_stage_that_is_gone_holds_nothing() {
    let mut cx = Context::from_waker(Waker::noop());
    let barrier = StreamElement::Barrier(Barrier::snapshot(Checkpoint::new(CheckpointId(1))));
    let source = stream::iter([StreamElement::value(1), StreamElement::value(2), barrier]);
    let signal = BarrierSignal::new();
    let mut stage = Box::pin(
        source
            .async_wait(AsyncWait::ordered(1), |_: &u32| pending::<Result<u32, ()>>())
            .checkpointed("stage", 1)
            .barriers(&signal)
            .in_place(Still)
            .unwrap(),
    );
    assert!(stage.as_mut().poll_next(&mut cx).is_pending());
    assert!(signal.poll_room(&mut cx).is_ready());
    signal.announce();
    let Poll::Ready(Some(StreamElement::Barrier(_))) = stage.as_mut().poll_next(&mut cx) else {
        panic!("the barrier comes past both records");
    };
    assert!(signal.poll_room(&mut cx).is_pending(), "the second record is beyond the capacity");
    drop(stage);
    assert!(signal.poll_room(&mut cx).is_ready());
}
