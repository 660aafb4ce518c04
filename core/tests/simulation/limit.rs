//! A limit of running requests that follows samples: a black box, which the operator and the model both run (A1).

use std::time::Duration;

use inflight_core::{LimitStrategy, Sample, Verdict};

/// Half as many after a failure, one fewer after a slow answer, one more after a quick one at the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Follow {
    now: usize,
    /// `None` if it never limits anything.
    most: Option<usize>,
}

impl Follow {
    pub(crate) fn up_to(most: Option<usize>) -> Self {
        Self { now: most.unwrap_or(usize::MAX), most }
    }
}

impl LimitStrategy for Follow {
    fn limit(&self) -> usize {
        self.now
    }

    fn observe(&mut self, sample: Sample) {
        let Some(most) = self.most else { return };
        self.now = match sample.verdict {
            Verdict::Overloaded => self.now / 2,
            Verdict::Answered if sample.latency > Duration::from_millis(2) => {
                self.now.saturating_sub(1)
            }
            Verdict::Answered if sample.running >= self.now => most.min(self.now + 1),
            Verdict::Answered | Verdict::Ignored => self.now,
        };
    }
}
