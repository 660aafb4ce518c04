//! The policy of a stage: how many, in which order, how long, how often again.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::time::Duration;

use crate::keys::{Keys, NoKeys};
use crate::operator::Operator;
use crate::retry::{NoRetry, RetryBudget, RetryStrategy};
use crate::storage::{Fixed, Storage};

/// How a stage waits: the capacity, the order, the timeouts and the retry strategy.
///
/// Building a policy never fails; whoever turns it into a stage or an operator checks it and answers
/// [`ConfigError`].
///
/// | setting | default |
/// | --- | --- |
/// | [`timeout`](Self::timeout) | none: a call may take forever |
/// | [`attempt_timeout`](Self::attempt_timeout) | none |
/// | [`retry`](Self::retry) | [`NoRetry`] |
/// | [`retry_budget`](Self::retry_budget) | none |
/// | [`max_running`](Self::max_running) | as many as the capacity |
/// | [`max_capacity`](Self::max_capacity) | the capacity |
/// | [`finish_policy`](Self::finish_policy) | [`FinishPolicy::AllRetries`] |
///
/// ```
/// use core::time::Duration;
/// use inflight_core::{AsyncWait, ExponentialBackoff};
///
/// let policy = AsyncWait::unordered(64)
///     .timeout(Duration::from_secs(2))
///     .retry(ExponentialBackoff::new(Duration::from_millis(50)).max_retries(3));
/// # let _ = policy;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a policy does nothing by itself"]
pub struct AsyncWait<R = NoRetry, K = NoKey> {
    pub(crate) settings: Settings,
    pub(crate) retry: R,
    pub(crate) key: K,
}

/// The settings that have no type parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) order: Order,
    pub(crate) capacity: usize,
    pub(crate) timeout: Option<Duration>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) max_capacity: Option<usize>,
    pub(crate) max_running: Option<usize>,
    pub(crate) retry_budget: Option<RetryBudget>,
    pub(crate) finish_policy: FinishPolicy,
}

/// The order in which outcomes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Ordered,
    Unordered,
    /// By key; attempts of one key may overlap.
    ByKey,
    /// By key, one attempt at a time for each.
    SerialByKey,
}

/// What happens to calls in backoff when the input has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FinishPolicy {
    /// They finish normally, with all their retries.
    #[default]
    AllRetries,
    /// Every record in backoff is invoked once more at once, and nothing is retried any more. This is
    /// what Apache Flink does.
    LastAttempt,
}

impl AsyncWait<NoRetry> {
    /// Outcomes leave in the order in which their inputs came. At most `capacity` records are in
    /// flight, those included that are done and wait for their turn.
    pub const fn ordered(capacity: usize) -> Self {
        Self::with_order(Order::Ordered, capacity)
    }

    /// Outcomes leave as they come, but never cross a control element. At most `capacity` records
    /// are in flight.
    pub const fn unordered(capacity: usize) -> Self {
        Self::with_order(Order::Unordered, capacity)
    }

    /// The same order with a key that plays no part in it, so that this policy has the type of one by key: a
    /// program that chooses the order while it runs then contains one stage and not two. A checkpoint can be
    /// split by the key all the same.
    ///
    /// ```
    /// use inflight_core::AsyncWait;
    ///
    /// struct Reading {
    ///     sensor: u8,
    /// }
    ///
    /// fn policy(by_sensor: bool) -> AsyncWait<impl Sized, impl Sized> {
    ///     let sensor = |reading: &Reading| reading.sensor;
    ///     match by_sensor {
    ///         true => AsyncWait::ordered_by_key(16, sensor),
    ///         false => AsyncWait::ordered(16).with_key(sensor),
    ///     }
    /// }
    /// # let _ = (policy(true), policy(false), Reading { sensor: 0 }.sensor);
    /// ```
    pub const fn with_key<In, K, F>(self, key: F) -> AsyncWait<NoRetry, ByKey<F>>
    where
        F: Fn(&In) -> K,
        K: Hash,
    {
        AsyncWait { settings: self.settings, retry: NoRetry, key: ByKey(key) }
    }

    const fn with_order(order: Order, capacity: usize) -> Self {
        Self { settings: Settings::new(order, capacity), retry: NoRetry, key: NoKey }
    }
}

impl Settings {
    const fn new(order: Order, capacity: usize) -> Self {
        Self {
            order,
            capacity,
            timeout: None,
            attempt_timeout: None,
            max_capacity: None,
            max_running: None,
            retry_budget: None,
            finish_policy: FinishPolicy::AllRetries,
        }
    }
}

impl<F> AsyncWait<NoRetry, ByKey<F>> {
    /// Outcomes leave as they come, but those of one key in the order in which their inputs came, and
    /// none crosses a control element. At most `capacity` records are in flight.
    ///
    /// For each key one attempt runs at a time: the next record of the key is invoked when the one
    /// before has its outcome. See [`overlapping`](Self::overlapping). Annotate the closure's
    /// parameter: `|reading: &Reading| reading.sensor`.
    pub const fn ordered_by_key<In, K>(capacity: usize, key: F) -> Self
    where
        F: Fn(&In) -> K,
        K: Hash,
    {
        let settings = Settings::new(Order::SerialByKey, capacity);
        Self { settings, retry: NoRetry, key: ByKey(key) }
    }
}

impl<R, F> AsyncWait<R, ByKey<F>> {
    /// Invokes the records of one key without waiting for each other; only their outcomes leave in
    /// order. A policy whose order is not by key does so in any case.
    pub const fn overlapping(mut self) -> Self {
        if matches!(self.settings.order, Order::SerialByKey) {
            self.settings.order = Order::ByKey;
        }
        self
    }
}

impl<K> AsyncWait<NoRetry, K> {
    /// Sets when a call is tried again. Once only: the strategy is part of the type.
    pub fn retry<R>(self, strategy: R) -> AsyncWait<R, K> {
        AsyncWait { settings: self.settings, retry: strategy, key: self.key }
    }
}

impl<K: Copy> AsyncWait<NoRetry, K> {
    /// The operator alone, with its tables in place, where it is built when the program is compiled: in a
    /// `static` or a `const`. The strategy is given here ([`NoRetry`] for none), since [`retry`](Self::retry)
    /// cannot be said there.
    ///
    /// A strategy cannot be checked when the program is compiled: ask
    /// [`check_retry`](Operator::check_retry) once at the start if its settings might make no sense.
    ///
    /// ```
    /// use core::time::Duration;
    /// use std::sync::Mutex;
    ///
    /// use inflight_core::{AsyncWait, Fixed, FixedDelay, Instant, Operator, StreamElement};
    ///
    /// type Readings = Operator<u32, u32, (), FixedDelay, Fixed<16>>;
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
    /// assert_eq!(readings.poll_call(Instant::ZERO).map(|call| *call.input), Some(7));
    /// ```
    ///
    /// # Panics
    ///
    /// When a setting makes no sense; in a `static` or a `const` that is an error when the program is
    /// compiled:
    ///
    /// ```compile_fail
    /// use inflight_core::{AsyncWait, Fixed, NoRetry, Operator};
    ///
    /// const TOO_MANY: Operator<u32, u32, (), NoRetry, Fixed<16>> =
    ///     AsyncWait::ordered(17).build_static(NoRetry);
    /// # let _ = TOO_MANY;
    /// ```
    #[must_use]
    pub const fn build_static<In, Out, E, R, const N: usize>(
        self,
        retry: R,
    ) -> Operator<In, Out, E, R, Fixed<N>>
    where
        R: RetryStrategy<In, Out, E>,
    {
        match self.settings.check_for(N) {
            Ok(()) => Operator::unchecked(self.settings, retry, None),
            Err(_) => panic!("a setting makes no sense; `build_fixed` would say which"),
        }
    }
}

impl<R, K> AsyncWait<R, K> {
    /// Bounds a whole call: all its attempts and the backoffs between them, from the first
    /// invocation. Waiting for a place does not count. Zero is refused when the stage is built.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Bounds one attempt. An attempt that takes longer is cancelled and ends with
    /// [`Failure::AttemptTimedOut`](crate::Failure::AttemptTimedOut), which the retry strategy may
    /// retry. Zero is refused when the stage is built.
    pub const fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.settings.attempt_timeout = Some(timeout);
        self
    }

    /// Bounds the attempts that run at once, below the capacity: window and concurrency are two
    /// numbers. Records in backoff do not count as running. Zero is refused when the stage is built.
    pub const fn max_running(mut self, attempts: usize) -> Self {
        self.settings.max_running = Some(attempts);
        self
    }

    /// Up to where the capacity can be raised while the stage runs.
    pub const fn max_capacity(mut self, capacity: usize) -> Self {
        self.settings.max_capacity = Some(capacity);
        self
    }

    /// Bounds the retries of all records together.
    pub const fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.settings.retry_budget = Some(budget);
        self
    }

    /// What happens to calls in backoff when the input has ended.
    pub const fn finish_policy(mut self, policy: FinishPolicy) -> Self {
        self.settings.finish_policy = policy;
        self
    }

    /// The operator alone, for people with an engine of their own. Its tables are on the heap. It is
    /// told each record's key by [`push_with_key`](Operator::push_with_key).
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a setting makes no sense.
    #[cfg(feature = "alloc")]
    pub fn build_core<In, Out, E>(
        self,
    ) -> Result<Operator<In, Out, E, R, crate::storage::Heap>, ConfigError>
    where
        R: RetryStrategy<In, Out, E>,
    {
        Operator::new(self.settings, self.retry)
    }

    /// The operator alone, with its tables in place and no allocator.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when a setting makes no sense, also when the capacity is larger than `N`.
    pub fn build_fixed<In, Out, E, const N: usize>(
        self,
    ) -> Result<Operator<In, Out, E, R, Fixed<N>>, ConfigError>
    where
        R: RetryStrategy<In, Out, E>,
    {
        Operator::new(self.settings, self.retry)
    }
}

impl Settings {
    /// The largest capacity that the operator can be given while it runs.
    pub(crate) const fn max_capacity(&self) -> usize {
        match self.max_capacity {
            Some(capacity) => capacity,
            None => self.capacity,
        }
    }

    /// Whether an operator over the storage `S` can be built.
    pub(crate) fn check<S: Storage>(&self) -> Result<(), ConfigError> {
        self.check_for(S::MAX_CAPACITY)
    }

    /// Whether one over a storage with that many places can.
    const fn check_for(&self, maximum: usize) -> Result<(), ConfigError> {
        let capacity = self.max_capacity();
        if capacity > maximum {
            return Err(ConfigError::CapacityTooLarge { capacity, maximum });
        }
        if let Err(error) = check_capacity(self.capacity, capacity) {
            return Err(error);
        }
        if let Some(attempts) = self.max_running
            && let Err(error) = check_max_running(attempts)
        {
            return Err(error);
        }
        if let Some(timeout) = self.timeout
            && timeout.is_zero()
        {
            return Err(ConfigError::ZeroTimeout);
        }
        if let Some(timeout) = self.attempt_timeout
            && timeout.is_zero()
        {
            return Err(ConfigError::ZeroAttemptTimeout);
        }
        match self.retry_budget {
            Some(budget) => budget.check(),
            None => Ok(()),
        }
    }
}

/// Whether a capacity makes sense where `maximum` is the largest one possible.
pub(crate) const fn check_capacity(capacity: usize, maximum: usize) -> Result<(), ConfigError> {
    match capacity {
        0 => Err(ConfigError::ZeroCapacity),
        capacity if capacity > maximum => Err(ConfigError::CapacityTooLarge { capacity, maximum }),
        _ => Ok(()),
    }
}

/// Whether a limit of the attempts running at once makes sense.
pub(crate) const fn check_max_running(attempts: usize) -> Result<(), ConfigError> {
    if attempts == 0 { Err(ConfigError::ZeroMaxRunning) } else { Ok(()) }
}

/// A record's key, as 64 bits. Sealed: a policy has [`NoKey`], or [`ByKey`] with a function of yours.
pub trait KeyOf<In>: sealed::Sealed {
    /// Where the last record of each key is found, if there are keys at all.
    #[doc(hidden)]
    type Keys<S: Storage>: Keys;

    /// The key of `input`. Part of the checkpoint format: the same in every run.
    fn key_of(&self, input: &In) -> u64;
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::NoKey {}
    impl<F> Sealed for super::ByKey<F> {}
}

/// No key: the order is that of all records, or none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKey;

impl<In> KeyOf<In> for NoKey {
    type Keys<S: Storage> = NoKeys;

    #[inline(always)]
    fn key_of(&self, _: &In) -> u64 {
        0
    }
}

/// The key is what a function of the record says.
#[derive(Clone, Copy)]
pub struct ByKey<F>(F);

impl<F> fmt::Debug for ByKey<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByKey(..)")
    }
}

impl<In, K: Hash, F: Fn(&In) -> K> KeyOf<In> for ByKey<F> {
    type Keys<S: Storage> = S::Keys;

    #[inline]
    fn key_of(&self, input: &In) -> u64 {
        hash_key(&(self.0)(input))
    }
}

/// 64 bits for a key, as a stage computes them: what an engine of one's own gives to
/// [`push_with_key`](Operator::push_with_key), and what a rescaled checkpoint is split by. The same on
/// every run; on machines of another word size or byte order it may differ.
pub fn hash_key<K: Hash + ?Sized>(key: &K) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    key.hash(&mut hasher);
    hasher.finish()
}

/// The hash of Fowler, Noll and Vo (FNV-1a): short, and the same everywhere. Keys are the user's own,
/// and what collides is only ordered where it need not be.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A setting that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// With a capacity of zero no record could ever be in flight.
    ZeroCapacity,
    /// The storage has no room for that many.
    CapacityTooLarge {
        /// What was asked for.
        capacity: usize,
        /// What the storage can hold.
        maximum: usize,
    },
    /// A timeout of zero would fail every call. For no timeout, set none.
    ZeroTimeout,
    /// An attempt timeout of zero would fail every attempt. For none, set none.
    ZeroAttemptTimeout,
    /// With no attempt running at once nothing would ever be asked.
    ZeroMaxRunning,
    /// What a success gives back to the retry budget is not between 0 and 1.
    RetryBudget,
    /// A backoff that shrinks, or grows beyond 2^31 times: the factor is below 1 or no number.
    BackoffFactor,
    /// The maximum backoff is below the initial one.
    BackoffMaximum {
        /// The initial backoff.
        initial: Duration,
        /// The maximum.
        maximum: Duration,
    },
    /// The share of a backoff that jitter may take off is not between 0 and 1.
    Jitter,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroCapacity => f.write_str("the capacity is zero; it must be at least 1"),
            Self::CapacityTooLarge { capacity, maximum } => {
                write!(f, "a capacity of {capacity} is more than the storage can hold ({maximum})")
            }
            Self::ZeroTimeout => f.write_str("the timeout is zero; for no timeout, set none"),
            Self::ZeroAttemptTimeout => {
                f.write_str("the attempt timeout is zero; for no timeout, set none")
            }
            Self::ZeroMaxRunning => {
                f.write_str("the limit of attempts running at once is zero; it must be at least 1")
            }
            Self::RetryBudget => {
                f.write_str("what a success gives back to the retry budget is not between 0 and 1")
            }
            Self::BackoffFactor => {
                f.write_str("the backoff's factor is not a number between 1 and 2^31")
            }
            Self::BackoffMaximum { initial, maximum } => {
                write!(
                    f,
                    "the maximum backoff ({maximum:?}) is below the initial one ({initial:?})"
                )
            }
            Self::Jitter => f.write_str("the jitter is not a number between 0 and 1"),
        }
    }
}

impl core::error::Error for ConfigError {}
