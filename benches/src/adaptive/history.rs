//! What a client met, second by second.

use std::ops::Range;
use std::time::Duration;

use super::client::END;

/// One second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Second {
    pub(super) offered: usize,
    pub(super) answered: usize,
    pub(super) refused: usize,
    /// The sum of the latencies of all answers.
    latency: Duration,
    /// At its end.
    pub(super) limit: usize,
}

impl Second {
    /// The mean latency of the answers, in milliseconds.
    pub(super) fn latency_ms(&self) -> f64 {
        self.latency.as_secs_f64() * 1e3 / self.answered.max(1) as f64
    }
}

/// All seconds.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) seconds: Vec<Second>,
}

impl Default for History {
    fn default() -> Self {
        Self { seconds: vec![Second::default(); END.as_secs() as usize] }
    }
}

impl History {
    pub(super) fn offer(&mut self, now: Duration) {
        self.at(now).offered += 1;
    }

    pub(super) fn answer(&mut self, now: Duration, latency: Duration) {
        let second = self.at(now);
        second.answered += 1;
        second.latency += latency;
    }

    pub(super) fn refusal(&mut self, now: Duration) {
        self.at(now).refused += 1;
    }

    pub(super) fn limit(&mut self, now: Duration, limit: usize) {
        self.at(now).limit = limit;
    }

    /// Answers in a span of seconds.
    pub(super) fn answered(&self, span: Range<usize>) -> usize {
        self.seconds[span].iter().map(|second| second.answered).sum()
    }

    /// Refused requests in a span of seconds.
    pub(super) fn refused(&self, span: Range<usize>) -> usize {
        self.seconds[span].iter().map(|second| second.refused).sum()
    }

    /// The mean latency of the answers in a span of seconds, in milliseconds.
    pub(super) fn latency_ms(&self, span: Range<usize>) -> f64 {
        let sum: Duration = self.seconds[span.clone()].iter().map(|second| second.latency).sum();
        sum.as_secs_f64() * 1e3 / self.answered(span).max(1) as f64
    }

    fn at(&mut self, now: Duration) -> &mut Second {
        &mut self.seconds[now.as_secs() as usize]
    }
}
