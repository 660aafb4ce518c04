//! A gradient of latencies.

use core::fmt;

use super::bounds::Bounds;
use super::{LimitStrategy, Sample, Verdict};
use crate::config_error::ConfigError;
use crate::retry::Q32;

/// The least samples of a window: a mean of fewer latencies says little.
const MIN_SAMPLES: usize = 16;

/// The windows between two measurements of the latency without load.
const PROBE_EVERY: u32 = 50;

/// One refused request, and one in so many of a window, are no overload.
const REFUSED: u64 = 32;

/// A gradient of latencies: the limit shrinks as answers take longer than they do without load (A1).
///
/// Once in a round trip,
///
/// > limit = limit × gradient + growth
///
/// * The **gradient** is the latency without load times the [tolerance](Self::tolerance), divided by the mean latency of the
///   round trip, and between ½ and 1.
/// * The **growth** is the square root of the limit: room for a short queue in the service. A limit of which less than half
///   is running does not grow.
/// * The **latency without load** is measured while at most half of the limit is running. A client that always uses its limit
///   runs at half of it for one round trip in 50, which gives up about 1 % of its throughput.
/// * **Refused requests.** When more than one request and 3 % of a round trip have been refused, or have failed, the limit loses
///   a quarter at once, and growth begins again at one. Fewer are no overload: they have other causes.
///
/// The formula is that of Netflix's [concurrency-limits](https://github.com/Netflix/concurrency-limits), 2018 (`GradientLimit`
/// and `Gradient2Limit`), and so is the growth by a square root. TCP Vegas compares with the latency without load: L. Brakmo,
/// S. O'Malley and L. Peterson, *TCP Vegas: New Techniques for Congestion Detection and Avoidance*, SIGCOMM 1994. BBR
/// measures that latency as it is done here, at times with few requests: N. Cardwell et al., *BBR: Congestion-Based Congestion
/// Control*, ACM Queue, 2016. `Gradient2Limit` uses a long average instead, which in time mistakes a queue for the service's
/// own latency.
///
/// | setting | default |
/// | --- | --- |
/// | [`start`](Self::start) | the lowest limit |
/// | [`tolerance`](Self::tolerance) | 1.25 |
///
/// ```
/// use std::time::Duration;
///
/// use inflight_core::{Gradient, LimitStrategy, Sample, Verdict};
///
/// let mut limit = Gradient::between(4, 200);
/// assert_eq!(limit.check(), Ok(()));
///
/// // The service answers 50 requests at once in 20 ms; more wait for each other.
/// for _ in 0..10_000 {
///     let running = limit.limit();
///     let latency = Duration::from_millis(20).mul_f64((running as f64 / 50.0).max(1.0));
///     limit.observe(Sample::new(latency, Verdict::Answered, running));
/// }
/// assert!((50..80).contains(&limit.limit()), "{limit}");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Gradient {
    bounds: Bounds,
    tolerance: Q32,
    limit: usize,
    /// The mean latency without load, in nanoseconds. `None` before the first window.
    unloaded: Option<u64>,
    /// The most that the next window may add.
    growth: usize,
    /// Requests that were running at the last decrease and have not ended.
    of_last_round: usize,
    window: Window,
    windows_to_probe: u32,
}

impl Gradient {
    /// A limit between `min` and `max`, both included, that starts at `min`.
    pub const fn between(min: usize, max: usize) -> Self {
        Self {
            bounds: Bounds { min, max },
            tolerance: Q32::from_f64(1.25),
            limit: min,
            unloaded: None,
            growth: usize::MAX,
            of_last_round: 0,
            window: Window::EMPTY,
            windows_to_probe: PROBE_EVERY,
        }
    }

    /// Sets the limit at the start, within the bounds.
    pub const fn start(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Sets how many times the latency without load is no reason to shrink, at least 1. A service that refuses early needs a
    /// low one; latencies that differ much from request to request need a high one.
    pub const fn tolerance(mut self, times: f64) -> Self {
        self.tolerance = Q32::from_f64(times);
        self
    }

    /// True during the window that measures the latency without load.
    const fn is_probing(&self) -> bool {
        self.windows_to_probe == 0
    }

    fn end_window(&mut self) {
        let window = core::mem::replace(&mut self.window, Window::EMPTY);
        let is_probe = self.is_probing();
        self.windows_to_probe = self.windows_to_probe.checked_sub(1).unwrap_or(PROBE_EVERY);
        if window.is_refused() {
            // The few latencies up to here say nothing.
            self.growth = 0;
            self.limit = self.bounds.nearest(self.limit - self.limit.div_ceil(4));
            return;
        }
        let mean = window.mean_latency();
        let has_half = window.most_running <= self.limit / 2 || self.limit == self.bounds.min;
        let lowest = self.unloaded.unwrap_or(u64::MAX).min(mean);
        let unloaded = if is_probe || has_half { mean } else { lowest };
        self.unloaded = Some(unloaded);
        if !is_probe {
            let tolerated = self.tolerance.times(unloaded).min(mean);
            let kept = scale(self.limit, tolerated, mean).max(self.limit / 2);
            self.limit = self.bounds.nearest(kept.saturating_add(self.added(&window)));
        }
    }

    fn added(&mut self, window: &Window) -> usize {
        if window.most_running < self.limit.div_ceil(2) {
            return 0;
        }
        self.growth = self.growth.saturating_add(1).min(self.limit.isqrt());
        self.growth
    }
}

impl LimitStrategy for Gradient {
    fn limit(&self) -> usize {
        if self.is_probing() { self.bounds.nearest(self.limit / 2) } else { self.limit }
    }

    fn observe(&mut self, sample: Sample) {
        if self.of_last_round > 0 {
            self.of_last_round -= 1;
            return;
        }
        if self.window.add(sample) {
            let before = self.limit();
            self.end_window();
            if self.limit() < before {
                // The requests that run now have the latency of the limit before.
                self.of_last_round = sample.others();
            }
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !self.tolerance.is_at_least_one() {
            return Err(ConfigError::LimitTolerance);
        }
        self.bounds.check(self.limit)
    }
}

/// The limit and its bounds.
impl fmt::Display for Gradient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} to {})", self.limit(), self.bounds.min, self.bounds.max)
    }
}

/// The samples of a round trip.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// The samples of a full window; zero before the first one.
    wanted: u64,
    answered: u64,
    overloaded: u64,
    /// The latencies of the answers, in nanoseconds.
    latencies: u64,
    most_running: usize,
}

impl Window {
    const EMPTY: Self =
        Self { wanted: 0, answered: 0, overloaded: 0, latencies: 0, most_running: 0 };

    /// Adds a sample. Returns true if the window ends with it.
    fn add(&mut self, sample: Sample) -> bool {
        match sample.verdict {
            Verdict::Ignored => return false,
            Verdict::Overloaded => self.overloaded += 1,
            Verdict::Answered => {
                self.answered += 1;
                let nanos = u64::try_from(sample.latency.as_nanos()).unwrap_or(u64::MAX);
                self.latencies = self.latencies.saturating_add(nanos);
            }
        }
        if self.wanted == 0 {
            self.wanted = sample.running.max(MIN_SAMPLES) as u64;
        }
        self.most_running = self.most_running.max(sample.running);
        self.answered + self.overloaded >= self.wanted || self.is_refused()
    }

    /// True if more requests are refused than fail in a service that is well.
    const fn is_refused(&self) -> bool {
        self.overloaded > 1 + self.wanted / REFUSED
    }

    /// In nanoseconds, at least 1.
    const fn mean_latency(&self) -> u64 {
        let latencies = if self.latencies == 0 { 1 } else { self.latencies };
        latencies.div_ceil(if self.answered == 0 { 1 } else { self.answered })
    }
}

/// `number × part / whole`, for a part that is not above the whole.
fn scale(number: usize, part: u64, whole: u64) -> usize {
    (number as u128 * u128::from(part) / u128::from(whole)) as usize
}
