//! An operator from its policy.

use super::Operator;
use crate::config_error::ConfigError;
use crate::policy::{AsyncWait, Extras};
use crate::retry::{NoRetry, RetryStrategy};
use crate::storage::Fixed;
#[cfg(feature = "alloc")]
use crate::storage::Heap;

impl<R, K, X> AsyncWait<R, K, X> {
    /// The operator alone, for an engine of one's own. Its tables are on the heap. It asks the
    /// policy's key function for each record's key:
    ///
    /// ```
    /// use inflight_core::{AsyncWait, Instant, StreamElement};
    ///
    /// let policy = AsyncWait::ordered_by_key(9, |reading: &(u8, i32)| reading.0);
    /// let mut op = policy.build_core::<_, (), ()>().unwrap();
    /// for reading in [(1, 20), (1, 21), (2, 18)] {
    ///     op.push(Instant::ZERO, StreamElement::value(reading)).unwrap();
    /// }
    /// let asked: Vec<_> =
    ///     std::iter::from_fn(|| op.poll_attempt(Instant::ZERO).map(|attempt| *attempt.input)).collect();
    /// assert_eq!(asked, [(1, 20), (2, 18)], "the second reading of sensor 1 waits for the first");
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a setting makes no sense.
    #[cfg(feature = "alloc")]
    pub fn build_core<In, Out, E>(
        self,
    ) -> Result<Operator<(In, Out, E, R, K, X), Heap>, ConfigError>
    where
        R: RetryStrategy<In, Out, E>,
        X: Extras<In, Out, E>,
    {
        Operator::new(self.settings, self.retry, self.key, self.extras)
    }

    /// The operator alone, with its tables in place and no allocator.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a setting makes no sense, also when the capacity is larger than `N`.
    pub fn build_fixed<In, Out, E, const N: usize>(
        self,
    ) -> Result<Operator<(In, Out, E, R, K, X), Fixed<N>>, ConfigError>
    where
        R: RetryStrategy<In, Out, E>,
        X: Extras<In, Out, E>,
    {
        Operator::new(self.settings, self.retry, self.key, self.extras)
    }
}

impl<K: Copy, X: Copy> AsyncWait<NoRetry, K, X> {
    /// The operator alone, with its tables in place, in a `static` or a `const`: it is built when the program is compiled.
    /// The strategy is given here ([`NoRetry`] for none), since [`retry`](Self::retry) cannot be called there.
    ///
    /// A strategy cannot be checked when the program is compiled: ask
    /// [`check_retry`](Operator::check_retry) once at the start if its settings might make no sense.
    ///
    /// ```
    /// use core::time::Duration;
    /// use std::sync::Mutex;
    ///
    /// use inflight_core::{AsyncWait, Fixed, FixedDelay, Instant, Operator, StreamElement, Unkeyed};
    ///
    /// type Readings = Operator<(u32, u32, (), FixedDelay, Unkeyed, ()), Fixed<16>>;
    ///
    /// static READINGS: Mutex<Readings> = Mutex::new(
    ///     AsyncWait::ordered(16)
    ///         .timeout(Duration::from_millis(200))
    ///         .build_static(FixedDelay::new(Duration::from_millis(10)).max_retries(2))
    ///         .checkpointed("readings", 1),
    /// );
    ///
    /// let mut readings = READINGS.lock().unwrap();
    /// readings.check_retry().unwrap();
    /// readings.push(Instant::ZERO, StreamElement::value(7)).unwrap();
    /// assert_eq!(readings.poll_attempt(Instant::ZERO).map(|attempt| *attempt.input), Some(7));
    /// ```
    ///
    /// # Panics
    ///
    /// When a setting makes no sense; in a `static` or a `const` that is an error when the program is
    /// compiled:
    ///
    /// ```compile_fail
    /// use inflight_core::{AsyncWait, Fixed, NoRetry, Operator, Unkeyed};
    ///
    /// const TOO_MANY: Operator<(u32, u32, (), NoRetry, Unkeyed, ()), Fixed<16>> =
    ///     AsyncWait::ordered(17).build_static(NoRetry);
    /// # let _ = TOO_MANY;
    /// ```
    #[must_use]
    pub const fn build_static<In, Out, E, R, const N: usize>(
        self,
        retry: R,
    ) -> Operator<(In, Out, E, R, K, X), Fixed<N>>
    where
        R: RetryStrategy<In, Out, E>,
        X: Extras<In, Out, E>,
    {
        match self.settings.check_for(N) {
            Ok(()) => Operator::unchecked(self.settings, retry, self.key, self.extras, None),
            Err(_) => panic!("a setting makes no sense; `build_fixed` would say which"),
        }
    }
}
