//! Features of the operator. The model knows every rule; scripts use only the features that are `true` here.

/// O3: records of one key in order.
pub(crate) const BY_KEY: bool = true;
/// C7: fewer attempts running at once than records in flight.
pub(crate) const RUNNING_LIMIT: bool = true;
/// C8: capacity and limit changed while running.
pub(crate) const CHANGES: bool = true;
/// T3: another end for a call that timed out.
pub(crate) const TIMEOUT_ACTIONS: bool = true;
/// R5: the end of the input.
pub(crate) const FINISH: bool = true;
/// R7: a retry budget.
pub(crate) const BUDGET: bool = true;
/// K2: results of calls that are done kept in the snapshot.
pub(crate) const KEPT_RESULTS: bool = true;
/// K3: a time limit for draining.
pub(crate) const DRAIN_LIMIT: bool = true;
/// L3: the end of everything that has no outcome yet.
pub(crate) const SHUT_DOWN: bool = true;
/// T4: an attempt timeout or the end of a backoff counts although it is judged late, when the call's own timeout has
/// passed as well; without this feature, only the call's timeout counts then.
pub(crate) const LATE_JUDGEMENT_IN_ORDER: bool = false;
/// K3: a drained checkpoint has an empty section; without this feature it has none, and request ids start at 0 again.
pub(crate) const DRAINED_SECTION: bool = true;
/// K1: the rest of a backoff survives a restore also if an earlier record of the same key has no outcome yet (it was
/// done before the crash, and is called again).
pub(crate) const BACKOFF_BEHIND_ITS_KEY: bool = true;
/// R5: the rest of a backoff survives a restore also if the call gets its slot after the end of the input, under the
/// policy of all retries.
pub(crate) const BACKOFF_AFTER_THE_END: bool = true;
/// A2: no attempt starts while somebody pauses the operator.
pub(crate) const PAUSE: bool = true;
/// O7: ordered, and one attempt at a time for each key.
pub(crate) const ONE_PER_KEY: bool = true;
/// A1, A2, B1, T9: batches, a limit that adapts, a rate, pauses that mistakes ask for, and timeouts of the records' own.
pub(crate) const PARTS: bool = true;
