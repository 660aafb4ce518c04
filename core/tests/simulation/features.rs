//! What the operator can do by now. The model knows every rule; scripts only use what is `true` here.

/// O3: records of one key in order.
pub(crate) const BY_KEY: bool = false;
/// C7: fewer attempts running at once than records in flight.
pub(crate) const RUNNING_LIMIT: bool = false;
/// C8: capacity and limit changed while running.
pub(crate) const CHANGES: bool = false;
/// T3: another end for a call that timed out.
pub(crate) const TIMEOUT_ACTIONS: bool = false;
/// R5: the end of the input.
pub(crate) const FINISH: bool = false;
/// R7: a budget for retries.
pub(crate) const BUDGET: bool = false;
/// K2: results of calls that are done kept in the snapshot.
pub(crate) const KEPT_RESULTS: bool = false;
/// K3: a time limit for draining.
pub(crate) const DRAIN_LIMIT: bool = false;
/// L3: the end of everything that has no outcome yet.
pub(crate) const SHUT_DOWN: bool = false;
