//! Adapters for streams of elements: they change records, and control elements pass.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::element::{Status, StreamElement};
use crate::outcome::{Failure, Outcome};
use crate::time::Timestamp;

/// What is done to the records of a stream of [`StreamElement`]s, between two stages say, with all control elements passed
/// on in their places: watermarks, statuses and barriers.
///
/// A filter or a collection of one's own that forgets them stops event time, and no checkpoint reaches the sink any
/// more. Records keep their timestamps; what is made of one has its timestamp.
///
/// What drops records drops in one poll as many in a row as the source has ready: the bound on the work of a poll (L5) is a
/// promise of stages.
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

    /// Makes none, one or several records of each. They stay together: nothing comes between them.
    fn flat_map_records<I, F>(self, change: F) -> FlatMapRecords<Self, F, I::IntoIter>
    where
        F: FnMut(V) -> I,
        I: IntoIterator,
    {
        FlatMapRecords { source: self, change, current: None }
    }

    /// Sends the highest watermark when the input ends, so that whatever waits for event time (a window that is open) is
    /// finished. A stage does not: it makes no control elements of its own. If the stream is idle at its end, it
    /// becomes active before.
    ///
    /// Say this of a source that has come to its end for good. The elements of a
    /// [pipeline](crate::pipeline) end also when it is stopped, behind their last barrier: there it is for the source to send
    /// the watermark.
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

/// What is done to the outcomes of a stage over elements. One poll sets aside as many failures in a row as are ready, as with
/// [`RecordsExt`].
pub trait OutcomesExt<In, Out, E>:
    Stream<Item = StreamElement<Outcome<In, Out, E>>> + Sized
{
    /// Hands on what succeeded, as the input and its output, and gives the rest to `dead_letters`.
    ///
    /// In a [pipeline](crate::pipeline) a crash may give the same dead letter to it again, since what it does is in no checkpoint. For
    /// dead letters exactly once let the outcomes flow on into the sink.
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

/// A record whose call has failed: what [`split_outcomes`](OutcomesExt::split_outcomes) sets aside.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeadLetter<In, E> {
    /// The input, as it went in.
    pub input: In,
    /// Its event time, where the stream has one.
    pub timestamp: Option<Timestamp>,
    /// Why it failed.
    pub failure: Failure<E>,
    /// How many attempts were made.
    pub attempts: u32,
    /// The time from the first invocation to the outcome.
    pub elapsed: Duration,
}

/// An adapter's struct, and that it says no more of itself than its name.
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
    /// What [`map_records`](RecordsExt::map_records) makes.
    MapRecords<St, F> { change: F }
}

adapter! {
    /// What [`filter_records`](RecordsExt::filter_records) makes.
    FilterRecords<St, F> { keep: F }
}

adapter! {
    /// What [`filter_map_records`](RecordsExt::filter_map_records) makes.
    FilterMapRecords<St, F> { change: F }
}

adapter! {
    /// What [`flat_map_records`](RecordsExt::flat_map_records) makes.
    FlatMapRecords<St, F, I> { change: F, current: Option<(I, Option<Timestamp>)> }
}

adapter! {
    /// What [`split_outcomes`](OutcomesExt::split_outcomes) makes.
    SplitOutcomes<St, F> { dead_letters: F }
}

adapter! {
    /// What [`ending_with_watermark`](RecordsExt::ending_with_watermark) makes.
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
                next => return Poll::Ready(next),
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
            let Outcome { input, result, attempts, elapsed } = done;
            match result {
                Ok(output) => Some((input, output)),
                Err(failure) => {
                    let letter = DeadLetter { input, timestamp, failure, attempts, elapsed };
                    (this.dead_letters)(letter);
                    None
                }
            }
        })
    }
}

/// The next element of which `change` leaves something.
fn poll_filter_map<V, U, St: Stream<Item = StreamElement<V>>>(
    mut source: Pin<&mut St>,
    cx: &mut Context<'_>,
    mut change: impl FnMut(V, Option<Timestamp>) -> Option<U>,
) -> Poll<Option<StreamElement<U>>> {
    loop {
        let Some(element) = ready!(source.as_mut().poll_next(cx)) else {
            return Poll::Ready(None);
        };
        let timestamp = match &element {
            StreamElement::Record { timestamp, .. } => *timestamp,
            _ => None,
        };
        let changed = match element.map(|value| change(value, timestamp)) {
            StreamElement::Record { value: None, .. } => continue,
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
        if core::mem::take(this.is_idle) {
            return Poll::Ready(Some(StreamElement::Status(Status::Active)));
        }
        let first = !core::mem::replace(this.is_marked, true);
        Poll::Ready(first.then_some(StreamElement::Watermark(Timestamp::MAX)))
    }
}
