//! The progress on a real terminal: `script` (of util-linux) gives the example one.

use std::process::{Command, Stdio};

use crate::harness::{Job, flights_and_broken_lines};

/// Everything that a run sends to a terminal of 60 columns and 20 rows; `None` without `script`.
fn on_terminal(environment: &[(&str, &str)]) -> Option<String> {
    let job =
        Job::new(flights_and_broken_lines(400)).with(&["--latency", "20ms", "--capacity", "25"]);
    let run = job.command(&[]);
    let words = [run.get_program()].into_iter().chain(run.get_args());
    let words: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut script = Command::new("script");
    script.args([
        "-qec",
        &format!("stty cols 60 rows 20 && exec {}", words.join(" ")),
        "/dev/null",
    ]);
    script.env("SHELL", "/bin/sh").env_remove("NO_COLOR").env_remove("COLORTERM");
    script.envs(environment.iter().copied()).stdin(Stdio::null());
    let Ok(run) = script.output() else {
        eprintln!("skipped: this machine has no `script`");
        return None;
    };
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success() && said.contains("finished"), "{said}");
    Some(said)
}

/// The text without the sequences that switch colours.
fn without_colours(said: &str) -> String {
    let mut parts = said.split("\x1b[");
    let start = parts.next().unwrap_or_default().to_owned();
    parts.fold(start, |text, part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        match part.split_at(end + 1) {
            (code, rest) if code.ends_with('m') => text + rest,
            _ => text + "\x1b[" + part,
        }
    })
}

// M2: the window can be seen.
#[test]
fn a_terminal_shows_the_window_at_work_in_place() {
    let Some(said) = on_terminal(&[("TERM", "xterm-256color")]) else { return };
    assert!(said.contains("\x1b[94m█"), "running cells are blue: {said:?}");
    let said = without_colours(&said);
    let pictures: Vec<_> = said.split("\x1b[J").collect();
    assert!(pictures.len() > 3, "it is not redrawn: {said:?}");
    let is_shown = |text: &str| pictures.iter().any(|picture| picture.contains(text));
    for text in ["[█", "running", "ETA ", "/s", " rejected", "oldest "] {
        assert!(is_shown(text), "{text} is never shown: {said}");
    }
    for line in pictures[..pictures.len() - 1].iter().flat_map(|picture| picture.lines()) {
        let line = line.split('\r').next().unwrap_or_default();
        assert!(line.chars().count() < 60, "too wide: {line:?}");
    }
}

#[test]
fn nobody_gets_colours_who_wants_none() {
    let Some(said) = on_terminal(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")]) else { return };
    assert!(said.contains("\x1b[J") && said == without_colours(&said), "{said:?}");
}

#[test]
fn a_dumb_terminal_gets_lines() {
    let Some(said) = on_terminal(&[("TERM", "dumb")]) else { return };
    assert!(!said.contains('\x1b'), "{said:?}");
}
