//! Request ids: the number of a record in the life of a job, the same for all attempts and in every process.
//!
//! ```text
//! partition 10 bits | stage 8 bits | record 46 bits
//! ```
//!
//! A job that is no partition has the number 0, and so has its first stage. So the ids of a job with one stage count from 0.

#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use super::{Operator, call::Call};
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
use crate::storage::Storage;

#[cfg(all(feature = "alloc", feature = "checkpoint"))]
const RECORD_BITS: u32 = 46;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
const STAGE_BITS: u32 = 8;

/// The number of no stage. With it the ids of a job that is no partition stay below 2^53, which a number in JSON can hold.
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
const POSITIONS: u8 = 127;

/// The ids that a later stage leaves out when it is restored: more than it can have given out since the checkpoint.
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
const SINCE_CHECKPOINT: u64 = 1 << 28;

/// The ids of new records. After a checkpoint has been split, its parts count in steps, so that no two give out the same id.
pub(super) struct RequestIds {
    pub(super) next: u64,
    pub(super) step: u64,
}

impl RequestIds {
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn advance(&mut self) {
        self.next = self.next.wrapping_add(self.step);
    }
}

/// The ids of one partition of a job.
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestIdRange {
    /// Below [`PARTITIONS`](Self::PARTITIONS).
    pub(crate) partition: u16,
}

#[cfg(all(feature = "alloc", feature = "checkpoint"))]
impl RequestIdRange {
    /// The number of partitions that a job can have.
    pub(crate) const PARTITIONS: u16 = 1 << (64 - RECORD_BITS - STAGE_BITS);

    /// The first id of the partition's stage with this number; `None` if there are too many stages.
    pub(crate) fn first_of(self, stage: u16) -> Option<u64> {
        let is_behind = stage >= u16::from(POSITIONS);
        let stage = u8::try_from(stage.checked_add(u16::from(is_behind))?).ok()?;
        Some(self.first(stage))
    }

    /// The first id of the partition's records themselves, which all stages share when only positions are kept (K14).
    pub(crate) fn first_of_positions(self) -> u64 {
        self.first(POSITIONS)
    }

    fn first(self, stage: u8) -> u64 {
        ((u64::from(self.partition) << STAGE_BITS) | u64::from(stage)) << RECORD_BITS
    }
}

#[cfg(all(feature = "alloc", feature = "checkpoint"))]
impl<C: Call, S: Storage> Operator<C, S> {
    /// Sets the id of the next new record.
    pub(crate) fn begin_request_ids(&mut self, first: u64) {
        self.ids.next = first;
    }

    /// Leaves out all ids that a life may have given out after the checkpoint that was restored (K17). Each of the `damaged` checkpoints
    /// that may be newer may be the beginning of another such life.
    ///
    /// Returns false if no more ids of the stage are left.
    pub(crate) fn skip_request_ids(&mut self, damaged: usize) -> bool {
        let before = self.ids.next;
        let lives = (damaged as u64).saturating_add(1);
        let left_out = SINCE_CHECKPOINT.wrapping_mul(lives);
        self.ids.next = self.ids.next.wrapping_add(self.ids.step.wrapping_mul(left_out));
        self.ids.next >> RECORD_BITS == before >> RECORD_BITS
    }
}

#[cfg(all(test, feature = "alloc", feature = "checkpoint"))]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::policy::AsyncWait;

    // K17
    #[test]
    fn stages_and_partitions_have_ids_of_their_own() {
        let last = RequestIdRange { partition: RequestIdRange::PARTITIONS - 1 };
        assert_eq!(RequestIdRange { partition: 0 }.first_of(0), Some(0));
        assert_eq!(last.first_of(254), Some(u64::MAX << RECORD_BITS));
        assert_eq!((last.first_of(255), last.first_of(u16::MAX)), (None, None));
        let first = RequestIdRange { partition: 0 };
        let second = RequestIdRange { partition: 1 }.first_of(0);
        let mut ids: Vec<_> = (0..255).map(|stage| first.first_of(stage)).collect();
        ids.push(Some(first.first_of_positions()));
        assert!(ids.iter().all(|id| *id < second));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 256);
        assert!(first.first_of_positions() + (1 << RECORD_BITS) <= 1 << 53);
    }

    // K17
    #[test]
    fn a_stage_says_when_it_has_no_ids_left() {
        let mut op = AsyncWait::ordered(1).build_core::<u32, u32, ()>().unwrap();
        op.begin_request_ids((1 << RECORD_BITS) - 2 * SINCE_CHECKPOINT);
        assert!(op.skip_request_ids(0));
        assert!(!op.skip_request_ids(0));
        op.begin_request_ids((1 << RECORD_BITS) - 2 * SINCE_CHECKPOINT);
        assert!(!op.skip_request_ids(1), "two lives");
    }
}
