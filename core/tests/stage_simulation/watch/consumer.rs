//! What comes out of the stage: compared with what the model lets out, and with the contract.

use inflight_core::{Barrier, BarrierMode, Checkpoint, CheckpointError, StreamElement, Timestamp};

use super::Inner;
use crate::ledger::{Ledger, Passed, Point};
use crate::model::{Control, Output, Overtaking, Saved};
use crate::subject::{self, Element};

/// A barrier that was pulled.
pub(super) struct OnItsWay {
    pub(super) id: u64,
    /// What is inside, but for what the consumer has taken since: that was on its way out when the barrier came.
    pub(super) model: Saved,
    /// Dropped records that may have been on their way out.
    pub(super) perhaps: Vec<u32>,
    pub(super) point: Point,
    pub(super) position: usize,
}

/// What is there again after a crash.
#[derive(Clone)]
pub(crate) struct SavedPoint {
    pub(crate) bytes: Vec<u8>,
    pub(crate) model: Saved,
    pub(crate) ledger: Ledger,
    pub(crate) position: usize,
}

impl Inner {
    /// The consumer has taken an element.
    pub(crate) fn taken(&mut self, element: Element) {
        let output = said(&element);
        if let Err(what) = self.comes_out(&output) {
            self.fail(what);
        }
        self.barriers.iter_mut().for_each(|barrier| barrier.model.goes_without(&output));
        self.counts.emitted += u64::from(matches!(output, Output::Outcome { .. }));
        self.tell(|| format!("out comes {output:?}"));
        let passed = match output {
            Output::Outcome { number, key, timestamp, .. } => {
                self.handed_over.retain(|other| *other != number);
                self.ledger.record_out(Passed { number, key, timestamp })
            }
            Output::Control(control) => self.ledger.control_out(control),
            Output::Overtaking(Overtaking::FailedDrain(id)) => {
                self.ledger.late_drain_out(id);
                Ok(())
            }
            Output::Overtaking(Overtaking::Snapshot(_)) => Ok(()),
        };
        if let Err(what) = passed {
            self.fail(what);
        }
        if let StreamElement::Barrier(barrier) = element {
            self.barrier_taken(barrier.checkpoint);
        }
    }

    /// Nothing is lost that was handed over for certain.
    pub(crate) fn has_taken_all(&self, when: &str) -> Result<(), String> {
        match self.handed_over.is_empty() {
            true => Ok(()),
            false => {
                Err(format!("{when} comes before what was handed over: {:?}", self.handed_over))
            }
        }
    }

    /// K4: what the sink saves.
    fn barrier_taken(&mut self, mut checkpoint: Checkpoint) {
        let id = checkpoint.id().0;
        let Some(at) = self.barriers.iter().position(|barrier| barrier.id == id) else {
            return self.fail(format!("barrier {id} came out and was not pulled"));
        };
        let OnItsWay { mut model, perhaps, point, position, .. } = self.barriers.remove(at);
        let source = checkpoint.section("source").map(<[u8]>::to_vec);
        self.same("the source's position", &source, &Some(position_bytes(position)));
        let failure = checkpoint.failure();
        match checkpoint.bytes().map(<[u8]>::to_vec) {
            Ok(bytes) if self.plan.setup.checkpointed => {
                let records = subject::records_in(&self.plan, &checkpoint);
                let gone = model.records().checked_sub(records).unwrap_or(usize::MAX);
                match perhaps.get(..gone) {
                    Some(gone) => model.forget(gone),
                    None => self.fail(format!("{records} records in a snapshot (K1): {model:?}")),
                }
                let ledger = self.ledger.rewound(point).kept(&model.called_again());
                self.saved = Some(SavedPoint { bytes, model, ledger, position });
            }
            Ok(_) => {}
            Err(_) => {
                let checkpointed = self.plan.setup.checkpointed;
                let is_due = match failure {
                    Err(CheckpointError::NotCheckpointed) => !checkpointed,
                    Err(CheckpointError::DrainTimedOut) => true,
                    _ => false,
                };
                if !is_due {
                    self.fail(format!("the checkpoint of barrier {id} failed: {failure:?}"));
                }
            }
        }
    }
}

fn position_bytes(position: usize) -> Vec<u8> {
    (position as u64).to_le_bytes().to_vec()
}

/// What came out, in the model's words.
fn said(element: &Element) -> Output {
    match element {
        StreamElement::Record { value: outcome, timestamp } => Output::Outcome {
            number: outcome.input.number,
            key: outcome.input.key,
            timestamp: timestamp.map(Timestamp::as_millis),
            answer: outcome.result,
            attempts: outcome.attempts,
            elapsed: outcome.elapsed.as_nanos() as i64,
        },
        StreamElement::Watermark(mark) => Output::Control(Control::Watermark(mark.as_millis())),
        StreamElement::Status(status) => Output::Control(Control::Status(*status)),
        StreamElement::Barrier(Barrier { mode, checkpoint, .. }) => {
            let id = checkpoint.id().0;
            let has_failed = checkpoint.failure() == Err(CheckpointError::DrainTimedOut);
            match mode {
                BarrierMode::Snapshot => Output::Overtaking(Overtaking::Snapshot(id)),
                BarrierMode::Drain if has_failed => Output::Overtaking(Overtaking::FailedDrain(id)),
                BarrierMode::Drain | BarrierMode::End => Output::Control(Control::Drain(id)),
            }
        }
    }
}
