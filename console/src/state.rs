//! The state as JSON. Times are in seconds; `null` stands where there is no value.

use inflight_core::{CellState, Metrics};
use serde::Serialize;

use crate::history::{History, STEP, Span, quantile, rounded};
use crate::pipeline::PipelineHistory;
use crate::why::why;

#[derive(Serialize)]
pub(crate) struct State<'a> {
    pub(crate) title: &'a str,
    /// Milliseconds since the Unix epoch.
    pub(crate) now: u64,
    pub(crate) uptime: f64,
    pub(crate) stages: Vec<Stage<'a>>,
    pub(crate) pipelines: Vec<Pipeline<'a>>,
    pub(crate) lamps: Vec<LampState<'a>>,
}

#[derive(Serialize)]
pub(crate) struct Stage<'a> {
    pub(crate) name: &'a str,
    pub(crate) ended: bool,
    pub(crate) numbers: Numbers,
    pub(crate) window: Window,
    pub(crate) oldest: Option<Oldest>,
    pub(crate) history: Stepped<&'a History>,
}

#[derive(Serialize)]
pub(crate) struct Numbers {
    in_flight: u64,
    running: u64,
    backoff: u64,
    waiting: u64,
    done: u64,
    capacity: u64,
    limit: Option<u64>,
    paused: bool,
    oldest: Option<f64>,
    records_in: u64,
    emitted: u64,
    failed: u64,
    timed_out: u64,
    dropped: u64,
    attempts: u64,
    retried: u64,
    slow_turns: u64,
    in_per_second: Option<f64>,
    out_per_second: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Numbers {
    /// `second` is the last second, and `recent` the time of which quantiles are told.
    pub(crate) fn new(numbers: &Metrics, second: Option<&Span>, recent: &Metrics) -> Self {
        Self {
            in_flight: numbers.in_flight,
            running: numbers.running,
            backoff: numbers.in_backoff,
            waiting: numbers.waiting(),
            done: numbers.done,
            capacity: numbers.capacity,
            limit: numbers.limit,
            paused: numbers.paused,
            oldest: numbers.oldest.map(|oldest| rounded(oldest.as_secs_f64())),
            records_in: numbers.records_in,
            emitted: numbers.emitted,
            failed: numbers.failed,
            timed_out: numbers.timed_out,
            dropped: numbers.dropped,
            attempts: numbers.attempts,
            retried: numbers.retried,
            slow_turns: numbers.slow_turns,
            in_per_second: second.map(|second| second.per_second(second.numbers.records_in)),
            out_per_second: second.map(|second| second.per_second(second.numbers.emitted)),
            p50: quantile(recent, 0.5),
            p99: quantile(recent, 0.99),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Window {
    /// A letter for each record.
    cells: String,
    attempts: Vec<u32>,
    ages: Vec<f64>,
    omitted: u64,
}

impl Window {
    pub(crate) fn new(window: &inflight_core::Window) -> Self {
        let letter = |state| match state {
            CellState::Waiting => 'w',
            CellState::Running => 'r',
            CellState::Backoff => 'b',
            CellState::Done => 'd',
        };
        let cells = &window.cells;
        Self {
            cells: cells.iter().map(|cell| letter(cell.state)).collect(),
            attempts: cells.iter().map(|cell| cell.attempts).collect(),
            ages: cells.iter().map(|cell| rounded(cell.age.as_secs_f64())).collect(),
            omitted: window.omitted(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct Oldest {
    state: &'static str,
    age: f64,
    attempts: u32,
    why: String,
}

impl Oldest {
    pub(crate) fn new(window: &inflight_core::Window, numbers: &Metrics) -> Option<Self> {
        let oldest = window.cells.first()?;
        let state = match oldest.state {
            CellState::Waiting => "waiting",
            CellState::Running => "running",
            CellState::Backoff => "backoff",
            CellState::Done => "done",
        };
        let age = rounded(oldest.age.as_secs_f64());
        Some(Self { state, age, attempts: oldest.attempts, why: why(oldest, numbers) })
    }
}

/// A history with the time between its samples.
#[derive(Serialize)]
pub(crate) struct Stepped<H> {
    step: f64,
    #[serde(flatten)]
    history: H,
}

impl<H> Stepped<H> {
    pub(crate) fn new(history: H) -> Self {
        Self { step: STEP.as_secs_f64(), history }
    }
}

#[derive(Serialize)]
pub(crate) struct Pipeline<'a> {
    pub(crate) name: &'a str,
    pub(crate) ended: bool,
    pub(crate) checkpoints: u64,
    pub(crate) failed: u64,
    /// The time since the last checkpoint.
    pub(crate) last_ago: Option<f64>,
    /// The time that the last one took.
    pub(crate) took: Option<f64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) history: Stepped<PipelineHistory>,
}

#[derive(Serialize)]
pub(crate) struct LampState<'a> {
    pub(crate) name: &'a str,
    pub(crate) state: &'static str,
    pub(crate) note: String,
}
