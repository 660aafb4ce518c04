//! A stage that the console watches.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use inflight_core::{Metrics, StageHandle};

use crate::history::{History, Span};
use crate::state;

/// Quantiles are of as many seconds: fewer would often have no call, and more would forget a bad moment late.
const QUANTILE_SAMPLES: usize = 10;

pub(crate) struct WatchedStage {
    pub(crate) name: String,
    pub(crate) handle: StageHandle,
    history: History,
    /// The last samples, the newest behind.
    samples: VecDeque<(Instant, Metrics)>,
    /// The last second, once there was one.
    second: Option<Span>,
}

impl WatchedStage {
    pub(crate) fn new(name: String, handle: StageHandle) -> Self {
        let samples = VecDeque::from([(Instant::now(), handle.metrics())]);
        Self { name, handle, history: History::default(), samples, second: None }
    }

    /// Takes note of the stage's numbers, once a second.
    pub(crate) fn sample(&mut self, now: Instant) {
        let numbers = self.handle.metrics();
        if let Some((last, before)) = self.samples.back() {
            let second = span(now - *last, &numbers, before);
            self.history.push(&second);
            self.second = Some(second);
        }
        if self.samples.len() > QUANTILE_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, numbers));
    }

    pub(crate) fn state(&self) -> state::Stage<'_> {
        let (numbers, window) = (self.handle.metrics(), self.handle.window());
        let recent = match self.samples.front() {
            Some((_, before)) => numbers.since(before),
            None => numbers,
        };
        state::Stage {
            name: &self.name,
            ended: self.handle.has_ended(),
            numbers: state::Numbers::new(&numbers, self.second.as_ref(), &recent),
            oldest: state::Oldest::new(&window, &numbers),
            window: state::Window::new(&window),
            history: state::Stepped::new(&self.history),
        }
    }
}

fn span(passed: Duration, numbers: &Metrics, before: &Metrics) -> Span {
    Span { numbers: numbers.since(before), seconds: passed.as_secs_f64() }
}
