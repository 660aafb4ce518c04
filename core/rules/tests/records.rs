//! The adapters for streams of elements.

#![cfg(feature = "alloc")]

use core::time::Duration;

use futures_lite::future::{block_on, yield_now};
use futures_lite::{Stream, StreamExt, stream};
use inflight_core::*;

type Element<V> = StreamElement<V>;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn barrier<V>() -> Element<V> {
    StreamElement::Barrier(Barrier::drain(Checkpoint::new(CheckpointId(7))))
}

/// A stream of records with every kind of control element between them, and one at each end. It is not always ready.
fn elements<V>(values: [V; 3]) -> impl Stream<Item = Element<V>> {
    let [first, second, third] = values;
    let all = [
        StreamElement::Watermark(at(0)),
        StreamElement::record(first, at(1)),
        StreamElement::Watermark(at(1)),
        StreamElement::value(second),
        StreamElement::Status(Status::Idle),
        StreamElement::Status(Status::Active),
        barrier(),
        StreamElement::record(third, at(3)),
        barrier(),
    ];
    stream::iter(all).then(|element| async {
        yield_now().await;
        element
    })
}

/// Prints all outputs.
fn printed<V: core::fmt::Debug>(elements: impl Stream<Item = Element<V>>) -> String {
    let word = |element| match element {
        StreamElement::Record { value, timestamp: None } => format!("{value:?}"),
        StreamElement::Record { value, timestamp: Some(at) } => {
            format!("{value:?}@{}", at.as_millis())
        }
        StreamElement::Watermark(Timestamp::MAX) => "W.".into(),
        StreamElement::Watermark(at) => format!("W{}", at.as_millis()),
        StreamElement::Status(status) => format!("{status:?}"),
        StreamElement::Barrier(barrier) => format!("B{}", barrier.checkpoint.id().0),
    };
    block_on(elements.map(word).collect::<Vec<_>>()).join(" ")
}

#[test] // E3
fn records_change_and_control_elements_keep_their_positions() {
    let numbers = || elements([1, 2, 3]);
    assert_eq!(printed(numbers()), "W0 1@1 W1 2 Idle Active B7 3@3 B7");
    assert_eq!(printed(numbers().map_records(|n| n * 10)), "W0 10@1 W1 20 Idle Active B7 30@3 B7");
    assert_eq!(printed(numbers().filter_records(|n| *n == 2)), "W0 W1 2 Idle Active B7 B7");
    let odd = |n: i32| (n != 2).then_some(n + 10);
    assert_eq!(printed(numbers().filter_map_records(odd)), "W0 11@1 W1 Idle Active B7 13@3 B7");
    let so_many = |n| (1..n).map(move |part| (n, part));
    assert_eq!(
        printed(numbers().flat_map_records(so_many)),
        "W0 W1 (2, 1) Idle Active B7 (3, 1)@3 (3, 2)@3 B7"
    );
}

#[test] // E3, F1: a dead letter has everything that its outcome had, and other elements keep their positions
fn failures_go_to_the_dead_letters() {
    let done =
        |input: u8, result| Outcome { input, result, attempts: 3, elapsed: Duration::from_secs(1) };
    let failed = Err(Failure::Error("no"));
    let outcomes = elements([done(1, failed), done(2, Ok('b')), done(3, Err(Failure::TimedOut))]);
    let mut letters = Vec::new();
    let split = outcomes.split_outcomes(|letter| letters.push(letter));
    assert_eq!(printed(split), "W0 W1 (2, 'b') Idle Active B7 B7");
    assert_eq!(letters.len(), 2);
    assert_eq!((letters[0].input, letters[0].timestamp), (1, Some(at(1))));
    assert_eq!((letters[1].input, letters[1].failure), (3, Failure::TimedOut));
    assert_eq!((letters[1].attempts, letters[1].elapsed), (3, Duration::from_secs(1)));
}

#[test] // E1: with the adapter, the end of the input is the end of event time, and is sent once
fn the_last_watermark_is_the_highest() {
    assert_eq!(printed(stream::empty::<Element<()>>().ending_with_watermark()), "W.");
    assert_eq!(
        printed(elements(['a', 'b', 'c']).ending_with_watermark()),
        "W0 'a'@1 W1 'b' Idle Active B7 'c'@3 B7 W."
    );
    let idle = [StreamElement::value('a'), StreamElement::Status(Status::Idle)];
    assert_eq!(printed(stream::iter(idle).ending_with_watermark()), "'a' Idle Active W.");
    block_on(async {
        let mut ended = stream::empty::<Element<()>>().ending_with_watermark();
        assert!(ended.next().await.is_some());
        assert!(ended.next().await.is_none() && ended.next().await.is_none());
    });
}
