//! The retry budget bounds the retries of all records together, so that an outage does not multiply the load (R7).

use core::fmt;

use super::schedule::Q32;
use crate::config_error::ConfigError;

/// A token bucket: each retry takes a token, and each success puts a part of one back.
///
/// When it is empty, nothing is retried: an attempt's result is the call's outcome. The idea is that of
/// Finagle's retry budget and of gRPC's retry throttling.
///
/// ```
/// use inflight_core::{AsyncWait, RetryBudget};
///
/// // 100 retries at once, and in the long run one for ten successes.
/// let policy = AsyncWait::ordered(64).retry_budget(RetryBudget::new(100, 0.1));
/// # let _ = policy;
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// In fixed point with 32 binary places, as [`Q32`].
    tokens: u64,
    most: u64,
    per_success: Q32,
}

impl RetryBudget {
    /// A full bucket of `tokens` tokens, into which each success puts `per_success` of a token (0 to 1).
    pub const fn new(tokens: u32, per_success: f64) -> Self {
        let most = (tokens as u64) << 32;
        Self { tokens: most, most, per_success: Q32::from_f64(per_success) }
    }

    pub(crate) const fn check(&self) -> Result<(), ConfigError> {
        if self.per_success.is_at_most_one() { Ok(()) } else { Err(ConfigError::RetryBudget) }
    }

    /// Takes a token for a retry, if there is one.
    pub(crate) fn withdraw(&mut self) -> bool {
        // With less than a whole token there is no retry, and the fraction stays.
        let left = self.tokens.checked_sub(1 << 32);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }

    /// Puts back the share of a token that a success earns.
    pub(crate) fn deposit(&mut self) {
        // R2: the largest bucket is close to `u64::MAX`, so the sum may overflow.
        self.tokens = self.tokens.saturating_add(self.per_success.bits()).min(self.most);
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget").field("tokens", &(self.tokens >> 32)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // R2, R7: the largest bucket does not overflow, and a token that was taken comes back.
    #[test]
    fn the_largest_bucket_saturates() {
        let full = RetryBudget::new(u32::MAX, 1.0);
        let mut budget = full;
        budget.deposit();
        assert_eq!(budget, full);
        assert!(budget.withdraw());
        budget.deposit();
        assert_eq!(budget, full);
    }
}
