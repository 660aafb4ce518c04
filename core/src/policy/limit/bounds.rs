//! The bounds of a limit.

use crate::config_error::ConfigError;

/// The lowest and the highest value of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: usize,
    pub(super) max: usize,
}

impl Bounds {
    /// The nearest limit within the bounds. Bounds that make no sense are no reason to panic: `check` refuses them.
    pub(super) fn nearest(self, limit: usize) -> usize {
        limit.min(self.max).max(self.min)
    }

    /// C1: checks the bounds, and the limit at the start.
    pub(super) fn check(self, start: usize) -> Result<(), ConfigError> {
        let Self { min, max } = self;
        if min == 0 || min > max {
            return Err(ConfigError::LimitBounds { min, max });
        }
        if start < min || start > max {
            return Err(ConfigError::LimitStart { start, min, max });
        }
        Ok(())
    }
}
