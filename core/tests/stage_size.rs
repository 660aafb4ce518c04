//! The memory of a stage in place, as docs/bare-metal.md states it.

#[path = "common/still.rs"]
mod still;

use std::future::{Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, Failure, Fixed, FixedDelay, IntoElement, KeySelector, NoRetry,
    Operator, StreamElement, StreamKind, Unkeyed,
};

use crate::still::Still;

/// Bytes for each slot, without the input and the result, and bytes for the operator, without its slots, on a machine
/// of this word size.
const SLOT: usize = 76;
/// Bytes that are added for keys, and for control elements.
const KEYS: usize = 16;
const CONTROLS: usize = if usize::BITS == 64 { 104 } else { 88 };
const OPERATOR: usize = if usize::BITS == 64 { 1128 } else { 776 };
const STAGE: usize = if usize::BITS == 64 { 216 } else { 128 };

/// The size of an operator by the formula, with `more` bytes in each slot.
fn operator<In, Out, E>(capacity: usize, more: usize) -> usize {
    let result = size_of::<Option<Result<Out, Failure<E>>>>();
    let values = size_of::<Option<In>>() + result;
    OPERATOR + result.next_multiple_of(8) + capacity * (values.next_multiple_of(8) + SLOT + more)
}

/// Asserts that the size is at most that of the formula; and without an allocator not much less, so that the formula
/// stays accurate.
#[track_caller]
fn assert_is(found: usize, stated: usize) {
    assert!(found <= stated, "{found} bytes, where {stated} are stated");
    let close = cfg!(feature = "alloc") || found * 10 >= stated * 9;
    assert!(close, "only {found} bytes, where {stated} are stated: state less");
}

#[test]
fn the_size_of_an_operator_follows_the_formula() {
    const ALL: usize = KEYS + CONTROLS;
    assert_is(
        size_of::<Operator<(u32, u32, (), NoRetry, Unkeyed, ()), Fixed<1>>>(),
        operator::<u32, u32, ()>(1, ALL),
    );
    assert_is(
        size_of::<Operator<(u32, u32, (), NoRetry, Unkeyed, ()), Fixed<16>>>(),
        operator::<u32, u32, ()>(16, ALL),
    );
    assert_is(
        size_of::<Operator<([u8; 61], u64, u8, NoRetry, Unkeyed, ()), Fixed<64>>>(),
        operator::<[u8; 61], u64, u8>(64, ALL),
    );
    assert_is(
        size_of::<Operator<(u8, [u64; 9], u32, FixedDelay, Unkeyed, ()), Fixed<200>>>(),
        operator::<u8, [u64; 9], u32>(200, ALL) + size_of::<FixedDelay>(),
    );
}

#[test]
fn a_stage_takes_an_operator_and_its_requests() {
    for_capacity::<8>();
    for_capacity::<16>();
    for_capacity::<100>();

    fn for_capacity<const N: usize>() {
        let policy = AsyncWait::ordered(N);
        let keyed = AsyncWait::ordered_by_key(N, |input: &u32| *input);
        let (values, elements) = (Nothing::<u32>::new, Nothing::<StreamElement<u32>>::new);
        assert_is_stage::<N>(stage_size::<N, _, _, _>(values(), policy), 0);
        assert_is_stage::<N>(stage_size::<N, _, _, _>(values(), keyed), KEYS);
        assert_is_stage::<N>(stage_size::<N, _, _, _>(elements(), policy), CONTROLS);
        assert_is_stage::<N>(stage_size::<N, _, _, _>(elements(), keyed), KEYS + CONTROLS);
    }
}

type Request = Ready<Result<u64, ()>>;

fn stage_size<const N: usize, St, M, K>(source: St, policy: AsyncWait<NoRetry, K>) -> usize
where
    St: Stream,
    St::Item: IntoElement<u32, M>,
    M: StreamKind,
    K: KeySelector<u32>,
{
    let policy = policy.timeout(Duration::from_secs(1));
    let ask = |input: &u32| -> Request { ready(Ok(u64::from(*input))) };
    size_of_val(&source.async_wait(policy, ask).in_place_over(Still, Fixed::<N>).unwrap())
}

// The source, the function and the timer have size zero here.
#[track_caller]
fn assert_is_stage<const N: usize>(found: usize, more: usize) {
    let requests = N * size_of::<Option<Request>>();
    assert_is(found, operator::<u32, u64, ()>(N, more) + requests + STAGE);
}

struct Nothing<T>(PhantomData<T>);

impl<T> Nothing<T> {
    fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Stream for Nothing<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
        Poll::Ready(None)
    }
}
