//! The state that a stage starts from.

#[cfg(feature = "alloc")]
use core::sync::atomic::{AtomicU16, Ordering};

#[cfg(feature = "alloc")]
use concurrent_queue::ConcurrentQueue;

use super::StartError;
#[cfg(feature = "alloc")]
use crate::barrier_signal::BarrierSignal;
use crate::checkpoint::Checkpoint;
#[cfg(feature = "alloc")]
use crate::operator::RequestIdRange;
use crate::operator::{Call, Operator};
use crate::policy::KeySource;
use crate::storage::Storage;
use crate::time::Instant;

/// The argument of [`StageBuilder::restore`](crate::StageBuilder::restore): a checkpoint, none, or the
/// [`Recovery`] of a pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Restore<'c>(From<'c>);

#[derive(Clone, Copy, Debug)]
enum From<'c> {
    Nothing,
    Checkpoint(&'c Checkpoint),
    #[cfg(feature = "alloc")]
    Recovery(&'c Recovery),
}

impl<'c> core::convert::From<&'c Checkpoint> for Restore<'c> {
    fn from(checkpoint: &'c Checkpoint) -> Self {
        Self(From::Checkpoint(checkpoint))
    }
}

impl<'c> core::convert::From<Option<&'c Checkpoint>> for Restore<'c> {
    fn from(checkpoint: Option<&'c Checkpoint>) -> Self {
        Self(checkpoint.map_or(From::Nothing, From::Checkpoint))
    }
}

#[cfg(feature = "alloc")]
impl<'c> core::convert::From<&'c Recovery> for Restore<'c> {
    fn from(recovery: &'c Recovery) -> Self {
        Self(From::Recovery(recovery))
    }
}

impl<'c> Restore<'c> {
    pub(super) const NOTHING: Self = Self(From::Nothing);

    /// Brings the operator into the state that it starts from.
    pub(super) fn apply<C: Call, S: Storage>(
        self,
        operator: &mut Operator<C, S>,
        now: Instant,
    ) -> Result<(), StartError>
    where
        C::Key: KeySource<C::Input>,
    {
        match self.0 {
            From::Nothing => Ok(()),
            From::Checkpoint(checkpoint) => {
                operator.restore(now, checkpoint).map_err(StartError::Restore)
            }
            #[cfg(feature = "alloc")]
            From::Recovery(recovery) => recovery.admit(operator, now),
        }
    }

    #[cfg(feature = "alloc")]
    pub(super) fn signal(self) -> Option<&'c BarrierSignal> {
        match self.0 {
            From::Recovery(recovery) => Some(&recovery.signal),
            _ => None,
        }
    }
}

/// The state from which the stages of a [pipeline](crate::pipeline) start: give it to each of them
/// ([`restore`](crate::StageBuilder::restore), [`positions_only`](crate::StageBuilder::positions_only)).
#[cfg(feature = "alloc")]
#[derive(Debug)]
pub struct Recovery {
    /// The checkpoint of the last life, if it has sections of stages.
    checkpoint: Option<Checkpoint>,
    signal: BarrierSignal,
    keeps: Keeps,
    ids: RequestIdRange,
    /// The names of the stages that were started, in the order of the chain. A queue, because other threads may borrow it.
    stages: ConcurrentQueue<&'static str>,
    /// The number that the next new stage gets: the number of stages that the job has ever had.
    next_stage: AtomicU16,
    /// Checkpoints that are, or may be, newer than this one.
    damaged: usize,
}

/// The contents of a pipeline's checkpoints.
#[cfg(feature = "alloc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// The records in flight.
    Records,
    /// Positions of the source, and no records.
    Positions,
}

#[cfg(feature = "alloc")]
impl Recovery {
    pub(crate) fn new(
        checkpoint: Option<Checkpoint>,
        signal: BarrierSignal,
        keeps: Keeps,
        ids: RequestIdRange,
        stages_so_far: u16,
        damaged: usize,
    ) -> Self {
        let (stages, next_stage) = (ConcurrentQueue::unbounded(), AtomicU16::new(stages_so_far));
        Self { checkpoint, signal, keeps, ids, stages, next_stage, damaged }
    }

    /// The checkpoint of the last life; `None` in a new job, and as long as no checkpoint holds anything of a stage.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Whether a stage was started from this, under this name.
    pub(crate) fn knows(&self, stage: &str) -> bool {
        let mut is_known = false;
        for _ in 0..self.stages.len() {
            if let Ok(name) = self.stages.pop() {
                is_known |= name == stage;
                let _ = self.stages.push(name); // it is unbounded
            }
        }
        is_known
    }

    /// The number of stages that the job has ever had.
    pub(crate) fn stages_so_far(&self) -> u16 {
        self.next_stage.load(Ordering::Relaxed)
    }

    /// Brings a stage's operator into the state that it had in the checkpoint, or into that of a new stage.
    fn admit<C: Call, S: Storage>(
        &self,
        operator: &mut Operator<C, S>,
        now: Instant,
    ) -> Result<(), StartError>
    where
        C::Key: KeySource<C::Input>,
    {
        if (self.keeps == Keeps::Positions) != operator.keeps_nothing() {
            return Err(StartError::OtherMode);
        }
        if self.keeps == Keeps::Positions {
            return Ok(());
        }
        let name = operator.section_name().map_err(StartError::Restore)?;
        if self.knows(name) || name.starts_with("pipeline.") {
            return Err(StartError::NameTaken { name });
        }
        let is_first = self.stages.is_empty();
        let _ = self.stages.push(name); // it is unbounded
        let known =
            self.checkpoint.as_ref().filter(|checkpoint| checkpoint.section(name).is_some());
        let Some(checkpoint) = known else {
            let number = self.next_stage.fetch_add(1, Ordering::Relaxed);
            let first = self.ids.first_of(number).ok_or(StartError::TooManyStages)?;
            operator.begin_request_ids(first);
            return Ok(());
        };
        operator.restore(now, checkpoint).map_err(StartError::Restore)?;
        // The first stage meets the records behind the checkpoint again in the same order, and they get the same ids. A later one may
        // meet others, because the stages before it may finish them in another order: they get ids that were never given out.
        if !is_first && !operator.skip_request_ids(self.damaged) {
            return Err(StartError::NoRequestIds { name });
        }
        Ok(())
    }
}
