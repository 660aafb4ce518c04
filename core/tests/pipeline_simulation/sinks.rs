//! Two sinks: one with transactions, and a file that is truncated.

use std::rc::Rc;

use inflight_core::pipeline::TransactionalSink;
use inflight_core::{CheckpointId, Timestamp};

use crate::plan::{Flaw, Keeps, Medium};
use crate::process::{Process, State};
use crate::world::Refused;

pub(crate) struct Sink {
    pub(crate) process: Rc<Process>,
    /// Records that were written and are on no medium yet.
    pub(crate) buffer: Vec<u32>,
    /// Transactions that were prepared and not committed.
    pub(crate) open: Vec<u64>,
    pub(crate) watermark: Option<Timestamp>,
    pub(crate) is_recovering: bool,
}

impl Sink {
    pub(crate) fn new(process: &Rc<Process>) -> Self {
        let (buffer, open) = (Vec::new(), Vec::new());
        let process = Rc::clone(process);
        Self { process, buffer, open, watermark: None, is_recovering: true }
    }

    /// A step, at which the medium may fail; and it lets only the latest owner go on.
    async fn step(&self) -> Result<(), Refused> {
        self.process.step().await;
        self.check_owner()?;
        match self.process.world.fails(self.process.plan().others_fail) {
            true => Err(Refused::For("no room")),
            false => Ok(()),
        }
    }

    fn check_owner(&self) -> Result<(), Refused> {
        let owner = self.process.world.media.borrow().sink_owner;
        self.process.check_owner(owner, Flaw::CommitsForAnyOwner)
    }

    fn commit_transactions(&mut self, ids: &[u64]) {
        let media = &mut *self.process.world.media.borrow_mut();
        for id in ids {
            if let Some(records) = media.prepared.remove(id) {
                media.output.extend(records);
            }
        }
        self.open.retain(|id| !ids.contains(id));
    }

    async fn commit_each(&mut self, prepared: &[u64]) -> Result<(), Refused> {
        let process = Rc::clone(&self.process);
        let is_in_two_steps = process.plan().flaw == Flaw::CommitsInTwoSteps;
        for id in prepared {
            if self.is_recovering && is_in_two_steps {
                let taken = process.world.media.borrow_mut().prepared.remove(id);
                self.step().await?;
                process.world.media.borrow_mut().prepared.extend(taken.map(|taken| (*id, taken)));
            }
            self.commit_transactions(&[*id]);
            let is_whole = process.plan().keeps != Keeps::Positions
                || process.plan().is_whole(&process.world.media.borrow().output);
            process.world.promise(is_whole, "K14: the outputs of a record appear together");
            self.step().await?;
        }
        Ok(())
    }
}

impl TransactionalSink<u32> for Sink {
    /// The transactions to commit; or the length of the file.
    type Prepared = Vec<u64>;
    type Error = Refused;

    async fn write(&mut self, record: u32, timestamp: Option<Timestamp>) -> Result<(), Refused> {
        self.step().await?;
        self.process.world.promise(timestamp > self.watermark, "no record is late");
        self.buffer.push(record);
        self.process.writes(record);
        Ok(())
    }

    fn watermark(&mut self, watermark: Timestamp) {
        let world = &self.process.world;
        world.promise(Some(watermark) > self.watermark, "watermarks increase");
        self.watermark = Some(watermark);
        let highest = &mut world.media.borrow_mut().watermark;
        *highest = (*highest).max(Some(watermark.as_millis()));
    }

    fn is_full(&self) -> bool {
        self.process.plan().sink_room.is_some_and(|room| self.buffer.len() >= room)
    }

    async fn pre_commit(&mut self, id: CheckpointId) -> Result<Vec<u64>, Refused> {
        self.step().await?;
        let records = std::mem::take(&mut self.buffer);
        self.process.prepares(id);
        if self.process.plan().medium == Medium::File {
            self.process.world.media.borrow_mut().output.extend(records);
            self.step().await?;
            return Ok(vec![self.process.world.media.borrow().output.len() as u64]);
        }
        self.process.world.media.borrow_mut().prepared.insert(id.0, records);
        self.open.push(id.0);
        self.process.open.set(self.open.len());
        let open = match self.process.plan().flaw {
            Flaw::ForgetsFailedCheckpoints => vec![id.0],
            _ => self.open.clone(),
        };
        if self.process.plan().flaw == Flaw::CommitsBeforeTheSave {
            self.commit_transactions(&open);
        }
        self.step().await?;
        Ok(open)
    }

    async fn commit(&mut self, id: CheckpointId, prepared: &Vec<u64>) -> Result<(), Refused> {
        self.step().await?;
        let world = Rc::clone(&self.process.world);
        let is_durable = |slot: &crate::world::Slot| slot.id == id && slot.is_intact();
        let is_durable = world.media.borrow().slots.iter().any(is_durable);
        world.promise(is_durable, "a committed checkpoint is durable");
        world.media.borrow_mut().committed = Some(id);
        match world.plan.medium {
            Medium::Transactions => self.commit_each(prepared).await?,
            Medium::File => {
                let length = &mut world.media.borrow_mut().length;
                *length = (*length).max(prepared[0] as usize);
            }
        }
        self.process.open.set(self.open.len());
        if !self.is_recovering {
            self.process.commits(id);
        }
        Ok(())
    }

    async fn abort(&mut self, kept: Option<&Vec<u64>>) -> Result<(), Refused> {
        self.step().await?;
        self.is_recovering = false;
        {
            let world = &self.process.world;
            let media = &mut *world.media.borrow_mut();
            media.sink_owner = media.sink_owner.max(self.process.owner.get());
            match (self.process.plan().medium, kept) {
                (Medium::Transactions, _) => media.prepared.clear(),
                (Medium::File, Some(length)) => {
                    let length = length[0] as usize;
                    let is_there = media.output.len() >= length;
                    world.promise(is_there, "pre-committed output is not lost");
                    world.promise(length >= media.length, "committed output is not undone");
                    media.output.truncate(length);
                }
                (Medium::File, None) => {
                    world.promise(media.length == 0, "a new job finds nothing");
                    media.output.clear();
                }
            }
        }
        debug_assert_eq!(self.process.state.get(), State::Runs);
        self.step().await
    }
}
