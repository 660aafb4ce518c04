//! Adapters for streams of elements: they change or drop records and pass control elements on.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::element::{Status, StreamElement};
use crate::outcome::{DeadLetter, Outcome};
use crate::time::Timestamp;

/// Adapters that change the records of a stream of [`StreamElement`]s, for instance between two stages. Control elements
/// (watermarks, statuses and barriers) keep their positions (E3).
///
/// A filter of your own must pass control elements on as well: without them event time stops, and no checkpoint reaches the
/// sink any more. A record keeps its timestamp, and the records made of it have the same one.
///
/// An adapter that drops records drops, in one poll, as many in a row as the source has ready: the bound on the work of a
/// poll (L5) is a promise of stages only.
///
/// ```
/// use futures_lite::{StreamExt, future::block_on, stream};
/// use inflight_core::{RecordsExt, StreamElement, Timestamp};
///
/// let at = Timestamp::from_millis;
/// let lines = stream::iter([
///     StreamElement::record("2 3", at(1)),
///     StreamElement::record("", at(2)),
///     StreamElement::Watermark(at(2)),
/// ]);
/// let numbers = lines
///     .filter_records(|line| !line.is_empty())
///     .flat_map_records(|line| line.split(' '))
///     .filter_map_records(|word| word.parse::<u32>().ok())
///     .map_records(|number| 10 * number);
/// let out: Vec<_> = block_on(numbers.collect());
/// assert_eq!(out, [
///     StreamElement::record(20, at(1)),
///     StreamElement::record(30, at(1)),
///     StreamElement::Watermark(at(2)),
/// ]);
/// ```
pub trait RecordsExt<V>: Stream<Item = StreamElement<V>> + Sized {
    /// Changes each record.
    fn map_records<U, F>(self, change: F) -> MapRecords<Self, F>
    where
        F: FnMut(V) -> U,
    {
        MapRecords { source: self, change }
    }

    /// Keeps the records for which `keep` is true.
    fn filter_records<F>(self, keep: F) -> FilterRecords<Self, F>
    where
        F: FnMut(&V) -> bool,
    {
        FilterRecords { source: self, keep }
    }

    /// Changes each record, or drops it.
    fn filter_map_records<U, F>(self, change: F) -> FilterMapRecords<Self, F>
    where
        F: FnMut(V) -> Option<U>,
    {
        FilterMapRecords { source: self, change }
    }

    /// Makes none, one or several records of each. They stay together: no other element comes between them.
    fn flat_map_records<I, F>(self, change: F) -> FlatMapRecords<Self, F, I::IntoIter>
    where
        F: FnMut(V) -> I,
        I: IntoIterator,
    {
        FlatMapRecords { source: self, change, current: None }
    }

    /// Sends the highest watermark when the input ends, so that everything that waits for event time (an open window) is
    /// finished. A stage does not send it, because it makes no control elements of its own (E1). If the stream is idle at
    /// its end, an active status is sent before the watermark.
    ///
    /// Use this on a source that has ended for good. The elements of a [pipeline](crate::pipeline) also end when it is
    /// stopped, after their last barrier: there the source itself has to send the watermark.
    ///
    /// ```
    /// use futures_lite::{StreamExt, future::block_on, stream};
    /// use inflight_core::{RecordsExt, StreamElement, Timestamp};
    ///
    /// let at = Timestamp::from_millis;
    /// let elements = stream::iter([StreamElement::record('a', at(1))]).ending_with_watermark();
    /// let out: Vec<_> = block_on(elements.collect());
    /// assert_eq!(out, [StreamElement::record('a', at(1)), StreamElement::Watermark(Timestamp::MAX)]);
    /// ```
    fn ending_with_watermark(self) -> EndingWithWatermark<Self> {
        EndingWithWatermark { source: self, is_idle: false, has_ended: false, is_marked: false }
    }
}

impl<V, St: Stream<Item = StreamElement<V>>> RecordsExt<V> for St {}

/// Adapters for the outcomes of a stage over elements. As with [`RecordsExt`], one poll handles as many failures in a row as
/// are ready.
pub trait OutcomesExt<In, Out, E>:
    Stream<Item = StreamElement<Outcome<In, Out, E>>> + Sized
{
    /// Passes successful outcomes on, as the input and its output, and gives the failed ones to `dead_letters`.
    ///
    /// In a [pipeline](crate::pipeline) a crash may give it the same dead letter again, because no checkpoint covers what
    /// `dead_letters` does. For dead letters exactly once, let the outcomes flow on into the sink.
    ///
    /// ```
    /// use futures_lite::{StreamExt, future::block_on, stream};
    /// use inflight_core::{Failure, Outcome, OutcomesExt, StreamElement};
    ///
    /// # let done = |input, result| StreamElement::value(
    /// #     Outcome { input, result, attempts: 2, elapsed: core::time::Duration::ZERO }
    /// # );
    /// # let outcomes = stream::iter([done("Lima", Ok(20)), done("Atlantis", Err(Failure::Error("no such place")))]);
    /// let mut letters = Vec::new();
    /// let found = outcomes.split_outcomes(|letter| {
    ///     letters.push(format!("{}: {}", letter.input, letter.failure));
    /// });
    /// let found: Vec<_> = block_on(found.collect());
    /// assert_eq!(found, [StreamElement::value(("Lima", 20))]);
    /// assert_eq!(letters, ["Atlantis: no such place"]);
    /// ```
    fn split_outcomes<F>(self, dead_letters: F) -> SplitOutcomes<Self, F>
    where
        F: FnMut(DeadLetter<In, E>),
    {
        SplitOutcomes { source: self, dead_letters }
    }
}

impl<In, Out, E, St> OutcomesExt<In, Out, E> for St where
    St: Stream<Item = StreamElement<Outcome<In, Out, E>>>
{
}

/// Defines an adapter's struct, and a `Debug` that prints its name only: sources and closures need not be `Debug`.
macro_rules! adapter {
    ($(#[$doc:meta])* $name:ident<St $(, $param:ident)*> { $($field:ident: $of:ty),* }) => {
        pin_project! {
            $(#[$doc])*
            #[must_use = "streams do nothing unless they are polled"]
            pub struct $name<St $(, $param)*> {
                #[pin]
                source: St,
                $($field: $of,)*
            }
        }

        impl<St $(, $param)*> fmt::Debug for $name<St $(, $param)*> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

adapter! {
    /// The stream that [`map_records`](RecordsExt::map_records) returns.
    MapRecords<St, F> { change: F }
}

adapter! {
    /// The stream that [`filter_records`](RecordsExt::filter_records) returns.
    FilterRecords<St, F> { keep: F }
}

adapter! {
    /// The stream that [`filter_map_records`](RecordsExt::filter_map_records) returns.
    FilterMapRecords<St, F> { change: F }
}

adapter! {
    /// The stream that [`flat_map_records`](RecordsExt::flat_map_records) returns.
    FlatMapRecords<St, F, I> { change: F, current: Option<(I, Option<Timestamp>)> }
}

adapter! {
    /// The stream that [`split_outcomes`](OutcomesExt::split_outcomes) returns.
    SplitOutcomes<St, F> { dead_letters: F }
}

adapter! {
    /// The stream that [`ending_with_watermark`](RecordsExt::ending_with_watermark) returns.
    EndingWithWatermark<St> { is_idle: bool, has_ended: bool, is_marked: bool }
}

impl<V, U, St, F> Stream for MapRecords<St, F>
where
    St: Stream<Item = StreamElement<V>>,
    F: FnMut(V) -> U,
{
    type Item = StreamElement<U>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        this.source.poll_next(cx).map(|next| next.map(|element| element.map(this.change)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.source.size_hint()
    }
}

impl<V, St, F> Stream for FilterRecords<St, F>
where
    St: Stream<Item = StreamElement<V>>,
    F: FnMut(&V) -> bool,
{
    type Item = StreamElement<V>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            match ready!(this.source.as_mut().poll_next(cx)) {
                Some(StreamElement::Record { value, .. }) if !(this.keep)(&value) => {}
                next => return Poll::Ready(next), // E3: control elements always pass
            }
        }
    }
}

impl<V, U, St, F> Stream for FilterMapRecords<St, F>
where
    St: Stream<Item = StreamElement<V>>,
    F: FnMut(V) -> Option<U>,
{
    type Item = StreamElement<U>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        poll_filter_map(this.source.as_mut(), cx, |value, _| (this.change)(value))
    }
}

impl<In, Out, E, St, F> Stream for SplitOutcomes<St, F>
where
    St: Stream<Item = StreamElement<Outcome<In, Out, E>>>,
    F: FnMut(DeadLetter<In, E>),
{
    type Item = StreamElement<(In, Out)>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        poll_filter_map(this.source.as_mut(), cx, |done, timestamp| {
            // F1: everything of the outcome, and the timestamp that its element had.
            let dead_letters =
                |letter: DeadLetter<In, E>| (this.dead_letters)(letter.at(timestamp));
            done.into_result().map_err(dead_letters).ok()
        })
    }
}

/// Returns the next element, with a record changed by `change`. Skips records for which `change` returns `None`.
fn poll_filter_map<V, U, St: Stream<Item = StreamElement<V>>>(
    mut source: Pin<&mut St>,
    cx: &mut Context<'_>,
    mut change: impl FnMut(V, Option<Timestamp>) -> Option<U>,
) -> Poll<Option<StreamElement<U>>> {
    loop {
        let Some(element) = ready!(source.as_mut().poll_next(cx)) else {
            return Poll::Ready(None);
        };
        // Read before `map` consumes the element.
        let timestamp = match &element {
            StreamElement::Record { timestamp, .. } => *timestamp,
            _ => None,
        };
        let changed = match element.map(|value| change(value, timestamp)) {
            StreamElement::Record { value: None, .. } => continue, // dropped
            StreamElement::Record { value: Some(value), timestamp } => {
                StreamElement::Record { value, timestamp }
            }
            StreamElement::Watermark(timestamp) => StreamElement::Watermark(timestamp),
            StreamElement::Status(status) => StreamElement::Status(status),
            StreamElement::Barrier(barrier) => StreamElement::Barrier(barrier),
        };
        return Poll::Ready(Some(changed));
    }
}

impl<V, U, St, F> Stream for FlatMapRecords<St, F, U::IntoIter>
where
    St: Stream<Item = StreamElement<V>>,
    F: FnMut(V) -> U,
    U: IntoIterator,
{
    type Item = StreamElement<U::Item>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            // All records of the current one leave before the source is polled, so they stay together.
            if let Some((values, timestamp)) = this.current {
                if let Some(value) = values.next() {
                    let timestamp = *timestamp;
                    return Poll::Ready(Some(StreamElement::Record { value, timestamp }));
                }
                *this.current = None;
            }
            return Poll::Ready(Some(match ready!(this.source.as_mut().poll_next(cx)) {
                None => return Poll::Ready(None),
                Some(StreamElement::Record { value, timestamp }) => {
                    *this.current = Some(((this.change)(value).into_iter(), timestamp));
                    continue;
                }
                Some(StreamElement::Watermark(timestamp)) => StreamElement::Watermark(timestamp),
                Some(StreamElement::Status(status)) => StreamElement::Status(status),
                Some(StreamElement::Barrier(barrier)) => StreamElement::Barrier(barrier),
            }));
        }
    }
}

impl<V, St: Stream<Item = StreamElement<V>>> Stream for EndingWithWatermark<St> {
    type Item = StreamElement<V>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if !*this.has_ended {
            if let Some(element) = ready!(this.source.poll_next(cx)) {
                if let StreamElement::Status(status) = &element {
                    *this.is_idle = *status == Status::Idle;
                }
                return Poll::Ready(Some(element));
            }
            *this.has_ended = true;
        }
        // An operator that merges streams ignores the watermark of an idle one.
        if core::mem::take(this.is_idle) {
            return Poll::Ready(Some(StreamElement::Status(Status::Active)));
        }
        // The stream may be polled after its end: the watermark comes once.
        let first = !core::mem::replace(this.is_marked, true);
        Poll::Ready(first.then_some(StreamElement::Watermark(Timestamp::MAX)))
    }
}
