//! What comes out of the stage: compared with what the model lets out, and with the contract.

use inflight_core::{Barrier, BarrierMode, Checkpoint, CheckpointError, StreamElement, Timestamp};

use super::Inner;
use crate::ledger::{Ledger, Passed, Point};
use crate::model::{Control, Express, Output, Saved};
use crate::subject::{Element, NAME};

/// A barrier that was pulled.
pub(super) struct OnItsWay {
    pub(super) id: u64,
    pub(super) model: Saved,
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
        let expected = if self.plan.mode.has_task() {
            self.ring.pop_front()
        } else {
            let needs_turn = usize::from(!self.has_passed(&output));
            self.before_turn = self.before_turn.saturating_sub(needs_turn);
            let expected = self.next_output();
            expected.iter().for_each(|output| self.count_output(output));
            expected
        };
        self.same("taken", &Some(output), &expected);
        self.tell(|| format!("out comes {output:?}"));
        let passed = match output {
            Output::Outcome { number, key, timestamp, .. } => {
                self.ledger.record_out(Passed { number, key, timestamp })
            }
            Output::Control(control) => self.ledger.control_out(control),
            Output::Express(Express::FailedDrain(id)) => {
                self.ledger.late_drain_out(id);
                Ok(())
            }
            Output::Express(Express::Snapshot(_)) => Ok(()),
        };
        if let Err(what) = passed {
            self.fail(what);
        }
        if let StreamElement::Barrier(barrier) = element {
            self.barrier_taken(barrier.checkpoint);
        }
    }

    /// K4: what the sink saves.
    fn barrier_taken(&mut self, mut checkpoint: Checkpoint) {
        let id = checkpoint.id().0;
        let Some(at) = self.barriers.iter().position(|barrier| barrier.id == id) else {
            return self.fail(format!("barrier {id} came out and was not pulled"));
        };
        let OnItsWay { model, point, position, .. } = self.barriers.remove(at);
        let source = checkpoint.section("source").map(<[u8]>::to_vec);
        self.same("the source's position", &source, &Some(position_bytes(position)));
        let failure = checkpoint.failure();
        match checkpoint.bytes().map(<[u8]>::to_vec) {
            Ok(bytes) if self.plan.setup.checkpointed => {
                if checkpoint.section(NAME).is_none() {
                    self.fail(format!("the checkpoint of barrier {id} has no section"));
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
                BarrierMode::Snapshot => Output::Express(Express::Snapshot(id)),
                BarrierMode::Drain if has_failed => Output::Express(Express::FailedDrain(id)),
                BarrierMode::Drain => Output::Control(Control::Drain(id)),
            }
        }
    }
}
