//! Times of timely dataflow as event times of inflight.

use inflight_core::Timestamp;
use timely::order::TotalOrder;
use timely::progress::Timestamp as TimelyTimestamp;

/// A totally ordered time of timely dataflow that is also an event time of inflight.
///
/// The operator gives each record an event time made of the record's time, and sends its outcome at the time that it makes of that event
/// time again. So an implementation MUST
///
/// 1. give back the same time: `T::from_event_time(time.event_time()) == time`;
/// 2. keep the order: `a < b` exactly if `a.event_time() < b.event_time()`.
///
/// Signed integers and short unsigned ones are that number of milliseconds. Half of the values of `u64` and `usize` would not fit, so
/// these are moved: 0 is [`Timestamp::MIN`].
pub trait EventTime: TimelyTimestamp + TotalOrder {
    /// The event time of a record at this time.
    fn event_time(&self) -> Timestamp;

    /// The time whose [`event_time`](Self::event_time) this is.
    fn from_event_time(timestamp: Timestamp) -> Self;
}

/// Every value is a number of milliseconds.
macro_rules! as_milliseconds {
    ($($integer:ty),*) => {$(
        impl EventTime for $integer {
            fn event_time(&self) -> Timestamp {
                Timestamp::from_millis(i64::from(*self))
            }

            fn from_event_time(timestamp: Timestamp) -> Self {
                timestamp.as_millis() as Self
            }
        }
    )*};
}

as_milliseconds!(i8, i16, i32, i64, u8, u16, u32);

/// The smallest value is the earliest event time.
macro_rules! moved {
    ($($integer:ty),*) => {$(
        impl EventTime for $integer {
            fn event_time(&self) -> Timestamp {
                Timestamp::from_millis((*self as u64 ^ FIRST) as i64)
            }

            fn from_event_time(timestamp: Timestamp) -> Self {
                (timestamp.as_millis() as u64 ^ FIRST) as Self
            }
        }
    )*};
}

/// The bits of the smallest `i64`.
const FIRST: u64 = 1 << 63;

moved!(u64, usize);

/// One time for everything: its frontier only tells whether the input has ended.
impl EventTime for () {
    fn event_time(&self) -> Timestamp {
        Timestamp::from_millis(0)
    }

    fn from_event_time(_: Timestamp) -> Self {}
}

/// The watermark of a frontier: no record follows with an event time before that of `frontier`. `None` if there is no earlier event
/// time.
pub(crate) fn watermark_of<T: EventTime>(frontier: &T) -> Option<Timestamp> {
    frontier.event_time().as_millis().checked_sub(1).map(Timestamp::from_millis)
}

/// The frontier of a watermark: the earliest time that a record may still have. `None` if no record follows at all.
pub(crate) fn frontier_of<T: EventTime>(watermark: Timestamp) -> Option<T> {
    let next = watermark.as_millis().checked_add(1)?;
    Some(T::from_event_time(Timestamp::from_millis(next)))
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn keeps_order_and_value<T: EventTime + Debug>(ascending: &[T]) {
        for time in ascending {
            assert_eq!(T::from_event_time(time.event_time()), *time);
            if let Some(watermark) = watermark_of(time) {
                assert!(watermark < time.event_time(), "{time:?}");
                assert_eq!(frontier_of::<T>(watermark).as_ref(), Some(time));
            }
        }
        assert!(ascending.is_sorted_by(|a, b| a.event_time() < b.event_time()), "{ascending:?}");
    }

    // O5: a time and its event time, a frontier and its watermark say the same, also at the ends of their ranges.
    #[test]
    fn times_and_event_times_are_one_thing() {
        keeps_order_and_value(&[0_u64, 1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX]);
        keeps_order_and_value(&[0_usize, 7, usize::MAX]);
        keeps_order_and_value(&[0_u8, u8::MAX]);
        keeps_order_and_value(&[0_u32, u32::MAX]);
        keeps_order_and_value(&[i8::MIN, 0, i8::MAX]);
        keeps_order_and_value(&[i32::MIN, -1, i32::MAX]);
        keeps_order_and_value(&[i64::MIN, -1, 0, i64::MAX]);
        keeps_order_and_value(&[()]);
    }

    #[test]
    fn there_is_no_watermark_before_the_first_event_time_and_no_frontier_after_the_last() {
        assert_eq!(watermark_of(&0_u64), None);
        assert_eq!(watermark_of(&0_u32), Some(Timestamp::from_millis(-1)));
        assert_eq!(frontier_of::<u64>(Timestamp::MAX), None);
    }
}
