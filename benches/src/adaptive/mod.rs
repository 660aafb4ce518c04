//! Adaptive limits beside a fixed one: a service whose capacity halves for a minute and comes back, in virtual time.

mod client;
mod history;
mod service;

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use inflight::{Aimd, Gradient, LimitStrategy, Sample};
use serde::Serialize;

use self::client::{Client, Load};
use self::history::{History, Second};
use self::service::SLOTS;
use crate::plot::{Series, Stack};

/// Options of the simulation.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Prints one line of JSON for each row instead of the table.
    #[arg(long)]
    json: bool,
    /// The seed of all random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draws a plot of the stream into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// In seconds: before, during and after the outage.
const SPANS: [Range<usize>; 3] = [0..60, 60..120, 120..180];

const STREAM: Load = Load::Stream(700);

/// Runs all contenders and prints their numbers.
pub(crate) fn adaptive(options: &Options) -> Result<()> {
    if !options.json {
        println!(
            "a service that answers {SLOTS} requests at once in 100 ms, and half as many for a minute;"
        );
        println!("before, during and after: answers a second, refused requests, latency in ms\n");
        println!(
            "{:<10} {:<24} {:^20} {:^20} {:^20}",
            "load", "limit", "answers", "refused", "latency"
        );
    }
    for load in [Load::Backlog, STREAM] {
        for contender in Contender::ALL {
            let row = Row::new(load, contender, &contender.run(load, options.seed)?);
            match options.json {
                true => println!("{}", serde_json::to_string(&row)?),
                false => row.print(),
            }
        }
    }
    if let Some(file) = &options.svg {
        fs::write(file, plot(options.seed)?.draw())?;
    }
    Ok(())
}

/// The clients.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Contender {
    /// As many as the service works on at once, when it is whole.
    Fixed,
    /// Reacts to refusals.
    Aimd,
    /// Reacts to slow answers too.
    AimdSlow,
    /// A gradient of latencies.
    Gradient,
}

impl Contender {
    const ALL: [Self; 4] = [Self::Fixed, Self::Aimd, Self::AimdSlow, Self::Gradient];

    fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Aimd => "Aimd",
            Self::AimdSlow => "Aimd, slow above 150 ms",
            Self::Gradient => "Gradient",
        }
    }

    fn run(self, load: Load, seed: u64) -> Result<History> {
        let aimd = Aimd::between(4, 400);
        match self {
            Self::Fixed => Client::new(Fixed, load, seed)?.run(),
            Self::Aimd => Client::new(aimd, load, seed)?.run(),
            Self::AimdSlow => {
                Client::new(aimd.slow_above(Duration::from_millis(150)), load, seed)?.run()
            }
            Self::Gradient => Client::new(Gradient::between(4, 400), load, seed)?.run(),
        }
    }
}

/// A limit that follows nothing.
struct Fixed;

impl LimitStrategy for Fixed {
    fn limit(&self) -> usize {
        SLOTS
    }

    fn observe(&mut self, _: Sample) {}
}

/// A contender under a load, before, during and after the outage.
#[derive(Debug, Serialize)]
struct Row {
    load: String,
    limit: &'static str,
    answers_per_second: [f64; 3],
    refused: [usize; 3],
    latency_ms: [f64; 3],
}

impl Row {
    fn new(load: Load, contender: Contender, history: &History) -> Self {
        Self {
            load: load.to_string(),
            limit: contender.name(),
            answers_per_second: SPANS.map(|span| history.answered(span) as f64 / 60.0),
            refused: SPANS.map(|span| history.refused(span)),
            latency_ms: SPANS.map(|span| history.latency_ms(span)),
        }
    }

    fn print(&self) {
        let Self { load, limit, answers_per_second: [a, b, c], refused, latency_ms: [x, y, z] } =
            self;
        let [before, during, after] = refused;
        print!(
            "{load:<10} {limit:<24} {a:>6.0} {b:>6.0} {c:>6.0} {before:>6} {during:>6} {after:>6} "
        );
        println!("{x:>6.0} {y:>6.0} {z:>6.0}");
    }
}

/// The stream, second by second.
fn plot(seed: u64) -> Result<Stack<'static>> {
    let shown = [Contender::Fixed, Contender::Aimd, Contender::Gradient];
    let run = |contender: Contender| Ok((contender.name(), contender.run(STREAM, seed)?.seconds));
    let runs = shown.into_iter().map(run).collect::<Result<Vec<_>>>()?;
    let line = |name: &str, seconds: &[Second], value: &dyn Fn(&Second) -> f64| {
        let points = seconds.iter().enumerate().map(|(at, second)| (at as f64, value(second)));
        Series { name: name.to_owned(), points: points.collect() }
    };
    let lines = |value: &dyn Fn(&Second) -> f64| {
        runs.iter().map(|(name, seconds)| line(name, seconds, value)).collect::<Vec<_>>()
    };
    let mut requests = lines(&|second| second.answered as f64);
    requests.push(line("offered", &runs[0].1, &|second| second.offered as f64));
    Ok(Stack {
        title: "A service whose capacity halves for a minute: a fixed limit and two that follow it",
        across: "seconds",
        shaded: (60.0, 120.0),
        shade: "half of the capacity",
        plots: vec![
            ("answers a second", requests),
            ("limit", lines(&|second| second.limit as f64)),
            ("latency, ms", lines(&Second::latency_ms)),
            ("refused a second", lines(&|second| second.refused as f64)),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both loads with some seeds, beside a fixed limit.
    fn beside_fixed(check: impl Fn(&str, &Row, &Row)) {
        for load in [Load::Backlog, STREAM] {
            for seed in 1..=3 {
                let run = |contender: Contender| {
                    Row::new(load, contender, &contender.run(load, seed).expect("it runs"))
                };
                let fixed = run(Contender::Fixed);
                for adaptive in &Contender::ALL[1..] {
                    let row = run(*adaptive);
                    check(&format!("seed {seed}: {row:?} beside {fixed:?}"), &row, &fixed);
                }
            }
        }
    }

    #[test] // A1
    fn an_adaptive_limit_makes_a_tenth_of_the_refused_requests_of_a_fixed_one() {
        beside_fixed(|case, adaptive, fixed| {
            assert!(fixed.refused[1] > 10_000, "{case}");
            assert!(adaptive.refused[1] * 10 <= fixed.refused[1], "{case}");
        });
    }

    #[test] // A1: also with the time in which it finds its limit, and finds it again.
    fn an_adaptive_limit_gives_up_less_than_a_tenth_of_the_throughput() {
        beside_fixed(|case, adaptive, fixed| {
            for (ours, theirs) in adaptive.answers_per_second.iter().zip(fixed.answers_per_second) {
                assert!(*ours > 0.9 * theirs, "{case}");
            }
        });
    }
}
