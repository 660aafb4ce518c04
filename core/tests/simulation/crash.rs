//! Checkpoints in the simulated world: taking them, carrying them in barriers, and restoring from them.

use inflight_core::{
    Barrier, BarrierMode, Checkpoint, CheckpointError, CheckpointId, RestoreError,
};

use crate::features;
use crate::model::{Control, Model, Output, Overtaking, Saved};
use crate::setup::{Setup, Storage};
use crate::subject::{NAME, Subject};
use crate::world::{SavedPoint, World, said_ok, same};

/// Converts a barrier that came out into the model's terms.
pub(crate) fn barrier(barrier: &Barrier) -> Output {
    let id = barrier.checkpoint.id().0;
    match barrier.mode {
        BarrierMode::Snapshot => Output::Overtaking(Overtaking::Snapshot(id)),
        BarrierMode::Drain
            if barrier.checkpoint.failure() == Err(CheckpointError::DrainTimedOut) =>
        {
            Output::Overtaking(Overtaking::FailedDrain(id))
        }
        BarrierMode::Drain | BarrierMode::End => Output::Control(Control::Drain(id)),
    }
}

impl World {
    /// K4: the sink saves the checkpoint.
    pub(crate) fn barrier_out(&mut self, barrier: Barrier) -> Result<(), String> {
        let Barrier { mode, checkpoint, .. } = barrier;
        match mode {
            BarrierMode::Snapshot => {
                let mut point = self.snapshot_barrier.take().expect("it has been pushed");
                if self.setup.checkpointed {
                    same("the barrier's checkpoint", &checkpoint, &point.checkpoint)?;
                    point.checkpoint = checkpoint;
                    self.saved = Some(point);
                    Ok(())
                } else {
                    let expected = Err(CheckpointError::NotCheckpointed);
                    same("the barrier's checkpoint", &checkpoint.failure(), &expected)
                }
            }
            BarrierMode::Drain | BarrierMode::End => self.drain_barrier_out(checkpoint),
        }
    }

    /// K3: the section of a drained checkpoint is empty.
    fn drain_barrier_out(&mut self, checkpoint: Checkpoint) -> Result<(), String> {
        let id = checkpoint.id().0;
        let which = self.drain_barriers.iter().position(|barrier| barrier.0 == id);
        let (_, point, requests) = self.drain_barriers.remove(which.expect("it has been pushed"));
        if self.setup.checkpointed && checkpoint.failure().is_ok() {
            let has_section = checkpoint.section(NAME).is_some();
            same("has the checkpoint a section", &has_section, &features::DRAINED_SECTION)?;
            let requests = if has_section { requests } else { 0 };
            let model = Saved { elements: Vec::new(), requests };
            let ledger = self.ledger.rewound(point);
            self.saved = Some(SavedPoint { checkpoint, model, ledger });
        }
        Ok(())
    }

    /// K1, C6: a snapshot can be taken at any moment, and is the same twice.
    pub(crate) fn snapshot(&mut self) -> Result<(), String> {
        self.checkpoints += 1;
        let id = CheckpointId(self.checkpoints);
        let (mut checkpoint, mut again) = (Checkpoint::new(id), Checkpoint::new(id));
        let taken = self.subject.snapshot(self.clock, &mut checkpoint);
        let model = self.model.snapshot(self.clock);
        self.tell(|_| "a snapshot is taken and saved".into());
        if !self.setup.checkpointed {
            return same("snapshot", &taken, &Err(CheckpointError::NotCheckpointed));
        }
        said_ok(taken)?;
        said_ok(self.subject.snapshot(self.clock, &mut again))?;
        same("the snapshot", &checkpoint, &again)?;
        let ledger = self.ledger.kept(&model.called_again());
        self.saved = Some(SavedPoint { checkpoint, model, ledger });
        Ok(())
    }

    /// The process dies. The next one goes on from the saved checkpoint or, without one, from the start.
    pub(crate) fn crash(
        &mut self,
        capacity: usize,
        storage: Storage,
        clock_restarts: bool,
    ) -> Result<(), String> {
        self.ledger.check(self.setup.order, false)?;
        if clock_restarts {
            self.clock = 0;
        }
        let max_capacity = match storage {
            Storage::Heap => capacity.max(self.setup.max_capacity),
            Storage::InPlace => crate::setup::SLOTS,
        };
        self.setup = Setup { capacity, max_capacity, storage, ..self.setup };
        self.foreign.extend(self.running.drain(..).chain(self.over.drain(..)).map(|s| s.id));
        self.all_batches_are_over();
        self.over_batches.clear();
        self.snapshot_barrier = None;
        self.drain_barriers.clear();
        self.tell(|world| {
            let from = if world.saved.is_some() { "the checkpoint" } else { "the start" };
            format!("crash; it goes on from {from}, with {}", world.setup)
        });
        self.subject = Subject::new(&self.setup);
        let Some(saved) = self.saved.take() else {
            self.model = Model::new(&self.setup);
            self.ledger = Default::default();
            return Ok(());
        };
        self.ledger = saved.ledger.clone();
        if saved.checkpoint.section(NAME).is_none() {
            self.model = Model::new(&self.setup);
            self.saved = Some(saved);
            return Ok(());
        }
        self.model = Model::restore(&self.setup, self.clock, &saved.model);
        let restored = self.subject.restore(self.clock, &saved.checkpoint);
        if storage == Storage::InPlace && !saved.model.fits(capacity) {
            let Err(RestoreError::TooMany { .. }) = restored else {
                return Err(format!("too many to restore in place, and yet {restored:?}"));
            };
            same("is_empty", &self.subject.is_empty(), &true)?;
            self.saved = Some(saved);
            return self.crash(capacity, Storage::Heap, false);
        }
        said_ok(restored)?;
        self.restore_is_refused_when_not_empty(&saved)?;
        self.saved = Some(saved);
        Ok(())
    }

    /// The complete initial state of a life after a crash.
    pub(crate) fn origin(&self) -> String {
        let saved = self.saved.as_ref();
        let saved =
            saved.map(|saved| (saved.checkpoint.section(NAME), &saved.model, &saved.ledger));
        format!("{} {} {saved:?}", self.clock, self.checkpoints)
    }

    fn restore_is_refused_when_not_empty(&mut self, saved: &SavedPoint) -> Result<(), String> {
        if self.model.is_empty() {
            return Ok(());
        }
        let again = self.subject.restore(self.clock, &saved.checkpoint);
        if !matches!(again, Err(RestoreError::NotEmpty)) {
            return Err(format!("restored a second time: {again:?} (section {NAME})"));
        }
        Ok(())
    }
}
