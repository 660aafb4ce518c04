//! The last five minutes of a stage, a sample each second.

use std::collections::VecDeque;
use std::time::Duration;

use inflight_core::Metrics;
use serde::Serialize;

/// The time between two samples.
pub(crate) const STEP: Duration = Duration::from_secs(1);

/// The most samples: five minutes.
const SAMPLES: usize = 300;

/// One list for each number, the oldest entry first.
#[derive(Debug, Default, Serialize)]
pub(crate) struct History {
    r#in: Samples<f64>,
    out: Samples<f64>,
    p50: Samples<Option<f64>>,
    p99: Samples<Option<f64>>,
    limit: Samples<Option<u64>>,
    in_flight: Samples<u64>,
    retried: Samples<f64>,
    failed: Samples<f64>,
}

impl History {
    /// Adds the numbers of a span of time: the last one.
    pub(crate) fn push(&mut self, span: &Span) {
        let Span { numbers, .. } = span;
        self.r#in.push(span.per_second(numbers.records_in));
        self.out.push(span.per_second(numbers.emitted));
        self.p50.push(quantile(numbers, 0.5));
        self.p99.push(quantile(numbers, 0.99));
        self.limit.push(numbers.limit);
        self.in_flight.push(numbers.in_flight);
        self.retried.push(span.per_second(numbers.retried));
        self.failed.push(span.per_second(numbers.failed));
    }
}

/// The numbers of a span of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) numbers: Metrics,
    pub(crate) seconds: f64,
}

impl Span {
    pub(crate) fn per_second(&self, count: u64) -> f64 {
        // Samples are a second apart, but for those of a thread that was held up.
        rounded(count as f64 / self.seconds.max(0.001))
    }
}

/// A quantile of the calls' times, in seconds; `None` if no call has ended.
pub(crate) fn quantile(numbers: &Metrics, quantile: f64) -> Option<f64> {
    let times = &numbers.call_time;
    (times.count() > 0).then(|| rounded(times.quantile(quantile).as_secs_f64()))
}

/// To the microsecond, so that JSON stays short.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

/// The last values of a number.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Samples<T>(VecDeque<T>);

impl<T> Samples<T> {
    pub(crate) fn push(&mut self, sample: T) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_five_minutes() {
        let mut history = History::default();
        for second in 0..1000 {
            let mut numbers = Metrics::default();
            (numbers.records_in, numbers.in_flight) = (2 * second, second);
            history.push(&Span { numbers, seconds: 2.0 });
        }
        let lengths = [history.r#in.0.len(), history.limit.0.len(), history.p99.0.len()];
        assert_eq!(lengths, [300; 3]);
        assert_eq!((history.in_flight.0[0], history.in_flight.0[299]), (700, 999));
        assert_eq!((history.r#in.0[299], history.p50.0[299]), (999.0, None));
    }
}
