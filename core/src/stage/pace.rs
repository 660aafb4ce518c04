//! How much a stage does at a time: all budgets and constants, and the state that they need. Pure: no clock, no requests.
//!
//! A *turn* is the unit of work: the clock is read, woken requests are polled, deadlines are handled, new requests start. A stage on a
//! task of its own reads the clock once more at the end of a turn, to count slow ones. Between two turns outcomes are handed out, which is
//! cheap. A *poll* of the stage is a few turns, so that the stage's neighbours on the executor have their time (L5).

use crate::requests::TURN_BUDGET;
#[cfg(feature = "alloc")]
use crate::time::Span;

/// Turns in a poll, at most.
const TURNS_PER_POLL: usize = 8;

/// The part of a turn's budget that is kept for new requests.
const NEW_REQUESTS: usize = TURN_BUDGET / 4;

/// Above this many completed calls that wait to be handed out, a turn polls 32 requests instead of 96, to keep the slots it touches in
/// cache.
const MANY_DONE: usize = 1024;

/// So many turns in a row may leave requests woken, before deadlines are handled all the same.
const NOISY_TURNS: usize = 8;

/// Records that may bypass the slots between two turns, if nothing is in flight.
const BYPASSES: usize = 32;

/// So many records in a row that wait end a run of bypasses: a turn starts the requests of a window with less work for each.
#[cfg(feature = "alloc")]
const WAITS_IN_A_ROW: u32 = 4;

/// While at most this part of the capacity waits for answers, a stage in place lets its consumer take all outcomes first, if then records may bypass
/// the slots.
const FEW_WAIT: usize = 4;

/// After a gap, so many deadlines that have passed are handled one after the other, each after another round of the executor:
/// a request may only just have been started on its task. The rest are handled together, or they would be later and later beside
/// neighbours that compute.
pub(super) const ONE_BY_ONE: u8 = 16;

/// A turn that takes longer is slow, and counted.
#[cfg(feature = "alloc")]
const SLOW_TURN: Span = Span::from_nanos(50_000_000);

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is more to do.
    Busy,
    /// There is nothing to do until something is woken.
    Idle,
    /// The stage has ended.
    End,
}

/// How many of the woken requests a turn has polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polled {
    /// All, including those that were woken meanwhile.
    All,
    /// All that were woken before the pass over the wake set began that has ended now; and some request was left woken in each of the
    /// last [`NOISY_TURNS`] turns.
    Pass,
    /// As many as a turn may poll.
    Some,
}

/// The state of a stage's scheduling, from turn to turn.
#[derive(Debug)]
pub(super) struct Pace {
    turns_left: usize,
    outputs_left: usize,
    bypasses_left: usize,
    /// Whether the request that was started last was ready at once, as those of records that can bypass the slots are.
    ready_at_once: bool,
    noisy_turns: usize,
    /// How many records in a row had to wait, of those that could have bypassed the slots; and the operator's progress by then.
    #[cfg(feature = "alloc")] // elsewhere no record bypasses the slots
    waits: (u32, u64),
    #[cfg(feature = "alloc")] // one clock read a turn more; without a heap, flash counts for more
    slow_turns: u64,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            turns_left: TURNS_PER_POLL,
            outputs_left: 0,
            bypasses_left: 0,
            ready_at_once: true, // a guess, until the first request has started
            noisy_turns: 0,
            #[cfg(feature = "alloc")]
            waits: (0, 0),
            #[cfg(feature = "alloc")]
            slow_turns: 0,
        }
    }

    /// A turn has ended that took this long.
    #[cfg(feature = "alloc")]
    #[inline(always)]
    pub(super) fn turn_took(&mut self, time: Span) {
        self.slow_turns += u64::from(time > SLOW_TURN);
    }

    /// How many turns were slow.
    #[cfg(feature = "alloc")]
    pub(super) fn slow_turns(&self) -> u64 {
        self.slow_turns
    }

    /// Whether the poll may take one more turn. After it a quarter of the window, at most 32 outputs, may be handed out before the
    /// next one: so the window is refilled while most of it is still in flight.
    pub(super) fn take_turn(&mut self, capacity: usize) -> bool {
        let Some(left) = self.turns_left.checked_sub(1) else { return false };
        self.turns_left = left;
        self.outputs_left = (capacity / 4).clamp(1, 32);
        self.bypasses_left = 0; // each turn decides anew
        true
    }

    /// The poll ends.
    pub(super) fn end_poll(&mut self) {
        self.turns_left = TURNS_PER_POLL;
    }

    /// Whether so few attempts are `running` that the start of further ones may be put off until the outcomes that wait have left.
    pub(super) fn may_put_off(running: usize, capacity: usize) -> bool {
        running <= capacity / FEW_WAIT
    }

    /// Whether an output may be handed out before the next turn.
    #[inline(always)]
    pub(super) fn may_hand_out(&self) -> bool {
        self.outputs_left > 0
    }

    #[inline(always)]
    pub(super) fn handed_out(&mut self) {
        self.outputs_left -= 1;
    }

    /// Whether it is likely that the next record can bypass the slots.
    #[inline(always)]
    pub(super) fn expects_bypass(&self) -> bool {
        self.ready_at_once
    }

    /// Lets the next records bypass the slots: as many as outputs may be handed out between two turns, or more if nothing is in flight
    /// that would have to wait for the next turn.
    pub(super) fn allow_bypass(&mut self, nothing_in_flight: bool) {
        self.bypasses_left = if nothing_in_flight { BYPASSES } else { self.outputs_left };
    }

    #[inline(always)]
    pub(super) fn may_bypass(&self) -> bool {
        self.bypasses_left > 0
    }

    /// Takes the permission to bypass away, and returns it. The next record gives it [back](Self::bypassed) if it needs no slot.
    #[inline(always)]
    pub(super) fn take_bypasses(&mut self) -> usize {
        core::mem::take(&mut self.bypasses_left)
    }

    /// A record has bypassed the slots, with this permission.
    #[inline(always)]
    pub(super) fn bypassed(&mut self, permission: usize) {
        self.bypasses_left = permission - 1;
    }

    /// A record could have bypassed the slots, with this permission, and has to wait in one. The next ones may bypass them all the same,
    /// unless many in a row had to wait: then only the start of its attempt has changed the operator's `progress` since the one before.
    #[cfg(feature = "alloc")]
    pub(super) fn waits(&mut self, permission: usize, progress: u64) {
        let (in_a_row, last) = self.waits;
        let in_a_row = if progress == last.wrapping_add(1) { in_a_row + 1 } else { 1 };
        self.waits = (in_a_row, progress);
        if in_a_row < WAITS_IN_A_ROW {
            self.started(true);
            self.bypassed(permission);
        }
    }

    /// Without a heap no record bypasses the slots.
    #[cfg(not(feature = "alloc"))]
    pub(super) fn waits(&mut self, _permission: usize, _progress: u64) {}

    /// No record bypasses the slots before the next turn.
    pub(super) fn forbid_bypass(&mut self) {
        self.bypasses_left = 0;
    }

    /// A request has started. A request that is ready at once makes bypasses likely.
    #[inline(always)]
    pub(super) fn started(&mut self, ready_at_once: bool) {
        self.ready_at_once = ready_at_once;
    }

    /// All woken requests were polled.
    #[inline(always)]
    pub(super) fn polled_all(&mut self) -> Polled {
        self.noisy_turns = 0;
        Polled::All
    }

    /// The budget for woken requests is spent. `has_passed` says whether a pass over the wake set has ended in this turn.
    ///
    /// Deadlines wait until no request is woken, because a woken request may have its answer (T6). A stage in which some request is always
    /// woken would wait for ever. So after some turns the end of a pass is enough.
    pub(super) fn polled_some(&mut self, has_passed: bool) -> Polled {
        self.noisy_turns += 1;
        if !has_passed || self.noisy_turns < NOISY_TURNS {
            return Polled::Some;
        }
        self.noisy_turns = 0;
        Polled::Pass
    }
}

/// How many requests a turn may still poll or start.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    /// For a table whose turns have the budget `table`. It is smaller while many calls are `done` and outcomes may leave: then handing
    /// these out comes before completing more.
    #[inline]
    pub(super) fn new(table: usize, done: usize, has_output: impl FnOnce() -> bool) -> Self {
        Self(table - if done > MANY_DONE && has_output() { TURN_BUDGET / 2 } else { 0 })
    }

    /// Whether one more woken request may be polled.
    #[inline(always)]
    pub(super) fn is_enough_for_woken(&self) -> bool {
        self.0 > NEW_REQUESTS
    }

    /// Whether one more request may start, or one more element be pulled.
    #[inline(always)]
    pub(super) fn is_left(&self) -> bool {
        self.0 > 0
    }

    /// A request was polled or started, or an element pulled.
    #[inline(always)]
    pub(super) fn spend(&mut self) {
        self.0 -= 1;
    }

    /// A request was polled because it was due. That is never put off; it only leaves less for new requests.
    pub(super) fn overdraw(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // L5: a poll has a bounded number of turns, and the next poll has as many again.
    #[test]
    fn a_poll_ends_after_some_turns() {
        let mut pace = Pace::new();
        for _ in 0..3 {
            let turns = core::iter::from_fn(|| pace.take_turn(100).then_some(())).count();
            assert_eq!(turns, TURNS_PER_POLL);
            assert!(!pace.take_turn(100));
            pace.end_poll();
        }
    }

    // L5: in any window some outputs are handed out between two turns, and never more than a quarter of it or 32.
    #[test]
    fn a_part_of_the_window_leaves_between_two_turns() {
        for (capacity, outputs) in [(1, 1), (4, 1), (8, 2), (100, 25), (1_000_000, 32)] {
            let mut pace = Pace::new();
            assert!(!pace.may_hand_out() && pace.take_turn(capacity));
            for _ in 0..outputs {
                assert!(pace.may_hand_out());
                pace.handed_out();
            }
            assert!(!pace.may_hand_out(), "{capacity}");
        }
    }

    // T6: deadlines are handled at once when nothing is woken, and in a bounded number of turns when something always is.
    #[test]
    fn noise_puts_deadlines_off_for_a_bounded_number_of_turns() {
        let mut pace = Pace::new();
        let mut turns = 0;
        while pace.polled_some(true) == Polled::Some {
            turns += 1;
        }
        assert_eq!(turns, NOISY_TURNS - 1);
        // It begins anew, and quiet turns do not count.
        assert_eq!(pace.polled_some(true), Polled::Some);
        assert_eq!(pace.polled_all(), Polled::All);
        for _ in 1..NOISY_TURNS {
            assert_eq!(pace.polled_some(true), Polled::Some);
        }
        // Not before a pass has ended: a request may have been woken that was not polled yet.
        assert_eq!(pace.polled_some(false), Polled::Some);
        assert_eq!(pace.polled_some(true), Polled::Pass);
    }

    // L5: woken requests leave a part of the budget to new ones, and requests that are due take none away from themselves.
    #[test]
    fn new_requests_have_their_share() {
        let mut budget = Budget::new(TURN_BUDGET, 0, || true);
        let mut polled = 0;
        while budget.is_enough_for_woken() {
            budget.spend();
            polled += 1;
        }
        assert_eq!(polled, TURN_BUDGET - NEW_REQUESTS);
        for _ in 0..2 * TURN_BUDGET {
            budget.overdraw();
        }
        assert!(!budget.is_left());
    }

    #[test]
    fn fewer_requests_are_polled_while_many_outcomes_wait() {
        let woken = |done, has_output| {
            let mut budget = Budget::new(TURN_BUDGET, done, || has_output);
            core::iter::from_fn(|| budget.is_enough_for_woken().then(|| budget.spend())).count()
        };
        assert_eq!(woken(MANY_DONE, true), 96);
        assert_eq!(
            woken(MANY_DONE + 1, false),
            96,
            "no outcome may leave: polling is all there is to do"
        );
        assert_eq!(woken(MANY_DONE + 1, true), 32);
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn a_run_of_bypasses_ends_when_many_in_a_row_wait() {
        let mut pace = Pace::new();
        let mut wait = |progress| {
            pace.allow_bypass(true);
            let permission = pace.take_bypasses();
            pace.waits(permission, progress);
            (pace.may_bypass(), pace.expects_bypass())
        };
        assert_eq!([1, 2, 3].map(&mut wait), [(true, true); 3]);
        assert!(wait(7).0, "a record between two that wait has bypassed the slots");
        assert_eq!([8, 9].map(&mut wait), [(true, true); 2]);
        assert!(!wait(10).0, "four in a row");
    }

    // L1: starts are put off only while few requests wait, or the window would run empty.
    #[test]
    fn starts_are_put_off_while_few_requests_wait() {
        let most = |capacity| (0..=capacity).take_while(|&n| Pace::may_put_off(n, capacity)).last();
        assert_eq!([1, 4, 100, 1_000].map(most), [Some(0), Some(1), Some(25), Some(250)]);
    }

    #[test]
    fn bypasses_end_with_the_first_record_that_needs_a_slot() {
        let mut pace = Pace::new();
        pace.allow_bypass(true);
        for _ in 0..BYPASSES {
            assert!(pace.may_bypass());
            let permission = pace.take_bypasses();
            assert!(
                !pace.may_bypass(),
                "a record that does not come back takes the permission with it"
            );
            pace.bypassed(permission);
        }
        assert!(!pace.may_bypass());
    }
}
