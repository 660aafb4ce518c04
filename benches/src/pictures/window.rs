//! A stage at one instant: its source, the records in flight with their states, its consumer.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::stream::{StreamExt, iter};
use inflight::Spawner as _;
use inflight::prelude::*;

use super::svg::{Anchor, Svg};
use super::trace::{Life, Trace};
use crate::virtual_time::VirtualTime;

const CAPACITY: usize = 12;
const RUNNING: usize = 4;
/// The instant of the picture: the window is full, and has a record in each state.
const INSTANT: Duration = Duration::from_millis(62);
const BACKOFF: Duration = Duration::from_millis(30);

/// The error that is tried again.
const BUSY: &str = "busy";

const CELL: (f64, f64) = (32.0, 44.0);
const GAP: f64 = 3.0;
const TOP: f64 = 104.0;

/// A record's state. Its letter is that of the console's cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Backoff,
    Done,
    Failed,
}

impl State {
    /// `None` if the record has left.
    fn in_window(life: &Life) -> Option<Self> {
        let last = life.attempts.last().map(|attempt| attempt.end);
        Some(match last {
            _ if life.left.is_some() => return None,
            None => Self::Waiting,
            Some(None) => Self::Running,
            Some(Some((_, false))) => Self::Backoff, // the picture has no failed record in the window
            Some(Some((_, true))) => Self::Done,
        })
    }

    fn class(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// The stage at the instant.
struct Moment {
    /// The oldest record first.
    window: Vec<(u32, State)>,
    /// The latest outcomes, the last one first.
    left: Vec<(u32, State)>,
}

pub(super) fn draw() -> Result<String> {
    let moment = moment()?;
    let mut svg = Svg::new(
        332.0,
        "An ordered stage and its window",
        "A source, a stage whose window has 12 slots, and a consumer. The window is full: its oldest record runs, those that are done wait \
         behind it, two are in backoff, the newest wait for an attempt. So the source is not read, until the oldest record leaves.",
    );
    draw_source(&mut svg, &moment);
    draw_window(&mut svg, &moment);
    draw_consumer(&mut svg, &moment);
    draw_legend(&mut svg, &moment);
    Ok(svg.finish())
}

/// Runs a stage up to the instant.
fn moment() -> Result<Moment> {
    let clock = VirtualTime::new();
    let trace = Trace::new(&clock);
    let (here, at) = (clock.clone(), trace.clone());
    let lives = clock.run(async move {
        let records = {
            let trace = at.clone();
            iter(1..).inspect(move |record| trace.taken(*record))
        };
        let ask = {
            let (clock, trace) = (here.clone(), at.clone());
            with_attempt(move |record: &u32, attempt| {
                let answer = answer(clock.clone(), *record, attempt.number);
                trace.attempt(*record, answer)
            })
        };
        let policy = AsyncWait::ordered(CAPACITY)
            .max_running(RUNNING)
            .retry(FixedDelay::new(BACKOFF).when_error(|error| *error == BUSY));
        let mut stage = records.async_wait_with(policy, ask).spawn(here.clone())?;
        let consumer = {
            let trace = at.clone();
            here.spawn(async move {
                while let Some(done) = stage.next().await {
                    trace.left(done.input);
                }
            })
        };
        here.sleep_until(INSTANT).await;
        drop(consumer);
        Ok::<_, StartError>(at.lives())
    })??;
    let window: Vec<_> = lives
        .iter()
        .filter_map(|(record, life)| Some((*record, State::in_window(life)?)))
        .collect();
    ensure!(window.len() == CAPACITY, "the window is not full: {window:?}");
    let ended = |life: &Life| life.attempts.last().and_then(|last| last.end);
    let result = |life: &Life| match ended(life) {
        Some((_, false)) => State::Failed,
        _ => State::Done,
    };
    let left = lives.iter().rev().filter(|(_, life)| life.left.is_some());
    let left = left.map(|(record, life)| (*record, result(life))).collect();
    Ok(Moment { window, left })
}

/// The service: most requests take 10 to 20 ms, some much longer, and some fail.
async fn answer(clock: VirtualTime, record: u32, attempt: u32) -> Result<(), &'static str> {
    let millis = match record {
        7 => 60,
        _ => 10 + u64::from(record * 7 % 11),
    };
    clock.sleep(Duration::from_millis(millis)).await;
    match (record, attempt) {
        (5, _) => Err("there is no such record"),
        (10 | 13, 1) => Err(BUSY),
        _ => Ok(()),
    }
}

fn draw_source(svg: &mut Svg, moment: &Moment) {
    let next = moment.window.last().map_or(1, |(record, _)| record + 1);
    svg.text("bold", Anchor::Start, (24.0, TOP - 24.0), "source");
    for (number, record) in [next + 1, next].into_iter().enumerate() {
        let x = 24.0 + number as f64 * (CELL.0 + GAP);
        svg.rect("axis", (x, TOP), CELL, 4.0);
        svg.text("", Anchor::Middle, (x + CELL.0 / 2.0, TOP + 27.0), &record.to_string());
    }
    svg.arrow((98.0, TOP + CELL.1 / 2.0), (118.0, TOP + CELL.1 / 2.0));
}

const WINDOW: f64 = 134.0;

fn draw_window(svg: &mut Svg, moment: &Moment) {
    let width = CAPACITY as f64 * (CELL.0 + GAP) - GAP;
    let title = format!("the window: {CAPACITY} records in flight, {RUNNING} may run at once");
    svg.text("bold", Anchor::Start, (WINDOW, TOP - 24.0), &title);
    svg.rect("axis", (WINDOW - 8.0, TOP - 8.0), (width + 16.0, CELL.1 + 16.0), 6.0);
    for (number, (record, state)) in moment.window.iter().rev().enumerate() {
        draw_cell(svg, WINDOW + number as f64 * (CELL.0 + GAP), *record, *state);
    }
    let below = TOP + CELL.1 + 26.0;
    svg.text("small", Anchor::Start, (WINDOW - 8.0, below), "newest");
    svg.text("small", Anchor::End, (WINDOW + width + 8.0, below), "oldest");
}

fn draw_consumer(svg: &mut Svg, moment: &Moment) {
    let left = 596.0;
    svg.arrow((left - 28.0, TOP + CELL.1 / 2.0), (left - 8.0, TOP + CELL.1 / 2.0));
    svg.text("bold", Anchor::Start, (left, TOP - 24.0), "consumer");
    for (number, (record, state)) in moment.left.iter().take(3).enumerate() {
        draw_cell(svg, left + number as f64 * (CELL.0 + GAP), *record, *state);
    }
}

fn draw_cell(svg: &mut Svg, x: f64, record: u32, state: State) {
    let middle = x + CELL.0 / 2.0;
    svg.rect(&format!("{} tint", state.class()), (x, TOP), CELL, 4.0);
    svg.text("bold", Anchor::Middle, (middle, TOP + 19.0), &record.to_string());
    svg.text("", Anchor::Middle, (middle, TOP + 36.0), &state.class()[..1]);
}

/// Each state with its number of records and its meaning.
fn draw_legend(svg: &mut Svg, moment: &Moment) {
    let states = [
        (State::Running, "running", "its request is under way"),
        (State::Backoff, "backoff", "its attempt failed, and it waits for the next one"),
        (State::Done, "done", "its outcome waits, here for the oldest record"),
        (State::Waiting, "waiting", "it has a slot, and its attempt has not started"),
        (State::Failed, "failed", "an outcome like any other: it leaves in its place"),
    ];
    for (row, (state, name, meaning)) in states.into_iter().enumerate() {
        let y = TOP + CELL.1 + 62.0 + 24.0 * row as f64;
        svg.rect(&format!("{} tint", state.class()), (WINDOW - 8.0, y - 13.0), (18.0, 18.0), 3.0);
        svg.text("", Anchor::Middle, (WINDOW + 1.0, y), &name[..1]);
        let count = moment.window.iter().filter(|(_, of)| *of == state).count();
        let name = if count > 0 { format!("{count} {name}") } else { name.to_owned() };
        svg.text("bold", Anchor::Start, (WINDOW + 22.0, y), &name);
        svg.text("soft", Anchor::Start, (WINDOW + 108.0, y), meaning);
    }
    let y = TOP + CELL.1 + 44.0;
    svg.lines("soft", Anchor::Start, (24.0, y), &["not read", "while all", "slots are", "taken"]);
}
