//! The delays between attempts.

use core::time::Duration;

use crate::config_error::ConfigError;
use crate::function::AttemptInfo;
use crate::time::Span;

/// The delay after each attempt, as a pure function of the attempt (R1): [`FixedSchedule`] or
/// [`Exponential`].
///
/// Sealed, because only [`Retry`](crate::Retry) uses it, with these two. For delays of your own implement
/// [`RetryStrategy`](crate::RetryStrategy), which decides everything:
///
/// ```
/// use core::time::Duration;
/// use inflight_core::{AttemptInfo, Failure, RetryStrategy};
///
/// /// Delays from a table.
/// struct Table([Duration; 3]);
///
/// impl<In, Out, E> RetryStrategy<In, Out, E> for Table {
///     fn next_delay(&self, attempt: AttemptInfo, _: &In, result: &Result<Out, Failure<E>>) -> Option<Duration> {
///         let delay = self.0.get(attempt.retry as usize)?;
///         result.is_err().then_some(*delay)
///     }
/// }
///
/// let table = Table([1, 5, 30].map(Duration::from_secs));
/// let attempt = AttemptInfo { number: 2, retry: 1, request_id: 0, time_left: None };
/// assert_eq!(table.next_delay(attempt, &(), &Err::<(), _>(Failure::Error("busy"))), Some(table.0[1]));
/// ```
pub trait Schedule: sealed::Sealed {
    /// The delay between `attempt`, which has just ended, and the next one.
    fn delay(&self, attempt: AttemptInfo) -> Duration;

    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// The setting that makes no sense.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::FixedSchedule {}
    impl Sealed for super::Exponential {}
}

/// The same delay after every attempt.
#[derive(Clone, Copy, Debug)]
pub struct FixedSchedule {
    delay: Duration,
}

impl FixedSchedule {
    pub(super) const fn new(delay: Duration) -> Self {
        Self { delay }
    }
}

impl Schedule for FixedSchedule {
    fn delay(&self, _attempt: AttemptInfo) -> Duration {
        self.delay
    }
}

/// A delay that grows by a factor, up to a maximum, less some jitter.
///
/// The factor and the jitter are stored in fixed point, so that a target without floating point needs none at
/// run time, and whole factors are exact.
#[derive(Clone, Copy, Debug)]
pub struct Exponential {
    initial: Span,
    maximum: Option<Span>,
    factor: Q32,
    jitter: Q32,
    seed: u64,
}

/// The maximum delay where the caller sets none.
const DEFAULT_MAXIMUM: Span = Span::of(Duration::from_secs(60));

impl Exponential {
    pub(super) const fn new(initial: Duration) -> Self {
        let (factor, jitter) = (Q32(2 * Q32::ONE.0), Q32(0));
        Self { initial: Span::of(initial), maximum: None, factor, jitter, seed: 0 }
    }

    pub(super) const fn set_factor(&mut self, factor: f64) {
        self.factor = Q32::from_f64(factor);
    }

    pub(super) const fn set_maximum(&mut self, maximum: Duration) {
        self.maximum = Some(Span::of(maximum));
    }

    pub(super) const fn set_jitter(&mut self, share: f64, seed: u64) {
        self.jitter = Q32::from_f64(share);
        self.seed = seed;
    }

    fn maximum(&self) -> Span {
        self.maximum.unwrap_or(DEFAULT_MAXIMUM.max(self.initial))
    }
}

impl Schedule for Exponential {
    fn delay(&self, attempt: AttemptInfo) -> Duration {
        let maximum = self.maximum().as_nanos();
        let mut delay = self.initial.as_nanos().min(maximum);
        for _ in 0..attempt.retry {
            // T8: rounded up, so that no delay is shorter than it should be.
            let longer = self.factor.times_rounded_up(delay).min(maximum);
            if longer == delay {
                break; // the maximum, or a factor of 1: further rounds change nothing, and `retry` may be huge
            }
            delay = longer;
        }
        if self.jitter.0 > 0 {
            // R1: the random number is a pure function of seed, request id and attempt.
            let random = Q32(mix(self.seed, attempt) >> 32);
            delay -= self.jitter.times(random.times(delay)).min(delay);
        }
        Duration::from_nanos(delay)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !self.factor.is_at_least_one() {
            return Err(ConfigError::BackoffFactor);
        }
        if !self.jitter.is_at_most_one() {
            return Err(ConfigError::Jitter);
        }
        if self.maximum() < self.initial {
            let (initial, maximum) = (self.initial.into(), self.maximum().into());
            return Err(ConfigError::BackoffMaximum { initial, maximum });
        }
        Ok(())
    }
}

/// Mixes the seed, the call and the attempt into 64 bits (with the finaliser of SplitMix64, by Steele, Lea and
/// Flood).
fn mix(seed: u64, attempt: AttemptInfo) -> u64 {
    let attempts = u64::from(attempt.number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut z =
        (seed ^ attempt.request_id.wrapping_mul(0xd134_2543_de82_ef95)).wrapping_add(attempts);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in fixed point, with 32 binary places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Q32(u64);

impl Q32 {
    const ONE: Self = Self(1 << 32);
    /// The value for a number that is negative, too large or not a number.
    const INVALID: Self = Self(u64::MAX);

    pub(crate) const fn from_f64(number: f64) -> Self {
        // A comparison with a NaN is false, so a NaN is invalid as well.
        if number >= 0.0 && number <= 2_147_483_648.0 {
            Self((number * 4_294_967_296.0) as u64)
        } else {
            Self::INVALID
        }
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    pub(super) const fn is_at_most_one(self) -> bool {
        self.0 <= Self::ONE.0
    }

    pub(crate) const fn is_at_least_one(self) -> bool {
        // `INVALID` is the largest number, so it needs a test of its own here, and nowhere else.
        self.0 >= Self::ONE.0 && self.0 != Self::INVALID.0
    }

    /// True for a number above 0 and below 1.
    pub(crate) const fn is_between_zero_and_one(self) -> bool {
        self.0 > 0 && self.0 < Self::ONE.0
    }

    /// `number` times this one, rounded down.
    pub(crate) fn times(self, number: u64) -> u64 {
        saturate((u128::from(self.0) * u128::from(number)) >> 32)
    }

    pub(crate) fn times_rounded_up(self, number: u64) -> u64 {
        saturate((u128::from(self.0) * u128::from(number) + (u128::from(u32::MAX))) >> 32)
    }
}

fn saturate(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: u32, request_id: u64) -> AttemptInfo {
        AttemptInfo { number, retry: number - 1, request_id, time_left: None }
    }

    fn millis(schedule: &Exponential, attempts: core::ops::RangeInclusive<u32>) -> [u128; 8] {
        let mut delays = [0; 8];
        for (at, number) in attempts.enumerate() {
            delays[at] = schedule.delay(attempt(number, 1)).as_millis();
        }
        delays
    }

    // R1, R2
    #[test]
    fn the_delay_doubles_up_to_the_maximum() {
        let mut schedule = Exponential::new(Duration::from_millis(100));
        assert_eq!(millis(&schedule, 1..=8), [100, 200, 400, 800, 1600, 3200, 6400, 12800]);
        schedule.set_maximum(Duration::from_millis(700));
        assert_eq!(millis(&schedule, 1..=8), [100, 200, 400, 700, 700, 700, 700, 700]);
        schedule.set_factor(1.5);
        assert_eq!(millis(&schedule, 1..=8)[..5], [100, 150, 225, 337, 506]);
    }

    // R2: overflow saturates, and quickly.
    #[test]
    fn overflow_saturates() {
        let mut schedule = Exponential::new(Duration::from_secs(1));
        schedule.set_maximum(Duration::MAX);
        schedule.set_factor(2_147_483_648.0);
        let far = Duration::from_nanos(i64::MAX as u64);
        assert_eq!(schedule.delay(attempt(3, 1)), far);
        assert_eq!(schedule.delay(attempt(u32::MAX, 1)), far);
    }

    // R2: jitter takes off at most its share, differs by call, and repeats.
    #[test]
    fn jitter_is_seeded_and_bounded() {
        let full = Duration::from_millis(100);
        let mut schedule = Exponential::new(full);
        schedule.set_jitter(0.5, 7);
        let mut distinct = 0;
        let mut last = full;
        for call in 0..1000 {
            let delay = schedule.delay(attempt(1, call));
            assert!(delay <= full && delay >= full / 2, "{delay:?}");
            assert_eq!(delay, schedule.delay(attempt(1, call)));
            distinct += usize::from(delay != last);
            last = delay;
        }
        assert!(distinct > 990, "{distinct}");
    }

    // R2: senseless settings are refused.
    #[test]
    fn invalid_settings_are_refused() {
        let sound = Exponential::new(Duration::from_millis(100));
        assert_eq!(sound.check(), Ok(()));
        for factor in [0.99, 0.0, -1.0, f64::NAN, f64::INFINITY, 3e9] {
            let mut schedule = sound;
            schedule.set_factor(factor);
            assert_eq!(schedule.check(), Err(ConfigError::BackoffFactor), "{factor}");
        }
        for share in [-0.1, 1.1, f64::NAN] {
            let mut schedule = sound;
            schedule.set_jitter(share, 0);
            assert_eq!(schedule.check(), Err(ConfigError::Jitter), "{share}");
        }
        let mut schedule = sound;
        schedule.set_maximum(Duration::from_millis(99));
        assert!(matches!(schedule.check(), Err(ConfigError::BackoffMaximum { .. })));
        // A long initial delay raises the default maximum.
        assert_eq!(Exponential::new(Duration::from_secs(90)).check(), Ok(()));
    }
}
