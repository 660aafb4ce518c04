//! Batches in the simulated world: they start, end, and lose their records.

use inflight_core::{BatchId, Completion};

use crate::script::{BatchEnd, Step};
use crate::subject::Started;
use crate::values::{Answer, End};
use crate::world::{World, same};

/// A batch that runs.
#[derive(Clone, Debug)]
pub(crate) struct Going {
    pub(crate) id: BatchId,
    in_model: u64,
    /// In their order, also those that have left it.
    members: Vec<Started>,
}

impl World {
    pub(crate) fn start_batches(&mut self, most: usize) -> Result<(), String> {
        if let Some(started) = self.subject.poll_attempt(self.clock) {
            return Err(format!("{started:?} starts without a batch"));
        }
        for _ in 0..most {
            let Some((id, members)) = self.subject.poll_batch(self.clock) else {
                return same("may there be no batch", &self.model.may_have_none(self.clock), &true);
            };
            let requests: Vec<_> = members.iter().map(|started| started.request).collect();
            let (in_model, expected) = self.model.begin_batch(self.clock, &requests)?;
            let started: Vec<_> = members.iter().map(|started| started.in_model()).collect();
            same("the batch that starts", &started, &expected)?;
            self.tell(|_| format!("a batch starts: {id:?}"));
            for member in &members {
                self.note_started(*member)?;
            }
            if self.batches.iter().any(|other| other.id.number() == id.number()) {
                return Err(format!("number {} is another running batch's", id.number()));
            }
            if self.over_batches.contains(&id) {
                return Err(format!("{id:?} has been another batch's name"));
            }
            if id.number() >= self.setup.max_capacity {
                return Err(format!("number {} is beyond the capacity", id.number()));
            }
            self.batches.push(Going { id, in_model, members });
        }
        Ok(())
    }

    pub(crate) fn agree_on_batches(&self) -> Result<(), String> {
        let (subject, model) = (&self.subject, &self.model);
        if let Some(has_batch) = model.may_have_batch().filter(|_| !model.has_backlog()) {
            same("has_batch", &subject.has_batch(), &has_batch)?;
        }
        if let Some(has_batch) = model.may_have_full_batch().filter(|_| !model.has_backlog()) {
            same("has_full_batch", &subject.has_full_batch(), &has_batch)?;
        }
        for Going { id, members, .. } in &self.batches {
            same("batch_in", &subject.batch_in(id.number()), &Some(*id))?;
            for member in members {
                let is_running = self.running.iter().any(|started| started.id == member.id);
                let expected = Some(*id).filter(|_| is_running);
                same("batch_of", &subject.batch_of(member.id), &expected)?;
            }
        }
        let ended = self.over_batches.last();
        let is_free = |id: &&BatchId| self.batches.iter().all(|on| on.id.number() != id.number());
        let in_number = ended.filter(is_free).map(|id| subject.batch_in(id.number()));
        same("batch_in", &in_number.flatten(), &None)
    }

    /// How a running attempt ends, or the batch that it is in.
    pub(crate) fn end_of(&self, which: usize, end: End) -> Step {
        match self.setup.batch() {
            Some(_) => Step::EndBatch { which, end, how: BatchEnd::Each { succeeds: 0 } },
            None => Step::End(which, end),
        }
    }

    pub(crate) fn end_batch(
        &mut self,
        which: usize,
        end: End,
        how: BatchEnd,
    ) -> Result<(), String> {
        if self.batches.is_empty() {
            return Ok(());
        }
        let batch = self.batches.remove(which % self.batches.len());
        let at = self.clock;
        let answer = |(position, member): (usize, &Started)| {
            let succeeds =
                matches!(how, BatchEnd::Each { succeeds } if succeeds >> position & 1 > 0);
            let end = if succeeds { End::Success } else { end };
            end.answer(member.number, member.attempt)
        };
        let mut answers: Vec<Answer> = batch.members.iter().enumerate().map(answer).collect();
        let whole = answers[0].err().filter(|_| how == BatchEnd::Whole);
        match how {
            BatchEnd::Each { .. } => {}
            BatchEnd::Whole => answers.fill_with(|| whole.map_or(Ok(7), Err)),
            BatchEnd::OneMore => answers.push(Ok(7)),
            BatchEnd::OneFewer => drop(answers.pop()),
        }
        self.tell(|_| format!("batch {:?} ends ({how:?}): {answers:?}", batch.id));
        let expected = self.model.complete_batch(at, Some(batch.in_model), answers.clone());
        let completion = match whole {
            Some(failure) => self.subject.fail_batch(at, batch.id, failure),
            None => self.subject.complete_batch(at, batch.id, answers),
        };
        same("the end of a batch", &completion, &expected)?;
        let is_member = |started: &Started| batch.members.iter().any(|one| one.id == started.id);
        self.over.extend(self.running.extract_if(.., |started| is_member(started)));
        self.over_batches.push(batch.id);
        same("take_abandoned_batch", &self.subject.take_abandoned_batch(), &None)
    }

    /// T5
    pub(crate) fn end_batch_late(&mut self, which: usize) -> Result<(), String> {
        if self.over_batches.is_empty() {
            return Ok(());
        }
        let id = self.over_batches[which % self.over_batches.len()];
        self.tell(|_| format!("batch {id:?} ends late"));
        let expected = self.model.complete_batch(self.clock, None, Vec::new());
        same("expected", &expected, &Completion::Late)?;
        same("a late batch", &self.subject.complete_batch(self.clock, id, vec![Ok(7)]), &expected)
    }

    /// The attempt of a record has ended alone: that ends its batch if it was the last one (T3).
    pub(crate) fn batch_may_be_over(&mut self, started: Started) -> Result<(), String> {
        let model = &self.model;
        let is_over = |batch: &Going| !model.is_running_batch(batch.in_model);
        let over = self.batches.iter().position(is_over).map(|at| self.batches.remove(at));
        if let Some(over) = &over {
            let is_it = over.members.iter().any(|member| member.id == started.id);
            same("is it the batch of the attempt that has ended", &is_it, &true)?;
            self.over_batches.push(over.id);
        }
        let abandoned = self.subject.take_abandoned_batch();
        same("take_abandoned_batch", &abandoned, &over.map(|batch| batch.id))
    }

    /// All of them have ended, and none of their answers counts any more.
    pub(crate) fn all_batches_are_over(&mut self) {
        self.over_batches.extend(self.batches.drain(..).map(|batch| batch.id));
    }
}
