//! The service for several records at a time.

use std::rc::Rc;

use inflight_core::{AsyncBatchFunction, AttemptInfo, Batch};

use crate::model::{answer, record_of};
use crate::process::Process;
use crate::stages::{Carried, REFUSED, panic_as_planned};

/// The service that a stage with batches asks. It refuses records, or the whole batch for the sake of one of them.
pub(crate) fn batch_service<V: Carried>(
    process: &Rc<Process>,
    stage: usize,
) -> impl AsyncBatchFunction<V, Output = u32, Error = u32> + use<V> {
    let process = Rc::clone(process);
    move |batch: Batch<'_, V>| {
        let process = Rc::clone(&process);
        let plan = *process.plan();
        let copies: Vec<V> = batch.inputs().filter(|_| plan.clones).cloned().collect();
        let record = |(value, info): (u32, AttemptInfo)| {
            process.world.request(process.keeps, stage, value, info.request_id);
            (value, info.retry)
        };
        let records = batch.iter().map(|attempt| (attempt.input.value(), attempt.info));
        let records: Vec<(u32, u32)> = records.map(record).collect();
        process.attempts();
        if process.world.one_in(2) {
            panic_as_planned(&process);
        }
        async move {
            let _copies = copies;
            process.step().await;
            panic_as_planned(&process);
            let has =
                |digit: fn(u32) -> bool| records.iter().any(|(value, _)| digit(record_of(*value)));
            let is_stuck = records.iter().any(|(value, _)| plan.stuck == Some(record_of(*value)));
            if is_stuck && !process.world.is_calm() {
                process.stuck.set(process.stuck.get() + 1);
                std::future::pending::<()>().await;
            }
            if plan.has_slow_requests && has(|record| record % 4 == 1) {
                let nanos = 300_000_000 + process.world.below(1_000_000_000) as i64;
                process.runtime.sleep(nanos).await;
            }
            process.attempts();
            let is_refused = |(value, retry): &(u32, u32)| *retry < plan.refusals_of(*value);
            let fail_whole = plan.parts.batches.is_some_and(|batches| batches.fail_whole);
            if fail_whole && records.iter().any(is_refused) {
                return Err(REFUSED);
            }
            let answers = records.iter().map(|record| match is_refused(record) {
                true => Err(REFUSED),
                false => {
                    process.answers(record.0);
                    answer(record.0)
                }
            });
            Ok(answers.collect::<Vec<_>>())
        }
    }
}
