//! A stage that shares permits with others (C9): between its turns it holds as many as it has running requests.
//!
//! The operator starts an attempt only when it was told that there is a permit for it (`Operator::permit`). An attempt that waits for
//! nothing else stays in the operator's queue, where it costs no time.

use crate::operator::{Call, Operator};
use crate::permits::{Member, Permits};
use crate::requests::{Requests, StageWaker};
use crate::storage::Storage;

/// A stage's share of a pool's permits, if it has a pool.
pub(super) struct Share(Option<Member>);

impl Share {
    pub(super) const NONE: Self = Self(None);

    pub(super) fn of(pool: &Permits) -> Self {
        Self(Some(pool.join()))
    }

    /// Whether requests need permits.
    #[inline(always)]
    pub(super) fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    /// Gets a permit for an attempt that waits for nothing else. Returns `false` if there is no such attempt, or no permit: then the
    /// stage keeps only those of its running requests, and is woken when it gets the one that it waits for.
    ///
    /// A turn whose budget is spent (`is_left`) asks for none; the next one does.
    #[inline(always)]
    pub(super) fn get_permit<F, R, C, S>(
        &mut self,
        operator: &mut Operator<C, S>,
        requests: &R,
        is_left: bool,
    ) -> bool
    where
        F: Future,
        R: Requests<F>,
        C: Call,
        S: Storage,
    {
        let Self(Some(member)) = self else { return false };
        get_permit(member, operator, requests, is_left)
    }

    /// All requests were dropped, and there will be no more.
    pub(super) fn end(&mut self) {
        if let Self(Some(member)) = self {
            member.leave_line();
            member.keep(0);
        }
    }
}

#[inline(never)]
fn get_permit<F, R, C, S>(
    member: &mut Member,
    operator: &mut Operator<C, S>,
    requests: &R,
    is_left: bool,
) -> bool
where
    F: Future,
    R: Requests<F>,
    C: Call,
    S: Storage,
{
    if operator.has_failed() {
        return false; // requests that are still to be dropped keep theirs
    }
    let running = operator.running_requests();
    let is_wanted = operator.wants_permit();
    if is_wanted
        && is_left
        && requests.with_own(StageWaker::Consumer, |cx| member.acquire(running, cx.waker()))
    {
        operator.permit(running + 1);
        debug_assert!(operator.has_attempt() || operator.has_batch(), "it waits for nothing else");
        return true;
    }
    operator.permit(0);
    member.keep(running);
    if !is_wanted {
        member.leave_line();
    }
    false
}
