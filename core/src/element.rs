//! The elements of a stream: records, and the control elements between them.

use core::time::Duration;

use crate::checkpoint::Checkpoint;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use crate::checkpoint::CheckpointId;
use crate::storage::{AutoTraits, EmptyQueue, Queue, Storage};
use crate::time::Timestamp;

/// One element of a stream: a record, or a control element that describes the records around it.
///
/// A plain stream of values is a stream of records without timestamps (E1).
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
    /// A value, with the time at which it happened where the stream has event time.
    Record {
        /// The value.
        value: T,
        /// Its event time; `None` in a stream without event time.
        timestamp: Option<Timestamp>,
    },
    /// A promise: no record with a timestamp at or before this one follows.
    Watermark(Timestamp),
    /// The stream starts or stops taking part in the progress of event time.
    Status(Status),
    /// The point in the stream at which a checkpoint is taken.
    Barrier(Barrier),
}

impl<T> StreamElement<T> {
    /// Returns true for a barrier with a checkpoint: any but the one behind the last record.
    pub(crate) const fn has_checkpoint(&self) -> bool {
        match self {
            Self::Barrier(barrier) => {
                matches!(barrier.mode, BarrierMode::Snapshot | BarrierMode::Drain)
            }
            _ => false,
        }
    }

    /// Returns true for a barrier that overtakes the records in flight.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub(crate) const fn is_snapshot_barrier(&self) -> bool {
        matches!(self, Self::Barrier(barrier) if matches!(barrier.mode, BarrierMode::Snapshot))
    }

    /// A record with a timestamp.
    pub const fn record(value: T, timestamp: Timestamp) -> Self {
        Self::Record { value, timestamp: Some(timestamp) }
    }

    /// A record without a timestamp.
    pub const fn value(value: T) -> Self {
        Self::Record { value, timestamp: None }
    }

    /// Returns true for a record and false for a control element.
    pub const fn is_record(&self) -> bool {
        matches!(self, Self::Record { .. })
    }

    /// Applies `change` to a record's value. A control element stays as it is.
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

/// A stream's part in the progress of event time. An idle stream sends no watermarks, and an operator
/// that merges streams does not wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// No record or watermark is expected for a while.
    Idle,
    /// Records and watermarks follow again.
    Active,
}

/// The point in the stream at which a checkpoint is taken. The barrier carries the checkpoint: the source
/// makes it and puts its position in, every stage adds its snapshot, the sink saves the whole (K4).
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
/// // The barrier overtakes the record, which is in the stage's snapshot.
/// let Some(StreamElement::Barrier(mut barrier)) = op.poll_output() else { panic!() };
/// assert!(barrier.checkpoint.section("lookup").is_some());
/// let to_be_saved = barrier.checkpoint.bytes().unwrap();
/// # assert!(to_be_saved.len() > 20);
/// # }
/// ```
#[derive(Debug, PartialEq)]
pub struct Barrier {
    /// The way in which stages treat this barrier.
    pub mode: BarrierMode,
    /// The time limit of a [`BarrierMode::Drain`] barrier. Each stage has this long, from when the barrier
    /// reaches it, to finish the records before it. When the limit passes, the checkpoint fails and the
    /// barrier leaves at once; nothing else fails (K3). `None` means no limit.
    pub limit: Option<Duration>,
    /// The checkpoint, with the sections added so far.
    pub checkpoint: Checkpoint,
}

impl Barrier {
    /// A barrier at which every stage takes a snapshot ([`BarrierMode::Snapshot`]).
    pub const fn snapshot(checkpoint: Checkpoint) -> Self {
        Self { mode: BarrierMode::Snapshot, limit: None, checkpoint }
    }

    /// A barrier that leaves a stage after all records before it ([`BarrierMode::Drain`]).
    pub const fn drain(checkpoint: Checkpoint) -> Self {
        Self { mode: BarrierMode::Drain, limit: None, checkpoint }
    }

    /// The barrier behind the last record ([`BarrierMode::End`]). Its checkpoint is not used.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub fn end() -> Self {
        let checkpoint = Checkpoint::new(CheckpointId(0));
        Self { mode: BarrierMode::End, limit: None, checkpoint }
    }

    /// Sets the time limit of a drain; see [`limit`](Self::limit).
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// The way in which a stage treats a barrier (K3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BarrierMode {
    /// The stage takes a snapshot of the records in flight at once, and the barrier overtakes them.
    #[default]
    Snapshot,
    /// The barrier keeps its position and leaves after everything before it; so its snapshot is empty.
    Drain,
    /// The end of the records, for stages on the heap: it keeps its position like a drain, and no record follows it, so the stage
    /// finishes its calls as at the end of its input ([`FinishPolicy`](crate::FinishPolicy)). The input goes on all the same, so
    /// that barriers in [`Snapshot`](Self::Snapshot) mode can come while the calls finish (K11). No stage puts anything into its
    /// checkpoint. A stage panics if a record, or a barrier that keeps its position, comes behind it.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    End,
}

/// An item that a stage accepts: either a plain value, or a [`StreamElement`].
///
/// `V` is the record's value, and `StreamKind` distinguishes the two cases; both are inferred. A stage that
/// takes plain values returns plain outcomes, and one that takes elements returns elements. Sealed: an item of one's own could
/// claim to be a plain value and be a control element, which no consumer of plain values can receive.
pub trait IntoElement<V, Kind>: sealed::Sealed<V, Kind> {
    /// The element.
    fn into_element(self) -> StreamElement<V>;
}

mod sealed {
    #[allow(unreachable_pub)]
    pub trait Sealed<V, Kind> {}

    impl<T> Sealed<T, super::Values> for T {}
    impl<T> Sealed<T, super::Elements> for super::StreamElement<T> {}
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

/// The kind of a stage's stream: plain values ([`Values`]) or elements ([`Elements`]). The outcomes come out in the same
/// kind as the inputs went in.
pub trait StreamKind {
    /// The type of an item whose record has a value of type `T`.
    type Item<T>;

    /// The queue of control elements; without room in a stream that can have none.
    #[doc(hidden)]
    type Controls<S: Storage, T: AutoTraits>: Queue<T> + AutoTraits;
    #[doc(hidden)]
    const HAS_CONTROLS: bool;

    /// Converts an element into an item; `None` for a control element among plain values, which no plain
    /// source can have sent.
    fn from_element<T>(element: StreamElement<T>) -> Option<Self::Item<T>>;

    /// Returns true if the item is a record, which counts against the capacity.
    fn is_record<T>(item: &Self::Item<T>) -> bool;
}

/// A stream of plain values. A marker: it has no values.
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
            _ => None, // cannot happen: a plain source sends no control elements, and a stage makes none (E1)
        }
    }

    fn is_record<T>(_item: &T) -> bool {
        true
    }
}

/// A stream of [`StreamElement`]s. A marker: it has no values.
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
