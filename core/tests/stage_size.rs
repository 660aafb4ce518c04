//! The memory that a stage in place takes, as docs/bare-metal.md states it.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, Failure, Fixed, FixedDelay, Instant, NoRetry, NoRuntime, Operator,
    Runtime, Timer,
};

/// Bytes a slot, beside the input and the result, and bytes in all, beside the slots: on a machine of this
/// word size.
const SLOT: usize = if usize::BITS == 64 { 200 } else { 184 };
const OPERATOR: usize = if usize::BITS == 64 { 1072 } else { 720 };
const STAGE: usize = if usize::BITS == 64 { 216 } else { 128 };

/// What an operator takes, by the formula.
fn operator<In, Out, E>(capacity: usize) -> usize {
    let values = size_of::<Option<In>>() + size_of::<Option<Result<Out, Failure<E>>>>();
    OPERATOR + capacity * (values.next_multiple_of(8) + SLOT)
}

/// At most what the formula says; and without an allocator, not much less, so that it says something.
#[track_caller]
fn assert_is(found: usize, stated: usize) {
    assert!(found <= stated, "{found} bytes, where {stated} are stated");
    let close = cfg!(feature = "alloc") || found * 10 >= stated * 9;
    assert!(close, "only {found} bytes, where {stated} are stated: state less");
}

#[test]
fn an_operator_takes_what_the_formula_says() {
    assert_is(size_of::<Operator<u32, u32, (), NoRetry, Fixed<1>>>(), operator::<u32, u32, ()>(1));
    assert_is(
        size_of::<Operator<u32, u32, (), NoRetry, Fixed<16>>>(),
        operator::<u32, u32, ()>(16),
    );
    assert_is(
        size_of::<Operator<[u8; 61], u64, u8, NoRetry, Fixed<64>>>(),
        operator::<[u8; 61], u64, u8>(64),
    );
    assert_is(
        size_of::<Operator<u8, [u64; 9], u32, FixedDelay, Fixed<200>>>(),
        operator::<u8, [u64; 9], u32>(200) + size_of::<FixedDelay>(),
    );
}

#[test]
fn a_stage_takes_an_operator_and_its_requests() {
    type Request = Ready<Result<u64, ()>>;
    for_capacity::<1>();
    for_capacity::<16>();
    for_capacity::<100>();

    fn for_capacity<const N: usize>() {
        let policy = AsyncWait::ordered(N).timeout(Duration::from_secs(1));
        let ask = |input: &u32| -> Request { ready(Ok(u64::from(*input))) };
        let stage = Nothing.async_wait(policy, ask).in_place_over(NoClock, Fixed::<N>).unwrap();
        let requests = N * size_of::<Option<Request>>();
        // The source, the function and the timer are nothing here, the error is.
        assert_is(size_of_val(&stage), operator::<u32, u64, ()>(N) + requests + STAGE);
    }
}

struct Nothing;

impl Stream for Nothing {
    type Item = u32;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        Poll::Ready(None)
    }
}

struct NoClock;

impl Runtime for NoClock {
    type Timer = Self;

    fn timer(&self) -> Result<Self, NoRuntime> {
        Ok(Self)
    }
}

impl Timer for NoClock {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
