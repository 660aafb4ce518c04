//! The policy of a stage: capacity, order, timeouts and retries.

mod batch;
pub(crate) mod extras;
mod key;
mod limit;
mod on_retry;
mod one_per_key;
mod order;
mod parts;
mod pause;
mod rate;
mod timeout_by;

use core::hash::Hash;
use core::time::Duration;

pub use self::batch::BatchSize;
pub use self::extras::Extras;
pub use self::key::{GivenKey, KeyBy, KeySelector, KeySource, Unkeyed, hash_key};
pub use self::limit::{
    AdaptiveLimit, Aimd, AnyFailure, Gradient, JudgeBy, LimitStrategy, Sample, Verdict,
};
pub use self::on_retry::{OnRetry, RetriedCall};
pub use self::one_per_key::OneAttemptPerKey;
pub use self::order::Order;
pub use self::pause::{Pausable, PauseOn};
pub use self::rate::{Count, Rate, RateLimit, WeighBy};
pub use self::timeout_by::TimeoutBy;
use crate::config_error::ConfigError;
use crate::retry::{NoRetry, RetryBudget};
use crate::storage::Storage;

/// The policy of a stage: the capacity, the order, the timeouts and the retry strategy.
///
/// Building a policy never fails. The settings are checked when a stage or an operator is made from it, which
/// returns [`ConfigError`] (C1).
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
/// Some parts are optional, and a program pays for those that it names: [`batch`](Self::batch), an adaptive [`limit`](Self::limit), a
/// [`rate`](Self::rate), pauses that errors ask for ([`pause_on`](Self::pause_on)), a timeout for each record
/// ([`timeout_by`](Self::timeout_by)), a look at each retry ([`on_retry`](Self::on_retry)) and one attempt at a time for each key of an
/// ordered stage ([`one_attempt_per_key`](AsyncWait::one_attempt_per_key)). Say the key first ([`with_key`](AsyncWait::with_key)), then the
/// retry strategy and these parts.
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
pub struct AsyncWait<R = NoRetry, K = Unkeyed, X = ()> {
    pub(crate) settings: Settings,
    pub(crate) retry: R,
    pub(crate) key: K,
    /// The optional parts.
    pub(crate) extras: X,
}

/// The retry strategy of a policy that has been given none. It makes the compiler say in these words that there is one.
#[allow(unreachable_pub)] // in a bound of a public method
#[diagnostic::on_unimplemented(
    message = "this policy has a retry strategy already: say `.retry(..)` once",
    label = "a second strategy",
    note = "`when_error` and `when_output` of a strategy choose the results that are retried"
)]
pub trait NoRetryYet {}

impl NoRetryYet for NoRetry {}

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

/// The treatment of calls in backoff when the input has ended (R5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FinishPolicy {
    /// The calls finish normally, with all their retries.
    #[default]
    AllRetries,
    /// Every record in backoff is invoked once more at once, and nothing is retried any more, as in Apache
    /// Flink.
    LastAttempt,
}

impl AsyncWait<NoRetry> {
    /// Outcomes leave in the order in which their inputs came (O1). At most `capacity` records are in
    /// flight, including those that are done and wait for records before them (C2).
    pub const fn ordered(capacity: usize) -> Self {
        Self::with_order(Order::Ordered, capacity)
    }

    /// Outcomes leave in the order in which calls complete, but never cross a control element (O2). At most
    /// `capacity` records are in flight.
    pub const fn unordered(capacity: usize) -> Self {
        Self::with_order(Order::Unordered, capacity)
    }

    /// Adds a key that does not change the order, so that this policy has the same type as one by key: a
    /// program that chooses the order at run time then contains one stage and not two. A checkpoint can still
    /// be split by the key (K8).
    ///
    /// ```
    /// use inflight_core::{AsyncWait, AsyncWaitExt, KeySelector, NoRetry};
    ///
    /// struct Reading {
    ///     sensor: u8,
    ///     raw: i32,
    /// }
    ///
    /// fn policy(by_sensor: bool) -> AsyncWait<NoRetry, impl KeySelector<Reading>> {
    ///     let sensor = |reading: &Reading| reading.sensor;
    ///     match by_sensor {
    ///         true => AsyncWait::ordered_by_key(16, sensor),
    ///         false => AsyncWait::ordered(16).with_key(sensor),
    ///     }
    /// }
    ///
    /// # #[cfg(feature = "alloc")]
    /// # fn stage(
    /// #     readings: impl futures_core::Stream<Item = Reading> + Unpin,
    /// #     by_sensor: bool,
    /// #     runtime: impl inflight_core::Runtime<Timer: Unpin>,
    /// # ) -> Result<impl futures_core::Stream, inflight_core::StartError> {
    /// let stage = readings
    ///     .async_wait(policy(by_sensor), |reading: &Reading| {
    ///         let raw = reading.raw;
    ///         async move { Ok::<_, ()>(raw - 20) }
    ///     })
    ///     .in_place(runtime)?;
    /// # Ok(stage)
    /// # }
    /// ```
    pub const fn with_key<In, K, F>(self, key: F) -> AsyncWait<NoRetry, KeyBy<F>>
    where
        F: Fn(&In) -> K,
        K: Hash,
    {
        AsyncWait { settings: self.settings, retry: NoRetry, key: KeyBy(key), extras: () }
    }

    /// Adds keys that the engine passes with each record, as for
    /// [`ordered_by_given_key`](AsyncWait::ordered_by_given_key), and that do not change the order: a checkpoint can be
    /// split by them (K8).
    pub const fn with_given_key(self) -> AsyncWait<NoRetry, GivenKey> {
        AsyncWait { settings: self.settings, retry: NoRetry, key: GivenKey, extras: () }
    }

    const fn with_order(order: Order, capacity: usize) -> Self {
        Self { settings: Settings::new(order, capacity), retry: NoRetry, key: Unkeyed, extras: () }
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

impl<F> AsyncWait<NoRetry, KeyBy<F>> {
    /// Outcomes leave in the order in which calls complete, but the outcomes of one key leave in the order in which their
    /// inputs came, and none crosses a control element (O3). At most `capacity` records are in flight.
    ///
    /// For each key one attempt runs at a time: the next record of the key is invoked when the previous one
    /// has its outcome. [`overlapping`](Self::overlapping) changes that. Annotate the closure's
    /// parameter: `|reading: &Reading| reading.sensor`.
    pub const fn ordered_by_key<In, K>(capacity: usize, key: F) -> Self
    where
        F: Fn(&In) -> K,
        K: Hash,
    {
        let settings = Settings::new(Order::ByKey, capacity);
        Self { settings, retry: NoRetry, key: KeyBy(key), extras: () }
    }
}

impl<R, F, X> AsyncWait<R, KeyBy<F>, X> {
    /// Lets the calls of one key overlap: a record is invoked without waiting for the previous one, and only
    /// their outcomes wait for each other. A policy whose order is not by key does so anyway.
    pub const fn overlapping(mut self) -> Self {
        self.settings.order = self.settings.order.overlapping();
        self
    }
}

impl AsyncWait<NoRetry, GivenKey> {
    /// The order of [`ordered_by_key`](AsyncWait::ordered_by_key), for an engine that has the keys already: it passes
    /// them with [`push_with_key`](crate::Operator::push_with_key), as 64 bits. [`hash_key`] computes such bits from a key. A
    /// restored record keeps the key that was saved with it.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, Instant, StreamElement, hash_key};
    ///
    /// let policy = AsyncWait::ordered_by_given_key(9);
    /// let mut op = policy.build_core::<u32, u32, ()>().unwrap();
    /// op.push_with_key(Instant::ZERO, hash_key("sensor 1"), StreamElement::value(20)).unwrap();
    /// # }
    /// ```
    ///
    /// No record can be pushed without a key, and a stage does not accept such a policy:
    ///
    /// ```compile_fail,E0277
    /// use inflight_core::{AsyncWait, Instant, StreamElement};
    ///
    /// let policy = AsyncWait::ordered_by_given_key(9);
    /// let mut op = policy.build_fixed::<u32, u32, (), 9>().unwrap();
    /// op.push(Instant::ZERO, StreamElement::value(20)).unwrap();
    /// ```
    pub const fn ordered_by_given_key(capacity: usize) -> Self {
        let settings = Settings::new(Order::ByKey, capacity);
        Self { settings, retry: NoRetry, key: GivenKey, extras: () }
    }
}

impl<R, X> AsyncWait<R, GivenKey, X> {
    /// Lets the calls of one key overlap, as with [`ordered_by_key`](AsyncWait::overlapping).
    pub const fn overlapping(mut self) -> Self {
        self.settings.order = self.settings.order.overlapping();
        self
    }
}

impl<R, K, X> AsyncWait<R, K, X> {
    /// Sets the retry strategy. It can be set once only, because it is part of the type.
    pub fn retry<S>(self, strategy: S) -> AsyncWait<S, K, X>
    where
        R: NoRetryYet,
    {
        AsyncWait { settings: self.settings, retry: strategy, key: self.key, extras: self.extras }
    }

    /// The order in which outcomes leave.
    pub const fn order(&self) -> Order {
        self.settings.order
    }

    /// Bounds a whole call: all its attempts and the backoffs between them, from the first invocation (T1).
    /// Waiting for a slot does not count. Zero is refused when the stage is built.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Bounds one attempt. An attempt that takes longer is cancelled and ends with
    /// [`Failure::AttemptTimedOut`](crate::Failure::AttemptTimedOut), which the retry strategy may
    /// retry (T2). Zero is refused when the stage is built.
    pub const fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.settings.attempt_timeout = Some(timeout);
        self
    }

    /// Bounds the attempts that run at once, below the capacity (C7): the window and the concurrency are two
    /// numbers. Records in backoff do not count as running. Zero is refused when the stage is built.
    pub const fn max_running(mut self, attempts: usize) -> Self {
        self.settings.max_running = Some(attempts);
        self
    }

    /// Sets the highest capacity that can be set while the stage runs (C8).
    pub const fn max_capacity(mut self, capacity: usize) -> Self {
        self.settings.max_capacity = Some(capacity);
        self
    }

    /// Bounds the retries of all records together (R7).
    pub const fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.settings.retry_budget = Some(budget);
        self
    }

    /// Sets the treatment of calls in backoff when the input has ended.
    pub const fn finish_policy(mut self, policy: FinishPolicy) -> Self {
        self.settings.finish_policy = policy;
        self
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

    /// C1: checks all settings for an operator over the storage `S`.
    pub(crate) fn check<S: Storage>(&self) -> Result<(), ConfigError> {
        self.check_for(S::MAX_CAPACITY)
    }

    /// C1: checks all settings for a storage with `maximum` slots.
    pub(crate) const fn check_for(&self, maximum: usize) -> Result<(), ConfigError> {
        // Without `?`, which a `const fn` cannot use.
        let capacity = self.max_capacity();
        if capacity > maximum {
            return Err(ConfigError::CapacityTooLarge { capacity, maximum });
        }
        // C8: the capacity must not exceed the maximum up to which it can be raised.
        if let Err(error) = check_capacity(self.capacity, capacity) {
            return Err(error);
        }
        // C7
        if let Some(attempts) = self.max_running
            && let Err(error) = check_max_running(attempts)
        {
            return Err(error);
        }
        // T8
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

/// Checks a capacity, of which `maximum` is the largest possible one.
pub(crate) const fn check_capacity(capacity: usize, maximum: usize) -> Result<(), ConfigError> {
    match capacity {
        0 => Err(ConfigError::ZeroCapacity),
        capacity if capacity > maximum => Err(ConfigError::CapacityTooLarge { capacity, maximum }),
        _ => Ok(()),
    }
}

/// Checks a limit of the attempts that run at once.
pub(crate) const fn check_max_running(attempts: usize) -> Result<(), ConfigError> {
    if attempts == 0 { Err(ConfigError::ZeroMaxRunning) } else { Ok(()) }
}
