//! The order in which outcomes leave.

/// The order in which outcomes leave, as chosen by the policy's constructor.
///
/// ```
/// use inflight_core::{AsyncWait, Order};
///
/// assert_eq!(AsyncWait::unordered(64).order(), Order::Unordered);
/// let by_sensor = AsyncWait::ordered_by_key(64, |reading: &(u8, i32)| reading.0);
/// assert_eq!(by_sensor.order(), Order::ByKey);
/// assert_eq!(by_sensor.overlapping().order(), Order::ByKeyOverlapping);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// Outcomes leave in the order of their inputs (O1, [`AsyncWait::ordered`](crate::AsyncWait::ordered)).
    #[default]
    Ordered,
    /// Outcomes leave as calls complete (O2, [`AsyncWait::unordered`](crate::AsyncWait::unordered)).
    Unordered,
    /// The outcomes of one key leave in the order of their inputs, and one attempt runs at a time for each key
    /// (O3, [`AsyncWait::ordered_by_key`](crate::AsyncWait::ordered_by_key)).
    ByKey,
    /// The outcomes of one key leave in the order of their inputs; attempts for one key may overlap
    /// (O3, [`AsyncWait::overlapping`](crate::AsyncWait::overlapping)).
    ByKeyOverlapping,
}

impl Order {
    pub(super) const fn one_attempt_per_key(self) -> Self {
        match self {
            Self::Ordered => Self::Ordered,
            Self::Unordered | Self::ByKey | Self::ByKeyOverlapping => Self::ByKey,
        }
    }

    pub(super) const fn overlapping(self) -> Self {
        match self {
            Self::ByKey => Self::ByKeyOverlapping,
            order => order,
        }
    }
}
