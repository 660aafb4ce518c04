//! The same four requests in the three orders, as a chart over time.

use std::time::Duration;

use anyhow::Result;
use futures::stream::{StreamExt, iter};
use inflight::prelude::*;

use super::svg::{Anchor, Svg};
use super::trace::{Life, Trace};
use crate::virtual_time::VirtualTime;

/// A sensor, and how many milliseconds its request takes: the records of `docs/guide/order.md`.
const READINGS: [(char, u64); 4] = [('a', 30), ('b', 10), ('a', 5), ('b', 1)];

const ORDERS: [(&str, &str); 3] = [
    ("ordered", "outcomes leave in the order of their inputs"),
    ("unordered", "an outcome leaves when its request is done"),
    ("ordered_by_key", "in order for each of a and b, one request of a key at a time"),
];

const NAMES: f64 = 112.0; // the right end of the records' names
const LEFT: f64 = 124.0;
const RIGHT: f64 = 640.0;
const TOP: f64 = 88.0;
const ROW: f64 = 22.0;
const PANEL: f64 = 24.0 + 4.0 * ROW + 20.0;
const BAR: f64 = 14.0;
/// The right end of the time axis.
const MILLIS: f64 = 37.0;

pub(super) fn draw() -> Result<String> {
    let bottom = TOP + 3.0 * PANEL;
    let mut svg = Svg::new(
        bottom + 46.0,
        "The same four requests in three orders",
        "Four requests take 30, 10, 5 and 1 ms. Ordered, all outcomes leave after 30 ms, because the first request is the slowest. \
         Unordered, each leaves when it is done. Ordered by key, the two of sensor b leave after 10 and 11 ms, and those of sensor a after \
         30 and 35 ms.",
    );
    draw_legend(&mut svg);
    draw_axis(&mut svg, bottom);
    for (number, (order, meaning)) in ORDERS.into_iter().enumerate() {
        let top = TOP + number as f64 * PANEL;
        svg.text("bold", Anchor::Start, (24.0, top + 12.0), order);
        svg.text("soft", Anchor::Start, (170.0, top + 12.0), meaning);
        draw_lives(&mut svg, top + 22.0, &lives(order)?);
    }
    Ok(svg.finish())
}

/// Runs the four records through a stage.
fn lives(order: &str) -> Result<Vec<Life>> {
    let clock = VirtualTime::new();
    let trace = Trace::new(&clock);
    let records = {
        let trace = trace.clone();
        iter(0..4_u32).inspect(move |record| trace.taken(*record))
    };
    let ask = {
        let (clock, trace) = (clock.clone(), trace.clone());
        move |record: &u32| {
            let (record, clock) = (*record, clock.clone());
            let (_, millis) = READINGS[record as usize];
            let answer = async move {
                clock.sleep(Duration::from_millis(millis)).await;
                Ok::<_, ()>(record)
            };
            trace.attempt(record, answer)
        }
    };
    let sensor = |record: &u32| READINGS[*record as usize].0;
    let (here, at) = (clock.clone(), trace.clone());
    macro_rules! consume {
        ($policy:expr) => {
            clock.run(async move {
                let mut stage = records.async_wait($policy, ask).spawn(here)?;
                while let Some(done) = stage.next().await {
                    at.left(done.input);
                }
                Ok::<_, StartError>(())
            })??
        };
    }
    match order {
        "ordered" => consume!(AsyncWait::ordered(10)),
        "unordered" => consume!(AsyncWait::unordered(10)),
        _ => consume!(AsyncWait::ordered_by_key(10, sensor)),
    }
    Ok(trace.lives().into_values().collect())
}

fn draw_legend(svg: &mut Svg) {
    let y = 62.0;
    svg.rect("waiting tint", (24.0, y - 11.0), (22.0, BAR), 2.0);
    svg.text("small", Anchor::Start, (54.0, y), "waits for its key");
    svg.rect("running", (182.0, y - 11.0), (22.0, BAR), 2.0);
    svg.text("small", Anchor::Start, (212.0, y), "its request runs");
    svg.hatched((334.0, y - 11.0), (22.0, BAR));
    svg.text("small", Anchor::Start, (364.0, y), "done, waits for records before it");
    svg.dot("done", (598.0, y - 4.0), 4.5);
    svg.text("small", Anchor::Start, (610.0, y), "it leaves");
}

fn draw_axis(svg: &mut Svg, bottom: f64) {
    for millis in (0..=35_u32).step_by(5) {
        let x = across(f64::from(millis));
        for panel in 0..ORDERS.len() {
            let top = TOP + panel as f64 * PANEL + 20.0;
            svg.line("grid", &[(x, top), (x, top + 4.0 * ROW + 4.0)]);
        }
        svg.text("small", Anchor::Middle, (x, bottom + 8.0), &millis.to_string());
    }
    svg.text("small", Anchor::Middle, ((LEFT + RIGHT) / 2.0, bottom + 28.0), "milliseconds");
}

fn draw_lives(svg: &mut Svg, top: f64, lives: &[Life]) {
    let mut leaving: Vec<_> = (0..lives.len()).collect();
    leaving.sort_by_key(|record| lives[*record].left); // those of one instant leave in the order of their inputs
    for (record, life) in lives.iter().enumerate() {
        let (key, millis) = READINGS[record];
        let y = top + record as f64 * ROW;
        let name = format!("{}.  {key}, {millis} ms", record + 1);
        svg.text("", Anchor::End, (NAMES, y + 12.0), &name);
        let place = leaving.iter().position(|other| *other == record).unwrap_or_default();
        draw_life(svg, y, life, ["1st", "2nd", "3rd", "4th"][place]);
    }
}

fn draw_life(svg: &mut Svg, y: f64, life: &Life, place: &str) {
    let x = |at: Duration| across(at.as_secs_f64() * 1e3);
    let (Some(attempt), Some(left)) = (life.attempts.first(), life.left) else { return };
    let Some((end, _)) = attempt.end else { return };
    let (start, end, left) = (x(attempt.start), x(end), x(left));
    let y = y + 1.0;
    if start > LEFT {
        svg.rect("waiting tint", (LEFT, y), (start - LEFT, BAR), 2.0);
    }
    svg.rect("running", (start, y), (end - start, BAR), 2.0);
    if left > end {
        svg.hatched((end, y), (left - end, BAR));
    }
    svg.dot("done", (left + 8.0, y + BAR / 2.0), 4.5);
    svg.text("bold", Anchor::Start, (left + 18.0, y + 11.0), place);
}

fn across(millis: f64) -> f64 {
    LEFT + millis / MILLIS * (RIGHT - LEFT)
}
