//! The order in which outcomes leave.

/// The order in which outcomes leave, as a policy's constructors choose it.
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
    /// As their inputs came ([`AsyncWait::ordered`](crate::AsyncWait::ordered)).
    #[default]
    Ordered,
    /// As they complete ([`AsyncWait::unordered`](crate::AsyncWait::unordered)).
    Unordered,
    /// Those of one key as their inputs came, and one attempt at a time for each key
    /// ([`AsyncWait::ordered_by_key`](crate::AsyncWait::ordered_by_key)).
    ByKey,
    /// Those of one key as their inputs came; attempts for one key may overlap
    /// ([`AsyncWait::overlapping`](crate::AsyncWait::overlapping)).
    ByKeyOverlapping,
}

impl Order {
    pub(super) const fn overlapping(self) -> Self {
        match self {
            Self::ByKey => Self::ByKeyOverlapping,
            order => order,
        }
    }
}
