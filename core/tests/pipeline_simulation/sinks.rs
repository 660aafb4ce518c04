//! Two sinks: one with transactions, and a file that is truncated.

use std::rc::Rc;

use inflight_core::pipeline::TransactionalSink;
use inflight_core::{CheckpointId, Timestamp};

use crate::executor::Virtual;
use crate::plan::{Flaw, Medium};
use crate::world::{Refused, World};

pub(crate) struct Sink {
    pub(crate) world: Rc<World>,
    pub(crate) runtime: Virtual,
    /// Records that were written and are on no medium yet.
    pub(crate) buffer: Vec<u32>,
    /// Transactions that were prepared and not committed.
    pub(crate) open: Vec<u64>,
    pub(crate) watermark: Option<Timestamp>,
    pub(crate) is_recovering: bool,
}

impl Sink {
    async fn step(&self, may_fail: bool) -> Result<(), Refused> {
        self.world.step(&self.runtime).await;
        match may_fail && self.world.fails(self.world.plan.others_fail) {
            true => Err(Refused("no room")),
            false => Ok(()),
        }
    }

    fn commit_transactions(&mut self, ids: &[u64]) {
        let media = &mut *self.world.media.borrow_mut();
        for id in ids {
            if let Some(records) = media.prepared.remove(id) {
                media.output.extend(records);
            }
        }
        self.open.retain(|id| !ids.contains(id));
    }
}

impl TransactionalSink<u32> for Sink {
    /// The transactions to commit; or the length of the file.
    type Prepared = Vec<u64>;
    type Error = Refused;

    async fn write(&mut self, record: u32, timestamp: Option<Timestamp>) -> Result<(), Refused> {
        self.step(true).await?;
        self.world.promise(timestamp > self.watermark, "no record is late");
        self.buffer.push(record);
        Ok(())
    }

    fn watermark(&mut self, watermark: Timestamp) {
        self.world.promise(Some(watermark) > self.watermark, "watermarks increase");
        self.watermark = Some(watermark);
    }

    async fn pre_commit(&mut self, id: CheckpointId) -> Result<Vec<u64>, Refused> {
        self.step(true).await?;
        let records = std::mem::take(&mut self.buffer);
        if self.world.plan.medium == Medium::File {
            self.world.media.borrow_mut().output.extend(records);
            self.step(true).await?;
            return Ok(vec![self.world.media.borrow().output.len() as u64]);
        }
        self.world.media.borrow_mut().prepared.insert(id.0, records);
        self.open.push(id.0);
        let open = match self.world.plan.flaw {
            Flaw::ForgetsFailedCheckpoints => vec![id.0],
            _ => self.open.clone(),
        };
        if self.world.plan.flaw == Flaw::CommitsBeforeTheSave {
            self.commit_transactions(&open);
        }
        self.step(true).await?;
        Ok(open)
    }

    async fn commit(&mut self, id: CheckpointId, prepared: &Vec<u64>) -> Result<(), Refused> {
        self.step(true).await?;
        let is_durable = |world: &World| {
            world.media.borrow().slots.iter().any(|slot| slot.id == id && slot.is_intact())
        };
        self.world.promise(is_durable(&self.world), "a committed checkpoint is durable");
        self.world.media.borrow_mut().committed = Some(id);
        if self.world.plan.medium == Medium::Transactions {
            let is_in_two_steps = self.world.plan.flaw == Flaw::CommitsInTwoSteps;
            for id in prepared {
                if self.is_recovering && is_in_two_steps {
                    let taken = self.world.media.borrow_mut().prepared.remove(id);
                    self.step(true).await?;
                    self.world.media.borrow_mut().prepared.extend(taken.map(|taken| (*id, taken)));
                }
                self.commit_transactions(&[*id]);
                self.step(true).await?;
            }
        }
        Ok(())
    }

    async fn abort(&mut self, kept: Option<&Vec<u64>>) -> Result<(), Refused> {
        self.step(true).await?;
        self.is_recovering = false;
        {
            let media = &mut *self.world.media.borrow_mut();
            match (self.world.plan.medium, kept) {
                (Medium::Transactions, _) => media.prepared.clear(),
                (Medium::File, Some(length)) => {
                    let length = length[0] as usize;
                    let is_there = media.output.len() >= length;
                    self.world.promise(is_there, "pre-committed output is not lost");
                    media.output.truncate(length);
                }
                (Medium::File, None) => {
                    self.world.promise(media.output.is_empty(), "a new job finds nothing");
                }
            }
        }
        self.step(true).await
    }
}
