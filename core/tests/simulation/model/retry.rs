//! Decides if another attempt follows, and when (rules R).

use inflight_core::Failure;

use super::{Ending, Model};
use crate::setup::{Delays, Retries};
use crate::values::{Answer, dictated, is_not_yet, is_passing};

impl Model {
    /// The time until the attempt after attempt `number`, in nanoseconds.
    pub(super) fn next_delay(&mut self, number: u32, answer: &Answer) -> Option<i64> {
        if matches!(self.ending, Ending::LastAttempt | Ending::ShutDown) {
            return None;
        }
        let delay = wish(&self.setup.retries, number, answer);
        let Some(budget) = self.setup.retry_budget else { return delay };
        if delay.is_some() && self.tokens >= 1000 {
            self.tokens -= 1000;
            return delay;
        }
        // R4: an output that the strategy wanted to retry is still a success.
        if answer.is_ok() {
            self.tokens = (self.tokens + budget.gain).min(budget.most * 1000);
        }
        None
    }
}

/// The strategy's decision (R1, R2).
fn wish(retries: &Retries, number: u32, answer: &Answer) -> Option<i64> {
    let wanted = match answer {
        Ok(output) => retries.not_yet && is_not_yet(output),
        Err(Failure::Error(mistake)) => !retries.only_passing || is_passing(mistake),
        Err(Failure::AttemptTimedOut) => true,
        Err(_) => false,
    };
    if !wanted || number > retries.most {
        return None;
    }
    let scheduled = match retries.delays {
        Delays::NoRetry => return None,
        Delays::Fixed(delay) => delay * 1_000_000,
        Delays::Exponential { initial, halves, maximum } => {
            let mut delay = initial * 1_000_000;
            for _ in 1..number {
                delay = delay * halves / 2;
            }
            delay.min(maximum * 1_000_000)
        }
    };
    let delay = match answer {
        Err(Failure::Error(mistake)) if retries.dictated => {
            dictated(mistake).map_or(scheduled, |millis| millis * 1_000_000)
        }
        _ => scheduled,
    };
    Some(delay as i64)
}
