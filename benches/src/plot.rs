//! Plots as SVG with two logarithmic axes, for these two plots only.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::rows::Row;

/// A line of a plot.
pub(crate) struct Series {
    /// The text in the legend.
    pub(crate) name: String,
    /// Its points, from left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot.
pub(crate) struct Plot<'t> {
    /// The title.
    pub(crate) title: &'t str,
    /// The x axis.
    pub(crate) across: &'t str,
    /// The y axis.
    pub(crate) up: &'t str,
    /// The lines.
    pub(crate) series: Vec<Series>,
}

const WIDTH: f64 = 1010.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 320.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;

/// Colours that colour-blind people can distinguish (Okabe and Ito), used twice: first with full lines, then
/// with broken ones.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999"];

/// A logarithmic axis between two powers of ten.
struct Axis {
    from: f64,
    to: f64,
    pixels: (f64, f64),
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, pixels: (f64, f64)) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min).log10().floor();
        let high = values.fold(0.0, f64::max).log10().ceil();
        Self { from: low, to: high.max(low + 1.0), pixels }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - self.from) / (self.to - self.from);
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.from as i32..=self.to as i32).map(|power| 10_f64.powi(power))
    }
}

fn label(value: f64) -> String {
    if value < 1.0 {
        return value.to_string();
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl Plot<'_> {
    /// The SVG.
    pub(crate) fn draw(&self) -> String {
        let all = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let x = Axis::over(all().map(|point| point.0), (LEFT, WIDTH - RIGHT));
        let y = Axis::over(all().map(|point| point.1), (HEIGHT - BOTTOM, TOP));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"28\" font-size=\"17\">{}</text>\n",
            self.title
        );
        self.draw_axes(&mut svg, &x, &y);
        for (number, series) in self.series.iter().enumerate() {
            draw_series(&mut svg, number, series, &x, &y);
        }
        svg + "</svg>\n"
    }

    fn draw_axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in x.ticks() {
            let at = x.at(tick);
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 20.0,
                label(tick)
            );
        }
        for tick in y.ticks() {
            let at = y.at(tick);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                label(tick)
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 16.0,
            self.across,
            (TOP + bottom) / 2.0,
            self.up
        );
    }
}

fn draw_series(svg: &mut String, number: usize, series: &Series, x: &Axis, y: &Axis) {
    let colour = COLOURS[number % COLOURS.len()];
    let dash = ["", " stroke-dasharray=\"7 4\"", " stroke-dasharray=\"2 3\""];
    let dash = dash[(number / COLOURS.len()).min(2)];
    let place = |&(right, up): &(f64, f64)| format!("{:.1},{:.1}", x.at(right), y.at(up));
    let points: Vec<_> = series.points.iter().map(place).collect();
    let style = format!("stroke=\"{colour}\" stroke-width=\"2\"{dash}");
    let _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" {style}/>", points.join(" "));
    for point in &series.points {
        let _ = writeln!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
            x.at(point.0),
            y.at(point.1)
        );
    }
    let (key, row) = (WIDTH - RIGHT + 16.0, TOP + 10.0 + 22.0 * number as f64);
    let _ = writeln!(
        svg,
        "<path d=\"M{key} {row}h28\" {style}/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        key + 36.0,
        row + 4.0,
        series.name
    );
}

/// Options of a plot.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A file with the output of `compare --json`.
    results: PathBuf,
    /// The file to draw into.
    svg: PathBuf,
    /// The runtime.
    #[arg(long, default_value = "tokio")]
    runtime: String,
    /// The workload, as in the rows.
    #[arg(long, default_value = "pending-once")]
    workload: String,
}

/// Draws cost against capacity, for all contenders.
pub(crate) fn cost(options: &Options) -> Result<()> {
    let text = fs::read_to_string(&options.results)
        .with_context(|| format!("{}", options.results.display()))?;
    let mut order = Vec::new();
    let mut lines = BTreeMap::<String, Vec<(f64, f64)>>::new();
    for line in text.lines().filter(|line| line.starts_with('{')) {
        let row: Row = serde_json::from_str(line)?;
        if row.runtime == options.runtime && row.workload == options.workload {
            if !order.contains(&row.contender) {
                order.push(row.contender.clone());
            }
            lines.entry(row.contender).or_default().push((row.capacity as f64, row.ns_per_record));
        }
    }
    ensure!(!order.is_empty(), "there are no such rows");
    let series = order
        .into_iter()
        .map(|name| Series { points: lines.remove(&name).unwrap_or_default(), name });
    let title =
        format!("Cost of a record against capacity: {}, {}", options.runtime, options.workload);
    let (across, up) = ("requests in flight (capacity)", "nanoseconds per record");
    let plot = Plot { title: &title, across, up, series: series.collect() };
    fs::write(&options.svg, plot.draw())?;
    Ok(())
}
