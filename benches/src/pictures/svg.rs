//! A small writer of SVG: shapes and texts in the colours of one palette, light and dark.
//!
//! A picture is one file for both. Its style follows `prefers-color-scheme`, and it draws its own ground, so it can be read on a page
//! of either colour, also where the page and the system disagree. `<picture>` with two files would not do: it needs HTML with paths,
//! which rustdoc does not rewrite, while the link of a Markdown image can be [defined anew](super::rustdoc).

use std::fmt::Write;

/// The width of every picture, so that one unit is about a pixel where the pages show them.
pub(super) const WIDTH: f64 = 720.0;

/// Colours are classes. The states have the colours that they have everywhere in the project, and a pattern where an area has no letter,
/// so that nobody needs to tell colours apart.
const STYLE: &str = "\
.card{fill:#fff;stroke:#e2e6eb}.grid{stroke:#e2e6eb;fill:none}.axis{stroke:#586374;fill:none}
text{fill:#1b2330;font:13px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}
text.title{font-size:16px;font-weight:600}text.bold{font-weight:600}text.soft{fill:#586374}text.small{fill:#586374;font-size:12px}
.ink{fill:#586374}.tint{fill-opacity:.2;stroke-width:1.5}.hatch{fill-opacity:.2;stroke:none}.line{fill:none;stroke-width:2.5}
.running{fill:#2f6fde;stroke:#2f6fde}.backoff{fill:#d97a0b;stroke:#d97a0b}.waiting{fill:#8d97a5;stroke:#8d97a5}
.done{fill:#2a9a63;stroke:#2a9a63}.failed{fill:#cf3540;stroke:#cf3540}
.line{fill:none}
@media (prefers-color-scheme:dark){
.card{fill:#1a2028;stroke:#2b333e}.grid{stroke:#2b333e}.axis{stroke:#98a3b3}
text{fill:#e6eaf0}text.soft,text.small{fill:#98a3b3}.ink{fill:#98a3b3}
.running{fill:#5b93f5;stroke:#5b93f5}.backoff{fill:#f0a040;stroke:#f0a040}.waiting{fill:#7d8897;stroke:#7d8897}
.done{fill:#46b981;stroke:#46b981}.failed{fill:#f06a72;stroke:#f06a72}
.line{fill:none}
}
";

/// The pattern of an area whose class is `done hatch`: a colour alone would not tell it from an area that is `running`.
const HATCH: &str = "\
<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
<rect class=\"done hatch\" width=\"6\" height=\"6\"/><path class=\"done line\" d=\"M3 0V6\"/></pattern></defs>
";

/// The point of a text that its coordinates name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that is being drawn.
pub(super) struct Svg {
    text: String,
}

impl Svg {
    /// A card with a title, and a description for those who cannot see it.
    pub(super) fn new(height: f64, title: &str, description: &str) -> Self {
        let mut svg = Self { text: String::new() };
        svg.write(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>{}</title>\n<desc>{}</desc>\n<style>\n{STYLE}</style>\n{HATCH}",
            escaped(title),
            escaped(description)
        ));
        svg.rect("card", (0.5, 0.5), (WIDTH - 1.0, height - 1.0), 8.0);
        svg.text("title", Anchor::Start, (24.0, 33.0), title);
        svg
    }

    /// The file.
    pub(super) fn finish(self) -> String {
        self.text + "</svg>\n"
    }

    /// A rectangle from its upper left corner, with round corners.
    pub(super) fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), round: f64) {
        let ((x, y), (width, height)) = (at, size);
        self.write(format_args!(
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{round}\"/>\n",
            Number(x),
            Number(y),
            Number(width),
            Number(height)
        ));
    }

    /// An area of outcomes that wait: a rectangle with the pattern.
    pub(super) fn hatched(&mut self, at: (f64, f64), size: (f64, f64)) {
        let ((x, y), (width, height)) = (at, size);
        self.write(format_args!(
            "<rect fill=\"url(#hatch)\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\n",
            Number(x),
            Number(y),
            Number(width),
            Number(height)
        ));
    }

    /// A text on a base line.
    pub(super) fn text(&mut self, class: &str, anchor: Anchor, at: (f64, f64), text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, y, text) = (Number(at.0), Number(at.1), escaped(text));
        self.write(format_args!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\"{anchor}>{text}</text>\n"
        ));
    }

    /// Lines of text, from the base line of the first.
    pub(super) fn lines(&mut self, class: &str, anchor: Anchor, at: (f64, f64), lines: &[&str]) {
        for (number, line) in lines.iter().enumerate() {
            self.text(class, anchor, (at.0, at.1 + 16.0 * number as f64), line);
        }
    }

    /// A line through points.
    pub(super) fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<_> =
            points.iter().map(|&(x, y)| format!("{} {}", Number(x), Number(y))).collect();
        let points = points.join("L");
        self.write(format_args!("<path class=\"{class}\" d=\"M{points}\"/>\n"));
    }

    /// An arrow to the right or down.
    pub(super) fn arrow(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.line("axis", &[from, to]);
        let (x, y) = (Number(to.0), Number(to.1));
        let wings = if from.1 == to.1 { "l-7 -4v8z" } else { "l-4 -7h8z" };
        self.write(format_args!("<path class=\"ink\" d=\"M{x} {y}{wings}\"/>\n"));
    }

    /// A dot.
    pub(super) fn dot(&mut self, class: &str, at: (f64, f64), radius: f64) {
        let (x, y) = (Number(at.0), Number(at.1));
        self.write(format_args!(
            "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>\n"
        ));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = self.text.write_fmt(text); // a string takes everything
    }
}

/// A coordinate with at most one decimal: the files stay small, and do not depend on the last bit of a computation.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rounded = (self.0 * 10.0).round() / 10.0;
        write!(f, "{}", rounded + 0.0) // no "-0"
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
