//! Plots over one another as SVG.

use std::fmt::Write;

/// A line of a plot.
pub(crate) struct Series {
    /// The text in the legend.
    pub(crate) name: String,
    /// Its points, from left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Plots over one another, with linear axes and one x axis for all.
pub(crate) struct Stack<'t> {
    /// The title.
    pub(crate) title: &'t str,
    /// The x axis.
    pub(crate) across: &'t str,
    /// A span of the x axis that is shaded.
    pub(crate) shaded: (f64, f64),
    /// The text in the shade.
    pub(crate) shade: &'t str,
    /// The plots from above, each with the label of its y axis. Lines of one name have one colour.
    pub(crate) plots: Vec<(&'t str, Vec<Series>)>,
}

const WIDTH: f64 = 1010.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 320.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;
/// The height of a plot in a stack, and the space below it.
const STACKED: f64 = 150.0;
const GAP: f64 = 30.0;

/// Colours that colour-blind people can distinguish (Okabe and Ito), used twice: first with full lines, then
/// with broken ones.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999"];

/// An axis from zero, with its ticks.
struct Axis {
    to: f64,
    step: f64,
    pixels: (f64, f64),
}

impl Axis {
    /// With at most so many steps.
    fn new(values: impl Iterator<Item = f64>, most: f64, pixels: (f64, f64)) -> Self {
        let high = values.fold(1.0, f64::max);
        let power = 10_f64.powf(high.log10().floor());
        let step = [0.2, 0.5, 1.0, 2.0].map(|part| part * power);
        let step = step.into_iter().find(|step| high / step <= most).unwrap_or(power);
        Self { to: (high / step).ceil() * step, step, pixels }
    }

    fn at(&self, value: f64) -> f64 {
        self.pixels.0 + value / self.to * (self.pixels.1 - self.pixels.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let steps = (self.to / self.step).round() as i32;
        (0..=steps).map(|step| f64::from(step) * self.step)
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

impl Stack<'_> {
    /// The SVG.
    pub(crate) fn draw(&self) -> String {
        let height = TOP + self.plots.len() as f64 * (STACKED + GAP) - GAP + BOTTOM;
        let mut svg = begin(height, self.title);
        let points = |series: &[Series]| {
            series.iter().flat_map(|one| one.points.clone()).collect::<Vec<_>>()
        };
        let across = self.plots.iter().flat_map(|(_, series)| points(series));
        let x = Axis::new(across.map(|point| point.0), 10.0, (LEFT, WIDTH - RIGHT));
        let mut names = Vec::new();
        for (number, (up, series)) in self.plots.iter().enumerate() {
            let top = TOP + number as f64 * (STACKED + GAP);
            let y =
                Axis::new(points(series).iter().map(|point| point.1), 6.0, (top + STACKED, top));
            let is_last = number + 1 == self.plots.len();
            let (from, to) = (x.at(self.shaded.0), x.at(self.shaded.1));
            let _ = writeln!(
                svg,
                "<rect x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{STACKED}\" fill=\"#f2f2f2\"/>",
                to - from
            );
            draw_axes(&mut svg, &x, &y, if is_last { self.across } else { "" }, up);
            for series in series {
                let known = names.iter().position(|name| *name == series.name);
                let colour = known.unwrap_or(names.len());
                if known.is_none() {
                    draw_key(&mut svg, colour, &series.name);
                    names.push(series.name.clone());
                }
                draw_series(&mut svg, colour, series, &x, &y);
            }
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
            x.at((self.shaded.0 + self.shaded.1) / 2.0),
            TOP + STACKED - 8.0,
            self.shade
        );
        svg + "</svg>\n"
    }
}

fn begin(height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"17\">{title}</text>\n"
    )
}

fn draw_axes(svg: &mut String, x: &Axis, y: &Axis, across: &str, up: &str) {
    let (right, (bottom, top)) = (WIDTH - RIGHT, y.pixels);
    for tick in x.ticks() {
        let at = x.at(tick);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/>\
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
        "<path d=\"M{LEFT} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{across}</text>\n\
         <text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{up}</text>",
        (LEFT + right) / 2.0,
        bottom + BOTTOM - 16.0,
        (top + bottom) / 2.0
    );
}

fn style(number: usize) -> String {
    let colour = COLOURS[number % COLOURS.len()];
    let dash = ["", " stroke-dasharray=\"7 4\"", " stroke-dasharray=\"2 3\""];
    let dash = dash[(number / COLOURS.len()).min(2)];
    format!("stroke=\"{colour}\" stroke-width=\"2\"{dash}")
}

fn draw_series(svg: &mut String, number: usize, series: &Series, x: &Axis, y: &Axis) {
    let place = |&(right, up): &(f64, f64)| format!("{:.1},{:.1}", x.at(right), y.at(up));
    let points: Vec<_> = series.points.iter().map(place).collect();
    let (points, style) = (points.join(" "), style(number));
    let _ = writeln!(svg, "<polyline points=\"{points}\" fill=\"none\" {style}/>");
}

/// The line of a series in the legend.
fn draw_key(svg: &mut String, number: usize, name: &str) {
    let (key, row) = (WIDTH - RIGHT + 16.0, TOP + 10.0 + 22.0 * number as f64);
    let _ = writeln!(
        svg,
        "<path d=\"M{key} {row}h28\" {}/><text x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
        style(number),
        key + 36.0,
        row + 4.0
    );
}
