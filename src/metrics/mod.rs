//! The numbers of a stage through the [`metrics`] facade: see [`StageMetrics`].

mod names;

use std::fmt;

use ::metrics::{Counter, Gauge, Histogram, Label, SharedString};
use inflight_core::Metrics;

use self::names::{COUNTERS, GAUGES, HISTOGRAMS};

/// Hands the numbers of one stage on to the recorder that the program has installed.
///
/// Every name has the label `stage`.
///
/// | name | kind | unit | what |
/// | --- | --- | --- | --- |
/// | `inflight_in_flight` | gauge | count | records taken in and not handed on |
/// | `inflight_running` | gauge | count | attempts running |
/// | `inflight_in_backoff` | gauge | count | records between two attempts |
/// | `inflight_waiting` | gauge | count | records that wait for an attempt to start: for the previous record of their key, a running attempt, a permit, the rate, the end of a pause or more records of a batch |
/// | `inflight_done` | gauge | count | records that are done and have not left |
/// | `inflight_capacity` | gauge | count | the most records in flight |
/// | `inflight_limit` | gauge | count | the most attempts or batches that may run at once, pauses aside; 0 if there is no limit |
/// | `inflight_paused` | gauge | count | 1 if no attempt starts because of a pause, else 0 |
/// | `inflight_next_start_seconds` | gauge | seconds | until the next attempt may start that a rate, a failure's pause or a batch that fills holds up; 0 if they hold none up |
/// | `inflight_oldest_seconds` | gauge | seconds | age of the oldest record in flight; 0 if there is none |
/// | `inflight_records_in_total` | counter | count | records taken in |
/// | `inflight_emitted_total` | counter | count | outcomes handed on |
/// | `inflight_failed_total` | counter | count | calls that ended with a failure, timeouts included |
/// | `inflight_timed_out_total` | counter | count | calls that ended with a failure because time ran out |
/// | `inflight_dropped_total` | counter | count | records that left without an outcome: a timeout's handler let them go, or a failure has ended the job |
/// | `inflight_attempts_total` | counter | count | attempts started |
/// | `inflight_requests_total` | counter | count | requests started: batches, or else attempts |
/// | `inflight_retried_total` | counter | count | attempts that were followed by another one |
/// | `inflight_late_completions_total` | counter | count | completions that came too late to have an effect |
/// | `inflight_blocked_milliseconds_total` | counter | milliseconds | time in which no further record had room |
/// | `inflight_call_seconds` | histogram | seconds | from a call's first invocation to its outcome |
/// | `inflight_ordering_delay_seconds` | histogram | seconds | how long outcomes waited for records before them, or to be taken out |
///
/// **Counters** are set to the stage's own totals ([`Counter::absolute`]), so nothing is counted twice or missed,
/// however seldom they are handed on. A recorder keeps the largest value that it was given: a stage that is started
/// anew in the same process begins at 0, and under the same name its counters stand still until they have passed
/// those of the stage before it. Give it another name, unless this suits you.
///
/// **Histograms** get one value for each call. The stage keeps how many durations fell between two powers of two
/// nanoseconds ([`crate::Histogram`]), so the value is the upper bound of that bucket: up to twice the
/// true duration, never less, as with [`quantile`](crate::Histogram::quantile). Buckets of a recorder's own
/// that are powers of two apart lose nothing more.
///
/// **Grafana**: `docs/grafana/inflight.json` in the repository is a dashboard with all of these numbers, as `metrics-exporter-prometheus` names
/// them. Import it, and choose the data source and the stages at its top.
///
/// ```
/// use inflight::{AsyncWait, AsyncWaitExt, StageMetrics, Tokio};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), inflight::StartError> {
/// let mut squares = futures::stream::iter(0..1000_u64)
///     .async_wait(AsyncWait::ordered(100), |n| std::future::ready(Ok::<_, ()>(n * n)))
///     .spawn(Tokio)?;
///
/// let (stage, mut reported) = (squares.handle(), StageMetrics::new("squares"));
/// let reporting = tokio::spawn(async move {
///     loop {
///         reported.record(&stage.metrics()); // reads memory and nothing else
///         tokio::time::sleep(Duration::from_secs(1)).await;
///     }
/// });
/// while let Some(_done) = squares.next().await {}
/// reporting.abort();
/// # Ok(())
/// # }
/// ```
pub struct StageMetrics {
    gauges: [Gauge; GAUGES.len()],
    counters: [Counter; COUNTERS.len()],
    histograms: [Histogram; HISTOGRAMS.len()],
    /// The numbers that were handed on last: histograms get the difference.
    last: Metrics,
}

impl StageMetrics {
    /// Describes all names to the recorder that is installed now, and registers them with the label
    /// `stage = name`. Install the recorder first: without one, everything that follows does nothing.
    pub fn new(name: impl Into<SharedString>) -> Self {
        names::describe();
        let labels = std::vec![Label::new("stage", name.into())];
        Self {
            gauges: GAUGES.map(|gauge| ::metrics::gauge!(gauge.name, labels.clone())),
            counters: COUNTERS.map(|counter| ::metrics::counter!(counter.name, labels.clone())),
            histograms: HISTOGRAMS
                .map(|histogram| ::metrics::histogram!(histogram.name, labels.clone())),
            last: Metrics::default(),
        }
    }

    /// Hands on the stage's numbers as of one moment. Call it as often as the recorder is scraped, and once more at the
    /// end, or the last numbers are missing.
    ///
    /// `now` has to be of the same stage each time, and not older than the one before.
    pub fn record(&mut self, now: &Metrics) {
        for (gauge, named) in self.gauges.iter().zip(&GAUGES) {
            gauge.set((named.value)(now));
        }
        for (counter, named) in self.counters.iter().zip(&COUNTERS) {
            counter.absolute((named.value)(now));
        }
        for (histogram, named) in self.histograms.iter().zip(&HISTOGRAMS) {
            let new = (named.value)(now).since((named.value)(&self.last));
            for (bound, count) in new.buckets() {
                let new = usize::try_from(count).unwrap_or(usize::MAX);
                if new > 0 {
                    histogram.record_many(bound.as_secs_f64(), new);
                }
            }
        }
        self.last = *now;
    }
}

impl fmt::Debug for StageMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageMetrics").field("last", &self.last).finish_non_exhaustive()
    }
}
