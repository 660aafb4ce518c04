//! The cost of a record beside other ways to make the same requests.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::svg::{Anchor, Svg};

/// A measurement takes minutes and an idle machine, so the picture shows a run that was kept.
const RUN: &str = include_str!("../../cost.json");

/// The rows of the picture: each with the words for it, and true if it is a stage of this library.
const ROWS: [(&str, [&str; 2], bool); 5] = [
    ("inflight in-place ordered", ["inflight, in place", "with retries enabled"], true),
    ("inflight on-task ordered", ["inflight, a task of its own", "with retries enabled"], true),
    ("futures-buffered ordered", ["futures-buffered", "buffered_ordered"], false),
    ("futures buffered", ["futures", "StreamExt::buffered"], false),
    ("spawn vecdeque", ["a task for each request", "tokio::spawn and a VecDeque"], false),
];

const LEFT: f64 = 236.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 84.0;
const ROW: f64 = 48.0;

/// A run of `inflight-bench compare`, as far as the picture shows it.
#[derive(Deserialize)]
struct Run {
    capacity: usize,
    ns_per_record: BTreeMap<String, f64>,
}

pub(super) fn draw() -> Result<String> {
    let run: Run = serde_json::from_str(RUN)?;
    let costs = ROWS.map(|(contender, ..)| run.ns_per_record.get(contender).copied());
    let most = costs.into_iter().flatten().fold(1.0, f64::max);
    let mut svg = Svg::new(
        TOP + ROW * ROWS.len() as f64 + 14.0,
        "The cost of a record, in nanoseconds of processor time",
        "Bars: a stage of inflight costs less than half of futures-buffered, and a fifth of a task for each request.",
    );
    let subtitle = format!(
        "{} requests in flight that wait and have a timeout, in order; tokio, one thread",
        run.capacity
    );
    svg.text("small", Anchor::Start, (24.0, 56.0), &subtitle);
    for (number, ((contender, [name, note], is_ours), cost)) in
        ROWS.into_iter().zip(costs).enumerate()
    {
        let cost = cost.with_context(|| format!("the run has no {contender}"))?;
        let top = TOP + number as f64 * ROW;
        let width = cost / most * (RIGHT - LEFT);
        svg.text("bold", Anchor::End, (LEFT - 12.0, top + 13.0), name);
        svg.text("small", Anchor::End, (LEFT - 12.0, top + 29.0), note);
        svg.rect(if is_ours { "running" } else { "waiting" }, (LEFT, top), (width, 30.0), 3.0);
        svg.text(
            "bold",
            Anchor::Start,
            (LEFT + width + 10.0, top + 20.0),
            &format!("{cost:.0} ns"),
        );
    }
    Ok(svg.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each contender's row in the docs, from its beginning.
    const DOCS: [&str; 5] = [
        "| **inflight**, in place, ordered |",
        "| **inflight**, on a task of its own, ordered |",
        "| `futures-buffered`, ordered |",
        "| `futures`, `buffered` |",
        "| a `tokio::spawn` for each request, and a `VecDeque` |",
    ];

    #[test]
    fn the_bars_are_the_last_column_of_the_docs() {
        let run: Run = serde_json::from_str(RUN).expect("a run");
        let docs = include_str!("../../../docs/performance.md");
        for ((contender, ..), row) in ROWS.into_iter().zip(DOCS) {
            let row = docs.lines().find(|line| line.starts_with(row)).expect("a row");
            let last = row.trim_end_matches(" |").rsplit(' ').next();
            assert_eq!(last, Some(&*run.ns_per_record[contender].to_string()), "{contender}");
        }
    }
}
