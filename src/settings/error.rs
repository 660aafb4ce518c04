//! The error for a setting that makes no sense, which names the field.

use std::fmt;

use inflight_core::ConfigError;

use super::Settings;

/// A setting that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SettingsError {
    field: &'static str,
    problem: Problem,
}

/// The problem with a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Problem {
    /// The operator refuses the value.
    Refused(ConfigError),
    /// An order by key is set, and the program has no key function.
    Unkeyed,
    /// The order is one that a newer `inflight-core` has, and settings do not know it yet.
    UnknownOrder,
}

impl SettingsError {
    pub(crate) const fn new(field: &'static str, problem: Problem) -> Self {
        Self { field, problem }
    }

    pub(crate) fn of(error: ConfigError, settings: &Settings) -> Self {
        let field = match error {
            ConfigError::CapacityTooLarge { capacity, .. }
                if settings.max_capacity == Some(capacity) =>
            {
                "max_capacity"
            }
            ConfigError::ZeroCapacity | ConfigError::CapacityTooLarge { .. } => "capacity",
            ConfigError::ZeroTimeout => "timeout",
            ConfigError::ZeroAttemptTimeout => "attempt_timeout",
            ConfigError::ZeroMaxRunning => "max_running",
            ConfigError::RetryBudget => "retry_budget.per_success",
            ConfigError::BackoffFactor => "retry.factor",
            ConfigError::BackoffMaximum { .. } => "retry.max_delay",
            ConfigError::Jitter => "retry.jitter",
            _ => "settings",
        };
        Self::new(field, Problem::Refused(error))
    }

    /// The field, as it is written in the file; `retry.factor` is the field `factor` of `retry`.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The problem with it.
    pub fn problem(&self) -> Problem {
        self.problem
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Unkeyed => f.write_str("this stage has no key that it could keep an order by"),
            Self::UnknownOrder => f.write_str("settings do not know this order yet"),
        }
    }
}

impl std::error::Error for SettingsError {}
