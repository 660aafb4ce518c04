//! The order of outcomes, by its name in a file.

use serde::{Deserialize, Serialize};

/// Names the variants of [`inflight_core::Order`] for `#[serde(with)]`, since the core does not depend on `serde` for
/// it. A variant that the core does not have, or has otherwise, does not compile.
#[derive(Serialize, Deserialize)]
#[serde(remote = "inflight_core::Order", rename = "Order", rename_all = "kebab-case")]
#[non_exhaustive]
pub(super) enum Named {
    Ordered,
    Unordered,
    ByKey,
    ByKeyOverlapping,
}
