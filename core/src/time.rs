//! The two kinds of time: event time ([`Timestamp`]) and processing time ([`Instant`]).

use core::fmt;
use core::time::Duration;

/// Event time: the time at which something happened, in milliseconds since an epoch of the user's choice
/// (usually the Unix epoch). It is independent of the stage's clock.
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
    /// The earliest timestamp.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest timestamp. A watermark of this value ends the stream's event time.
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

/// Processing time: a point on the clock of the program that drives the operator, in nanoseconds since an
/// arbitrary start. Instants of different clocks cannot be compared.
///
/// It is signed, so that a call that is restored with two seconds already spent has a start even on a
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
    /// Later than every instant of a clock.
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
    #[cfg_attr(feature = "alloc", inline(always))]
    #[cfg_attr(not(feature = "alloc"), inline(never))]
    pub(crate) const fn back(self, span: Span) -> Self {
        // A branch that is never taken is cheaper than saturating arithmetic; the same holds below.
        match self.0.checked_sub(span.0) {
            Some(nanos) => Self(nanos),
            None => Self(i64::MIN),
        }
    }

    /// `self + span`, saturating.
    #[cfg_attr(feature = "alloc", inline(always))]
    #[cfg_attr(not(feature = "alloc"), inline(never))]
    pub(crate) const fn plus(self, span: Span) -> Self {
        match self.0.checked_add(span.0) {
            Some(nanos) => Self(nanos),
            None => Self(i64::MAX),
        }
    }

    /// The time that has passed since `earlier`, which must not be later than `self`.
    #[cfg_attr(feature = "alloc", inline(always))]
    #[cfg_attr(not(feature = "alloc"), inline(never))]
    pub(crate) const fn passed_since(self, earlier: Self) -> Span {
        match self.0.checked_sub(earlier.0) {
            Some(nanos) => Span(nanos),
            None => Span(i64::MAX),
        }
    }

    /// The time from `earlier` to `self`, never negative.
    #[cfg_attr(feature = "alloc", inline(always))]
    #[cfg_attr(not(feature = "alloc"), inline(never))]
    pub(crate) const fn since(self, earlier: Self) -> Span {
        match self.0.checked_sub(earlier.0) {
            Some(nanos) if nanos >= 0 => Span(nanos),
            Some(_) => Span::ZERO,
            // The difference overflows: the signs are opposite, and the comparison decides the direction.
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

/// A duration as the operator stores it: whole nanoseconds in 64 bits. [`Duration`] takes twice the
/// space, and its arithmetic a division; slots store spans, and the hot path adds them.
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

    /// Converts a duration, saturating (T8: exact to the nanosecond). `From` cannot be used in `const` builders.
    pub(crate) const fn of(duration: Duration) -> Self {
        // Without the 128 bits of `as_nanos`, which take more flash.
        const MOST_SECONDS: u64 = i64::MAX as u64 / 1_000_000_000;
        if duration.as_secs() > MOST_SECONDS {
            return Self(i64::MAX);
        }
        Self::from_nanos(duration.as_secs() * 1_000_000_000 + duration.subsec_nanos() as u64)
    }

    pub(crate) const fn of_some(duration: Option<Duration>) -> Option<Self> {
        // `Option::map` is not `const`.
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

    // T8: a duration is exact to the nanosecond.
    #[test]
    fn a_nanosecond_survives_the_conversion() {
        let odd = Duration::from_nanos(1_000_000_001);
        assert_eq!(Duration::from(Span::from(odd)), odd);
    }
}
