//! The two kinds of time: event time ([`Timestamp`]) and processing time ([`Instant`]).

use core::fmt;
use core::time::Duration;

/// Event time: when something happened, in milliseconds since an epoch of the user's choice
/// (usually the Unix epoch). It has nothing to do with the clock the stage runs by.
///
/// ```
/// use inflight_core::Timestamp;
///
/// assert_eq!(Timestamp::from_millis(1_500).as_millis(), 1_500);
/// assert!(Timestamp::MIN < Timestamp::from_millis(0));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "checkpoint", derive(serde::Serialize, serde::Deserialize))]
pub struct Timestamp(i64);

impl Timestamp {
    /// Before everything.
    pub const MIN: Self = Self(i64::MIN);
    /// After everything; a watermark of this value says that the stream's event time has ended.
    pub const MAX: Self = Self(i64::MAX);

    /// The timestamp `millis` milliseconds after the epoch (before it, if negative).
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({} ms)", self.0)
    }
}

/// Processing time: a point on the clock of whoever drives the operator, in nanoseconds since an
/// arbitrary start. Instants of different clocks do not compare.
///
/// It is signed, so that a call restored with two seconds already spent has a start even on a
/// clock that has just begun. Arithmetic saturates at 292 years and never panics.
///
/// ```
/// use core::time::Duration;
/// use inflight_core::Instant;
///
/// let start = Instant::ZERO + Duration::from_millis(5);
/// assert_eq!(start - Instant::ZERO, Duration::from_millis(5));
/// assert_eq!(Instant::ZERO - start, Duration::ZERO); // never negative
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(i64);

impl Instant {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);
    /// Later than every instant a clock can show.
    pub const FAR_FUTURE: Self = Self(i64::MAX);

    /// The instant `nanos` nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// `self - span`, saturating.
    #[inline(always)]
    pub(crate) const fn back(self, span: Span) -> Self {
        // A branch that is never taken is cheaper than arithmetic that always saturates; here and below.
        match self.0.checked_sub(span.0) {
            Some(nanos) => Self(nanos),
            None => Self(i64::MIN),
        }
    }

    /// `self + span`, saturating.
    #[inline(always)]
    pub(crate) const fn plus(self, span: Span) -> Self {
        match self.0.checked_add(span.0) {
            Some(nanos) => Self(nanos),
            None => Self(i64::MAX),
        }
    }

    /// The time that has passed since `earlier`, which is not later than `self`.
    #[inline(always)]
    pub(crate) const fn passed_since(self, earlier: Self) -> Span {
        match self.0.checked_sub(earlier.0) {
            Some(nanos) => Span(nanos),
            None => Span(i64::MAX),
        }
    }

    /// The time from `earlier` to `self`, never negative.
    #[inline(always)]
    pub(crate) const fn since(self, earlier: Self) -> Span {
        match self.0.checked_sub(earlier.0) {
            Some(nanos) if nanos >= 0 => Span(nanos),
            Some(_) => Span::ZERO,
            None if self.0 < earlier.0 => Span::ZERO,
            None => Span(i64::MAX),
        }
    }
}

impl core::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        self.plus(Span::from(duration))
    }
}

impl core::ops::Sub for Instant {
    type Output = Duration;

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier).into()
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instant({} ns)", self.0)
    }
}

/// A duration as the operator counts: whole nanoseconds in 64 bits. [`Duration`] takes twice the
/// space and its arithmetic a division; this is what the slots store and the hot path adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Span(i64);

impl Span {
    pub(crate) const ZERO: Self = Self(0);

    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(if nanos > i64::MAX as u64 { i64::MAX } else { nanos as i64 })
    }

    pub(crate) const fn as_nanos(self) -> u64 {
        self.0 as u64
    }

    /// `self + other`, saturating.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Usable in `const` builders, which `From` is not.
    pub(crate) const fn of(duration: Duration) -> Self {
        let nanos = duration.as_nanos();
        Self(if nanos > i64::MAX as u128 { i64::MAX } else { nanos as i64 })
    }

    pub(crate) const fn of_some(duration: Option<Duration>) -> Option<Self> {
        match duration {
            Some(duration) => Some(Self::of(duration)),
            None => None,
        }
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self::of(duration)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Duration::from_nanos(span.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let far = Instant::ZERO + Duration::MAX;
        assert_eq!(far, Instant::FAR_FUTURE);
        assert_eq!(far + Duration::from_secs(1), Instant::FAR_FUTURE);
        assert_eq!(Instant::from_nanos(i64::MIN) - far, Duration::ZERO);
        assert_eq!(far - Instant::from_nanos(-1), Duration::from_nanos(i64::MAX as u64));
    }

    // T8: nothing is lost on the way in or out.
    #[test]
    fn a_nanosecond_survives() {
        let odd = Duration::from_nanos(1_000_000_001);
        assert_eq!(Duration::from(Span::from(odd)), odd);
    }
}
