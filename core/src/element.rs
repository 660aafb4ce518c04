//! What flows through a stream: records and the control elements between them.

use core::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::storage::{AutoTraits, EmptyQueue, Queue, Storage};
use crate::time::Timestamp;

/// One element of a stream: a record, or a control element that says something about the records
/// around it.
///
/// A plain stream of values is a stream of records without timestamps.
///
/// ```
/// use inflight_core::{StreamElement, Timestamp};
///
/// let reading = StreamElement::record(21.5, Timestamp::from_millis(1_000));
/// let complete = StreamElement::<f64>::Watermark(Timestamp::from_millis(1_000));
/// assert!(reading.is_record() && !complete.is_record());
/// ```
#[derive(Debug, PartialEq)]
pub enum StreamElement<T> {
    /// A value, perhaps with the time at which it happened.
    Record {
        /// The value.
        value: T,
        /// Its event time, where the stream has one.
        timestamp: Option<Timestamp>,
    },
    /// No record with a timestamp at or before this one follows.
    Watermark(Timestamp),
    /// Whether the stream takes part in the progress of event time.
    Status(Status),
    /// The point in the stream that a checkpoint is taken at.
    Barrier(Barrier),
}

impl<T> StreamElement<T> {
    /// A record with a timestamp.
    pub const fn record(value: T, timestamp: Timestamp) -> Self {
        Self::Record { value, timestamp: Some(timestamp) }
    }

    /// A record without one.
    pub const fn value(value: T) -> Self {
        Self::Record { value, timestamp: None }
    }

    /// Whether this is a record, and so not a control element.
    pub const fn is_record(&self) -> bool {
        matches!(self, Self::Record { .. })
    }

    /// The same element with the record's value changed by `change`.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> StreamElement<U> {
        match self {
            Self::Record { value, timestamp } => {
                StreamElement::Record { value: change(value), timestamp }
            }
            Self::Watermark(timestamp) => StreamElement::Watermark(timestamp),
            Self::Status(status) => StreamElement::Status(status),
            Self::Barrier(barrier) => StreamElement::Barrier(barrier),
        }
    }
}

/// Whether a stream takes part in the progress of event time. An idle one sends no watermarks, and
/// whoever merges streams does not wait for its.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Nothing is to be expected for a while.
    Idle,
    /// Records and watermarks come again.
    Active,
}

/// The point in the stream that a checkpoint is taken at. It carries the checkpoint: the source
/// makes it and puts its position in, every stage adds its snapshot, the sink saves the whole.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use inflight_core::{
///     AsyncWait, Barrier, Checkpoint, CheckpointId, Instant, StreamElement,
/// };
///
/// let op = AsyncWait::ordered(4).build_core::<u32, u32, ()>().unwrap();
/// let mut op = op.checkpointed("lookup", 1);
/// op.push(Instant::ZERO, StreamElement::value(20)).unwrap();
///
/// let mut checkpoint = Checkpoint::new(CheckpointId(7));
/// checkpoint.put("source", b"1 read").unwrap();
/// op.push(Instant::ZERO, StreamElement::Barrier(Barrier::snapshot(checkpoint))).unwrap();
///
/// // It overtakes the record, which is in the stage's snapshot.
/// let Some(StreamElement::Barrier(mut barrier)) = op.poll_output() else { panic!() };
/// assert!(barrier.checkpoint.section("lookup").is_some());
/// let to_be_saved = barrier.checkpoint.bytes().unwrap();
/// # assert!(to_be_saved.len() > 20);
/// # }
/// ```
#[derive(Debug, PartialEq)]
pub struct Barrier {
    /// How the stages treat it.
    pub mode: BarrierMode,
    /// How long the stages have to finish what is before a [`BarrierMode::Drain`] barrier, each of them
    /// from when the barrier reaches it. When that has passed, the checkpoint fails and the barrier goes
    /// on at once; nothing else fails. `None` for as long as it takes.
    pub limit: Option<Duration>,
    /// What has been gathered so far.
    pub checkpoint: Checkpoint,
}

impl Barrier {
    /// A barrier at which every stage takes a snapshot ([`BarrierMode::Snapshot`]).
    pub const fn snapshot(checkpoint: Checkpoint) -> Self {
        Self { mode: BarrierMode::Snapshot, limit: None, checkpoint }
    }

    /// A barrier before which every stage finishes its work ([`BarrierMode::Drain`]).
    pub const fn drain(checkpoint: Checkpoint) -> Self {
        Self { mode: BarrierMode::Drain, limit: None, checkpoint }
    }

    /// Gives the stages this long to drain.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// How a stage treats a barrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BarrierMode {
    /// The snapshot of what is in flight is taken at once, and the barrier goes on ahead of it.
    #[default]
    Snapshot,
    /// The barrier keeps its place, leaves after everything before it, and there is nothing to
    /// snapshot.
    Drain,
}

/// What stands for an element at a stage's entrance: either a plain value, or a [`StreamElement`].
///
/// `V` is the record's value and `StreamKind` tells the two apart; both are inferred. A stage that takes
/// plain values gives plain outcomes back, one that takes elements gives elements.
pub trait IntoElement<V, StreamKind> {
    /// The element.
    fn into_element(self) -> StreamElement<V>;
}

impl<T> IntoElement<T, Values> for T {
    #[cfg_attr(feature = "alloc", inline(always))]
    fn into_element(self) -> StreamElement<T> {
        StreamElement::value(self)
    }
}

impl<T> IntoElement<T, Elements> for StreamElement<T> {
    #[cfg_attr(feature = "alloc", inline(always))]
    fn into_element(self) -> StreamElement<T> {
        self
    }
}

/// How a stage hands its outcomes over: as they are ([`Values`]) or as elements ([`Elements`]).
pub trait StreamKind {
    /// What stands for an element whose value is a `T`.
    type Item<T>;

    /// Where control elements are kept, of which a stream of this shape may have none.
    #[doc(hidden)]
    type Controls<S: Storage, T: AutoTraits>: Queue<T> + AutoTraits;
    #[doc(hidden)]
    const HAS_CONTROLS: bool;

    /// The element in this shape; `None` when the shape has no room for it (a control element among
    /// plain values, which no plain source can have put in).
    fn from_element<T>(element: StreamElement<T>) -> Option<Self::Item<T>>;

    /// Whether it stands for a record, and so takes a record's place.
    fn is_record<T>(item: &Self::Item<T>) -> bool;
}

/// The shape of a stream of values. A marker: it has no values.
#[derive(Debug)]
pub enum Values {}

impl StreamKind for Values {
    type Item<T> = T;
    type Controls<S: Storage, T: AutoTraits> = EmptyQueue;
    const HAS_CONTROLS: bool = false;

    #[cfg_attr(feature = "alloc", inline(always))]
    fn from_element<T>(element: StreamElement<T>) -> Option<T> {
        match element {
            StreamElement::Record { value, .. } => Some(value),
            _ => None,
        }
    }

    fn is_record<T>(_item: &T) -> bool {
        true
    }
}

/// The shape of a stream of [`StreamElement`]s. A marker: it has no values.
#[derive(Debug)]
pub enum Elements {}

impl StreamKind for Elements {
    type Item<T> = StreamElement<T>;
    type Controls<S: Storage, T: AutoTraits> = S::Controls<T>;
    const HAS_CONTROLS: bool = true;

    #[cfg_attr(feature = "alloc", inline(always))]
    fn from_element<T>(element: StreamElement<T>) -> Option<StreamElement<T>> {
        Some(element)
    }

    fn is_record<T>(item: &StreamElement<T>) -> bool {
        item.is_record()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // E1: a plain value is a record without a timestamp, and comes out plain.
    #[test]
    fn plain_values_are_records() {
        let element = IntoElement::<u8, Values>::into_element(7_u8);
        assert_eq!(element, StreamElement::value(7));
        assert_eq!(Values::from_element(element), Some(7));
        assert_eq!(Values::from_element(StreamElement::<u8>::Status(Status::Idle)), None);
    }

    #[test]
    fn map_leaves_control_elements_alone() {
        let mark = StreamElement::<u8>::Watermark(Timestamp::MAX);
        assert_eq!(mark.map(u32::from), StreamElement::Watermark(Timestamp::MAX));
    }
}
