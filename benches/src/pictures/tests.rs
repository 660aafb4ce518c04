//! The pictures of the docs are those that the program draws, and can be read.

use std::fs;
use std::path::Path;

use super::svg::WIDTH;
use super::{PICTURES, rustdoc};

/// The classes that the style gives a colour in light and in dark, or a font.
const CLASSES: [&str; 17] = [
    "card", "grid", "axis", "ink", "tint", "hatch", "line", "running", "backoff", "waiting",
    "done", "failed", "title", "bold", "soft", "small", "",
];

/// An element: its name, its attributes, its text up to the first element inside.
#[derive(Debug)]
struct Element<'t> {
    name: &'t str,
    attributes: Vec<(&'t str, &'t str)>,
    text: &'t str,
}

impl Element<'_> {
    fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(of, _)| *of == name).map(|(_, value)| *value)
    }

    fn number(&self, name: &str) -> f64 {
        self.attribute(name).and_then(|value| value.parse().ok()).expect("a number")
    }
}

/// All elements of a file; panics if it is not well-formed.
fn elements(svg: &str) -> Vec<Element<'_>> {
    let (mut all, mut open, mut rest) = (Vec::new(), Vec::new(), svg);
    while let Some(start) = rest.find('<') {
        let end = rest.find('>').expect("a tag ends");
        let (tag, text) = (&rest[start + 1..end], &rest[end + 1..]);
        let text = &text[..text.find('<').unwrap_or(text.len())];
        assert!(!text.contains('>'), "an escaped text: {text}");
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "an end tag");
            continue;
        }
        let (tag, is_closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        if !is_closed {
            open.push(name);
        }
        all.push(Element { name, attributes: pairs(attributes), text });
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "left open: {open:?}");
    all
}

fn pairs(mut rest: &str) -> Vec<(&str, &str)> {
    let mut pairs = Vec::new();
    while let Some((name, after)) = rest.trim_start().split_once("=\"") {
        let (value, after) = after.split_once('"').expect("a quoted value");
        pairs.push((name, value));
        rest = after;
    }
    assert!(rest.trim().is_empty(), "no attribute: {rest}");
    pairs
}

/// Left, top, right and bottom of a text in a wide font: no reader has the font of another one.
fn bounds(text: &Element<'_>) -> [f64; 4] {
    let class = text.attribute("class").unwrap_or_default();
    let (size, wider) = match class {
        "title" => (16.0, 1.08),
        "bold" => (13.0, 1.08),
        "small" => (12.0, 1.0),
        _ => (13.0, 1.0),
    };
    let content = text.text.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let advance = |letter: char| match letter {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' => 0.32,
        'f' | 'r' | 't' | '(' | ')' => 0.41,
        'm' | 'w' | 'M' | 'W' => 0.92,
        letter if letter.is_ascii_uppercase() => 0.70,
        _ => 0.62,
    };
    let width = content.chars().map(advance).sum::<f64>() * size * wider;
    let (x, y) = (text.number("x"), text.number("y"));
    let left = match text.attribute("text-anchor") {
        None => x,
        Some("middle") => x - width / 2.0,
        Some(_) => x - width,
    };
    [left, y - 0.75 * size, left + width, y + 0.22 * size]
}

/// Each picture's name, and the committed file.
fn committed() -> impl Iterator<Item = (&'static str, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures");
    PICTURES.into_iter().map(move |picture| {
        let file = folder.join(picture.name).with_extension("svg");
        (picture.name, fs::read_to_string(file).expect("it is committed"))
    })
}

#[test]
fn the_committed_pictures_are_what_the_program_draws() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures/rustdoc");
    for (picture, (name, committed)) in PICTURES.into_iter().zip(committed()) {
        let drawn = (picture.draw)().expect("it can be drawn");
        let hint = "draw it anew: cargo run -p inflight-bench -- pictures";
        assert!(drawn == committed, "{name}.svg differs; {hint}");
        let link = fs::read_to_string(folder.join(name).with_extension("md")).unwrap_or_default();
        assert!(rustdoc::definition(name, &drawn) == link, "rustdoc/{name}.md differs; {hint}");
    }
}

#[test]
fn every_picture_is_well_formed_and_has_words_for_those_who_cannot_see_it() {
    for (name, svg) in committed() {
        let elements = elements(&svg);
        assert_eq!(elements[0].name, "svg", "{name}");
        for described in ["title", "desc"] {
            let text = elements.iter().find(|element| element.name == described);
            assert!(text.is_some_and(|element| element.text.len() > 10), "{name}: {described}");
        }
    }
}

#[test]
fn every_colour_is_one_of_the_palette_which_has_it_light_and_dark() {
    for (name, svg) in committed() {
        let (light, dark) = svg.split_once("@media (prefers-color-scheme:dark)").expect("a style");
        for class in ["running", "backoff", "waiting", "done", "failed", "card", "ink"] {
            let has = |style: &str| style.contains(&format!(".{class}{{fill:#"));
            assert!(has(light) && has(dark), "{name}: {class}");
        }
        for element in elements(&svg) {
            for class in element.attribute("class").unwrap_or_default().split(' ') {
                assert!(CLASSES.contains(&class), "{name}: the class {class}");
            }
            let paints = ["fill", "stroke", "style"].map(|paint| element.attribute(paint));
            for paint in paints.into_iter().flatten() {
                assert_eq!(paint, "url(#hatch)", "{name}: a colour outside of the style");
            }
        }
    }
}

#[test]
fn no_text_crosses_the_edge_or_another_text() {
    for (name, svg) in committed() {
        let elements = elements(&svg);
        let height = elements[0].number("height");
        let texts: Vec<_> = elements.iter().filter(|element| element.name == "text").collect();
        for (number, text) in texts.iter().enumerate() {
            let [left, top, right, bottom] = bounds(text);
            let is_inside =
                left >= 8.0 && top >= 8.0 && right <= WIDTH - 8.0 && bottom <= height - 8.0;
            assert!(is_inside, "{name}: {:?} at {left:.0} to {right:.0}", text.text);
            for other in &texts[..number] {
                let [from, above, to, below] = bounds(other);
                let is_apart = right <= from || to <= left || bottom <= above || below <= top;
                assert!(is_apart, "{name}: {:?} and {:?} overlap", text.text, other.text);
            }
        }
    }
}
