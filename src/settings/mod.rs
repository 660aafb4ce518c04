//! The policy of a stage as data, for a program's configuration file.
//!
//! [`serde`] reads and writes [`Settings`], durations as people write them (`"250ms"`, `"1m 30s"`).
//! [`policy`](Settings::policy) checks them and makes a policy of them; its errors name the field.
//!
//! ```
//! use inflight::settings::Settings;
//!
//! # #[derive(Debug)]
//! # struct Busy;
//! let file = r#"
//!     order = "unordered"
//!     capacity = 100
//!     timeout = "5s"
//!     attempt_timeout = "1s"
//!
//!     [retry]
//!     initial = "50ms"
//!     max_retries = 4
//! "#;
//! let settings: Settings = toml::from_str(file)?;
//! // The choice of errors to retry is code, and is added here.
//! let policy = settings.policy()?.retry(settings.backoff().when_error(|_: &Busy| true));
//! # let _ = policy;
//!
//! let wrong: Settings = toml::from_str("capacity = 0")?;
//! let error = wrong.policy().unwrap_err();
//! assert_eq!(error.to_string(), "capacity: the capacity is zero; it must be at least 1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod duration;
mod error;
mod order;

use std::time::Duration;

use inflight_core::{
    AsyncWait, ExponentialBackoff, FinishPolicy, KeyBy, NoRetry, Order, RetryBudget, Unkeyed,
};
use serde::{Deserialize, Serialize};

pub use self::error::{Problem, SettingsError};

/// The part of a policy that is data. A field that is left out has the default of [`AsyncWait`]; an unknown field is
/// refused.
///
/// Reading checks the form alone; [`policy`](Self::policy) checks the values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// How many records may be in flight. The one field that must be there.
    pub capacity: usize,
    /// The order in which outcomes leave, written as `"ordered"` (the default), `"unordered"`, `"by-key"` or
    /// `"by-key-overlapping"`.
    #[serde(default, with = "order::Named")]
    pub order: Order,
    /// How long a call may take, with all its attempts. Unbounded by default.
    #[serde(default, with = "duration::timeout", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How long one attempt may take. Unbounded by default.
    #[serde(default, with = "duration::attempt_timeout", skip_serializing_if = "Option::is_none")]
    pub attempt_timeout: Option<Duration>,
    /// How many attempts may run at once: as many as records are in flight, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<usize>,
    /// How far the capacity can be raised later: not at all, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_capacity: Option<usize>,
    /// When and how often an attempt that failed is made again: never, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Backoff>,
    /// The retry budget, a bound on the retries of all records together: none, by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<Budget>,
    /// What happens to calls in backoff when the input has ended: all their retries, by default.
    #[serde(default)]
    pub finish_policy: Finish,
}

/// The delays between attempts: [`ExponentialBackoff`] as data, with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Backoff {
    /// The delay before the first retry.
    #[serde(with = "duration::initial")]
    pub initial: Duration,
    /// By how much each delay is longer than the one before: 2 by default, and 1 for always the same.
    #[serde(default = "two")]
    pub factor: f64,
    /// No delay is longer than this: one minute by default, or the initial delay if that is longer.
    #[serde(default, with = "duration::max_delay", skip_serializing_if = "Option::is_none")]
    pub max_delay: Option<Duration>,
    /// The share (0 to 1) of a delay that is taken off at random, at most: 0 by default.
    #[serde(default)]
    pub jitter: f64,
    /// The seed of that: 0 by default.
    #[serde(default)]
    pub jitter_seed: u64,
    /// The most retries of one call: 3 by default.
    #[serde(default = "three")]
    pub max_retries: u32,
}

/// [`RetryBudget`] as data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Budget {
    /// Retries that can be made at once.
    pub tokens: u32,
    /// The part of a token, 0 to 1, that each success gives back.
    pub per_success: f64,
}

/// [`FinishPolicy`] as data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Finish {
    /// `"all-retries"`.
    #[default]
    AllRetries,
    /// `"last-attempt"`.
    LastAttempt,
}

impl Settings {
    /// The defaults, with this capacity.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            order: Order::default(),
            timeout: None,
            attempt_timeout: None,
            max_running: None,
            max_capacity: None,
            retry: None,
            retry_budget: None,
            finish_policy: Finish::default(),
        }
    }

    /// The policy, all of the settings checked. It does not retry yet: give it
    /// [`backoff`](Self::backoff), as it is or with predicates.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for a setting that makes no sense, and for an order by key, which needs a key function:
    /// see [`policy_by_key`](Self::policy_by_key).
    pub fn policy(&self) -> Result<AsyncWait, SettingsError> {
        let policy = match self.order {
            Order::Ordered => AsyncWait::ordered(self.capacity),
            Order::Unordered => AsyncWait::unordered(self.capacity),
            Order::ByKey | Order::ByKeyOverlapping => {
                return Err(SettingsError::new("order", Problem::Unkeyed));
            }
            _ => return Err(SettingsError::new("order", Problem::UnknownOrder)),
        };
        self.check()?;
        Ok(self.complete(policy))
    }

    /// The policy of a program that has a key function, whatever order is set. Annotate the closure's
    /// parameter: `|reading: &Reading| reading.sensor`.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] for a setting that makes no sense.
    pub fn policy_by_key<In, K, F>(
        &self,
        key: F,
    ) -> Result<AsyncWait<NoRetry, KeyBy<F>>, SettingsError>
    where
        F: Fn(&In) -> K,
        K: std::hash::Hash,
    {
        self.check()?;
        Ok(self.complete(match self.order {
            Order::Ordered => AsyncWait::ordered(self.capacity).with_key(key),
            Order::Unordered => AsyncWait::unordered(self.capacity).with_key(key),
            Order::ByKey => AsyncWait::ordered_by_key(self.capacity, key),
            Order::ByKeyOverlapping => AsyncWait::ordered_by_key(self.capacity, key).overlapping(),
            _ => return Err(SettingsError::new("order", Problem::UnknownOrder)),
        }))
    }

    /// The retry strategy that [`retry`](Self::retry) describes; without one it never retries.
    #[must_use]
    pub fn backoff(&self) -> ExponentialBackoff {
        let Some(retry) = &self.retry else {
            return ExponentialBackoff::new(Duration::ZERO).max_retries(0);
        };
        let backoff = ExponentialBackoff::new(retry.initial)
            .factor(retry.factor)
            .jitter(retry.jitter, retry.jitter_seed)
            .max_retries(retry.max_retries);
        match retry.max_delay {
            Some(maximum) => backoff.max_delay(maximum),
            None => backoff,
        }
    }

    fn complete<K>(&self, mut policy: AsyncWait<NoRetry, K>) -> AsyncWait<NoRetry, K> {
        if let Some(timeout) = self.timeout {
            policy = policy.timeout(timeout);
        }
        if let Some(timeout) = self.attempt_timeout {
            policy = policy.attempt_timeout(timeout);
        }
        if let Some(attempts) = self.max_running {
            policy = policy.max_running(attempts);
        }
        if let Some(capacity) = self.max_capacity {
            policy = policy.max_capacity(capacity);
        }
        if let Some(budget) = self.retry_budget {
            policy = policy.retry_budget(RetryBudget::new(budget.tokens, budget.per_success));
        }
        policy.finish_policy(match self.finish_policy {
            Finish::AllRetries => FinishPolicy::AllRetries,
            Finish::LastAttempt => FinishPolicy::LastAttempt,
        })
    }

    /// An operator checks its policy when it is built, so this builds one and drops it.
    fn check(&self) -> Result<(), SettingsError> {
        let policy: AsyncWait<NoRetry, Unkeyed> = AsyncWait::ordered(self.capacity);
        let built = self.complete(policy).retry(self.backoff()).build_core::<(), (), ()>();
        built.map(drop).map_err(|error| SettingsError::of(error, self))
    }
}

impl Backoff {
    /// The defaults, with this delay before the first retry.
    #[must_use]
    pub fn new(initial: Duration) -> Self {
        Self {
            initial,
            factor: two(),
            max_delay: None,
            jitter: 0.0,
            jitter_seed: 0,
            max_retries: three(),
        }
    }
}

impl Budget {
    /// A retry budget of `tokens` retries at once, to which each success gives back `per_success` of one.
    #[must_use]
    pub fn new(tokens: u32, per_success: f64) -> Self {
        Self { tokens, per_success }
    }
}

fn two() -> f64 {
    2.0
}

fn three() -> u32 {
    3
}
