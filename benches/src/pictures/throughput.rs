//! Throughput against capacity, for two services.

use std::time::Duration;

use anyhow::Result;
use inflight::prelude::*;

use super::svg::{Anchor, Svg};
use crate::throughput::{SERVICE, rate};

const TOP: f64 = 108.0;
const BOTTOM: f64 = 330.0;
const WIDTH: f64 = 240.0;
/// The panels' left edges.
const PANELS: [f64; 2] = [84.0, 432.0];
/// The powers of ten at the ends of the axes.
const CAPACITIES: (f64, f64) = (0.0, 3.0);
const RATES: (f64, f64) = (-1.0, 5.0);

/// A panel's points.
type Points = Vec<(f64, f64)>;

/// 40 ms, and half a second for one record in a hundred: the service of `docs/guide/capacity.md`.
fn sometimes_slow(record: u64) -> Duration {
    Duration::from_millis(if record % 100 == 50 { 500 } else { 40 })
}

pub(super) fn draw() -> Result<String> {
    let mut svg = Svg::new(
        BOTTOM + 58.0,
        "Throughput grows with the capacity",
        "Where each request takes 1.5 seconds, ten times the capacity gives ten times the records a second, in any order. Where one request \
         in a hundred takes half a second and the others 40 ms, an ordered stage needs about ten times the capacity of an unordered one.",
    );
    svg.text("small", Anchor::Start, (24.0, 55.0), "records a second, in virtual time");
    draw_panel(&mut svg, PANELS[0], "each request takes 1.5 s");
    draw_panel(&mut svg, PANELS[1], "40 ms, one in a hundred 500 ms");

    let fixed = points(&[1, 10, 100, 1_000], |_| SERVICE, AsyncWait::ordered)?;
    draw_line(&mut svg, PANELS[0], "running", &fixed);
    draw_text(&mut svg, PANELS[0], fixed[3], (0.0, 66.0), "in any order");
    for point in &fixed[1..] {
        draw_text(&mut svg, PANELS[0], *point, (-8.0, -8.0), &number(point.1));
    }

    let capacities = [1, 3, 10, 30, 100, 300, 1_000];
    let unordered = points(&capacities, sometimes_slow, AsyncWait::unordered)?;
    let ordered = points(&capacities, sometimes_slow, AsyncWait::ordered)?;
    draw_line(&mut svg, PANELS[1], "done", &unordered);
    draw_line(&mut svg, PANELS[1], "running", &ordered);
    for (at, names) in [(4, ["unordered ", "ordered "]), (6, ["", ""])] {
        let [above, below] = [(-8.0, -8.0), (12.0, 24.0)];
        let text = |name, rate| format!("{name}{}", number(rate));
        let [over, under] = [text(names[0], unordered[at].1), text(names[1], ordered[at].1)];
        draw_text(&mut svg, PANELS[1], unordered[at], above, &over);
        draw_text(&mut svg, PANELS[1], ordered[at], below, &under);
    }
    Ok(svg.finish())
}

fn points(
    capacities: &[usize],
    service: fn(u64) -> Duration,
    policy: fn(usize) -> AsyncWait,
) -> Result<Points> {
    let point =
        |capacity: &usize| Ok((*capacity as f64, rate(policy(*capacity), *capacity, service)?));
    capacities.iter().map(point).collect()
}

fn draw_panel(svg: &mut Svg, left: f64, title: &str) {
    svg.text("bold", Anchor::Start, (left, TOP - 22.0), title);
    for power in -1..=5 {
        let value = 10_f64.powi(power);
        let y = up(value);
        svg.line("grid", &[(left, y), (left + WIDTH, y)]);
        svg.text("small", Anchor::End, (left - 8.0, y + 4.0), &number(value));
    }
    for power in 0..=3 {
        let value = 10_f64.powi(power);
        let x = across(left, value);
        svg.line("grid", &[(x, TOP), (x, BOTTOM)]);
        svg.text("small", Anchor::Middle, (x, BOTTOM + 18.0), &number(value));
    }
    svg.line("axis", &[(left, TOP), (left, BOTTOM), (left + WIDTH, BOTTOM)]);
    svg.text("small", Anchor::Middle, (left + WIDTH / 2.0, BOTTOM + 40.0), "capacity");
}

fn draw_line(svg: &mut Svg, left: f64, class: &str, points: &Points) {
    let at = |&(capacity, rate): &(f64, f64)| (across(left, capacity), up(rate));
    let points: Vec<_> = points.iter().map(at).collect();
    svg.line(&format!("{class} line"), &points);
    for point in points {
        svg.dot(class, point, 4.0);
    }
}

/// A text that ends beside a point.
fn draw_text(svg: &mut Svg, left: f64, point: (f64, f64), beside: (f64, f64), text: &str) {
    let (x, y) = (across(left, point.0) + beside.0, up(point.1) + beside.1);
    svg.text("bold", Anchor::End, (x, y), text);
}

fn across(left: f64, capacity: f64) -> f64 {
    left + (capacity.log10() - CAPACITIES.0) / (CAPACITIES.1 - CAPACITIES.0) * WIDTH
}

fn up(rate: f64) -> f64 {
    BOTTOM - (rate.log10() - RATES.0) / (RATES.1 - RATES.0) * (BOTTOM - TOP)
}

/// With one decimal below ten, in whole numbers above, with thousands separated.
fn number(value: f64) -> String {
    match value {
        value if value < 0.95 => format!("{value:.1}"),
        value if value < 9.95 && value.fract() > 0.0 => format!("{value:.1}"),
        value if value < 999.5 => format!("{value:.0}"),
        value => format!("{},{:03.0}", (value.round() / 1e3).floor(), value.round() % 1e3),
    }
}
