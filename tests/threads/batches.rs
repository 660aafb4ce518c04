//! The function of a stage that asks for several records at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};

use inflight::prelude::*;
use inflight::{AsyncBatchFunction, Batch};

use super::service::{Answer, Refused, Service, come_to_an_end};
use super::source::Record;

/// It opens, closes and decides at timeouts as the service for single records does.
#[derive(Debug)]
pub struct InBatches(pub Service);

type Answers = Vec<Result<Answer, Refused>>;

impl AsyncBatchFunction<Record> for InBatches {
    type Output = Answer;
    type Error = Refused;
    type Answers = Answers;
    type Future = Pin<Box<dyn Future<Output = Result<Answers, Refused>> + Send>>;

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        AsyncFunction::poll_open(&mut self.0, cx)
    }

    fn invoke(&mut self, batch: Batch<'_, Record>) -> Self::Future {
        let tally = Arc::clone(self.0.tally());
        let most = tally.plan.batches.map_or(0, |batches| batches.records);
        if !(1..=most).contains(&batch.len()) {
            tally.wrong(format!("B1: a batch of {} records, not of up to {most}", batch.len()));
        }
        let asked = batch.iter().map(|attempt| {
            let record = attempt.input;
            let running = tally.invoke(record.number, record.key, attempt.info);
            let is_refused = attempt.info.number <= record.fails;
            (record.number, record.ask, is_refused, running)
        });
        let asked: Vec<_> = asked.collect();
        Box::pin(async move {
            for (_, ask, _, running) in &asked {
                come_to_an_end(*ask, running).await;
            }
            let answers = asked.into_iter().map(|(number, _, is_refused, running)| {
                drop(running);
                tally.answered.fetch_add(1, SeqCst);
                if is_refused { Err(Refused(number)) } else { Ok(Answer::new(&tally, number)) }
            });
            Ok(answers.collect())
        })
    }

    fn on_timeout(
        &mut self,
        call: TimedOutCall<'_, Record, Answer, Refused>,
    ) -> TimeoutAction<Answer, Refused> {
        AsyncFunction::on_timeout(&mut self.0, call)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        AsyncFunction::poll_close(&mut self.0, cx)
    }
}
