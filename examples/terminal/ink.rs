//! Lines of coloured text, cut to the width of the terminal.

use std::env;
use std::fmt::Display;
use std::mem;

/// A colour that has a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Running.
    Blue,
    /// In backoff.
    Orange,
    /// Waiting, and what is less important.
    Grey,
    /// Done, and up.
    Green,
    /// Failed, and down.
    Red,
}

/// The colours that the terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    None,
    Sixteen,
    Many,
}

/// The gap between two items of a [`flow`].
const GAP: &str = "   ";

/// Marks a line that was cut.
const CUT: char = '…';

impl Palette {
    /// The colours of this process's terminal; none if `NO_COLOR` is set.
    pub fn of_environment() -> Self {
        Self::of(|name| env::var(name).unwrap_or_default())
    }

    fn of(variable: impl Fn(&str) -> String) -> Self {
        let (terminal, is_set) = (variable("TERM"), |name| !variable(name).is_empty());
        let is_monochrome = ["", "dumb", "vt100", "vt102", "vt220"].contains(&&*terminal)
            || terminal.ends_with("-m")
            || terminal.ends_with("-mono");
        if is_set("NO_COLOR") || (is_monochrome && !cfg!(windows)) {
            Self::None
        } else if is_set("COLORTERM") || terminal.contains("256color") {
            Self::Many
        } else {
            Self::Sixteen
        }
    }

    /// The text, between the sequences that switch its colour on and off.
    fn paint(self, ink: Option<Ink>, text: &str) -> String {
        let code = match (self, ink) {
            (Self::None, _) | (_, None) => return text.into(),
            _ if text.is_empty() => return String::new(),
            (Self::Many, Some(Ink::Orange)) => "38;5;208",
            (_, Some(Ink::Orange)) => "33",
            (_, Some(Ink::Blue)) => "94",
            (_, Some(Ink::Grey)) => "90",
            (_, Some(Ink::Green)) => "32",
            (_, Some(Ink::Red)) => "91",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A line of text in parts, each with a colour of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Option<Ink>, String)>);

impl Line {
    pub fn new(text: impl Display) -> Self {
        Self::default().then(None, text)
    }

    pub fn inked(ink: impl Into<Option<Ink>>, text: impl Display) -> Self {
        Self::default().then(ink, text)
    }

    /// Appends text. Texts of other programs come here too (a server's error, say), so control characters become spaces.
    #[must_use]
    pub fn then(mut self, ink: impl Into<Option<Ink>>, text: impl Display) -> Self {
        let text = text.to_string().replace(char::is_control, " ");
        self.0.push((ink.into(), text));
        self
    }

    #[must_use]
    pub fn join(mut self, line: Self) -> Self {
        self.0.extend(line.0);
        self
    }

    /// The number of columns.
    pub fn width(&self) -> usize {
        self.0.iter().flat_map(|(_, text)| text.chars()).map(columns).sum()
    }

    /// The line as it is sent to the terminal: `…` stands for what has no room.
    pub fn draw(&self, width: usize, palette: Palette) -> String {
        if self.width() <= width {
            return self.0.iter().map(|(ink, text)| palette.paint(*ink, text)).collect();
        }
        let mut room = Some(width.saturating_sub(1));
        let mut has_room = |character: &char| {
            room = room.and_then(|room| room.checked_sub(columns(*character)));
            room.is_some()
        };
        let mut drawn = String::new();
        for (ink, text) in &self.0 {
            let part: String = text.chars().take_while(&mut has_room).collect();
            drawn += &palette.paint(*ink, &part);
        }
        drawn.extend((width > 0).then_some(CUT));
        drawn
    }
}

/// The columns of a character on a terminal: none if it changes the one before it, two for those of East Asian scripts and for pictures.
/// Blocks of Unicode suffice here, since a table of each character would be a dependency.
fn columns(character: char) -> usize {
    match u32::from(character) {
        0x0300..=0x036f | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfe00..=0xfe0f => {
            0
        }
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff => {
            2
        }
        0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// The items behind a label, on as many lines as they need.
pub fn flow(label: &str, items: impl IntoIterator<Item = Line>, width: usize) -> Vec<Line> {
    let indent = label.chars().count();
    let (mut lines, mut last, mut is_empty) = (Vec::new(), Line::inked(Ink::Grey, label), true);
    for item in items {
        if !is_empty && last.width() + GAP.len() + item.width() > width {
            lines.push(mem::replace(&mut last, Line::new(" ".repeat(indent))));
            is_empty = true;
        }
        last = last.then(None, if is_empty { "" } else { GAP }).join(item);
        is_empty = false;
    }
    lines.push(last);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn palette(variables: &[(&str, &str)]) -> Palette {
        let value =
            |name: &str| variables.iter().find(|(one, _)| *one == name).map(|(_, value)| *value);
        Palette::of(|name| value(name).unwrap_or_default().into())
    }

    #[test]
    fn colours_are_those_of_the_terminal_unless_somebody_wants_none() {
        assert_eq!(palette(&[("TERM", "xterm-256color")]), Palette::Many);
        assert_eq!(palette(&[("TERM", "xterm"), ("COLORTERM", "truecolor")]), Palette::Many);
        assert_eq!(palette(&[("TERM", "linux"), ("NO_COLOR", "")]), Palette::Sixteen);
        assert_eq!(palette(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")]), Palette::None);
        for terminal in ["dumb", "vt220", "xterm-mono"] {
            assert_eq!(palette(&[("TERM", terminal), ("COLORTERM", "1")]), Palette::None);
        }
    }

    #[test]
    fn a_line_that_is_too_long_ends_with_a_mark() {
        let line = Line::new("mqtt ").then(Ink::Green, "up").then(None, " and running");
        assert_eq!(line.draw(19, Palette::None), "mqtt up and running");
        assert_eq!(line.draw(18, Palette::None), "mqtt up and runni…");
        assert_eq!(line.draw(7, Palette::Sixteen), "mqtt \x1b[32mu\x1b[0m…");
        assert_eq!(line.draw(1, Palette::Sixteen), "…");
        assert_eq!(line.draw(0, Palette::Sixteen), "");
    }

    #[test]
    fn a_character_of_two_columns_takes_two() {
        let line = Line::new("down: ").then(Ink::Red, "連線被拒絕");
        assert_eq!(line.width(), 16);
        assert_eq!(line.draw(16, Palette::None), "down: 連線被拒絕");
        assert_eq!(line.draw(15, Palette::None), "down: 連線被拒…");
        assert_eq!(line.draw(14, Palette::None), "down: 連線被…");
        assert_eq!(Line::new("Zu\u{308}rich").draw(6, Palette::None), "Zu\u{308}rich");
    }

    #[test]
    fn another_programs_text_does_not_steer_the_terminal() {
        assert_eq!(Line::new("a\x1b[2Jb\nc").draw(80, Palette::Many), "a [2Jb c");
    }

    #[test]
    fn items_go_to_the_next_line_whole() {
        let items = ["12 in", "7 out", "3 retries"].map(Line::new);
        let drawn = |width| {
            let lines = flow("rate  ", items.clone(), width);
            lines.iter().map(|line| line.draw(width, Palette::None)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(31), ["rate  12 in   7 out   3 retries"]);
        assert_eq!(drawn(30), ["rate  12 in   7 out", "      3 retries"]);
        assert_eq!(drawn(13), ["rate  12 in", "      7 out", "      3 retr…"]);
    }
}
